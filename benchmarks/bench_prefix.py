"""A training step of a BERT with a visual prefix against the same step without one, timed in turns in one process.

The tower is BERT-base from its configuration, or a folder's. What is timed is forward and backward in training mode
(dropout on) of a batch of equal texts with a little padding. `prefix` gets ready keys and values that take gradients,
which is what the attention itself costs; `projected` besides maps P visual vectors to keys and values in each layer
(W_phi of GMF, Eq. 12), which is arithmetic of the method and counted by torch. Times are seconds on the clock and
seconds of this process, which other work on the machine disturbs less. Exits 1 where `prefix` takes more than 1.15
times as many of the latter as the plain tower.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mnerkit.atomic_files import write_json
from mnerkit.text_table import table
from mnerkit.towers.fusion.prefix import Passing, Prefix

RESULTS = Path(__file__).parent / "results" / "prefix.json"
BAR = 1.15


def tower(folder: str) -> Any:
    """BERT-base with new weights, or the architecture of a folder, without pooler, in training mode."""
    from transformers import AutoConfig, BertConfig, BertModel

    config = AutoConfig.from_pretrained(folder) if folder else BertConfig()
    return BertModel(config, add_pooling_layer=False).train()


def steps(model: Any, rows: int, pieces: int, positions: int) -> dict[str, Callable[[], None]]:
    """The three training steps, each leaving gradients behind."""
    layers, width = model.config.num_hidden_layers, model.config.hidden_size
    ids = torch.randint(1000, 2000, (rows, pieces))
    attended = torch.arange(pieces) < torch.randint(pieces // 2, pieces + 1, (rows, 1))
    real = torch.ones(rows, positions, dtype=torch.bool)
    real[0, positions // 2 :] = False
    ready = [torch.randn(rows, positions, width, requires_grad=True) for _ in range(2 * layers)]
    seen = torch.randn(rows, positions, width, requires_grad=True)
    maps = nn.ModuleList(nn.Linear(width, 2 * width, bias=False) for _ in range(layers))

    def step(make: Callable[[], Prefix | None]) -> None:
        model.zero_grad(set_to_none=True)
        passing = Passing(model, "timed", make())
        states = passing.check_used(model(ids, attention_mask=attended, **passing.options).last_hidden_state)
        states.pow(2).mean().backward()

    def given() -> Prefix:
        return Prefix(tuple(ready[:layers]), tuple(ready[layers:]), real)

    def projected() -> Prefix:
        pairs = [each(seen).chunk(2, -1) for each in maps]
        return Prefix(tuple(keys for keys, _ in pairs), tuple(values for _, values in pairs), real)

    return {"plain": lambda: step(lambda: None), "prefix": lambda: step(given), "projected": lambda: step(projected)}


def in_turns(runs: dict[str, Callable[[], None]], turns: int) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of each turn, on the clock and of this process."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(turns + 1):
        for name, run in runs.items():
            clock, process = time.perf_counter(), time.process_time()
            run()
            if turn:  # the first one warms up
                times[name].append((1e3 * (time.perf_counter() - clock), 1e3 * (time.process_time() - process)))
    return times


def flops(run: Callable[[], None]) -> int:
    """Floating point operations of a step, as torch counts them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def main() -> int:
    """Time, print and write the table; 0 when the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="", help="folder with the config.json of a BERT; default: BERT-base")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--pieces", type=int, default=32)
    parser.add_argument("--positions", type=int, default=16)
    parser.add_argument("--turns", type=int, default=9, help="measurements of each")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = tower(options.model)
    runs = steps(model, options.rows, options.pieces, options.positions)
    times = in_turns(runs, options.turns)
    counted = {name: flops(run) for name, run in runs.items()}
    rows: list[dict[str, Any]] = []
    for name, turns in times.items():
        row: dict[str, Any] = {"step": name}
        for place, kind in enumerate(("clock", "process")):
            row[f"{kind}_ms"] = round(statistics.median(turn[place] for turn in turns), 1)
            # of one turn each: what else the machine does in the meantime weighs on both
            ratios = [own[place] / plain[place] for own, plain in zip(turns, times["plain"], strict=True)]
            row[f"{kind}_times_plain"] = round(statistics.median(ratios), 3)
        rows.append({**row, "flops_times_plain": round(counted[name] / counted["plain"], 3)})
    size = f"{model.config.num_hidden_layers} layers of {model.config.hidden_size}"
    about = (
        f"torch {torch.__version__}, {options.threads} threads, {size}, B{options.rows} x T{options.pieces}, "
        f"{options.positions} prefix positions"
    )
    print(f"{about}, forward + backward, median of {options.turns} turns")
    head = ["step", "clock ms", "x plain", "process ms", "x plain", "FLOPs x plain"]
    print(table(head, [list(row.values()) for row in rows]))
    ratio = rows[1]["process_times_plain"]
    write_json(RESULTS, {"about": about, "turns": options.turns, "device": "cpu", "bar": BAR, "steps": rows})
    print(f"{'met' if ratio <= BAR else 'MISSED'}  prefix at {ratio:.2f} of the plain step, at most {BAR}")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
