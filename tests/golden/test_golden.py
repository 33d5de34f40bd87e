"""What every method computes is what it computed before: losses of three steps, tags, a resumed run, a report.

`golden.json` holds the values. Whoever means to change what a run computes raises the behaviour number of the core
(`mnerkit.runs.identity`), of the plugin or of the head (their options), and then writes the values of all cases that
differ anew: `python tests/golden/write.py [CASE ...]`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cases import CASES, HEADS, TAGGERS
from golden_files import CLEAR, TABLES, computed, differences, near, raised, read
from harness import fit, path_margins, registered, values, write_bert
from report_runs import write_report

GOLDEN = read()
HOW_TO_CHANGE = "if that is meant, raise a behaviour number and run tests/golden/write.py"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder where trained tiny towers are kept from case to case."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two-layer BERT."""
    return write_bert(tmp_path_factory.mktemp("towers") / "bert")


@pytest.mark.parametrize("name", CASES)
def test_a_case_computes_what_it_did(name: str, tmp_path: Path, cache: Path, bert: Path) -> None:
    found = list(differences(GOLDEN[name], computed(name, tmp_path, cache, bert), CASES[name].tolerance))
    assert not found, "\n".join([f"{name} differs from tests/golden/golden.json ({HOW_TO_CHANGE}):", *found])


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("resumed/")])
def test_a_run_that_was_interrupted_goes_on_as_one_that_was_not(
    name: str, tmp_path: Path, cache: Path, bert: Path
) -> None:
    options = CASES[name].options
    # the second of three steps of the second epoch
    fit(tmp_path, options, cache, stop_after=5)
    run, record = fit(tmp_path, options, cache)
    golden = {**GOLDEN[name], "losses": {loss: steps[3:] for loss, steps in GOLDEN[name]["losses"].items()}}
    found = list(differences(golden, values(run, record)))
    assert not found, "\n".join(found)


def test_a_report_of_the_same_runs_has_the_same_tables(tmp_path: Path) -> None:
    golden = {path.relative_to(TABLES).as_posix(): path.read_text("utf-8") for path in TABLES.rglob("*.*")}
    found = write_report(tmp_path)
    assert found.keys() == golden.keys()
    for name, text in golden.items():
        assert found[name] == text, name


def test_every_plugin_and_head_has_a_case() -> None:
    plugins, heads = registered()
    # `prompted` computes nothing: what it writes is another's replies
    assert plugins == {*TAGGERS, "relevance", "prompted"} and heads == {*HEADS}
    assert GOLDEN.keys() == CASES.keys()


def test_margins_of_paths_are_those_of_all_paths_tried_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    emissions, transitions = torch.randn(4, 3, generator=generator), torch.randn(3, 3, generator=generator)
    start, end = torch.randn(3, generator=generator), torch.randn(3, generator=generator)
    paths = torch.cartesian_prod(*[torch.arange(3)] * 4)
    scores = start[paths[:, 0]] + end[paths[:, -1]] + emissions[torch.arange(4), paths].sum(1)
    scores += transitions[paths[:, :-1], paths[:, 1:]].sum(1)
    best = paths[scores.argmax()]
    wanted = [float(scores.max() - scores[paths[:, word] != best[word]].max()) for word in range(4)]
    assert path_margins(emissions, start, transitions, end) == pytest.approx(wanted, abs=1e-5)


def test_what_is_compared_and_what_is_not() -> None:
    post = {"id": "a", "tags": "O B-PER O", "margins": [1.0, 0.5 * CLEAR, 1.0]}
    golden = {"behaviour": {"core": 1}, "losses": {"train/loss": [2.0, 1.0]}, "dev": [post]}

    def with_tags(tags: str) -> list[str]:
        return list(differences(golden, {**golden, "dev": [{**post, "tags": tags}]}))

    assert not with_tags("O O O") and not with_tags("O B-PER B-PER")
    assert with_tags("B-PER B-PER O")
    assert list(differences(golden, {**golden, "losses": {"train/loss": [2.0, 1.002]}}))
    assert list(differences(golden, {**golden, "losses": {"train/loss": [2.0]}}))
    assert list(differences(golden, {**golden, "behaviour": {"core": 2}}))
    assert near([2.0, None], [2.001, None]) and not near(2.0, 2.01) and not near([1.0], [1.0, 1.0])


def test_values_are_only_written_anew_under_a_higher_behaviour_number() -> None:
    before = {"core": 2, "plugin": 1, "head": 1}
    assert raised(before, {"core": 2, "plugin": 2, "head": 1}) and raised(before, {"core": 3, "plugin": 1, "head": 1})
    assert not raised(before, before)
    with pytest.raises(ValueError, match="core"):
        raised(before, {"core": 1, "plugin": 2, "head": 1})
