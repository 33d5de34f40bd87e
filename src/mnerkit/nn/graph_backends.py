"""Weighted sums over the neighbours of each node: as a matrix product, or over the edges alone with DGL.

Both give the same numbers and gradients, those of the edge weights included. The matrix product reads every pair of
nodes; DGL reads the edges, and pays for making them a list.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Literal

import torch
from torch import Tensor

from mnerkit.errors import UsageError
from mnerkit.nn.graph import Gather

GraphBackend = Literal["dense", "dgl"]
DGL_VERSION = "1.1.3"


def load_dgl() -> Any:
    """Import DGL, which is needed by nobody who does not ask for it.

    Raises:
        UsageError: it is not installed, or does not work beside this Python or torch.
    """
    # else DGL asks which of its backends to take, and writes the answer to the home folder
    os.environ.setdefault("DGLBACKEND", "pytorch")
    try:
        import dgl
    except (ImportError, OSError) as problem:
        if sys.version_info >= (3, 12):
            way = f"its last release without torch pins, {DGL_VERSION}, has no wheel for Python 3.12 and later"
            way += f" (this is {sys.version_info.major}.{sys.version_info.minor}); take --model.graph dense"
        else:
            way = f"pip install 'dgl=={DGL_VERSION}', or take --model.graph dense, which gives the same numbers"
        raise UsageError(f"--model.graph dgl needs DGL ({str(problem).splitlines()[0][:80]}): {way}") from None
    return dgl


def unsupported(device: torch.device) -> UsageError:
    """What to tell who asks DGL for a device that it was not built for."""
    return UsageError(
        f"the installed DGL has no support for {device.type}: take --model.graph dense, or --trainer.accelerator cpu"
    )


class DglGather:
    """Message passing over one DGL graph that holds all graphs of a batch, made once for a set of edges.

    Args:
        edges: (..., L, L) bool, true at [p, q] where node p gathers from node q. Weights elsewhere are not read.
    """

    def __init__(self, edges: Tensor) -> None:
        dgl = load_dgl()
        self._function, self._shape = dgl.function, edges.shape
        length = edges.shape[-1]
        graph, target, source = edges.reshape(-1, length, length).nonzero(as_tuple=True)
        self._place = (graph * length + target) * length + source  # of an edge's weight among all weights
        offset = graph * length
        count = edges.numel() // max(1, length)
        try:
            self._graph = dgl.graph((offset + source, offset + target), num_nodes=count, device=edges.device)
        except dgl.DGLError:
            raise unsupported(edges.device) from None

    def __call__(self, weights: Tensor, values: Tensor) -> Tensor:
        """Weights (..., L, L) and values (..., L, d) to sums (..., L, d); gradients reach both."""
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
    """How weighted sums over `edges` (..., L, L) are formed; for `dense`, weights are 0 where there is no edge.

    Raises:
        UsageError: see `load_dgl`.
    """
    return torch.matmul if backend == "dense" else DglGather(edges)
