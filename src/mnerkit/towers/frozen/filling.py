"""A fill: a frozen tower computes all inputs of a view that are new, and says how many gigabytes that takes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mnerkit.atomic_files import existing_above
from mnerkit.data.batches.run_inputs import RunInputs, ViewInputs
from mnerkit.data.features.feature_store import FeatureStore
from mnerkit.errors import DataError
from mnerkit.printable import show

if TYPE_CHECKING:
    from mnerkit.towers.frozen.memory import FeatureMemory

Shapes = dict[str, tuple[int, ...]]  # shapes of the cached arrays of an input, by name
Entry = dict[str, np.ndarray]  # the cached arrays of an input

SMALL = 100_000_000  # bytes; a fill of fewer is not announced
EVERY = 15.0  # seconds between two lines
# ranks write what they have computed for each other after these seconds, or this share of the time so far: in few files
SHARE_SECONDS, SHARE_OF_TIME = 2.0, 0.1


@dataclass
class Shelf:
    """The cached outputs of one reading, by the digest of the input."""

    cached: dict[str, Entry]
    store: FeatureStore | None

    def __contains__(self, key: str) -> bool:
        return key in self.cached or (self.store is not None and key in self.store)

    def get(self, key: str, shapes: Shapes) -> Entry | None:
        """The arrays of an input, of these shapes."""
        entry = self.cached.get(key)
        if entry is not None or self.store is None:
            return entry
        return self.store.get(key, shapes)


def fill(
    memory: FeatureMemory, shelf: Shelf, inputs: ViewInputs, run_inputs: RunInputs, run: Callable[[Any], list[Entry]]
) -> None:
    """Compute and cache all inputs of a view that are new, as far as there is room.

    Ranks begin at different blocks and leave out what others have written meanwhile.

    Args:
        memory: of the tower.
        shelf: where its outputs are kept.
        inputs: the inputs.
        run_inputs: those of all views: how many processes read them.
        run: computes a batch of inputs.

    Raises:
        DataError: the disk has no room for them.
    """
    blocks = [block for block in inputs.blocks if any(inputs.keys[number] not in shelf for number in block)]
    start, done, began = len(blocks) * run_inputs.rank // run_inputs.ranks, 0, time.monotonic()
    flushed = began
    report = None
    if memory.folder is not None:
        report = FillReport(memory.about, memory.folder, sum(map(len, blocks)), run_inputs.rank == 0)
    for place, block in enumerate(blocks[start:] + blocks[:start]):
        if not memory.room(shelf):
            return
        new = {number for number in block if inputs.keys[number] not in shelf}
        batch, numbers = inputs.batch(block) if new else (None, [])
        done += len(block)
        if not numbers:
            continue
        with torch.no_grad():
            entries = run(batch)
        if place == 0 and report is not None:  # texts are longer or shorter, and take as much more or less
            width = 2 if memory.kept == "half" else 4  # bytes of a number
            size = width * sum(array.size for entry in entries for array in entry.values())
            report.announce(size * inputs.work(blocks) // inputs.work([numbers]))
        for number, entry in zip(numbers, entries, strict=True):
            if number in new:
                memory.put(shelf, inputs.keys[number], entry)
        if report is not None:
            report.progress(done)
        now = time.monotonic()
        due = now - flushed > max(SHARE_SECONDS, SHARE_OF_TIME * (now - began))
        if due and shelf.store is not None and run_inputs.ranks > 1:
            shelf.store.flush()
            flushed = now
    if shelf.store is not None:
        shelf.store.flush()


class FillReport:
    """Announces a fill on disk, and reports its progress.

    Args:
        about: the tower, for people.
        folder: folder of the features of all towers.
        total: number of inputs to compute.
        speaks: whether this process prints; a full disk is refused by all.
    """

    def __init__(self, about: str, folder: Path, total: int, speaks: bool) -> None:
        self.about, self.folder, self.total, self.speaks = about or "a frozen tower", folder, total, speaks
        self._last = time.monotonic()

    def announce(self, size: int) -> None:
        """Say what the fill takes, before anything is written.

        Args:
            size: bytes, about.

        Raises:
            DataError: the disk has not as much room.
        """
        if size < SMALL:
            return
        free = shutil.disk_usage(existing_above(self.folder)).free
        what = f"features of {self.about}, {self.total:,} inputs"
        if size > free:
            raise DataError(
                f"{self.folder}: {what}, take about {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there: make "
                "room (mnerkit cache clear), give --data.cache another folder, or none to compute them each time"
            )
        if self.speaks:
            show(f"{what}: about {size / 1e9:.1f} GB in {self.folder}")

    def progress(self, done: int) -> None:
        """Say now and then how many inputs are done."""
        if self.speaks and time.monotonic() - self._last > EVERY:
            self._last = time.monotonic()
            show(f"  {done:,} of {self.total:,} inputs")
