"""A command of mnerkit on one of two ranks (`ranks.StayingRanks`)."""

from __future__ import annotations

from collections.abc import Sequence

from mnerkit.cli import main
from tests.cli.cut import steps_of


def run(command: Sequence[str], cut_after: int | None = None) -> None:
    """Run a command that ends with 0 or, with `cut_after`, breaks off after so many training steps (`cut.steps_of`)."""
    if cut_after is not None:
        steps_of(command, cut_after)
    elif code := main(command):
        raise AssertionError(f"exit code {code}: mnerkit {' '.join(command)}")
