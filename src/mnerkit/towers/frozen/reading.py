"""What, beside the input, determines the output of a frozen tower."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Reading:
    """Settings of a frozen tower that, together with the input, determine its output.

    Attributes:
        weights: digest of the tower's weights.
        view: `text` or `picture`. Whether a picture is a cell of another one is part of the input's digest.
        preprocessing: settings of the reader or the picture format, as text.
        length_limit: maximum number of pieces of a text; 0 for pictures.
        layers: number of last layers that are averaged.
        pooling: how pieces become words (`first`, `mean`); what is cached of pictures: regions (empty), `pooled`
            vectors alone, or pooled `stages`.
        projection: whether states are in the joint space.
        dtype: type of the tower's computations.
        kept: type of the cached values, `float32` or `half`.

    """

    weights: str
    view: str
    preprocessing: str
    length_limit: int = 0
    layers: int = 1
    pooling: str = ""
    projection: bool = False
    dtype: str = "float32"
    kept: str = "float32"


def weight_version(module: nn.Module) -> tuple[int, ...]:
    """Changes when a weight is replaced, moved or written to, and takes less time than a digest of the weights."""
    parts = ((value.data_ptr(), 0 if value.is_inference() else value._version) for value in _held(module))
    return tuple(part for pair in parts for part in pair)


def _held(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers; `parameters` and `buffers` take ten times as long."""
    modules = [module]
    for each in modules:
        modules.extend(child for child in each._modules.values() if child is not None)
        yield from (value for value in each._parameters.values() if value is not None)
        yield from (value for value in each._buffers.values() if value is not None)
