"""Pictures identified by their content, so that a tower that has cached one need not decode it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.pictures import decoding
from mnerkit.data.pictures.decoding import PictureFormat, cells_of, cut

if TYPE_CHECKING:
    import numpy as np

# digests of files that were read already, by path, size and time of change
_contents: dict[tuple[str, int, int], str] = {}


def content_digest(ref: ImageRef) -> str:
    """SHA-256 of a picture's file, or of the pixels of a generated one, as hex; a file is read once a process.

    Raises:
        DataError: no file, too large, empty, or it can't be read.
    """
    if ref.pixels is not None:
        shape = f"{ref.pixels.dtype} {ref.pixels.shape}\n".encode()
        return hashlib.sha256(shape + ref.pixels.tobytes()).hexdigest()
    key = None
    if ref.path is not None:
        try:
            status = ref.path.stat()
            key = str(ref.path), status.st_size, status.st_mtime_ns
        except OSError:  # `read_content` reports what is wrong
            pass
    if key is None or key not in _contents:
        digest = hashlib.sha256(decoding.read_content(ref)).hexdigest()
        if key is None:
            return digest
        _contents[key] = digest
    return _contents[key]


@dataclass(frozen=True, slots=True, eq=False)
class PictureSource:
    """A picture, a cell of its grid or a box in it, that a vision tower may have cached; pixels are read on demand.

    Attributes:
        ref: the picture.
        format: what the tower reads.
        content: digest of the picture (`content_digest`).
        grid: k of the k x k grid; 0 for the whole picture.
        cell: which cell, row by row.
        box: x0 y0 x1 y1 as shares of width and height; None for what is no box.
    """

    ref: ImageRef
    format: PictureFormat
    content: str
    grid: int = 0
    cell: int = 0
    box: tuple[float, float, float, float] | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of what is seen: the picture, and which part of it. The format is part of the tower's own key."""
        part = f"cell {self.cell} of {self.grid} x {self.grid}" if self.grid else "whole"
        if self.box is not None:
            part = "box " + " ".join(f"{side:.6f}" for side in self.box)
        return hashlib.sha256(f"{self.content} {part}".encode()).hexdigest()


def sources_of(ref: ImageRef, format: PictureFormat, content: str, k: int = 0) -> list[PictureSource]:
    """The whole picture, or the k * k cells of its grid, row by row."""
    return [PictureSource(ref, format, content, k, cell) for cell in range(max(1, k * k))]


def read_pixels(sources: Sequence[PictureSource]) -> np.ndarray:
    """Decode pictures: (N, 3, size, size) float32. Cells of one picture that stand together are cut from one decoding.

    Raises:
        DataError: a file that is gone or broken by now.
    """
    import numpy as np

    views: list[np.ndarray] = []
    last: ImageRef | None = None
    pixels = None
    for source in sources:
        if pixels is None or source.ref is not last:
            last, pixels = source.ref, decoding.decode(source.ref)
        view = cells_of(pixels, source.grid)[source.cell] if source.grid else pixels
        if source.box is not None:
            view = cut(pixels, source.box)
        views.append(source.format.apply(view))
    return np.stack(views)
