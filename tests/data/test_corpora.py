"""Corpora by name or path: which files, whose release, which pictures and captions; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mnerkit.data.corpus.corpus import check_disjoint, load_corpus
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.readers import read_posts
from mnerkit.data.corpus.releases import content_digest
from mnerkit.errors import DataError, UsageError


def bio(*posts: tuple[str, str]) -> str:
    """IMGID/BIO text of (id, `word/tag word/tag`) pairs."""
    return (
        "\n\n".join("\n".join([f"IMGID:{i}", *(w.replace("/", "\t") for w in row.split())]) for i, row in posts) + "\n"
    )


def folder(path: Path, dev: str = "valid", **changed: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev", "test"):
        content = changed.get(split, bio((f"{split}1", "a/O Bo/B-PER"), (f"{split}2", "x/B-OTHER y/I-MISC z/I-LOC")))
        (path / f"{dev if split == 'dev' else split}.txt").write_text(content)
    return path


def test_a_known_corpus_is_found_below_the_root(tmp_path: Path) -> None:
    folder(tmp_path / "twitter2017")
    (tmp_path / "twitter2017_images").mkdir()
    (tmp_path / "twitter2017_images" / "train2.jpg").write_bytes(b"-")
    corpus = load_corpus("twitter2017", tmp_path)
    assert {split: [post.id for post in posts] for split, posts in corpus.splits.items()} == {
        "train": ["train1", "train2"],
        "dev": ["dev1", "dev2"],
        "test": ["test1", "test2"],
    }
    assert corpus.types == ("PER", "LOC", "ORG", "MISC") and corpus.release is None
    assert [post.images[0].present for post in corpus.splits["train"]] == [False, True]
    assert corpus.counts["missing_images"] == 5 and corpus.counts["images"] == 6
    # the root may also be the corpus's own folder
    assert load_corpus("twitter2017", tmp_path / "twitter2017").digest == corpus.digest


@pytest.mark.parametrize("dev", ["valid", "val", "dev"])
def test_dev_may_bear_any_of_its_names(tmp_path: Path, dev: str) -> None:
    assert len(load_corpus(str(folder(tmp_path / "c", dev=dev))).splits["dev"]) == 2


def test_names_of_one_type_become_misc_and_orphans_stay(tmp_path: Path) -> None:
    corpus = load_corpus(str(folder(tmp_path / "c", train=bio(("1", "x/B-OTHER y/I-MIS z/I-LOC w/O v/I-MISC")))))
    assert corpus.splits["train"][0].tags == ("B-MISC", "I-MISC", "I-LOC", "O", "I-MISC")
    counts = load_corpus(str(tmp_path / "c"), splits=("train",)).counts
    assert (counts["orphans"], counts["switches"], counts["mapped_labels"]) == (1, 1, 2)


def test_types_of_a_users_folder_are_those_of_its_files(tmp_path: Path) -> None:
    path = folder(tmp_path / "c", train=bio(("1", "a/B-product b/B-ORG c/B-OTHER")), test=bio(("2", "a/B-event")))
    assert load_corpus(str(path)).types == ("PER", "LOC", "ORG", "MISC", "event", "product")


def test_mner_mi_and_plus_are_told_apart_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    for prefix in ("MNER-MI", "MNER-UNI"):
        for split in ("train", "val", "test"):
            record = {"id": f"{prefix}-{split}", "text": ["a"], "label": ["B-MIS"], "images": ["7_0.jpg", "7_1.jpg"]}
            if prefix == "MNER-UNI":
                record["images"] = [f"twitter2017-{split}.jpg"]
            (tmp_path / "text" / f"{prefix}_{split}.txt").write_text(repr(record))
    for name in ("images/7_1.jpg", "twitter2017_images/val.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    (post,) = load_corpus("mner-mi", tmp_path).splits["dev"]
    assert post.id == "MNER-MI-val" and post.tags == ("B-MISC",)
    assert [ref.path for ref in post.images] == [None, tmp_path / "images/7_1.jpg"]
    (merged,) = load_corpus("mner-mi-plus", tmp_path).splits["dev"]
    assert merged.id == "MNER-UNI-val" and merged.images[0].path == tmp_path / "twitter2017_images/val.jpg"


def test_another_corpus_in_the_root_is_not_taken_for_this_one(tmp_path: Path) -> None:
    for name in ("twitter2015", "mner-mi-plus"):
        folder(tmp_path / name)
        with pytest.raises(DataError, match="no annotation files"):
            load_corpus("mner-mi", tmp_path / name)


def test_the_digest_is_of_the_content_and_not_of_the_bytes(tmp_path: Path) -> None:
    first = load_corpus(str(folder(tmp_path / "a")))
    for file in folder(tmp_path / "b").iterdir():
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().rstrip().replace(b"\n", b"\r\n"))
    assert load_corpus(str(tmp_path / "b")).digest == first.digest
    assert load_corpus(str(tmp_path / "b"), splits=("test",)).digest == first.digest
    (tmp_path / "b" / "test.txt").write_text(bio(("test1", "a/O Bo/B-LOC"), ("test2", "x/B-OTHER y/I-MISC z/I-LOC")))
    assert load_corpus(str(tmp_path / "b"), splits=("train",)).digest != first.digest


def test_repeated_ids_and_posts_without_words_are_counted(tmp_path: Path) -> None:
    path = folder(tmp_path / "c", train=bio(("1", "a/O"), ("1", "b/O"), ("2", "c/O")))
    (path / "test.txt").write_text('{"text": [], "label": []}\n{"text": ["a"], "label": ["O"]}')
    corpus = load_corpus(str(path))
    assert [post.id for post in corpus.splits["train"]] == ["1", "1#2", "2"]
    assert [post.id for post in corpus.splits["test"]] == ["test-2"]
    assert corpus.counts["repeated_ids"] == 1 and corpus.counts["without_words"] == 1


def test_captions_of_the_root_are_used_and_given_ones_must_be_complete(tmp_path: Path) -> None:
    folder(tmp_path / "twitter2015")
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions" / "twitter2015.txt").write_text("train1.jpg :a cat : on a mat\ndev2.jpg :\n\nother.jpg :x\n")
    corpus = load_corpus("twitter2015", tmp_path)
    assert corpus.splits["train"][0].images[0].caption == "a cat : on a mat"
    assert corpus.splits["dev"][1].images[0].caption == ""
    assert corpus.counts["without_caption"] == 4
    assert load_corpus("twitter2015", tmp_path, captions="none").counts["without_caption"] == 6
    given = tmp_path / "captions" / "twitter2015.txt"
    with pytest.raises(DataError, match=r"lacks the captions of 4 pictures of twitter2015, the first is 'train2\.jpg'"):
        load_corpus("twitter2015", tmp_path, captions=given)
    given.write_text("train1.jpg a cat\n")
    with pytest.raises(DataError, match=r"twitter2015\.txt:1: expected '<picture> :<caption>'"):
        load_corpus("twitter2015", tmp_path)
    with pytest.raises(DataError, match="can't be read"):
        load_corpus("twitter2015", tmp_path, captions=tmp_path / "absent.txt")


def test_what_does_not_exist_is_named_with_the_nearest(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("MNERKIT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "twitter2015")
    folder(tmp_path / "variants" / "twitter2015-ocsga")
    assert load_corpus("twitter2015", tmp_path, variant="ocsga").variant == "ocsga"
    assert (
        load_corpus("twitter2015", tmp_path, variant="twitter2015-ocsga").files["dev"].parent.name
        == "twitter2015-ocsga"
    )
    for call, message in [
        (lambda: load_corpus("twiter2015"), "Did you mean 'twitter2015'"),
        (lambda: load_corpus("twitter2015", tmp_path, variant="oscga"), "Did you mean 'ocsga'"),
        (lambda: load_corpus("twitter2015", tmp_path, variant="../twitter2015"), "is not a name"),
        (lambda: load_corpus("twitter2015", tmp_path, splits=("valid",)), "no split 'valid'"),
        (lambda: load_corpus("probe", variant="defualt"), "Did you mean 'default'"),
        (lambda: load_corpus("twitter2015/train.txt"), "is a file"),
        (lambda: load_corpus(""), "no corpus is named"),
    ]:
        with pytest.raises(UsageError, match=message):
            call()
    for call, message in [
        (lambda: load_corpus("twitter2017", tmp_path), r"in .*twitter2017\.\n.*--root.*probe"),
        (lambda: load_corpus("twitter2015"), r"in data/twitter2015\.\n.*MNERKIT_DATA.*probe"),
        (lambda: load_corpus("twitter2015", tmp_path / "no"), "there is no folder"),
        (lambda: load_corpus("some/where"), "there is no folder some/where"),
        (lambda: load_corpus(str(tmp_path)), "no annotation files"),
    ]:
        with pytest.raises(DataError, match=message):
            call()


def test_a_missing_empty_or_doubled_split_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path / "c")
    shutil.copy(path / "valid.txt", path / "dev.txt")
    with pytest.raises(DataError, match=r"valid\.txt and dev\.txt are both the dev split"):
        load_corpus(str(path))
    (path / "dev.txt").unlink()
    (path / "test.txt").write_text("\n")
    with pytest.raises(DataError, match=r"test\.txt holds no posts"):
        load_corpus(str(path))
    (path / "test.txt").unlink()
    assert list(load_corpus(str(path), splits=("train", "dev")).splits) == ["train", "dev"]
    with pytest.raises(DataError, match="has no test split"):
        load_corpus(str(path))


def test_an_unknown_type_in_a_known_corpus_is_refused_with_its_line(tmp_path: Path) -> None:
    folder(tmp_path / "twitter2015", dev="dev", test=bio(("1", "a/B-PRE")))
    with pytest.raises(DataError, match=r"test\.txt:2: tag 'B-PRE' has none of the types"):
        load_corpus("twitter2015", tmp_path)


def test_ids_in_training_and_test_are_refused() -> None:
    posts = [Post(id_, ("a",)) for id_ in "abcd"]
    check_disjoint(posts[:2], posts[2:])
    with pytest.raises(DataError, match="2 ids of the test posts are also in training, the first is 'b'"):
        check_disjoint(posts[:3], posts[1:])


def test_records_without_ids_are_told_apart_by_their_file(tmp_path: Path) -> None:
    path = tmp_path / "c"
    path.mkdir()
    for word in ("train", "valid", "test"):
        (path / f"{word}.jsonl").write_text('{"text": ["a"], "label": ["O"]}\n' * 2)
    splits = load_corpus(str(path)).splits
    check_disjoint(splits["train"], splits["test"])
    assert [post.id for post in splits["dev"]] == ["valid-1", "valid-2"]


def test_limit_takes_the_first_posts_and_keeps_the_digest(tmp_path: Path) -> None:
    path = str(folder(tmp_path / "c"))
    assert [post.id for post in load_corpus(path, limit=1).splits["test"]] == ["test1"]
    assert load_corpus(path, limit=1).digest == load_corpus(path).digest
    assert len(load_corpus("probe", limit=3, splits=("dev",)).splits["dev"]) == 3


@pytest.mark.parametrize(
    "name, variant",
    [("twitter2015", None), ("twitter2015", "ocsga"), ("twitter2015", "relabelled"), ("twitter2017", None)],
)
def test_public_releases_are_recognised_and_disjoint(real_data: Path, name: str, variant: str | None) -> None:
    corpus = load_corpus(name, real_data, variant)
    assert corpus.release == f"{name}-{variant or 'umt'}"
    assert corpus.counts["repeated_ids"] == corpus.counts["without_words"] == corpus.counts["without_caption"] == 0
    splits = list(corpus.splits.values())
    for train, test in (splits[:2], splits[1:], splits[::2]):
        check_disjoint(train, test)


def test_a_release_short_of_its_last_tweet_is_not_recognised(real_data: Path) -> None:
    posts = read_posts(real_data / "twitter2015" / "train.txt")
    assert len(posts) == 4000 and content_digest(posts[:-1]) != content_digest(posts)


def test_reading_imports_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = folder(tmp_path / "c")
    code = (
        "import sys, mnerkit.cli.data, mnerkit.data.pictures.decoding\n"
        "from mnerkit.data.corpus import show, stats, verify\n"
        f"from mnerkit.data.corpus.corpus import load_corpus; load_corpus({json.dumps(str(path))})\n"
        "assert not {'torch', 'transformers', 'PIL', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
