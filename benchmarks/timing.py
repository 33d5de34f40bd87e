"""What the micro-benchmarks share: their options, measuring in turns, and the verdict at the end."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def read_options(about: str | None, turns: int, threads: str) -> argparse.Namespace:
    """`turns` and `threads` from the command line; torch gets as many threads as were asked for.

    Args:
        about: what the page of help says first.
        turns: default number of measurements.
        threads: whose threads they are, for the help.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--turns", type=int, default=turns, help="measurements of each")
    parser.add_argument("--threads", type=int, default=1, help=threads)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return options


def in_turns(runs: Mapping[str, Callable[[], Any]], turns: int, warm_up: int) -> dict[str, list[float]]:
    """Milliseconds of each run in each turn; of `warm_up` further turns at the beginning nothing is kept.

    On one thread they are of CPU time, which other programs disturb less.
    """
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(turns + warm_up):
        for name, run in runs.items():
            begin = clock()
            run()
            if turn >= warm_up:
                times[name].append(1e3 * (clock() - begin))
    return times


def verdict(missed: Sequence[str], met: str) -> int:
    """Print what was missed, or what was met; the exit code."""
    for each in missed:
        print(f"MISSED  {each}")
    if not missed:
        print(met)
    return 1 if missed else 0
