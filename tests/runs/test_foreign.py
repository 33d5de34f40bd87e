"""`mnerkit score`: predictions of other programs, scored as seqeval and conlleval score them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from seqeval.metrics import v1
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support
from seqeval.scheme import IOB2

import mnerkit
from mnerkit.cli import main
from mnerkit.errors import DataError, UsageError
from mnerkit.runs import foreign

ANN = (["Ann", "went", "to", "Rome"], ["B-PER", "O", "O", "B-LOC"])
BOB = (["New", "York", "!"], ["B-LOC", "I-LOC", "O"])
CAT = (["Bob", "Ray", "sings"], ["B-PER", "I-PER", "O"])
Posts = list[tuple[list[str], list[str]]]


def quiet(_: object) -> None:
    """Take what would be printed."""


def columns(posts: Posts, *others: list[list[str]], named: bool = False) -> str:
    """A file of columns: words, tags, and further columns."""
    blocks = []
    for number, (words, tags) in enumerate(posts):
        rows = zip(words, tags, *(column[number] for column in others), strict=True)
        name = f"IMGID:{number}\n" if named else ""
        blocks.append(name + "".join("\t".join(row) + "\n" for row in rows))
    return "\n".join(blocks)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(text: str, name: str = "system.txt") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return written


# ------------------------------------------------------------------ equal to the field's scorers


def conlleval(gold: list[str], predicted: list[str]) -> tuple[int, int, int]:
    """Numbers of gold, predicted and correct phrases, as the Perl script counts them, word by word."""

    def ends(before: str, tag: str) -> bool:
        return before != "O" and (tag[0] in "BO" or before[2:] != tag[2:])

    def begins(before: str, tag: str) -> bool:
        return tag != "O" and (tag[0] == "B" or before == "O" or before[2:] != tag[2:])

    gold_count = predicted_count = correct = 0
    inside = False
    for before, tag, before_p, tag_p in zip(
        ["O", *gold], [*gold, "O"], ["O", *predicted], [*predicted, "O"], strict=True
    ):
        if inside:
            if ends(before, tag) and ends(before_p, tag_p):
                inside, correct = False, correct + 1
            elif ends(before, tag) != ends(before_p, tag_p) or tag[2:] != tag_p[2:]:
                inside = False
        starts, starts_p = begins(before, tag), begins(before_p, tag_p)
        if starts and starts_p and tag[2:] == tag_p[2:]:
            inside = True
        gold_count += starts
        predicted_count += starts_p
    return gold_count, predicted_count, correct


def test_scores_are_those_of_seqeval_and_conlleval_on_a_thousand_files(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "SAMPLES", 2)  # neither the interval nor the table is looked at
    monkeypatch.setattr(foreign, "_lines", lambda *_: [])
    draw = random.Random(0)
    tags = ["O", *(f"{role}-{kind}" for role in "BI" for kind in ("PER", "LOC"))]
    for _ in range(1000):
        lengths = [draw.randint(1, 6) for _ in range(draw.randint(1, 4))]
        gold, predicted = ([draw.choices(tags, k=length) for length in lengths] for _ in range(2))
        posts = [([f"w{place}" for place in range(length)], own) for length, own in zip(lengths, gold, strict=True)]
        scores = mnerkit.score_predictions(write(columns(posts, predicted)), report=quiet)["test"]
        counts = [conlleval(*pair) for pair in zip(gold, predicted, strict=True)]
        right, found, correct = (sum(column) for column in zip(*counts, strict=True))
        assert scores["f1"] == pytest.approx(200 * correct / (right + found) if right + found else 0)
        if not any(tag != "O" for row in [*gold, *predicted] for tag in row):
            continue  # seqeval warns of it
        how = {"average": "micro", "zero_division": 0}
        strict = v1.precision_recall_fscore_support(gold, predicted, scheme=IOB2, **how)
        for suffix, theirs in {"": precision_recall_fscore_support(gold, predicted, **how), "_strict": strict}.items():
            ours = [scores[f"{name}{suffix}"] for name in ("precision", "recall", "f1")]
            assert ours == pytest.approx([100 * value for value in theirs[:3]])


# ------------------------------------------------------------------ formats


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for split, posts in {"train": [(["Rome", "x"], ["B-LOC", "O"])], "valid": [CAT], "test": [ANN, BOB]}.items():
        (folder / f"{split}.txt").write_text(columns(posts, named=True).replace("IMGID:", f"IMGID:{split}_"))
    return folder


JSON_LINES = [
    {"id": "test_0", "entities": [{"start": 0, "end": 1, "type": "PER", "score": 0.9}, [3, 4, "LOC"]]},
    {"id": "test_1", "words": BOB[0], "entities": [{"start": 0, "end": 1, "type": "LOC"}]},
]
FORMS = {
    "columns": columns([(ANN[0], ANN[1]), (BOB[0], ["B-LOC", "O", "O"])]),
    "blanks, named, BIOES": "IMGID:test_0\nAnn S-PER\nwent O\nto O\nRome U-LOC\n\n"
    "IMGID:test_1\nNew S-LOC\nYork O\n! O\n",
    "gold and IOB1": "-DOCSTART- -X- O O\n\n"
    + columns([ANN, BOB], [["I-PER", "O", "O", "I-LOC"], ["I-LOC", "O", "O"]]).replace("\t", " "),
    "entities": "".join(json.dumps(row) + "\n" for row in JSON_LINES),
    "tags": json.dumps({"id": "test_0", "tags": ANN[1]})
    + "\n"
    + json.dumps({"id": "test_1", "ner_tags": ["B-LOC", "O", "O"]}),
    "tags by words": json.dumps({"tokens": ANN[0], "tags": ANN[1]})
    + "\n"
    + json.dumps({"words": BOB[0], "tags": ["B-LOC", "O", "O"]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_scores(form: str, write: Callable[..., Path], corpus: Path) -> None:
    result = mnerkit.score_predictions(write(FORMS[form]), corpus, report=quiet)
    scores = result["test"]
    assert scores["f1"] == pytest.approx(200 * 2 / 6)  # Ann and Rome right, New for New York
    assert scores["f1_low"] <= scores["f1"] <= scores["f1_high"]
    assert (scores["seen/gold"], scores["seen/f1"], scores["unseen/gold"]) == (1, 100, 2)  # Rome; Ann, New York
    assert scores["type/PER/f1"] == 100
    assert result["protocol"]["posts"] == 2 and result["protocol"]["corpus"] == "corpus"


def test_columns_of_gold_files_are_those_that_are_named(write: Callable[..., Path], tmp_path: Path) -> None:
    rows = "Ann B-PER B-X\nwent O O\n"
    (tmp_path / "gold").mkdir()
    for split in ("train", "dev", "test"):
        (tmp_path / "gold" / f"{split}.txt").write_text(rows.replace("Ann", split))
    predictions = write("test B-PER\nwent O\n")
    for gold in (tmp_path / "gold", tmp_path / "gold" / "test.txt"):
        scores = mnerkit.score_predictions(predictions, gold, columns="word,tag,_", report=quiet)["test"]
        assert scores["f1"] == 100
        scores = mnerkit.score_predictions(predictions, gold, columns="word,_,tag", report=quiet)["test"]
        assert scores["f1"] == 0
    with pytest.raises(UsageError, match="give --gold, too"):
        mnerkit.score_predictions(predictions, columns="word,tag,_", report=quiet)


def test_gold_tags_of_a_record_are_never_taken_for_predictions(write: Callable[..., Path], corpus: Path) -> None:
    rows = [
        {"id": f"test_{number}", "words": words, "ner_tags": tags, "predictions": ["O"] * len(tags)}
        for number, (words, tags) in enumerate((ANN, BOB))
    ]
    path = write("".join(json.dumps(row) + "\n" for row in rows), "system.jsonl")
    assert mnerkit.score_predictions(path, corpus, report=quiet)["test"]["f1"] == 0
    assert mnerkit.score_predictions(path, report=quiet)["test"]["f1"] == 0  # its own gold tags
    rows[1]["ner_tags"] = ["B-ORG", "O", "O"]
    other = write("".join(json.dumps(row) + "\n" for row in rows), "other.jsonl")
    with pytest.raises(DataError, match="other gold tags than in corpus test"):
        mnerkit.score_predictions(other, corpus, report=quiet)


def test_types_are_mapped_as_those_of_the_gold_posts(write: Callable[..., Path]) -> None:
    gold = write(columns([(["a", "b"], ["B-OTHER", "O"])]), "gold.txt")
    scores = mnerkit.score_predictions(write("a B-MIS\nb O\n"), gold, report=quiet)["test"]
    assert scores["type/MISC/f1"] == 100


# ------------------------------------------------------------------ what is refused

GOOD = json.dumps({"id": "test_1", "tags": BOB[1]}) + "\n"
FIRST = json.dumps({"id": "test_0", "tags": ANN[1]}) + "\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (columns([ANN]), "1 posts of corpus test have no prediction, the first: test_1"),
        (columns([ANN, ANN]), "the post Ann went to Rome is there twice"),
        (columns([BOB, ANN]), "post test_0 of corpus test is missing here, or the posts are in another order"),
        (columns([ANN, CAT]), "the post Bob Ray sings is none of corpus test"),
        (columns([ANN, BOB, BOB]), "there twice"),
        (FIRST, "no prediction, the first: test_1"),
        (FIRST + GOOD + FIRST, "system.txt:3: post test_0 is there twice"),
        (GOOD + FIRST, "in another order than in corpus test: test_1 stands where test_0 should"),
        (FIRST + GOOD + json.dumps({"id": "x", "tags": []}), "post x is none of corpus test"),
        (FIRST + json.dumps({"id": "test_1", "tags": ["O"]}), "1 tags, and post test_1 has 3 words"),
        (FIRST + json.dumps({"id": "test_1", "words": ["New", "Yorck", "!"], "tags": BOB[1]}), "word 2 is Yorck"),
        (
            FIRST + json.dumps({"id": "test_1", "entities": [[2, 4, "LOC"]]}),
            "from word 2 to 4 lies outside its 3 words",
        ),
        (FIRST + json.dumps({"id": "test_1", "entities": [[0, 2, "A"], [1, 2, "B"]]}), "overlaps another one"),
        (FIRST + json.dumps({"id": "test_1", "entities": [[0, 2]]}), "it needs start, end and type"),
        (FIRST + json.dumps({"id": "test_1", "spans": []}), "Its keys are id, spans; accepted are"),
        (FIRST + json.dumps({"tags": BOB[1]}), "a post without an id, and others have one"),
        (json.dumps({"tags": BOB[1]}), "neither id nor words"),
        ("Ann PER\n", "PER in the last column is no tag"),
        ("Ann B-PER\nwent x O\n", "expected 2 columns"),
        ("Ann\n", "found 1 in Ann"),
        ("", "holds no predictions"),
        (columns([(ANN[0], ["B-ORG", "O", "O", "O"]), BOB], [ANN[1], BOB[1]]), "other gold tags than in corpus test"),
    ],
)
def test_posts_that_are_not_those_that_are_scored_are_named(
    text: str, problem: str, write: Callable[..., Path], corpus: Path
) -> None:
    with pytest.raises(DataError) as refusal:
        mnerkit.score_predictions(write(text), corpus, report=quiet)
    assert problem in str(refusal.value)


# ------------------------------------------------------------------ the command


def test_a_scored_file_is_tested_against_another_and_becomes_a_run(
    write: Callable[..., Path], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    better, worse = write(FORMS["tags"], "better.jsonl"), write(columns([ANN, (BOB[0], ["O"] * 3)]), "worse.txt")
    run = tmp_path / "runs" / "gpt"
    words = ["score", "--gold", str(corpus), "--predictions", str(better)]
    assert main([*words, "--name", "GPT", "--out", str(run), "--against", str(worse)]) == 0
    said = capsys.readouterr().out
    assert "unseen" in said and "digest" in said and "B - A:" in said and f"A  F1 80.00  {worse}" in said
    assert main(["score", "--gold", str(corpus), "--predictions", str(worse), "--against", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["comparison"]["f1_a"] == pytest.approx(200 * 2 / 6)

    assert main(["runs", str(tmp_path / "runs"), "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["plugin"], row["state"], row["corpus"]) == ("GPT", "foreign", "corpus")
    assert row["test"] == pytest.approx(200 * 2 / 6)
    assert main(["report", str(run), "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "index.html").read_text()
    assert "GPT" in page and "foreign" in page
    assert main(["runs", "repeat", str(run)]) == 2
    assert "another program's predictions" in capsys.readouterr().err
    assert main([*words, "--out", str(run)]) == 2
    assert "--overwrite to replace" in capsys.readouterr().err
    assert main([*words, "--out", str(run), "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("others", "problem"),
    [
        (["--gold", "twiter2017"], "Did you mean"),
        (["--gold", "probe", "--split", "tets"], "Did you mean"),
        (["--overwrite"], "without --out"),
        ([], "has no gold tags beside the predicted ones"),
        (["--against", "nowhere"], "neither a run nor a file"),
    ],
)
def test_mistakes_are_answered_in_a_line(
    others: list[str], problem: str, write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    own = write(columns([ANN], [ANN[1]]) if others[:1] == ["--against"] else columns([ANN]))
    assert main(["score", "--predictions", str(own), *others]) in (1, 2)
    assert problem in capsys.readouterr().err
