"""Pictures of posts as a vision tower reads them, under a policy for those that are missing or broken.

Pictures are known by their content, so that one which a tower has cached need not be decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from mnerkit.data.corpus.post import ImageRef, PictureObject, Post
from mnerkit.data.pictures import decoding
from mnerkit.data.pictures.decoding import PictureFormat, cells_of, cut
from mnerkit.errors import DataError, UsageError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from mnerkit.data.pictures.picture_cache import PictureCache

# of pictures that are remembered, so that memory does not grow with the number of posts
MOST_REMEMBERED = 100_000
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
        if len(_contents) >= MOST_REMEMBERED:
            _contents.clear()
        _contents[key] = digest
    return _contents[key]


@dataclass(frozen=True, slots=True, eq=False)
class PictureSource:
    """A picture, a cell of its grid or a box in it, that a vision tower may have cached; pixels are read on demand.

    Attributes:
        ref: the picture.
        format: what the tower reads.
        content: digest of the picture (`content_digest`); empty where nobody needs it.
        grid: k of the k x k grid; 0 for the whole picture.
        cell: which cell, row by row.
        box: x0 y0 x1 y1 as shares of width and height; None for what is no box.
    """

    ref: ImageRef
    format: PictureFormat
    content: str = ""
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

    def resized(self, pixels: np.ndarray) -> np.ndarray:
        """(size, size, 3) uint8 of the picture's pixels (H, W, 3)."""
        if self.box is not None:
            pixels = cut(pixels, self.box)
        elif self.grid:
            pixels = cells_of(pixels, self.grid)[self.cell]
        return self.format.resized(pixels)


def sources_of(ref: ImageRef, format: PictureFormat, k: int = 0) -> list[PictureSource]:
    """The whole picture, or the k * k cells of its grid, row by row."""
    return [PictureSource(ref, format, grid=k, cell=cell) for cell in range(max(1, k * k))]


def object_sources(ref: ImageRef, format: PictureFormat, objects: Sequence[PictureObject]) -> list[PictureSource]:
    """The objects in a picture: a box of it, or a crop that is a picture of its own."""
    return [
        PictureSource(ref, format, box=each.box) if each.crop is None else PictureSource(each.crop, format)
        for each in objects
    ]


def read_pixels(sources: Sequence[PictureSource]) -> np.ndarray:
    """Decode pictures: (N, 3, size, size) float32. Parts of one picture that stand together are cut from one decoding.

    Raises:
        DataError: a file that is gone or broken by now.
    """
    import numpy as np

    views: list[np.ndarray] = []
    for _, parts in groupby(sources, key=lambda source: id(source.ref)):
        first = next(parts)
        pixels = decoding.decode(first.ref)
        views += [source.format.normalised(source.resized(pixels)) for source in (first, *parts)]
    return np.stack(views)


Policy = Literal["blank", "skip", "error"]
POLICIES: tuple[Policy, ...] = ("blank", "skip", "error")


class PictureLoader:
    """Pictures of posts in one format, under a policy for those that are missing or broken.

    - `blank`: such a picture is None, its place in the batch is masked.
    - `skip`: the same, and the caller leaves out posts that are not `usable`.
    - `error`: the first one raises.

    Args:
        format: what the tower reads.
        policy: see above.
        cache: keeps what is made of files, so that they are decoded once; None: each time.

    Attributes:
        missing: how often each picture without a file was requested, by name.
        broken: what is wrong with each file that could not be decoded, by name.
    """

    def __init__(self, format: PictureFormat, policy: Policy = "blank", cache: PictureCache | None = None) -> None:
        if policy not in POLICIES:
            raise UsageError(
                f"no policy {policy!r} for missing pictures: {', '.join(POLICIES)}.{did_you_mean(policy, POLICIES)}"
            )
        self.format = format
        self.policy = policy
        self.cache = cache
        self.missing: Counter[str] = Counter()
        self.broken: dict[str, str] = {}
        self._faults: dict[str, str] = {}  # by content: a broken file is decoded in vain once

    def whole(self, ref: ImageRef) -> np.ndarray | None:
        """(3, size, size) float32, or None where the picture is missing or broken."""
        return self.read(sources_of(ref, self.format))[0]

    def read(self, sources: Sequence[PictureSource | None]) -> list[np.ndarray | None]:
        """(3, size, size) float32 of each source, as in `resized`."""
        return [None if each is None else self.format.normalised(each) for each in self.resized(sources)]

    def resized(self, sources: Sequence[PictureSource | None]) -> list[np.ndarray | None]:
        """(size, size, 3) uint8 of each source; None where its picture is missing or broken.

        A picture of which several parts are requested is decoded once.
        """
        keys = [None if source is None else self._key(source) for source in sources]
        parts = [None if key is None or self.cache is None else self.cache.get(key) for key in keys]
        wanted = [place for place, source in enumerate(sources) if source is not None and parts[place] is None]
        refs = {id(source.ref): source.ref for place in wanted if (source := sources[place]) is not None}
        decoded = {number: self._pixels(ref) for number, ref in refs.items()}
        for place in wanted:
            source, key = sources[place], keys[place]
            pixels = None if source is None else decoded[id(source.ref)]
            if source is None or pixels is None:
                continue
            parts[place] = resized = source.resized(pixels)
            if key is not None and self.cache is not None:
                self.cache.put(key, resized)
        return parts

    def _key(self, source: PictureSource) -> bytes | None:
        """Digest of what a file shows, to the last bit of a box; None where nothing is cached."""
        if self.cache is None or source.ref.path is None:
            return None
        try:
            content = source.content or content_digest(source.ref)
        except DataError:  # reported when it is decoded
            return None
        return hashlib.sha256(f"{content} {source.grid} {source.cell} {source.box}".encode()).digest()

    def identified(self, sources: Sequence[PictureSource]) -> list[PictureSource | None]:
        """The sources with the digests of their pictures; None as in `read`. Nothing is decoded.

        A broken file is recognised once `read` has tried to decode it.
        """
        refs = {id(source.ref): source.ref for source in sources}
        contents = {key: self._content(ref) for key, ref in refs.items()}
        pairs = [(source, contents[id(source.ref)]) for source in sources]
        return [None if content is None else replace(source, content=content) for source, content in pairs]

    def usable(self, post: Post, most: int | None = None) -> bool:
        """Whether the post's first `most` pictures are there and can be decoded (under `skip`; decodes cheaply)."""
        for ref in post.images[:most]:
            if not ref.present:
                self.missing[ref.name] += 1
                return False
            try:
                decoding.check(ref)
            except DataError as problem:
                self.broken[ref.name] = str(problem)
                return False
        return True

    def _content(self, ref: ImageRef) -> str | None:
        """Digest of a picture; None where it is missing, or known to be broken."""
        if not ref.present:
            self._note_missing(ref)
            return None
        try:
            content = content_digest(ref)
            if content in self._faults:
                raise DataError(self._faults[content])
        except DataError as problem:
            self._note_broken(ref, problem)
            return None
        return content

    def _pixels(self, ref: ImageRef) -> np.ndarray | None:
        if not ref.present:
            self._note_missing(ref)
            return None
        try:
            return decoding.decode(ref)
        except DataError as problem:
            if len(self._faults) >= MOST_REMEMBERED:
                self._faults.clear()
            with contextlib.suppress(DataError):
                self._faults[content_digest(ref)] = str(problem)
            self._note_broken(ref, problem)
            return None

    def _note_missing(self, ref: ImageRef) -> None:
        self.missing[ref.name] += 1
        if self.policy == "error":
            raise DataError(
                f"picture {ref.name} is missing.\nUnder the policy blank or skip the others are used without it."
            )

    def _note_broken(self, ref: ImageRef, problem: DataError) -> None:
        if self.policy == "error":
            raise problem
        self.broken.setdefault(ref.name, str(problem))
