"""Methods, heads, data, pictures, precisions, ranks and units go together, or are refused in a line (`method_table`).

`make test` tries a few combinations that hold every pair of values, `make test-all` the complete product.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from method_table import AXES, Combination, covering, every_combination, pairs, refusals
from ranks import StayingRanks
from tiny_run import assembled, train

from mnerkit.errors import MnerkitError

EVERY = every_combination()
TRAINED = [each for each in EVERY if not refusals(each)]
REFUSED = [each for each in EVERY if refusals(each)]
COMPLETE = os.environ.get("MNERKIT_COMBINATIONS") == "all"
TRIED = TRAINED if COMPLETE else covering(TRAINED)
TRIED_REFUSALS = REFUSED if COMPLETE else covering(REFUSED)


def parameters(combinations: list[Combination]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("combination", combinations, ids=lambda each: each.name)


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of the tiny towers that are trained before they are frozen."""
    return str(tmp_path_factory.getbasetemp() / "towers")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StayingRanks]:
    ranks = StayingRanks(tmp_path_factory.mktemp("ranks"))
    yield ranks
    ranks.end()


def test_every_pair_of_values_is_tried() -> None:
    assert {pair for each in TRIED for pair in pairs(each)} == {pair for each in TRAINED for pair in pairs(each)}
    tried = {pair for each in (*TRIED, *TRIED_REFUSALS) for pair in pairs(each)}
    assert tried == {pair for each in EVERY for pair in pairs(each)}
    assert {each.plugin for each in TRIED} == {*AXES["plugin"]}


@pytest.mark.filterwarnings("ignore")
@parameters([each for each in TRIED if each.ranks == "one"])
def test_it_trains_and_answers(combination: Combination, towers: str) -> None:
    train(combination, towers)


@parameters([each for each in TRIED if each.ranks == "two"])
def test_it_trains_on_two_ranks_of_which_one_has_no_pictures(
    combination: Combination, towers: str, ranks: StayingRanks
) -> None:
    ranks.call(train, combination, towers)


@pytest.mark.filterwarnings("ignore")
@parameters(TRIED_REFUSALS)
def test_it_is_refused_in_a_line(combination: Combination, towers: str) -> None:
    with pytest.raises(MnerkitError, match="|".join(refusals(combination))) as refused:
        assembled(combination, towers)
    assert "\n" not in str(refused.value)
