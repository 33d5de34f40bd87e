"""`mnerkit data objects CORPUS`: look for objects in the pictures of a corpus, and write their boxes down."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from mnerkit.cli.arguments import positive
from mnerkit.data.pictures.boxes import FORMAT, VERSION, read_box_lines
from mnerkit.data.pictures.noun_phrases import MOST_PHRASES, phrases_of
from mnerkit.errors import DataError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from mnerkit.data.corpus.corpus import Corpus
    from mnerkit.data.corpus.post import ImageRef
    from mnerkit.towers.vision.detectors import Detection, Detector

# for a post without a noun phrase, and with --prompts types: what the usual entity types look like
TYPE_PROMPTS = ("person", "place", "logo", "object")
ANEW = "Give --overwrite to begin anew."
# in the message of an error that is of no class of its own: the device is at fault, not the picture
OF_DEVICE = ("CUDA error", "out of memory", "can't allocate memory")
ABOUT = f"""Look for objects in the pictures of a corpus and write their boxes to FILE, for methods that look at objects
(--data.boxes FILE). A run that was stopped goes on when its command is given again.

detectors (through transformers):
  detr            80 classes; facebook/detr-resnet-50
  grounding-dino  looks for the noun phrases of the post; IDEA-Research/grounding-dino-tiny
  owlv2           likewise; google/owlv2-base-patch16-ensemble
  a folder        with config.json, weights and processor of one of these (no hub needed), or another hub name

what --data.boxes reads:
  JSON lines      a line a picture: {{"image": "O_26.jpg", "objects": [{{"box": [x0, y0, x1, y1], "score": 0.9,
                  "label": "dog"}}]}}; "id" in place of "image" where the post has one picture. Boxes are in pixels, or
                  with "unit": "shares" in shares of width and height, from the upper left corner; "size": [width,
                  height] must be of its shape. The first line may be {{"format": "{FORMAT}", "version":
                  {VERSION}, "unit": "pixels", "corpus": ..., "detector": ..., "revision": ...}}, as this command writes
  a folder        of Pascal-VOC files, each called like its picture (O_26.xml); corners are pixels counted from 1
  a folder        of crops, <corpus>_aux_images with <split>/crops/ or crops/, and <corpus>_<split>_dict.pth in it or
                  beside the data: the crops are the objects, their boxes are not known

A box of which most lies outside its picture is refused, one that sticks out is clipped and counted. A picture without
objects is seen at its centre and in its quarters.
"""


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Declare the options."""
    verb.description, verb.formatter_class = ABOUT, argparse.RawDescriptionHelpFormatter
    verb.add_argument("--detector", metavar="NAME", required=True, help="detr, grounding-dino, owlv2 or a folder")
    verb.add_argument("--out", metavar="FILE", required=True, help="the JSON lines to write")
    verb.add_argument("--score", type=float, metavar="P", help="least score (default: 0.5, 0.3, 0.2 of the three)")
    verb.add_argument("--most", type=positive, default=20, metavar="N", help="at most N boxes a picture (default: 20)")
    verb.add_argument(
        "--prompts",
        choices=("phrases", "types"),
        default="phrases",
        help=f"noun phrases of the post (at most {MOST_PHRASES}), or {', '.join(TYPE_PROMPTS)} (default: phrases)",
    )
    verb.add_argument("--batch_size", type=positive, default=8, metavar="N", help="pictures at once (default: 8)")
    verb.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda, cuda:1 ... (default: cpu)")
    verb.add_argument("--limit", type=positive, metavar="N", help="only the first N posts of each split")
    verb.add_argument("--overwrite", action="store_true", help="begin anew where FILE exists")


def main(options: argparse.Namespace) -> int:
    """Detect what is not in the file yet.

    Raises:
        UsageError: the file was written with other settings, or can't be written there.
        DataError: see `corpora.load_corpus`; a line of the file is damaged; the detector can read no picture at all.
        TowerError: a detector that can't be had.
    """
    out = Path(options.out)
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"--out {out}: give the name of a file in a folder that exists.")
    if options.score is not None and not 0 <= options.score <= 1:
        raise UsageError(f"--score {options.score}: give a number from 0 to 1.")
    from mnerkit.data.corpus.corpus import load_corpus

    corpus = load_corpus(options.corpus, options.root, options.variant, "none", limit=options.limit)
    wanted = _pictures(corpus)
    if not wanted:
        raise DataError(f"no picture of {corpus.name} is there; its folders are {corpus.folders or 'missing'}.")
    from mnerkit.towers.vision.detectors import Detector

    detector = Detector(options.detector)
    _move(detector, options.device)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "unit": "pixels",
        "corpus": corpus.name,
        "variant": corpus.variant,
        "digest": corpus.digest,
        "detector": detector.kind,
        "model": detector.spec,
        "revision": detector.revision,
        "score": detector.threshold if options.score is None else options.score,
        "most": options.most,
        "prompts": options.prompts if detector.prompted else "none",
    }
    broken: dict[str, str] = {}
    refused: dict[str, str] = {}
    written = 0
    with ExitStack() as stack:
        # what can't be opened is told before the first picture is read
        with _writing(out):
            file = stack.enter_context(open(out, "a", encoding="utf-8"))
            _lock(file)
            done = None if options.overwrite else _begun(out, header)
            if done is None:
                file.truncate(0)
        if done is None:
            _write(file, header)
        rest = {name: each for name, each in wanted.items() if name not in (done or ())}
        for row in _rows(detector, rest, header, options.batch_size, broken, refused):
            _write(file, row)
            written += 1
    if refused and not written and not done:  # no fault of single pictures
        raise DataError(f"{next(iter(refused.values()))}\nSo are all others: give another --detector.")
    broken |= refused
    lost = f", {len(broken)} broken ones left out, the first: {next(iter(broken.values()))}" if broken else ""
    print(f"{written} pictures -> {out} ({len(done or ())} were there){lost}", file=sys.stderr)
    return 0


def _pictures(corpus: Corpus) -> dict[str, tuple[ImageRef, list[tuple[str, ...]]]]:
    """The pictures that are there, by name, with the words of the posts that have them."""
    found: dict[str, tuple[ImageRef, list[tuple[str, ...]]]] = {}
    for posts in corpus.splits.values():
        for post in posts:
            for ref in post.images:
                if ref.present:
                    found.setdefault(ref.name, (ref, []))[1].append(post.words)
    return found


def _move(detector: Detector, device: str) -> None:
    try:
        detector.to(device)
    except (RuntimeError, AssertionError) as problem:
        raise UsageError(f"--device {device}: {str(problem).splitlines()[0]}") from None


def _lock(file: TextIO) -> None:
    """Keep other processes from writing into the file, until it is closed or this process dies.

    Raises:
        UsageError: another process is writing into it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        # of this open file: reading it under another handle gives nothing up
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        if problem.errno in (errno.EACCES, errno.EAGAIN):
            raise UsageError(
                f"{file.name} is being written by another process.\nWait for it, or give another --out."
            ) from None  # any other: a file system without locks


def _begun(out: Path, header: dict[str, Any]) -> set[str] | None:
    """Names of the pictures that a file holds already; a last line that a kill left unfinished is cut off.

    None for a file without a whole header, empty or cut off within it.

    Raises:
        UsageError: it was written with other settings.
        DataError: a line is damaged.
    """
    content = out.read_bytes()
    whole = content.rfind(b"\n") + 1
    if not whole and _line(header).encode().startswith(content):
        return None
    try:
        first = json.loads(content[: content.find(b"\n") + 1] or content)
    except (ValueError, RecursionError):
        raise DataError(f"{out}:1: not JSON.\n{ANEW}") from None
    if first != header:
        then = first if isinstance(first, dict) else {}
        other = next((key for key in header if then.get(key) != header[key]), "format")
        raise UsageError(
            f"{out} was made with another {other}: {str(then.get(other))[:60]}, not {str(header[other])[:60]}.\n"
            "Give --overwrite to begin anew, or another --out."
        )
    if whole < len(content):
        os.truncate(out, whole)
    try:
        found = read_box_lines(out)
    except DataError as problem:
        raise DataError(f"{str(problem).splitlines()[0]}\n{ANEW}") from None
    for name in found.posts:
        raise DataError(f"{found.places[name]}: expected 'image', the name of a picture.\n{ANEW}")
    return set(found.images)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """What fails here is the fault of the file of boxes, and of no picture."""
    try:
        yield
    except OSError as problem:
        raise DataError(f"{out} can't be written: {problem.strerror}.") from None


def _write(file: TextIO, row: dict[str, Any]) -> None:
    with _writing(Path(file.name)):
        file.write(_line(row))
        file.flush()


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _rows(
    detector: Detector,
    wanted: dict[str, tuple[ImageRef, list[tuple[str, ...]]]],
    header: dict[str, Any],
    batch_size: int,
    broken: dict[str, str],
    refused: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """A line for each picture that can be decoded (others go to `broken`) and that the detector reads (`refused`)."""
    from tqdm import tqdm

    with tqdm(total=len(wanted), unit=" pictures", disable=None) as bar:
        source = iter(wanted.items())
        while chunk := list(islice(source, batch_size)):
            read = [
                (name, pixels, words) for name, (ref, words) in chunk if (pixels := _decoded(ref, broken)) is not None
            ]
            for name, pixels, objects in _found(detector, read, header, refused):
                height, width = pixels.shape[:2]
                kept = [row for each in objects if (row := _row(each, width, height)) is not None]
                yield {"image": name, "size": [width, height], "objects": kept[: header["most"]]}
            bar.update(len(chunk))


def _found(
    detector: Detector,
    read: Sequence[tuple[str, np.ndarray, list[tuple[str, ...]]]],
    header: dict[str, Any],
    refused: dict[str, str],
) -> list[tuple[str, np.ndarray, list[Detection]]]:
    """Name, pixels and objects of each picture; where detecting fails, it is tried picture by picture.

    Raises:
        UsageError: one picture alone does not fit into the device's memory, or the device is at fault.
    """
    if not read:
        return []
    prompts = [phrases_of(words) if header["prompts"] == "phrases" else [] for *_, words in read]
    asked = [each or list(TYPE_PROMPTS) for each in prompts]
    try:
        found = detector.find([pixels for _, pixels, _ in read], asked, header["score"])
        return [(name, pixels, objects) for (name, pixels, _), objects in zip(read, found, strict=True)]
    except (ValueError, RuntimeError) as problem:
        said = (str(problem).splitlines() or [type(problem).__name__])[0][:100]
        of_device = _of_device(problem)
    # not in the block above, where the traceback still holds the tensors of the whole batch
    if len(read) > 1:
        return [row for each in read for row in _found(detector, [each], header, refused)]
    name, pixels, _ = read[0]
    height, width = pixels.shape[:2]
    if of_device:
        raise UsageError(f"--device: picture {name}, {width} x {height}: {said}\nGive another --device.")
    refused[name] = f"picture {name}, {width} x {height}: the detector can't read it: {said}"
    return []


def _of_device(problem: Exception) -> bool:
    """Whether the device is at fault, or its memory too small."""
    import torch

    memory = torch.cuda.OutOfMemoryError
    kinds = (memory, getattr(torch, "AcceleratorError", memory))  # the latter: torch 2.8
    return isinstance(problem, kinds) or any(each in str(problem) for each in OF_DEVICE)


def _decoded(ref: ImageRef, broken: dict[str, str]) -> np.ndarray | None:
    from mnerkit.data.pictures.decoding import decode

    try:
        return decode(ref)
    except DataError as problem:
        broken[ref.name] = str(problem).splitlines()[0]
    except OSError as problem:
        broken[ref.name] = f"picture {ref.path or ref.name} can't be read: {problem.strerror or problem}."
    return None


def _row(each: Detection, width: int, height: int) -> dict[str, Any] | None:
    """A detection within its picture; None where rounding leaves nothing of it."""
    x0, y0, x1, y1 = each.box
    box = [round(max(x0, 0.0), 2), round(max(y0, 0.0), 2), round(min(x1, width), 2), round(min(y1, height), 2)]
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        return None
    return {"box": box, "score": round(each.score, 5), "label": each.label[:200]}
