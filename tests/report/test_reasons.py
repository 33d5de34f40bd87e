"""Figures that can't be compared with printed ones: missing pictures, no objects, doubtful printed figures."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from small_runs import GOOD, Write

from mnerkit.atomic_files import write_json
from mnerkit.report.page.page import signature
from mnerkit.report.posts.answers import Library
from mnerkit.report.tables.table_file import read_table
from mnerkit.report.tables.tables import Shelf, fill
from mnerkit.reproduce.experiments import experiment_files
from mnerkit.runs.config.configuration import filled
from tests.reproduce.small import EXPERIMENTS

SEEN = {"pictures": "right", "max_images": 1, "missing_images": "blank"}


@pytest.mark.parametrize(
    ("protocol", "reasons"),
    [
        ({}, []),
        ({"missing_pictures": {"test": {"missing": 3, "of": 723}}}, []),
        (
            {"missing_pictures": {"train": {"missing": 3370, "of": 3373}, "test": {"missing": 3, "of": 723}}},
            ["pictures: 3,370 of 3,373 (train) are missing"],
        ),
        ({"missing_pictures": {"test": 3, "dev": {"missing": "all"}}}, []),
        ({"missing_captions": {"test": {"missing": 8, "of": 723}}}, ["captions: 8 of 723 (test) are missing"]),
        ({"objects": {"source": "boxes", "file": "twitter2017.jsonl"}}, []),
        ({"objects": {"source": "none"}}, ["objects: none are known, set places of each picture are seen"]),
        ({"variant": "relabelled"}, ["labels: variant relabelled"]),
        ({"release": "twitter2015-relabelled"}, ["labels: of the release twitter2015-relabelled"]),
    ],
)
def test_runs_without_pictures_or_objects_get_no_verdict(
    write_run: Write, write_table: Write, protocol: dict[str, Any], reasons: list[str]
) -> None:
    runs = [write_run(f"s{seed}", GOOD, seed=seed, **SEEN, **protocol) for seed in (0, 1)]
    figure = fill(read_table(write_table([runs])), Shelf(), Library()).figures[0, 0]
    assert figure.reasons == reasons and (figure.verdict == "not comparable") == bool(reasons)


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ({}, ""),
        ({"missing_pictures": {"test": {"missing": 3, "of": 723}}}, " (3 of 723 (test) are missing)"),
        ({"objects": {"source": "none", "file": None}}, "; objects: set places"),
        ({"objects": {"source": "truth", "file": None}}, "; objects: truth"),
        ({"objects": {"source": "crops", "file": "train"}}, "; objects: train"),
        ({"objects": {"source": "boxes", "file": "a.jsonl", "about": {"detector": "detr"}}}, "; objects: detr"),
    ],
)
def test_a_signature_says_what_was_seen_of_pictures(write_run: Write, protocol: dict[str, Any], said: str) -> None:
    [record] = Shelf([write_run("a", GOOD, **SEEN, **protocol)]).records.values()
    assert dict(signature(record))["pictures"] == f"right, up to 1 a post; missing ones: blank{said}"


def test_strict_scores_are_not_compared_with_lenient_ones(write_run: Write, write_table: Write) -> None:
    column = {"name": "F1", "corpus": "corp", "metric": "f1_strict"}
    path = write_table([[write_run("a", GOOD)]], columns=[column])
    path.write_text(path.read_text().replace('"row": 0', '"metric": "f1_strict", "row": 0'))
    assert fill(read_table(path), Shelf(), Library()).figures[0, 0].reasons == [
        "chunking: strict, and printed figures are lenient"
    ]


def test_printed_figures_of_mgips_cl_are_for_reference_only() -> None:
    known = experiment_files.load_all(EXPERIMENTS)
    for name in ("table2", "table3"):
        experiment = known[f"mgips_cl/{name}"]
        own = [row for row in experiment.rows if row.plugin == "mgips_cl"]
        assert own and all("reference only" in " ".join([*experiment.differs, *row.differs]) for row in own)
        # rows that other papers took over are compared, unless another language model answers than theirs
        others = [row for row in experiment.rows if row.plugin not in ("mgips_cl", "prompted")]
        assert not others or not any([*experiment.differs, *row.differs] for row in others)


@pytest.mark.parametrize(
    ("noted", "said"),
    [
        ({"behaviours": {"core": 2, "plugin": 1, "head": 3}}, "core 2, plugin 1, head 3"),
        ({"source_digest": "0123456789abcdef"}, "source 0123456789ab"),
        ({}, "not kept"),
    ],
)
def test_a_signature_says_what_computed_the_run(write_run: Write, noted: dict[str, Any], said: str) -> None:
    """By behaviour numbers; release 0.1.0 noted a digest of the sources."""
    path = write_run("a", GOOD)
    write_json(path / "env.json", noted)
    [record] = Shelf([path]).records.values()
    assert dict(signature(record))["behaviour"] == said


def test_a_run_that_left_defaults_out_has_the_configuration_of_one_that_says_them_all(write_run: Write) -> None:
    older, newer = (write_run(f"s{seed}", GOOD, seed=seed) for seed in (0, 1))
    whole = filled(yaml.safe_load((newer / "config.yaml").read_text()))
    (newer / "config.yaml").write_text(yaml.safe_dump(whole))
    other = write_run("b", GOOD, model={"text": "bert-base", "dropout": 0.7})
    names = [record.configuration for record in Shelf([older, newer, other]).records.values()]
    assert names[0] == names[1] != names[2]
