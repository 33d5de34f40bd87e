"""Speed of each full-data method beside its arithmetic: `make bench-flops ROOT=<folder of the corpora>`.

An epoch of each system of `bench_methods.py` (MiniLM, captions in place of pixels, batch 16) over an epoch of `bert`,
and the ratio of the FLOPs that torch counts in the same training steps, forward and backward, in one process and in
turns. The first turn warms up: from the second on a frozen tower's states of the captions are known, in the epochs that
are timed and in the steps that are counted. Times are seconds of this process, which other work on the machine disturbs
less than those on the clock; the fastest epoch counts. Bar: time ratio at most 1.3 times the FLOP ratio. Exit code 1
when it is missed.
"""

from __future__ import annotations

import mnerkit  # noqa: F401  # first: it prepares torch for torchvision, which lightning imports

# isort: split
import argparse
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from bench_methods import BASE, CORPUS, SYSTEMS, Bench, Cell
from epochs import epoch_seconds
from timing import verdict
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mnerkit.atomic_files import write_json
from mnerkit.runs.build import Assembly
from mnerkit.runs.reporting import quiet
from mnerkit.text_table import table

RESULTS = Path(__file__).resolve().parent / "results" / "flops.json"
BAR = 1.3


def assembled(bench: Bench, system: str, posts: int) -> Assembly:
    """A system's method and data, ready to train on so many posts."""
    config = bench.config(Cell(system, 0))
    config["data"] |= {"train_limit": posts, "cache": bench.runs}
    made = Assembly.of({**config, "seed": 0})
    made.prepare()
    return made


def flops(made: Assembly, steps: int) -> int:
    """FLOPs of so many training steps, forward and backward: matrix products and convolutions, as torch counts them."""
    method = made.method.train()
    method.on_train_epoch_start()
    counter = FlopCounterMode(display=False)
    weights = method.loss_weights()
    # attention as matrix products: the counter does not know the CPU's fused kernel
    with sdpa_kernel(SDPBackend.MATH), counter:
        for batch in itertools.islice(made.data.train_dataloader(), steps):
            losses = method.losses(batch)
            torch.stack([weights.get(name, 1.0) * value for name, value in losses.items()]).sum().backward()
            method.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def main() -> int:
    """Time the epochs in turns, count the steps, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of the corpora and captions")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--posts", type=int, default=480, help="train on so many posts (default: 480)")
    parser.add_argument("--turns", type=int, default=3, help="timed epochs of each, after one that warms up")
    parser.add_argument("--steps", type=int, default=30, help="training steps that are counted (default: 30)")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the figures are kept")
    asked = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1"}
    quiet()
    torch.set_num_threads(asked.threads)
    names = list(dict.fromkeys([BASE, *asked.systems]))
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as runs:
        bench = Bench(CORPUS, asked.root, runs)
        made = {name: assembled(bench, name, asked.posts) for name in names}
        for turn in range(asked.turns + 1):
            for name, each in made.items():
                (took,) = epoch_seconds(each.method, each.data, clock=time.process_time, gradient_clip_val=1.0)
                print(f"turn {turn}, {name}: {took:.1f} s", flush=True)
                if turn:
                    seconds[name].append(took)
        counted = {name: flops(each, asked.steps) for name, each in made.items()}
    rows, missed = [], []
    found: dict[str, object] = {"posts": asked.posts, "steps": asked.steps, "threads": asked.threads, "bar": BAR}
    for name in names:
        slower = min(seconds[name]) / min(seconds[BASE])
        more = counted[name] / counted[BASE]
        rows.append([name, min(seconds[name]), slower, counted[name] / asked.steps / 1e9, more, slower / more])
        found[name] = {"seconds": seconds[name], "flops": counted[name], "time_ratio": slower, "flop_ratio": more}
        if slower > BAR * more:
            missed.append(f"{name}: {slower:.2f} times bert's time with {more:.2f} times its FLOPs")
    print(table(["system", "epoch s", "time ratio", "GFLOP a step", "FLOP ratio", "time / FLOP"], rows))
    write_json(asked.out, found)
    return verdict(missed, f"all within {BAR} times the ratio of their FLOPs")


if __name__ == "__main__":
    sys.exit(main())
