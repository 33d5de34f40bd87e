"""The CRF against torchcrf: same loss, gradients and tags, in less time. Exits 1 when a bar is missed.

Both run in turns in one process; a time is the median of all turns, a ratio the median of the ratios of the turns.
One thread unless asked otherwise: the tensors of a step are too small to share, and beside other programs two threads
mostly measure how long one waits for the other.
"""

from __future__ import annotations

import statistics
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torchcrf
from timing import in_turns, read_options, verdict

from mnerkit.atomic_files import write_json
from mnerkit.nn.linear_chain import CRF

RESULTS = Path(__file__).parent / "results" / "crf.json"

TAGS = 9
SIZES = ((16, 64), (32, 128))
TOLERANCE = 1e-4
BARS = {"forward + backward": 2.5, "decode": 3.0}


def example(rows: int, words: int, full: bool, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Emissions, tags and a mask: all words real, or lengths drawn evenly from 1 to `words`."""
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, words + 1, (rows,), generator=draw)
    lengths[0] = words
    if full:
        lengths[:] = words
    mask = torch.arange(words) < lengths.unsqueeze(1)
    emissions = 2 * torch.randn(rows, words, TAGS, generator=draw)
    return emissions, torch.randint(0, TAGS, (rows, words), generator=draw), mask


def step(crf: torchcrf.CRF, emissions: torch.Tensor, tags: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """Loss and all gradients of one training step."""
    leaf = emissions.detach().requires_grad_()
    crf.zero_grad()
    loss = -crf(leaf, tags, mask, reduction="mean")
    loss.backward()
    return [loss.detach(), leaf.grad, *(parameter.grad for parameter in crf.parameters())]


def medians(theirs: Callable[[], object], ours: Callable[[], object], turns: int) -> tuple[float, float, float]:
    """Median milliseconds of both, and the median ratio."""
    times = in_turns({"theirs": theirs, "ours": ours}, turns, warm_up=5)
    ratios = [their / our for their, our in zip(*times.values(), strict=True)]
    return statistics.median(times["theirs"]), statistics.median(times["ours"]), statistics.median(ratios)


def main() -> int:
    """Compare and print; 0 when every bar is met."""
    turns = read_options(__doc__, turns=60, threads="threads of torch, for both").turns
    warnings.filterwarnings("ignore", message="where received a uint8")
    failures, cases = [], []
    about = f"torch {torch.__version__}, {torch.get_num_threads()} threads, K = {TAGS}"
    print(f"{about}, median of {turns} turns")
    print(f"{'rows x words':<13}{'lengths':<9}{'what':<20}{'torchcrf':>10}{'mnerkit':>10}{'ratio':>8}{'bar':>6}")
    for rows, words in SIZES:
        for full in (True, False):
            inputs = example(rows, words, full, seed=rows)
            emissions, _, mask = inputs
            torch.manual_seed(0)
            theirs, ours = torchcrf.CRF(TAGS, batch_first=True), CRF(TAGS, batch_first=True)
            ours.load_state_dict(theirs.state_dict())
            name = f"{rows} x {words}, {'full' if full else 'random'} lengths"
            for what, one, other in zip(
                ("loss", "emission gradient", "start gradient", "end gradient", "transition gradient"),
                step(theirs, *inputs),
                step(ours, *inputs),
                strict=True,
            ):
                gap = float((one - other).abs().max() / one.abs().max().clamp_min(1))
                if not gap <= TOLERANCE:
                    failures.append(f"{name}: {what} differs by {gap:.1e}")
            if theirs.decode(emissions, mask) != ours.decode(emissions, mask):
                failures.append(f"{name}: other tags are decoded")
            pairs = {
                "forward + backward": (lambda: step(theirs, *inputs), lambda: step(ours, *inputs)),  # noqa: B023
                "decode": (lambda: theirs.decode(emissions, mask), lambda: ours.decode(emissions, mask)),  # noqa: B023
            }
            for what, both in pairs.items():
                their_time, our_time, ratio = medians(*both, turns)
                print(
                    f"{f'{rows} x {words}':<13}{'full' if full else 'random':<9}{what:<20}"
                    f"{their_time:>7.2f} ms{our_time:>7.2f} ms{ratio:>7.2f}x{BARS[what]:>5.1f}x"
                )
                case = {"rows": rows, "words": words, "lengths": "full" if full else "random", "what": what}
                times = {"torchcrf_ms": round(their_time, 3), "mnerkit_ms": round(our_time, 3)}
                cases.append({**case, **times, "faster_by": round(ratio, 2)})
                if ratio < BARS[what]:
                    failures.append(f"{name}: {what} is {ratio:.2f}x as fast, not {BARS[what]}x")
    write_json(RESULTS, {"about": about, "turns": turns, "device": "cpu", "cases": cases})
    return verdict(failures, f"loss, gradients (to {TOLERANCE:g}) and tags agree; every bar is met")


if __name__ == "__main__":
    sys.exit(main())
