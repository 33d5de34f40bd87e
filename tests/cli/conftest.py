"""Two processes that stay for the tests of a file: to start them takes most of the time of a test of several ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from ranks import StayingRanks

from tests.cli import rank


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., None]]:
    """A function that runs a command of mnerkit on two ranks, and fails where it does not end with 0.

    With `cut_after` the command has to break off after so many training steps.

    They find each other by the variables that `torchrun` sets. `test_ddp.py` has Lightning start its ranks, too.
    """
    ranks = StayingRanks(tmp_path_factory.mktemp("ranks"))

    def run(command: Sequence[str], cut_after: int | None = None) -> None:
        ranks.call(rank.run, list(command), cut_after)

    yield run
    ranks.end()
