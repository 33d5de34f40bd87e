"""A fill: a frozen tower computes all inputs of a view that are new, and says how many gigabytes that takes."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnerkit.atomic_files import existing_above
from mnerkit.data.batches.run_inputs import RunInputs, ViewInputs
from mnerkit.data.features.table import Table
from mnerkit.errors import DataError
from mnerkit.printable import show

Shapes = Mapping[str, tuple[int, ...]]  # shapes of the parts of what is kept of an input, by name

SMALL = 100_000_000  # bytes; a fill of fewer is not announced
EVERY = 15.0  # seconds between two lines
LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Outputs:
    """What a tower computes of an input, cut into vectors of one length.

    Attributes:
        shapes: of the parts of an input with so many words.
        compute: the parts of a batch of inputs, padded on their first axis.
    """

    shapes: Callable[[int], Shapes]
    compute: Callable[[Any], Mapping[str, Tensor]]

    @property
    def unit(self) -> int:
        """Floats of a vector."""
        return math.gcd(*map(math.prod, self.shapes(1).values()))

    def counts(self, words: int) -> list[int]:
        """How many vectors each part has."""
        return [math.prod(shape) // self.unit for shape in self.shapes(words).values()]

    def rows(self, batch: Any, words: Sequence[int], half: bool) -> Iterator[np.ndarray]:
        """Compute a batch of inputs with so many words: the vectors of each."""
        with torch.no_grad():
            parts = {part: value.float().cpu().numpy() for part, value in self.compute(batch).items()}
        if half:
            parts = {part: value.clip(-LARGEST_HALF, LARGEST_HALF) for part, value in parts.items()}
        for row, count in enumerate(words):
            shapes = self.shapes(count).items()
            yield np.concatenate([parts[part][row, : shape[0]].reshape(-1, self.unit) for part, shape in shapes])


def fill(table: Table, inputs: ViewInputs, run_inputs: RunInputs, outputs: Outputs, about: str) -> None:
    """Compute and keep all inputs of a view that are new, as far as there is room.

    Processes begin at different blocks, and leave out what others compute or have computed. In the end what others are
    still at is computed here, too: a process that hangs is not waited for.

    Args:
        table: where it is kept.
        inputs: the inputs.
        run_inputs: those of all views: how many processes read them.
        outputs: what is computed.
        about: the tower, for people.

    Raises:
        DataError: the disk has no room for them.
    """
    keys = inputs.keys
    blocks = [block for block in inputs.blocks if any(keys[number] not in table for number in block)]
    numbers = [number for block in blocks for number in block]
    report = None
    if table.usable and table.folder is not None:
        counts = [sum(outputs.counts(inputs.words[number])) for number in numbers]
        width = outputs.unit * np.dtype(table.dtype).itemsize
        new = (count for number, count in zip(numbers, counts, strict=True) if not table.reserved(keys[number]))
        report = FillReport(about, table.folder.parent, len(numbers), run_inputs.rank == 0)
        report.announce(sum(counts) * width, sum(new) * width)
        table.reserve([keys[number] for number in numbers], counts, outputs.unit)

    def compute(block: Sequence[int]) -> None:
        new = {number for number in block if keys[number] not in table}
        batch, present = inputs.batch(block) if new else (None, [])
        if present:
            rows = outputs.rows(batch, [inputs.words[number] for number in present], table.half)
            for number, row in zip(present, rows, strict=True):
                if number in new:
                    table.put(keys[number], row)

    start, done, left = len(blocks) * run_inputs.rank // run_inputs.ranks, 0, []
    try:
        for block in blocks[start:] + blocks[:start]:
            if not table.room:
                return
            with table.claim(keys[block[0]]) as ours:
                if ours:
                    compute(block)
                else:
                    left.append(block)
            done += len(block)
            if report is not None:
                report.progress(done)
        for block in left:
            compute(block)
    finally:
        table.close()


class FillReport:
    """Announces a fill on disk, and reports its progress.

    Args:
        about: the tower, for people.
        folder: folder of all tables.
        total: number of inputs to compute.
        speaks: whether this process prints; a full disk is refused by all.
    """

    def __init__(self, about: str, folder: Path, total: int, speaks: bool) -> None:
        self.about, self.folder, self.total, self.speaks = about or "a frozen tower", folder, total, speaks
        self._last = time.monotonic()

    def announce(self, size: int, new: int) -> None:
        """Say what the fill takes, before anything is computed.

        Args:
            size: bytes of all inputs.
            new: bytes of those that have no place on the disk yet.

        Raises:
            DataError: the disk has not as much room.
        """
        if size < SMALL:
            return
        free = shutil.disk_usage(existing_above(self.folder)).free
        what = f"features of {self.about}, {self.total:,} inputs"
        if new > free:
            raise DataError(
                f"{self.folder}: {what}, take {new / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free there: make "
                "room (mnerkit cache clear), give --data.cache another folder, or none to compute them each time"
            )
        if self.speaks:
            show(f"{what}: {size / 1e9:.1f} GB in {self.folder}")

    def progress(self, done: int) -> None:
        """Say now and then how many inputs are done."""
        if self.speaks and time.monotonic() - self._last > EVERY:
            self._last = time.monotonic()
            show(f"  {done:,} of {self.total:,} inputs")
