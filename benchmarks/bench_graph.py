"""MOUSING's graph networks on dense tensors and over DGL: the same numbers, timed in turns in one process.

What is timed is the whole graph part of both environments (Eq. 4-9) from ready node features and edges, forward and
backward, lists of edges included. One thread unless asked otherwise, as in `bench_crf.py`. Exits 1 where the backends
differ by more than 1e-5.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from timing import in_turns, read_options, verdict
from torch import Tensor

from mnerkit.atomic_files import write_json
from mnerkit.data.batches.batch import TextBatch
from mnerkit.nn.graph import cosine_graph
from mnerkit.nn.graph_backends import load_dgl
from mnerkit.text_table import table
from mnerkit.towers.interface import TextStates, TextTower
from mnerkit_plugins.mousing.model import MousingEncoder
from mnerkit_plugins.mousing.options import MousingOptions

RESULTS = Path(__file__).parent / "results" / "graph.json"
WIDTH = 768
TOLERANCE = 1e-5
# graphs, words, patches: an episode of the paper's, and one of long texts with every patch of ViT-L/14 as a node
SIZES = {"paper": (6, 30, 9), "all patches": (6, 50, 256)}
# messages from all nodes (the default), along the original edges, and from the ten strongest
NEIGHBOURHOODS = ("dense", "original", "topk")


class Given(TextTower):
    """Stands where the text tower would: node features are given."""

    width, frozen = WIDTH, True

    def forward(self, text: TextBatch) -> TextStates:
        raise NotImplementedError


def graphs(count: int, words: int, patches: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features (B, L, d), edges (B, L, L) and mask (B, L) of random graphs, half of them with padding."""
    draw = torch.Generator().manual_seed(seed)
    length = words + patches
    # a few common directions, so that cosines spread as those of real states do
    x = torch.randn(count, length, 8, generator=draw) @ torch.randn(8, WIDTH, generator=draw)
    mask = torch.ones(count, length, dtype=torch.bool)
    mask[::2, 2 * words // 3 : words] = False
    x = x * mask.unsqueeze(-1)
    return x, cosine_graph(x, mask, 0.55, torch.arange(length) >= words), mask


def step(model: MousingEncoder, x: Tensor, edges: Tensor, mask: Tensor) -> list[Tensor]:
    """Node states of both environments and all gradients of one training step."""
    model.zero_grad()
    states = torch.stack([model.final(model.environment(number, x, edges, mask)[2]) for number in range(2)])
    states[:, mask].pow(2).mean().backward()
    return [states.detach(), *(each.grad for each in model.parameters() if each.grad is not None)]


def case(size: str, neighbourhood: str, turns: int) -> dict[str, Any]:
    """One line of the table."""
    x, edges, mask = graphs(*SIZES[size], seed=0)
    models = {}
    for backend in ("dense", "dgl"):
        torch.manual_seed(0)
        options: dict[str, Any] = {"graph": backend, "neighbourhood": neighbourhood}
        models[backend] = MousingEncoder(Given(), None, MousingOptions(use_image=False, dropout=0.0, **options))
    results = {name: step(model, x, edges, mask) for name, model in models.items()}
    gap = max(
        float((one - other).abs().max() / one.abs().max().clamp_min(1))
        for one, other in zip(results["dense"], results["dgl"], strict=True)
    )
    runs = {name: (lambda model=model: step(model, x, edges, mask)) for name, model in models.items()}
    times = {name: statistics.median(each) for name, each in in_turns(runs, turns, warm_up=2).items()}
    return {
        "size": size,
        "graphs": x.shape[0],
        "nodes": x.shape[1],
        "neighbourhood": neighbourhood,
        "edges": int(edges.sum()),
        "dense_ms": round(times["dense"], 2),
        "dgl_ms": round(times["dgl"], 2),
        "dense_is_faster_by": round(times["dgl"] / times["dense"], 2),
        "largest_difference": gap,
    }


def main() -> int:
    """Compare, print and write the table; 0 when both agree."""
    options = read_options(__doc__, turns=10, threads="threads of torch and of DGL")
    dgl = load_dgl()
    rows = [case(size, neighbourhood, options.turns) for size in SIZES for neighbourhood in NEIGHBOURHOODS]
    head = ["size", "graphs", "nodes", "messages", "edges of A", "dense ms", "DGL ms", "DGL / dense", "difference"]
    body = [[*list(row.values())[:-1], f"{row['largest_difference']:.1e}"] for row in rows]
    about = f"torch {torch.__version__}, DGL {dgl.__version__}, {options.threads} threads, d = {WIDTH}"
    print(f"{about}, forward + backward of Eq. 4-9, median of {options.turns} turns")
    print(table(head, body))
    found = {"about": about, "turns": options.turns, "device": "cpu", "cases": rows}
    write_json(RESULTS, found)
    missed = [
        f"{row['size']}, {row['neighbourhood']}: the backends differ by {row['largest_difference']:.1e}"
        for row in rows
        if not row["largest_difference"] <= TOLERANCE
    ]
    return verdict(missed, f"both agree within {TOLERANCE:g}")


if __name__ == "__main__":
    sys.exit(main())
