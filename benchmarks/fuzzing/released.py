"""Weights that authors' code has saved, as `mnerkit import` reads them."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.mutations import mutated
from fuzzing.reader import VALID, Input, Reader
from fuzzing.weights import changed_state, no_seed, repacked, tensors


def released(draw: Random) -> Input:
    """A state dict, wrapped or not, whose bytes, archive or tensors are changed."""
    import torch

    state = {
        "module.fc.weight": torch.tensor([[draw.random() for _ in range(8)] for _ in range(4)]),
        "module.fc.bias": torch.zeros(4),
        "module.embeddings.position_ids": torch.arange(3),
    }
    how, archive = draw.random(), draw.random() < 0.7
    if VALID <= how < 0.3:
        state = changed_state(draw, state)
    wrapped: Any = draw.choice((state, {"state_dict": state, "epoch": 1}, {"model": {"state_dict": state}}))
    stream = io.BytesIO()
    torch.save(wrapped, stream, _use_new_zipfile_serialization=archive)
    content = stream.getvalue()
    if how < VALID:
        return Input(content, True, of_floats(state))
    if how < 0.3:
        return Input(content, False, of_floats(state))
    if archive and how < 0.5:
        return Input(repacked(draw, content, (0, 2, 3, 5)), False, of_floats(state))
    # a file of torch's before release 1.6 has no checksums
    return Input(mutated(draw, "bytes", content, content), False, of_floats(state) if archive else None)


def of_floats(state: Any) -> Any:
    """What is read of a state dict: all but the numbers of places."""
    numbers = ("torch.int64", "torch.uint8", "torch.bool")
    found = tensors(state)
    return {name: each for name, each in found.items() if not (name.endswith("position_ids") and each[0] in numbers)}


def plain_released(path: Path) -> Any:
    import torch

    content = torch.load(path, weights_only=True)
    for name in ("model", "state_dict"):
        content = content.get(name, content)
    return of_floats(content)


def read_released(path: Path) -> Any:
    from mnerkit.runs.imports.weight_file import read_weights

    return tensors(read_weights(path))


READERS = (Reader("released weights", "best.pth", "bytes", no_seed, read_released, plain_released, make=released),)
