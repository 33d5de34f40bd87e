"""Writes a file with the objects that a detector finds in a corpus's pictures, and continues an incomplete one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mnerkit.atomic_files import append, lock, writing_to
from mnerkit.data.corpus.corpus_files import BOX_FORMAT, BOX_VERSION
from mnerkit.data.pictures.boxes import read_box_lines
from mnerkit.data.pictures.noun_phrases import TYPE_PROMPTS, phrases_of
from mnerkit.errors import DataError, UsageError, first_line, system_line

if TYPE_CHECKING:
    import numpy as np

    from mnerkit.data.corpus.corpus import Corpus
    from mnerkit.data.corpus.post import ImageRef
    from mnerkit.towers.vision.detectors import Detection, Detector

ANEW = "Give --overwrite to begin anew."
# texts in messages of errors without a class of their own that the device causes, not the picture
OF_DEVICE = ("CUDA error", "out of memory", "can't allocate memory")


class Picture(NamedTuple):
    """A picture of the corpus, and the words of the posts that contain it."""

    ref: ImageRef
    posts: list[tuple[str, ...]]


@dataclass
class BoxWriter:
    """Detects objects in pictures and writes one line for each picture.

    Attributes:
        detector: the detector.
        header: the first line of the file: corpus, detector and settings.
        broken: name of each picture that can't be decoded -> reason.
        refused: name of each picture that the detector can't read -> reason.
        before: number of pictures that were in the file already.
        written: number of pictures that were added.
    """

    detector: Detector
    header: dict[str, Any]
    broken: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    before: int = 0
    written: int = 0

    def write(self, out: Path, pictures: dict[str, Picture], batch_size: int, overwrite: bool) -> None:
        """Detect the objects of all pictures that are not in the file yet.

        Raises:
            UsageError: another process writes the file, it was written with other settings, or the device fails.
            DataError: the file can't be written, a line of it is damaged, or the detector can't read any picture.
        """
        with ExitStack() as stack:
            with _writing(out):  # what can't be opened is reported before the first picture is read
                # unbuffered, so that nothing is left to be written when it is closed
                file = stack.enter_context(open(out, "ab", buffering=0))
                if lock(file.fileno()) is False:
                    raise UsageError(f"{out} is being written by another process.\nWait for it, or give another --out.")
                names = None if overwrite else _names(out, self.header)
                if names is None:
                    file.truncate(0)
            if names is None:
                _write(file, out, self.header)
            self.before = len(names or ())
            rest = {name: picture for name, picture in pictures.items() if name not in (names or ())}
            for row in self._rows(rest, batch_size):
                _write(file, out, row)
                self.written += 1
        if self.refused and not self.written and not self.before:  # no fault of single pictures
            raise DataError(f"{next(iter(self.refused.values()))}\nNo picture can be read: give another --detector.")

    def _rows(self, pictures: dict[str, Picture], batch_size: int) -> Iterator[dict[str, Any]]:
        """Yield a line for each picture that can be decoded and that the detector can read."""
        from tqdm import tqdm

        with tqdm(total=len(pictures), unit=" pictures", disable=None) as bar:
            source = iter(pictures.items())
            while chunk := list(islice(source, batch_size)):
                decoded = [(name, pixels, posts) for name, (ref, posts) in chunk for pixels in self._decoded(ref)]
                for name, pixels, detections in self._detected(decoded):
                    height, width = pixels.shape[:2]
                    rows = [row for detection in detections for row in _within(detection, width, height)]
                    yield {"image": name, "size": [width, height], "objects": rows[: self.header["most"]]}
                bar.update(len(chunk))

    def _decoded(self, ref: ImageRef) -> Iterator[np.ndarray]:
        """Yield the pixels of a picture; nothing if it is broken."""
        from mnerkit.data.pictures.decoding import decode

        try:
            yield decode(ref)
        except DataError as problem:
            self.broken[ref.name] = first_line(problem)
        except OSError as problem:
            self.broken[ref.name] = f"picture {ref.path or ref.name} can't be read: {problem.strerror or problem}."

    def _detected(
        self, pictures: Sequence[tuple[str, np.ndarray, list[tuple[str, ...]]]]
    ) -> list[tuple[str, np.ndarray, list[Detection]]]:
        """Name, pixels and objects of each picture; if a batch fails, its pictures are tried one by one.

        Raises:
            UsageError: a single picture does not fit into the device's memory, or the device fails.
        """
        if not pictures:
            return []
        phrases = [phrases_of(posts) if self.header["prompts"] == "phrases" else [] for *_, posts in pictures]
        prompts = [of_post or list(TYPE_PROMPTS) for of_post in phrases]
        try:
            detections = self.detector.find([pixels for _, pixels, _ in pictures], prompts, self.header["score"])
            return [(name, pixels, objects) for (name, pixels, _), objects in zip(pictures, detections, strict=True)]
        except (ValueError, RuntimeError) as problem:
            reason = first_line(problem)[:100]
            of_device = _of_device(problem)
        # outside the block above, in which the traceback still references the tensors of the whole batch
        if len(pictures) > 1:
            return [row for picture in pictures for row in self._detected([picture])]
        name, pixels, _ = pictures[0]
        height, width = pixels.shape[:2]
        if of_device:
            raise UsageError(f"--device: picture {name}, {width} x {height}: {reason}\nGive another --device.")
        self.refused[name] = f"picture {name}, {width} x {height}: the detector can't read it: {reason}"
        return []


def write_boxes(
    corpus: Corpus,
    detector: str,
    out: Path,
    *,
    score: float | None = None,
    most: int = 20,
    prompts: Literal["phrases", "types"] = "phrases",
    batch_size: int = 8,
    device: str = "cpu",
    overwrite: bool = False,
) -> BoxWriter:
    """Detect the objects in the pictures of a corpus and write their boxes to a file.

    Args:
        corpus: the corpus of the pictures.
        detector: `detr`, `grounding-dino`, `owlv2`, another hub name, or a folder.
        out: the JSON lines file; an incomplete one is continued.
        score: minimum score; default: the detector's default.
        most: maximum number of boxes for each picture.
        prompts: for detectors with prompts: noun phrases of the post, or descriptions of the usual entity types.
        batch_size: pictures in a batch.
        device: `cpu`, `cuda`, `cuda:1` ...
        overwrite: begin anew if the file exists.

    Returns:
        The writer, with the numbers of pictures written and already in the file, and the broken ones.

    Raises:
        UsageError: the device is not available; see `BoxWriter.write`.
        DataError: the corpus has no pictures on disk; see `BoxWriter.write`.
        TowerError: the detector is unavailable.
    """
    pictures = _pictures(corpus)
    if not pictures:
        raise DataError(f"no picture of {corpus.name} is there; its folders are {corpus.folders or 'missing'}.")
    from mnerkit.towers.vision.detectors import Detector

    model = Detector(detector)
    try:
        model.to(device)
    except (RuntimeError, AssertionError) as problem:
        raise UsageError(f"--device {device}: {first_line(problem)}") from None
    header = {
        "format": BOX_FORMAT,
        "version": BOX_VERSION,
        "unit": "pixels",
        "corpus": corpus.name,
        "variant": corpus.variant,
        "digest": corpus.digest,
        "detector": model.kind,
        "model": model.spec,
        "revision": model.revision,
        "score": model.threshold if score is None else score,
        "most": most,
        "prompts": prompts if model.prompted else "none",
    }
    writer = BoxWriter(model, header)
    writer.write(out, pictures, batch_size, overwrite)
    return writer


def _pictures(corpus: Corpus) -> dict[str, Picture]:
    """The pictures that exist on disk, by name."""
    pictures: dict[str, Picture] = {}
    for posts in corpus.splits.values():
        for post in posts:
            for ref in post.images:
                if ref.present:
                    pictures.setdefault(ref.name, Picture(ref, [])).posts.append(post.words)
    return pictures


def _names(out: Path, header: dict[str, Any]) -> set[str] | None:
    """Names of the pictures in a file; an incomplete last line, left by a killed process, is removed.

    None for a file that is empty or ends within the header.

    Raises:
        UsageError: it was written with other settings.
        DataError: a line is damaged.
    """
    content = out.read_bytes()
    complete = content.rfind(b"\n") + 1
    if not complete and _line(header).encode().startswith(content):
        return None
    try:
        first = json.loads(content[: content.find(b"\n") + 1] or content)
    except (ValueError, RecursionError):
        raise DataError(f"{out}:1: not JSON.\n{ANEW}") from None
    if first != header:
        stored = first if isinstance(first, dict) else {}
        key = next((name for name in header if stored.get(name) != header[name]), "format")
        raise UsageError(
            f"{out} was made with another {key}: {str(stored.get(key))[:60]}, not {str(header[key])[:60]}.\n"
            "Give --overwrite to begin anew, or another --out."
        )
    if complete < len(content):
        os.truncate(out, complete)
    try:
        lines = read_box_lines(out)
    except DataError as problem:
        raise DataError(f"{first_line(problem)}\n{ANEW}") from None
    for boxes in lines.posts.values():
        raise DataError(f"{boxes.where}: expected 'image', the name of a picture.\n{ANEW}")
    return set(lines.images)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn an `OSError` into an error about the file of boxes, not about a picture."""
    try:
        with writing_to(out):
            yield
    except FileNotFoundError as problem:
        raise DataError(f"{out} can't be written: {problem.strerror}.") from None
    except OSError as problem:
        raise DataError(system_line(problem)) from None


def _write(file: FileIO, out: Path, row: dict[str, Any]) -> None:
    with _writing(out):
        append(file.fileno(), _line(row).encode("utf-8", "backslashreplace"), out)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _of_device(problem: Exception) -> bool:
    """Whether an error comes from the device or its memory."""
    import torch

    memory = torch.cuda.OutOfMemoryError
    kinds = (memory, getattr(torch, "AcceleratorError", memory))  # the latter: torch 2.8
    return isinstance(problem, kinds) or any(message in str(problem) for message in OF_DEVICE)


def _within(detection: Detection, width: int, height: int) -> Iterator[dict[str, Any]]:
    """Yield a detection clipped to its picture; nothing if less than a pixel remains."""
    x0, y0, x1, y1 = detection.box
    box = [round(max(x0, 0.0), 2), round(max(y0, 0.0), 2), round(min(x1, width), 2), round(min(y1, height), 2)]
    if box[2] - box[0] >= 1 and box[3] - box[1] >= 1:
        yield {"box": box, "score": round(detection.score, 5), "label": detection.label[:200]}
