"""How the layers of towers compute: recomputed in the backward pass, compiled, or with channels last.

None of these changes what a layer computes but for rounding, nor the names of its weights.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from mnerkit.errors import UsageError
from mnerkit.towers.interface import Tower

BACKEND: Any = "inductor"  # of torch.compile


def layers_of(tower: Tower) -> list[nn.Module]:
    """The layers of a transformer; none of another tower."""
    if not hasattr(tower, "model"):
        return []
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in tower.modules() if isinstance(module, GradientCheckpointingLayer)]


def trained_layers(towers: Iterable[Tower], options: Mapping[str, Any] | None = None) -> list[nn.Module]:
    """The layers of all transformers that are not frozen.

    Args:
        towers: of a method.
        options: of the method by name (`--model.X`), those that are about these layers; false or 0: not asked for.

    Raises:
        UsageError: an option is asked for, and there are no such layers.
    """
    towers = list(towers)
    layers = [layer for tower in towers if not tower.frozen for layer in layers_of(tower)]
    for name, value in (options or {}).items():
        if value and not layers:
            specs = ", ".join(f"{tower.spec}{' (frozen)' * tower.frozen}" for tower in towers) or "none"
            raise UsageError(
                f"--model.{name} {str(value).lower()}: no transformer is trained here (towers: {specs}); give one "
                f"like BERT or CLIP that is not frozen, or --model.{name} {str(type(value)()).lower()}"
            )
    return layers


def recompute(layers: Iterable[nn.Module]) -> None:
    """Let layers keep their inputs alone in training, and compute the rest again in the backward pass.

    Dropout draws the same again, so the gradients are the same.
    """
    for layer in layers:
        made: Any = layer
        made.gradient_checkpointing, made._gradient_checkpointing_func = True, partial(checkpoint, use_reentrant=False)


def compile_layers(layers: Iterable[nn.Module], device: str) -> None:
    """Compile layers, for all numbers of rows and pieces at once: another length compiles nothing anew.

    Each layer is compiled by itself, since the layers of a tower are alike and share what was compiled for the first.

    Args:
        layers: of transformers.
        device: type of the device on which they run.

    Raises:
        UsageError: there is no compiler.
    """
    compilers = ([os.environ["CXX"]] if "CXX" in os.environ else []) + ["g++", "clang++", "c++"]
    if device == "cpu" and BACKEND == "inductor" and not any(map(shutil.which, compilers)):
        raise UsageError("--model.compile true: on a CPU torch needs a C++ compiler: install g++, or give false")
    if device == "cuda" and BACKEND == "inductor" and importlib.util.find_spec("triton") is None:
        raise UsageError("--model.compile true: on a GPU torch needs triton: pip install triton, or give false")
    for layer in layers:
        layer.compile(backend=BACKEND, dynamic=True)


def channels_last(towers: Iterable[Tower]) -> None:
    """Store the weights of CNNs as CUDA's convolutions read them, so that none has to turn its maps round."""
    for tower in towers:
        if getattr(tower, "stage_widths", ()):
            tower.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
