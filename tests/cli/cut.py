"""A training that breaks off within an epoch, as a kill would have it, without a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from unittest.mock import patch

from mnerkit.cli import main
from mnerkit.methods.method import Method


class CutError(BaseException):
    """Nobody but the test catches it."""


def steps_of(command: Sequence[str], cut_after: int | None = None) -> int:
    """Run a command, which has to come to a good end or, with `cut_after`, to break off after so many training steps.

    Returns:
        The number of training steps.
    """
    steps, step = 0, Method.training_step

    def counted(method: Method, *given: object) -> object:
        nonlocal steps
        if steps == cut_after:
            raise CutError
        steps += 1
        return step(method, *given)  # type: ignore[arg-type]

    with patch.object(Method, "training_step", counted):
        try:
            code = main(command)
        except CutError:
            return steps
    assert code == 0 and cut_after is None, f"exit code {code} after {steps} steps"
    return steps
