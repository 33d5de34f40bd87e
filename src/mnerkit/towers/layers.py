"""How the layers of towers compute: in joint products, recomputed in the backward pass, compiled, or channels last.

None of these changes what a layer computes but for rounding, nor the names of its weights.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
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


@contextlib.contextmanager
def joint_products(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Compute queries, keys and values of each layer in one product while gradients are recorded.

    A step then dispatches fewer operations, and results differ by rounding alone. Layers that are
    frozen, adapted, compiled or recomputed, or of an architecture that is not known here, compute as they are.

    Args:
        layers: of a transformer like BERT or CLIP.
    """
    maps = [linears for layer in layers if (linears := _self_attention(layer))] if torch.is_grad_enabled() else []
    for linears, weight, bias in zip(maps, _joined(maps, "weight"), _joined(maps, "bias"), strict=True):
        product = _JointProduct([each.out_features for each in linears], weight, bias)
        for number, linear in enumerate(linears):
            linear.forward = partial(product, number)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for linears in maps:
            for linear in linears:
                del linear.forward  # the method of its class is left


def _self_attention(layer: Any) -> list[nn.Linear]:
    """The maps to queries, keys and values of a layer; none where they can't be computed in one product."""
    if getattr(layer, "gradient_checkpointing", False) or layer._compiled_call_impl is not None:
        return []
    attention = getattr(getattr(layer, "attention", None), "self", None) or getattr(layer, "self_attn", None)
    for names in (("query", "key", "value"), ("q_proj", "k_proj", "v_proj")):
        linears = [getattr(attention, name, None) for name in names]
        if all(
            type(each) is nn.Linear and each.bias is not None and each.weight.requires_grad and each.bias.requires_grad
            for each in linears
        ):
            return linears  # type: ignore[return-value]
    return []


def _joined(maps: Sequence[Sequence[nn.Linear]], name: str) -> Sequence[Tensor]:
    """The weights or biases of all maps of a layer as one, for each layer; of layers that are alike views of one."""
    parts: list[list[Tensor]] = [[getattr(each, name) for each in linears] for linears in maps]
    if len({(each.shape[1:], each.dtype, each.device) for part in parts for each in part}) != 1:
        return [torch.cat(part) for part in parts]
    rows = [sum(map(len, part)) for part in parts]
    return torch.cat([each for part in parts for each in part]).split(rows)


class _JointProduct:
    """Several linear maps of the same states, computed together when the first is called.

    Args:
        widths: number of outputs of each map.
        weight: of all maps, (sum of `widths`, in_features).
        bias: of all maps, (sum of `widths`,).
    """

    def __init__(self, widths: list[int], weight: Tensor, bias: Tensor) -> None:
        self.widths, self.weight, self.bias = widths, weight, bias
        self._states: Tensor | None = None
        self._outputs: tuple[Tensor, ...] = ()

    def __call__(self, number: int, states: Tensor) -> Tensor:
        """The output of map `number`, (..., out_features), for states (..., in_features)."""
        if self._states is not states:
            self._states = states
            self._outputs = functional.linear(states, self.weight, self.bias).split(self.widths, -1)
        return self._outputs[number]


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
