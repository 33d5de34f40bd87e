"""From the records of rehearsals: the time and the memory that the runs themselves will take on this device.

A step is what was measured, without what its towers took at the size of the rehearsal, times the run's batch, plus what
the towers take at their whole size; likewise a post or an episode that is scored. A frozen tower that is cached reads
the corpus once. Early stopping is not counted, so the time is the most that a run will take.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnerkit.reproduce.rehearsal.stand_in_towers import BUILT_IN, Size
from mnerkit.reproduce.rehearsal.tower_times import TowerTime

# bytes of a weight, and of its gradient with the optimiser's two moments
WEIGHT, TRAINED = 4, 12
# what a tower read: without gradients, with them, and for its cache
NOTHING = (0.0, 0.0, 0.0)
Record = Mapping[str, Any]
# (`text` or `vision`, name, size) -> times
Times = Mapping[tuple[str, str, Size], TowerTime]


@dataclass(frozen=True)
class Projection:
    """What a run will take: seconds of training and scoring, and bytes of the device's memory."""

    seconds: float
    bytes: float


def towers_of(record: Record) -> Iterator[tuple[str, str]]:
    """Kind and name of each tower that a rehearsed run used, but for those that are built in and quick."""
    for kind, spec in record["towers"].items():
        if record["measured"]["reads"].get(kind) and spec not in BUILT_IN:
            yield kind, spec


def project(record: Record, times: Times) -> Projection:
    """The projection of a rehearsed run.

    Args:
        record: what its rehearsal left.
        times: of its towers on this device, at the size of the rehearsal and whole.
    """
    measured, counts = record["measured"], record["counts"]
    batch = measured["batch"]
    scale = record["whole_batch"] / batch if batch else 1.0
    step, kept = measured["steps"][-1], float(measured["kept"])
    item = measured["predicted"] / measured["items"]
    whole_step, whole_kept, whole_item = 0.0, 0.0, 0.0
    for kind, spec in towers_of(record):
        reads = measured["reads"][kind]
        small, whole = (times[kind, spec, size] for size in (record["size"], "full"))
        no_gradient, trained, cached = reads.get("step", NOTHING)
        step -= (no_gradient + cached) * small.forward + trained * small.training
        whole_step += (no_gradient * whole.forward + trained * whole.training) * scale
        kept -= trained * small.kept
        whole_kept += trained * whole.kept * scale
        no_gradient, trained, cached = (number / measured["items"] for number in reads.get("score", NOTHING))
        item -= (no_gradient + cached) * small.forward + trained * small.training
        whole_item += no_gradient * whole.forward + trained * whole.training
    step, item = max(step, 0.0) * scale + whole_step, max(item, 0.0) + whole_item
    start = max(0.0, record["seconds"] - sum(measured["steps"]) - 2 * measured["predicted"])
    scored = counts["dev"] * (record["epochs"] + 1) + counts["test"]
    seconds = start + record["epochs"] * counts["steps"] * step + scored * item
    if record["size"] == "full" and scale == 1 and measured["peak"]:
        return Projection(seconds, measured["peak"])
    everything, trainable = record["parameters"]
    weights = WEIGHT * everything + TRAINED * trainable
    return Projection(seconds, weights + max(kept, 0.0) * scale + whole_kept)


def cache_seconds(records: Sequence[Record], times: Times) -> float:
    """In what time frozen towers fill the caches that all runs share.

    A rehearsal reads only what earlier ones have not cached; of each plugin the one that had to read most is counted.
    """
    most: dict[tuple[str, ...], float] = defaultdict(float)
    for record in records:
        measured, counts = record["measured"], record["counts"]
        posts = sum(counts[f"{split}_posts"] for split in ("train", "dev", "test"))
        for kind, spec in towers_of(record):
            cached = measured["reads"][kind].get("all", NOTHING)[2]
            seconds = cached / measured["posts"] * posts * times[kind, spec, "full"].forward
            key = (kind, spec, record["corpus"], record["plugin"])
            most[key] = max(most[key], seconds)
    return sum(most.values())
