"""Weighted sums over the neighbours of each node: as a matrix product, or over the edges alone with DGL.

Both give the same values and gradients, also of the edge weights. The matrix product reads every pair of nodes; DGL
reads only the edges, but must first collect them in a list.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Literal

import torch
from torch import Tensor

from mnerkit.errors import UsageError, first_line
from mnerkit.nn.graph import Gather

GraphBackend = Literal["dense", "dgl"]
DGL_VERSION = "1.1.3"


def load_dgl() -> Any:
    """Import DGL, an optional dependency.

    Raises:
        UsageError: it is not installed, or does not work with this Python or torch.
    """
    # otherwise DGL asks for a backend and writes the answer to the home folder
    os.environ.setdefault("DGLBACKEND", "pytorch")
    try:
        import dgl
    except (ImportError, OSError) as problem:
        if sys.version_info >= (3, 12):
            remedy = f"its last release without torch pins, {DGL_VERSION}, has no wheel for Python 3.12 and later"
            remedy += f" (this is {sys.version_info.major}.{sys.version_info.minor}); use --model.graph dense"
        else:
            remedy = f"pip install 'dgl=={DGL_VERSION}', or use --model.graph dense, which gives the same numbers"
        raise UsageError(f"--model.graph dgl needs DGL ({first_line(problem)[:80]}): {remedy}") from None
    return dgl


def unsupported(device: torch.device) -> UsageError:
    """The error for a device that DGL was not built for."""
    return UsageError(
        f"the installed DGL has no support for {device.type}: use --model.graph dense, or --trainer.accelerator cpu"
    )


class DglGather:
    """Message passing over one DGL graph that contains all graphs of a batch, built once for a set of edges.

    Args:
        edges: (..., L, L) bool, true at [p, q] if node p gathers from node q. Weights elsewhere are not read.
    """

    def __init__(self, edges: Tensor) -> None:
        dgl = load_dgl()
        self._function, self._shape = dgl.function, edges.shape
        length = edges.shape[-1]
        graph, target, source = edges.reshape(-1, length, length).nonzero(as_tuple=True)
        self._place = (graph * length + target) * length + source  # index of an edge's weight among all weights
        offset = graph * length
        count = edges.numel() // max(1, length)
        try:
            self._graph = dgl.graph((offset + source, offset + target), num_nodes=count, device=edges.device)
        except dgl.DGLError:
            raise unsupported(edges.device) from None

    def __call__(self, weights: Tensor, values: Tensor) -> Tensor:
        """Sums (..., L, d) of values (..., L, d) by weights (..., L, L), with gradients for both."""
        if weights.shape != self._shape:
            raise ValueError(f"weights {tuple(weights.shape)} are not those of the edges {tuple(self._shape)}")
        exact = torch.promote_types(torch.promote_types(weights.dtype, values.dtype), torch.float32)
        with torch.autocast(values.device.type, enabled=False), self._graph.local_scope():
            self._graph.ndata["value"] = values.to(exact).flatten(0, -2)
            self._graph.edata["weight"] = weights.to(exact).reshape(-1)[self._place].unsqueeze(-1)
            function = self._function
            self._graph.update_all(function.u_mul_e("value", "weight", "message"), function.sum("message", "sum"))
            return self._graph.ndata["sum"].reshape(values.shape).to(values.dtype)


def gather_over(edges: Tensor, backend: GraphBackend = "dense") -> Gather:
    """The function that computes weighted sums over `edges` (..., L, L); `dense` needs weights of 0 elsewhere.

    Raises:
        UsageError: see `load_dgl`.
    """
    return torch.matmul if backend == "dense" else DglGather(edges)
