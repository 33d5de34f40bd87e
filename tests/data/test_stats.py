"""Statistics equal counts by hand and every published figure; verify tells faults from remarks."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnerkit.data.corpus import stats as stats_module
from mnerkit.data.corpus.corpus import Corpus, CorpusReading, load_corpus
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.stats import corpus_stats, stats_of_files, table
from mnerkit.data.corpus.verify import verify

# posts, strict, lenient, orphan I- tags, posts without entities; of train, dev, test
REAL = {
    ("twitter2015", None): [(4000, 6166, 6352, 175, 104), (1000, 1541, 1594, 52, 31), (3257, 5072, 5207, 129, 89)],
    ("twitter2017", None): [(3373, 6049, 6049, 0, 392), (723, 1324, 1324, 0, 76), (723, 1351, 1351, 0, 86)],
}
loaded = cache(load_corpus)  # read once for all tests, none of which may change them
DUPLICATES = {"twitter2015": 7, "twitter2017": 1}


@pytest.mark.parametrize("name, variant", REAL)
def test_figures_of_the_public_sets(real_data: Path, name: str, variant: str | None) -> None:
    stats = corpus_stats(loaded(name, real_data, variant))
    found = [
        (
            s["posts"],
            s["entities"]["strict"]["all"],
            s["entities"]["lenient"]["all"],
            s["orphans"],
            s["without_entities"],
        )
        for s in stats["splits"].values()
    ]
    assert found == REAL[name, variant]
    assert stats["duplicates"] == DUPLICATES[name] and stats["shared_ids"] == 0
    images = [s["images"] for s in stats["splits"].values()]
    assert sum(each["present"] for each in images) == 15 and sum(each["broken"] for each in images) == 0
    assert sum(each["missing"] for each in images) == sum(s["posts"] for s in stats["splits"].values()) - 15


def test_switches_make_up_the_rest_between_strict_and_lenient(real_data: Path) -> None:
    stats = corpus_stats(loaded("twitter2015", real_data), pictures=False)
    splits = stats["splits"].values()
    assert [each["switches"] for each in splits] == [11, 1, 6]
    for each in splits:
        extra = each["entities"]["lenient"]["all"] - each["entities"]["strict"]["all"]
        assert extra == each["orphans"] + each["switches"]


def test_the_ocsga_release_has_the_counts_of_the_papers(real_data: Path) -> None:
    corpus = loaded("twitter2015", real_data, "ocsga")
    assert any("all entity counts" in remark for remark in verify(corpus, pictures=False).remarks)
    relabelled = loaded("twitter2015", real_data, "relabelled")
    assert any("test LOC 1730 (1697)" in remark for remark in verify(relabelled, pictures=False).remarks)
    both = zip(loaded("twitter2015", real_data).splits["test"], relabelled.splits["test"], strict=True)
    assert sum(old.tags != new.tags for old, new in both) == 239


@pytest.fixture
def small(tmp_path: Path) -> Corpus:
    (tmp_path / "good.jpg").write_bytes(b"")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "good.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    good, bad, gone = (
        ImageRef("good.jpg", tmp_path / "good.jpg"),
        ImageRef("bad.jpg", tmp_path / "bad.jpg"),
        ImageRef("gone.jpg"),
    )
    train = [
        Post("1", ("a", "b", "c"), ("I-PER", "B-LOC", "I-PER"), (good, bad)),
        Post("2", ("x",), ("O",), (gone,)),
        Post("3", ("x",), ("O",)),
        Post("4", ("y",), ("O",)),
    ]
    test = [Post("5", ("y",), ("B-PER",)), Post("4", ("z",), ("O",))]
    return Corpus("mine", "default", "d", None, ("PER", "LOC"), {"train": train, "test": test}, {"missing_images": 1})


def test_counts_by_hand(small: Corpus) -> None:
    stats = corpus_stats(small)
    train = stats["splits"]["train"]
    assert (train["posts"], train["words"], train["without_entities"]) == (4, 6, 3)
    assert train["entities"] == {"strict": {"PER": 0, "LOC": 1, "all": 1}, "lenient": {"PER": 2, "LOC": 1, "all": 3}}
    assert (train["orphans"], train["switches"]) == (1, 1)
    assert train["images"] == {"present": 1, "missing": 1, "broken": 1}
    assert corpus_stats(small, pictures=False)["splits"]["train"]["images"] == {"present": 2, "missing": 1, "broken": 0}
    assert stats["duplicates"] == 1, "repetition within a split is none across splits"
    assert stats["shared_ids"] == 1


def test_the_table_holds_every_figure(small: Corpus) -> None:
    text = table(corpus_stats(small))
    for line in ("posts                           4     2", "images broken                   1     0", "mine"):
        assert line in text
    assert "none that is known" in text


def test_faults_and_remarks(small: Corpus) -> None:
    faults = "\n".join(verify(small).reasons)
    assert "1 ids are in more than one split, the first is '4' (train, test)" in faults
    assert "1 of 3 pictures are missing, the first is gone.jpg" in faults
    assert "1 pictures are broken:" in faults and "bad.jpg is not a picture" in faults
    small.splits["test"].pop()
    assert verify(small, pictures=False).reasons == []


def test_another_number_of_posts_is_a_fault_of_a_known_corpus(real_data: Path) -> None:
    corpus = load_corpus("twitter2017", real_data)
    corpus.splits["train"].pop()
    assert verify(corpus, pictures=False).reasons == [
        "train has 3372 posts, Table 1 of MOUSING, GMF and MGIPS-CL: 3373"
    ]


def test_a_copy_without_pictures_is_told_where_they_are_to_be_had(real_data: Path) -> None:
    (reason,) = verify(loaded("twitter2015", real_data)).reasons
    assert reason.startswith("8242 of 8257 pictures are missing") and "jefferyYu/UMT on GitHub" in reason


def test_statistics_of_the_probe() -> None:
    stats = corpus_stats(load_corpus("probe", variant="multi", limit=20))
    assert stats["release"] == "probe-multi version 1" and stats["splits"]["test"]["images"]["present"] >= 20


FILES = {
    "train": "IMGID:1\na\tI-PER\nb\tB-LOC\nc\tI-OTHER\n\nIMGID:1\nx\tO\n\nIMGID:3\nx\tO\n\nIMGID:7\nw\tO\n",
    "valid": "IMGID:2\nx\tO\n\nIMGID:3\ny\tB-MIS\nz\tI-MIS\n",
    "test": "IMGID:3\ny\tB-MIS\nz\tI-MIS\n\nIMGID:bad\nv\tO\n",
}


@pytest.mark.parametrize("layout", ["columns", "records"])
def test_a_corpus_that_is_read_post_by_post_has_the_figures_of_one_in_memory(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stats_module, "_AT_ONCE", 2)
    for split, text in FILES.items():
        if layout == "columns":
            (tmp_path / f"{split}.txt").write_text(text)
            continue
        blocks = [block.split("\n") for block in text.strip().split("\n\n")]
        with (tmp_path / f"{split}.jsonl").open("w") as stream:
            for name, *rows in blocks:
                words, tags = zip(*(row.split("\t") for row in rows), strict=True)
                id_ = name.removeprefix("IMGID:")
                stream.write(json.dumps({"id": id_, "text": words, "label": tags, "images": [f"{id_}.jpg"]}) + "\n")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "1.jpg")
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    stats = stats_of_files(CorpusReading(str(tmp_path)))
    assert stats == corpus_stats(load_corpus(str(tmp_path)))
    assert (stats["duplicates"], stats["shared_ids"], stats["counts"]["repeated_ids"]) == (2, 1, 1)
    assert stats["splits"]["train"]["images"] == {"present": 2, "missing": 2, "broken": 0}
    assert stats["splits"]["test"]["images"] == {"present": 0, "missing": 1, "broken": 1}
