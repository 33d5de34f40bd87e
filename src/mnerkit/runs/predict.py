"""Predictions of a checkpoint for the posts of a file, in blocks, so that memory stays flat and a kill loses little."""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from mnerkit.data.batches.input_reader import BLOCK_LINES, BadLine
from mnerkit.errors import DataError, UsageError, first_line
from mnerkit.printable import printable
from mnerkit.release import RELEASE
from mnerkit.runs.output_forms import OutputForm, output_form
from mnerkit.runs.prediction_file import STDIO, Progress, output
from mnerkit.runs.reporting import quiet

if TYPE_CHECKING:
    from mnerkit.data.corpus.post import ImageRef, Post
    from mnerkit.data.corpus.records import RecordNotes
    from mnerkit.methods.predictor import Predictor
    from mnerkit.methods.tagged_posts import TaggedPosts


def predict_file(
    ckpt: str | Path,
    source: str | Path,
    target: str | Path,
    *,
    plugin: str | None = None,
    dotted: Mapping[str, str | None] | None = None,
    images: Path | None = None,
    support: Path | None = None,
    tower_dir: str | None = None,
    threshold: float = 0.0,
    input_format: str | None = None,
    output_format: str | None = None,
    on_bad_line: Literal["stop", "skip"] = "stop",
    resume: bool = False,
    overwrite: bool = False,
    block_lines: int = BLOCK_LINES,
) -> tuple[int, list[str]]:
    """Tag the posts of a file, block by block; the target appears when it is whole.

    Until then the finished blocks lie in `.NAME.part` beside it. Interrupted or not, the target has the same bytes.

    Args:
        ckpt: a checkpoint, or the folder of a run.
        source: JSON lines, a data file of posts, a table or texts; `-` is standard input.
        target: the posts with their entities. A pipe, a device and `-` (standard output) are written to.
        plugin: refuse a checkpoint of another method.
        dotted: options of decoding, as text by dotted name.
        images: folder of the pictures that the source names; default: the source's.
        support: labelled posts in place of the checkpoint's support.
        tower_dir: folder with a frozen tower's weights.
        threshold: least score of an entity, from 0 to 1.
        input_format: a name of `mnerkit.data.batches.inputs.FORMATS`, for an input that neither begins with `IMGID:`
            nor looks like JSON; default: by the source's name.
        output_format: a name of `mnerkit.runs.output_forms.FORMS`; default: by the target's name.
        on_bad_line: at a line that can't be read, `stop` or `skip` it: its place holds a record with the error.
        resume: go on with the finished blocks of the same job, if there are any.
        overwrite: replace the target; without `resume`, begin anew.
        block_lines: lines of a block, which are sorted by length and tagged together.

    Returns:
        The number of posts, and remarks about their pictures and bad lines.

    Raises:
        DataError: a malformed line (of `stop`), or no posts.
        CheckpointError: no checkpoint, or a damaged one.
        UsageError: the target or an unfinished part exists, or the part is of another job.
    """
    quiet()
    source, target = str(source), str(target)
    folder = images or (Path() if source == STDIO else Path(source).parent)
    form = output_form(target, output_format)
    job = _job(ckpt, dotted, folder, support, threshold, block_lines, form)
    begun = Progress(job=job, replaces=overwrite)
    with _opened(source) as stream, output(target, begun, resume, form.printable) as (file, progress):
        if progress.bad and on_bad_line == "stop":
            raise UsageError(
                f"the unfinished output holds {progress.bad} lines that were skipped; give --on_bad_line skip again"
            )
        from mnerkit.data.batches.inputs import form_of, input_reader, picture_folder
        from mnerkit.data.corpus.records import RecordNotes

        notes = RecordNotes()
        folders = picture_folder(folder)
        predictor = load_predictor(ckpt, plugin, dotted, folder, support, tower_dir)
        predictor.threshold = threshold
        if form.name != "jsonl" and not predictor.method.tags_words:
            raise UsageError(
                f"--output_format {form.name}: {predictor.method.plugin} tags nothing; its scores are JSON lines"
            )
        name = "standard input" if source == STDIO else source
        form_in = form_of(source, input_format)
        check, cut = predictor.collator.check, predictor.characters
        reader = input_reader(stream, name, folders, check, notes, form_in, cut)
        reader.go_to(progress.place)
        earlier = progress.posts
        with _bar(progress.posts) as bar:
            for block in reader.blocks(block_lines):
                bad = [item for item in block if isinstance(item, BadLine)]
                if bad and on_bad_line == "stop":
                    raise DataError(_stopped(bad[0], progress))
                rows, first = _rows(predictor, block, bar), not progress.posts + progress.bad
                progress = progress.model_copy(
                    update={
                        "place": reader.place,
                        "posts": progress.posts + len(block) - len(bad),
                        "bad": progress.bad + len(bad),
                        "first_bad": progress.first_bad or (first_line(bad[0].message) if bad else ""),
                    }
                )
                if rows:
                    content = form.write(rows, predictor.types, first)
                    progress = file.add(content.encode("utf-8", "backslashreplace"), progress)
                _return_memory()
        if not progress.posts + progress.bad:
            raise DataError(f"--input {source} holds no posts")
        file.finish()
    since = f" (without the first {earlier} posts, which were tagged before --resume)" if earlier else ""
    remarks = [f"{remark}{since}" for remark in (*reader.remarks(), *predictor.warnings(), *notes.remarks())]
    return progress.posts, [*remarks, *_bad_lines(progress)]


def predict_text(
    ckpt: str | Path,
    text: str,
    *,
    images: Sequence[Path] = (),
    captions: Sequence[str] = (),
    plugin: str | None = None,
    dotted: Mapping[str, str | None] | None = None,
    support: Path | None = None,
    tower_dir: str | None = None,
    threshold: float = 0.0,
) -> tuple[TaggedPosts, list[str]]:
    """Tag one text.

    Args:
        ckpt: a checkpoint, or the folder of a run.
        text: the post's text.
        images: files of its pictures.
        captions: one for each picture.
        plugin: refuse a checkpoint of another method.
        dotted: options of decoding, as text by dotted name.
        support: labelled posts in place of the checkpoint's support.
        tower_dir: folder with a frozen tower's weights.
        threshold: least score of an entity, from 0 to 1.

    Returns:
        The post, and remarks about its pictures.

    Raises:
        DataError: no such picture, an empty text, or one that the method can't read.
        CheckpointError: no checkpoint, or a damaged one.
        UsageError: the method tags nothing.
    """
    quiet()
    for path in images:
        if not path.is_file():
            raise DataError(f"there is no picture {path}.")
    from mnerkit.data.corpus.post import ImageRef
    from mnerkit.data.corpus.records import RecordNotes

    if captions and len(captions) != len(images):
        raise UsageError(f"{len(images)} pictures but {len(captions)} captions; give one for each, in order")
    pictures = [ImageRef(path.name, path) for path in images]
    if captions:
        pictures = [replace(each, caption=caption) for each, caption in zip(pictures, captions, strict=True)]
    notes = RecordNotes()
    text_post(text, pictures, RecordNotes())  # a text without words is refused before anything is loaded
    predictor = load_predictor(ckpt, plugin, dotted, Path(), support, tower_dir)
    check_tags(predictor)
    predictor.threshold = threshold
    rows, warnings = predictor.tag(text_post(text, pictures, notes, predictor.characters))
    return rows, [*warnings, *notes.remarks()]


def text_post(text: str, pictures: Sequence[ImageRef], notes: RecordNotes, characters: bool = False) -> Post:
    """The post of a text that a person typed.

    Args:
        text: the text.
        pictures: its pictures.
        notes: takes remarks on how it was read.
        characters: whether scripts without blanks are cut into characters.

    Raises:
        DataError: the text has no words.
    """
    from mnerkit.data.corpus.records import post_of

    post = post_of({"text": text}, "the text", "1", None, notes, characters)
    if not post.words:
        raise DataError("the text has no words.")
    return replace(post, images=tuple(pictures))


def check_tags(predictor: Predictor) -> None:
    """Refuse a method that finds no entities.

    Raises:
        UsageError: it gives scores to pictures alone.
    """
    if not predictor.method.tags_words:
        raise UsageError(f"{predictor.method.plugin} tags nothing; give its posts with --input")


def _rows(predictor: Predictor, block: Sequence[Post | BadLine], bar: Any | None) -> list[dict[str, Any]]:
    """A record for each line of a block, in order; posts of like length are tagged together."""
    import torch

    torch.manual_seed(predictor.method.seed)  # so that no block depends on those before it
    rows: list[dict[str, Any]] = [item.row if isinstance(item, BadLine) else {} for item in block]
    posts = {place: item for place, item in enumerate(block) if not isinstance(item, BadLine)}
    order = sorted(posts, key=lambda place: len(posts[place].words))
    answers = predictor.stream(posts[place] for place in order)
    for place, row in zip(order, predictor.rows(answers), strict=True):
        rows[place] = row
        if posts[place].numbered:
            row["id"] = posts[place].given_id
        if bar is not None:
            bar.update()
    return rows


def load_predictor(
    ckpt: str | Path,
    plugin: str | None,
    dotted: Mapping[str, str | None] | None,
    folder: Path,
    support: Path | None,
    tower_dir: str | None,
) -> Predictor:
    """The predictor of a checkpoint or of a run's best one.

    Args:
        ckpt: a checkpoint, or the folder of a run.
        plugin: refuse a checkpoint of another method.
        dotted: options of decoding, as text by dotted name.
        folder: where pictures of the support are looked up.
        support: labelled posts in place of the checkpoint's support.
        tower_dir: folder with a frozen tower's weights.

    Raises:
        CheckpointError: no checkpoint, or a damaged one.
        UsageError: another method's, or a support for a method that reads none.
        DataError: the support can't be read.
    """
    from mnerkit.data.batches.inputs import read_input
    from mnerkit.methods import checkpoint
    from mnerkit.methods.predictor import Predictor
    from mnerkit.methods.tagger import make_method
    from mnerkit.runs.config.configuration import resolve

    content = checkpoint.read(ckpt)
    configuration = resolve(plugin, dotted=dotted, base=content["mnerkit"]["config"])
    labelled = list(read_input(support, folder)) if support is not None else None
    method = checkpoint.restore(make_method(configuration.content), content, tower_dir)
    return Predictor(method, labelled)


def _stopped(bad: BadLine, progress: Progress) -> str:
    """What a bad line ends with: its place, and what becomes of the posts before it."""
    if not progress.posts:
        return bad.message
    return (
        f"{first_line(bad.message)}\nThe {progress.posts} posts before its block are kept: mend the line, or give "
        "--on_bad_line skip, and go on with --resume."
    )


def _bad_lines(progress: Progress) -> Iterator[str]:
    if progress.bad:
        yield f"{progress.bad} lines can't be read; their places hold the error. The first: {progress.first_bad}"


def _return_memory() -> None:
    """Give freed memory back to the system: tensors of ever new lengths leave holes, and the process would grow."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # other C libraries lack it
            ctypes.CDLL(None).malloc_trim(0)


def _bar(initial: int) -> Any:
    """Progress where someone watches."""
    from tqdm import tqdm

    return tqdm(unit=" posts", initial=initial, disable=None)


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == STDIO:
        yield sys.stdin.buffer
        return
    with open(source, "rb") as stream:
        yield stream


def _job(
    ckpt: str | Path,
    dotted: Mapping[str, str | None] | None,
    folder: Path,
    support: Path | None,
    threshold: float,
    lines: int,
    form: OutputForm,
) -> dict[str, str]:
    """What decides on the output besides the input, which is known by the digest of the part that was read."""
    return {
        "checkpoint": _checkpoint_digest(ckpt),
        "set of options": json.dumps(dict(dotted or {}), sort_keys=True),
        "folder of pictures": printable(folder.resolve()),
        "support": _digest(support) if support else "",
        "threshold": str(threshold),
        "size of a block": str(lines),
        "output format": form.name,
        "release of mnerkit": RELEASE,
    }


def _checkpoint_digest(ckpt: str | Path) -> str:
    """A digest of what a checkpoint, a saved model or one of the hub holds."""
    from mnerkit.methods import model_folder, model_hub

    file = model_hub.fetched(str(ckpt)) if model_hub.is_hub_name(ckpt) else Path(ckpt)
    if model_folder.is_model_folder(file):  # which has the digests of the other files
        return _digest(file / model_folder.DESCRIPTION)
    return _digest(file / "best.ckpt" if file.is_dir() else file)


def _digest(file: Path) -> str:
    """SHA-256 of a file; empty where it can't be read, which its own reader reports."""
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while content := stream.read(1 << 20):
                digest.update(content)
    except OSError:
        return ""
    return digest.hexdigest()
