"""What `make bench-steps` counts, and that a training step of a method never waits for a GPU."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from mnerkit.nn import chain_tree

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("bench_steps")


def test_operations_are_counted_without_views(steps: Any) -> None:
    counts = steps.Counts()
    x = torch.ones(2, 3)
    with counts.watching():
        (x.T @ x.unsqueeze(0)[0] + 1).view(9)
    assert counts.operations == {"mm": 1, "add.Tensor": 1} and not counts.reads


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x[x > 0],
        lambda x: torch.nonzero(x),
        lambda x: x.masked_fill_(x > 0, 2).tolist(),
        lambda x: x.index_put_((x > 0,), torch.ones(3)),
    ],
)
def test_a_host_read_is_counted_once(steps: Any, read: Any) -> None:
    counts = steps.Counts()
    with counts.watching():
        read(torch.tensor([1.0, 0.0, 2.0, 3.0]))
    assert counts.reads.total() == 1


def test_what_needs_no_number_on_the_host_is_no_read(steps: Any) -> None:
    counts = steps.Counts()
    x = torch.tensor([1.0, 0.0, 2.0])
    with counts.watching():
        x[x > 0] = 0.0
        torch.where(x > 0, x, x + 1)[torch.tensor([0, 2])]
    assert not counts.reads


def test_every_bar_is_of_a_system_that_was_counted_at_the_start(steps: Any) -> None:
    start = steps.json.loads(steps.START.read_text("utf-8"))
    assert set(steps.SYSTEMS) == set(start) and {*steps.RATIOS, *steps.READS} <= set(start)


@pytest.mark.parametrize("system", ["bert", "gmf"])
def test_a_training_step_reads_nothing_on_the_host(steps: Any, system: str, tmp_path: Path) -> None:
    steps.write_corpus(tmp_path)
    with chain_tree.forced():
        counts = steps.counted(steps.assembled(steps.SYSTEMS[system], tmp_path))
    assert [place for place in counts.reads if not place.startswith("(")] == []
    start = steps.json.loads(steps.START.read_text("utf-8"))
    assert counts.operations.total() < start[system]["operations"]


@pytest.mark.parametrize("system", ["bert", "bert + softmax", "gei", "mousing"])
def test_scoring_reads_the_decoded_tags_alone(steps: Any, system: str, tmp_path: Path) -> None:
    steps.write_corpus(tmp_path)
    with chain_tree.forced():
        counts = steps.evaluated(steps.assembled(steps.SYSTEMS[system], tmp_path))
    assert sum(number for place, number in counts.reads.items() if not place.startswith("(")) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="waiting for a GPU shows on a GPU alone: no CUDA device here")
@pytest.mark.parametrize("system", ["bert", "hvpnet", "gmf", "mgips_cl"])
def test_a_training_step_on_a_gpu_never_waits_for_it(
    steps: Any, system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import masking_utils

    original = masking_utils._ignore_bidirectional_mask_sdpa

    def waiting(*args: Any, **kwargs: Any) -> bool:
        """The library's own read: whether there is padding."""
        torch.cuda.set_sync_debug_mode("default")
        try:
            return original(*args, **kwargs)
        finally:
            torch.cuda.set_sync_debug_mode(mode)

    monkeypatch.setattr(masking_utils, "_ignore_bidirectional_mask_sdpa", waiting)
    steps.write_corpus(tmp_path)
    made = steps.assembled(steps.SYSTEMS[system], tmp_path)
    method, mode = made.method.to("cuda").train(), "default"
    method.on_train_epoch_start()
    batches = iter(made.data.train_dataloader())
    try:
        for number in range(3):
            batch = next(batches).to("cuda")
            mode = "error" if number == 2 else "default"  # the first steps prepare libraries
            torch.cuda.set_sync_debug_mode(mode)
            steps.step(method, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
