"""Test posts that a model was trained on are recognised under other names, and left out or refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from mnerkit.cli import main
from mnerkit.data.corpus.corpus import Corpus, load_corpus
from mnerkit.data.corpus.same_post import counts_by_kind, keys_of, trained_posts

NAMES = ["Ada Marsh", "Bo Lindqvist", "Cleo Okafor", "Dan Ruiz", "Eve Tanaka", "Finn O'Hara", "Gus Weber", "Ida Novak"]
PLACES = ["Oslo", "Lima", "Kyiv", "Quito", "Accra", "Hanoi", "Turin", "Perth"]
THINGS = ["a harbour at dawn", "the marathon", "an old tram", "heavy rain", "the final whistle", "a street choir"]


def record(number: int) -> dict[str, object]:
    """A post like no other: its number decides its words and its picture."""
    draw = random.Random(number)
    name = draw.choice(NAMES).split()
    words = [*name, "saw", *draw.choice(THINGS).split(), "in", draw.choice(PLACES), f"#day{number}", "@ada_m"]
    words += [f"http://t.co/x{number}Yz", "don't", "miss", "it", "!"]
    tags = ["B-PER", "I-PER", *["O"] * (len(words) - 2)]
    return {"id": f"post{number}", "text": words, "label": tags, "images": [f"p{number}.jpg"]}


def write_picture(folder: Path, name: object, number: int) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    content = b"\xff\xd8\xff\xe0" + random.Random(number).randbytes(40_000)
    (folder / "images" / str(name)).write_bytes(content)


def write_corpus(folder: Path, splits: dict[str, list[dict[str, object]]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def renamed(row: dict[str, object], number: int) -> dict[str, object]:
    return {**row, "id": f"other{number}", "images": [f"other{number}.jpg"]}


def words_of(row: dict[str, object], change: Callable[[str], str]) -> list[str]:
    return [change(word) for word in row["text"]]  # type: ignore[attr-defined]


def retokenised(row: dict[str, object]) -> dict[str, object]:
    """The same text, cut at every sign, with the tags of its first words."""
    words: list[str] = []
    for word in words_of(row, str):
        letters = "".join(each if each.isalnum() else f" {each} " for each in word)
        words += letters.split()
    return {**row, "text": words, "label": ["B-PER", "I-PER", *["O"] * (len(words) - 2)]}


def linked_elsewhere(row: dict[str, object]) -> dict[str, object]:
    def change(word: str) -> str:
        return "<url>" if word.startswith("http") else "@user" if word.startswith("@") else word

    return {**row, "text": words_of(row, change)}


PLANTS: dict[str, Callable[[dict[str, object], int], dict[str, object]]] = {
    "renamed id": renamed,
    "changed case": lambda row, number: renamed({**row, "text": words_of(row, str.upper)}, number),
    "retokenised": lambda row, number: renamed(retokenised(row), number),
    "other links and mentions": lambda row, number: renamed(linked_elsewhere(row), number),
    "other corpus": lambda row, number: row,
    "duplicate picture": lambda row, number: {**renamed(record(5000 + number), number)},
}


@pytest.fixture
def corpora(tmp_path: Path) -> tuple[Corpus, Corpus]:
    """A corpus, and another one whose test posts hold 120 of the first one's training posts, twenty of each kind."""
    train = [record(number) for number in range(200)]
    for number in range(120):
        write_picture(tmp_path / "one", f"p{number}.jpg", number)
    splits = {"train": train, "dev": [record(1000)], "test": [record(1001)]}
    one = write_corpus(tmp_path / "one", splits)
    planted = []
    for place, plant in enumerate(PLANTS.values()):
        for number in range(place * 20, place * 20 + 20):
            planted.append(plant(train[number], number))
            duplicate = place == len(PLANTS) - 1
            write_picture(tmp_path / "two", planted[-1]["images"][0], number if duplicate else 9000 + number)  # type: ignore[index]
    clean = [record(number) for number in range(2000, 2200)]
    two = write_corpus(
        tmp_path / "two", {"train": [record(3000)], "dev": [record(3001), *planted[:3]], "test": [*clean, *planted]}
    )
    return load_corpus(str(one)), load_corpus(str(two))


def test_planted_posts_of_every_kind_are_recognised_and_no_others(corpora: tuple[Corpus, Corpus]) -> None:
    one, two = corpora
    trained = trained_posts(two.splits["test"], two.name, keys_of(one.splits["train"], one.name))
    assert list(trained) == [post.id for post in two.splits["test"][200:]]
    assert counts_by_kind(trained) == {"id and words": 20, "words": 80, "picture file": 20}


def test_a_picture_that_many_posts_share_is_no_evidence(tmp_path: Path) -> None:
    one = [renamed(record(number), number) for number in range(10)]
    two = [renamed(record(number), number) for number in range(50, 60)]
    for row in (*one, *two):
        write_picture(tmp_path, row["images"][0], 7)  # type: ignore[index]
    corpus = load_corpus(str(write_corpus(tmp_path, {"train": one, "dev": two[:1], "test": two})))
    keys = keys_of(corpus.splits["train"], corpus.name)
    assert trained_posts(corpus.splits["test"], corpus.name, keys) == {}
    alone = keys_of(corpus.splits["train"][:1], corpus.name)
    assert trained_posts(corpus.splits["dev"], corpus.name, alone) == {"other50": "picture file"}


def test_short_texts_count_only_with_an_entity(tmp_path: Path) -> None:
    def row(id_: str, text: str, tags: str) -> dict[str, object]:
        return {"id": id_, "text": text.split(), "label": tags.split(), "images": []}

    train = [
        row("a", "Good morning !", "O O O"),
        row("b", "Happy Birthday Beyonce", "O O B-PER"),
        row("c", "Oslo", "B-LOC"),
    ]
    test = [
        row("x", "good morning", "O O"),
        row("y", "happy birthday BEYONCE !", "O O B-PER O"),
        row("z", "oslo", "B-LOC"),
    ]
    corpus = load_corpus(str(write_corpus(tmp_path, {"train": train, "dev": test, "test": test})))
    keys = keys_of(corpus.splits["train"], corpus.name)
    assert trained_posts(corpus.splits["test"], corpus.name, keys) == {"y": "words"}


def test_names_of_twitter2017_are_its_own_in_any_corpus(tmp_path: Path) -> None:
    def row(id_: str, text: str, picture: str) -> dict[str, object]:
        return {"id": id_, "text": text.split(), "label": ["O"] * len(text.split()), "images": [picture]}

    rows = [row("O_26", "some text", "O_26.jpg"), row("7", "another text", "16_05_01_113.jpg"), row("8", "a", "12.jpg")]
    corpus = load_corpus(str(write_corpus(tmp_path, {"train": rows, "dev": rows, "test": rows})))
    keys = keys_of(corpus.splits["train"], corpus.name)
    from mnerkit.data.corpus.post import ImageRef, Post

    posts = [Post(id_, ("new",), None, (ImageRef(f"{id_}.jpg"),)) for id_ in ("O_26", "16_05_01_113", "O_27", "12")]
    assert trained_posts(posts, "twitter2017", keys) == {"O_26": "id", "16_05_01_113": "picture"}


@pytest.mark.parametrize("name, counts", [("twitter2015", (3, 6)), ("twitter2017", (2, 4))])
def test_the_public_sets_hold_a_few_texts_twice_and_none_of_the_other(
    real_data: Path, name: str, counts: tuple[int, int]
) -> None:
    corpora = {each: load_corpus(each, real_data) for each in ("twitter2015", "twitter2017")}
    keys = keys_of(corpora[name].splits["train"], name)
    for split, count in zip(("dev", "test"), counts, strict=True):
        trained = trained_posts(corpora[name].splits[split], name, keys)
        assert counts_by_kind(trained) == {"words": count}
    (other,) = corpora.keys() - {name}
    for posts in corpora[other].splits.values():
        assert trained_posts(posts, other, keys) == {}


FAST = ["--trainer.max_epochs", "1", "--data.cache", "none", "--trainer.accelerator", "cpu"]


def test_scoring_refuses_or_leaves_them_out(
    corpora: tuple[Corpus, Corpus], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fit = ["fit", "--plugin", "bilstm", "--data.corpus", "one", "--name", "a", *FAST]
    assert not main([*fit, "--test"])
    run = next(path.parent for path in tmp_path.glob("runs/**/metrics.json"))
    assert "trained_on" not in json.loads((run / "metrics.json").read_text())["protocol"]
    capsys.readouterr()
    for verb, split, count in (("test", "test", 120), ("validate", "dev", 3)):
        args = [verb, "--ckpt_path", str(run), "--data.corpus", "two"]
        assert main(args) == 1
        error = capsys.readouterr().err
        assert f"trained with {count} of the {split} posts of two" in error and "--data.drop_trained true" in error
        assert not main([*args, "--data.drop_trained", "true"])
    metrics = json.loads((run / "metrics.json").read_text())
    protocols = {key.partition("@")[0]: value for key, value in metrics.items() if key.endswith(":protocol")}
    assert protocols["test"]["trained_on"] == {
        "left_out": True,
        "test": {"id and words": 20, "words": 80, "picture file": 20},
    }
    assert protocols["dev"]["trained_on"]["dev"] == {"words": 3}
    rows = next(run.glob("predictions.test@two*.jsonl")).read_text().splitlines()
    assert len(rows) == 200


def test_posts_that_a_corpus_holds_twice_are_counted_or_left_out_of_its_own_splits(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    train = [record(number) for number in range(30)]
    own = [record(number) for number in range(100, 110)]
    splits = {
        "train": train,
        "dev": [*own[:5], renamed(train[0], 0)],
        "test": [*own[5:], renamed(train[1], 1), renamed(retokenised(train[2]), 2)],
    }
    write_corpus(tmp_path / "mine", splits)
    fit = ["fit", "--plugin", "bilstm", "--data.corpus", "mine", "--test", *FAST]
    assert not main([*fit, "--name", "a"])
    assert "2 of 7 test posts are like a training post (2 by words)" in caplog.text + capsys.readouterr().err
    assert not main([*fit, "--name", "b", "--data.drop_trained", "true"])
    metrics = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("runs/**/metrics.json")}
    counts = [each["protocol"]["trained_on"] for each in metrics.values()]
    assert sorted(each.pop("left_out") for each in counts) == [False, True]
    assert counts == [{"dev": {"words": 1}, "test": {"words": 2}}] * 2
    lines = {
        path.parent.name: len(path.read_text().splitlines()) for path in tmp_path.glob("runs/**/predictions.test.jsonl")
    }
    assert sorted(lines.values()) == [5, 7]

    write_corpus(tmp_path / "mine", {**splits, "dev": [*own[:5], train[0]], "test": [*own[5:], train[1]]})
    capsys.readouterr()
    assert (
        main([*fit, "--name", "c"]) == 1 and "1 ids of the test posts are also in training" in capsys.readouterr().err
    )
    assert not main([*fit, "--name", "d", "--data.drop_trained", "true"])
    write_corpus(tmp_path / "mine", {**splits, "dev": [*own[:5], train[0]]})
    assert main([*fit, "--name", "e"]) == 1
    assert "1 of the dev posts of mine" in capsys.readouterr().err


def test_a_relabelled_release_of_the_same_posts_is_scored_though_it_repeats_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    splits = {"train": [record(1), record(2)], "dev": [record(3)], "test": [renamed(record(1), 1), record(4)]}
    write_corpus(tmp_path / "mine", splits)
    relabelled = [{**row, "label": ["B-PER", *["O"] * (len(row["text"]) - 1)]} for row in splits["test"]]  # type: ignore[arg-type]
    write_corpus(tmp_path / "other", {**splits, "train": [record(9)], "test": relabelled})
    assert not main(["fit", "--plugin", "bilstm", "--data.corpus", "mine", *FAST])
    checkpoint = next(tmp_path.glob("runs/**/best.ckpt"))
    score = ["test", "--ckpt_path", str(checkpoint), "--data.corpus", "other"]
    assert not main(score)
    write_corpus(tmp_path / "other", {"test": [*relabelled, renamed(record(2), 2)]})
    capsys.readouterr()
    assert main(score) == 1
    assert "trained with 1 of the test posts of other, the first is 'other2' (1 by words)" in capsys.readouterr().err
