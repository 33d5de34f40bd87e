"""A changed default holds for new runs; a file that lacks the option keeps the default of its time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mnerkit.data.options import DataOptions
from mnerkit.options import declared
from mnerkit.runs.config.configuration import filled, resolve


def test_a_changed_default_is_for_new_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    option = declared(DataOptions)["eval_batch_size"]
    before = option.default // 2
    monkeypatch.setitem(declared(DataOptions), "eval_batch_size", replace(option, since=("0.2.0", before)))
    new = resolve("bert")
    assert new.content["data"]["eval_batch_size"] == option.default
    assert filled(new.given)["data"]["eval_batch_size"] == before
    assert resolve(base=new.given).content["data"]["eval_batch_size"] == before
