"""Plugins of release 0.1.0 under today's interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnerkit.methods.method import Method
from mnerkit.methods.predictor import Predictor


def test_a_hook_with_its_former_name_is_called_under_the_new_one() -> None:
    with pytest.warns(DeprecationWarning, match="Old.leave is now called export"):

        class Old(Method):
            def leave(self, trainer: Any, data: Any, folder: Path) -> None:
                self.folder = folder

    method = Old()
    nothing: Any = None
    method.export(nothing, nothing, Path("here"))
    assert method.folder == Path("here")


def test_attributes_with_former_names_are_those_with_the_new_ones() -> None:
    method = Method()
    with pytest.warns(DeprecationWarning, match="Method.noted is now called notes"):
        method.noted["pairs"] = 3
    with pytest.warns(DeprecationWarning, match="Method.measured is now called logged_scalars"):
        method.measured = {"loss": 1.0}
    assert method.notes == {"pairs": 3}
    assert method.logged_scalars == {"loss": 1.0}


def test_warnings_of_a_predictor_are_its_remarks_for_one_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "__init__", lambda self: None)
    monkeypatch.setattr(Predictor, "warnings", lambda self: iter(["1 picture is missing"]))
    with pytest.warns(DeprecationWarning, match="Predictor.remarks is now called warnings"):
        assert list(Predictor().remarks()) == ["1 picture is missing"]  # type: ignore[call-arg]
