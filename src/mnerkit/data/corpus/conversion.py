"""A corpus in another form: `mnerkit data convert`. What is written is read back and compared before it is kept."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnerkit.atomic_files import writing_to
from mnerkit.data.corpus.catalogue import CORPORA, Place
from mnerkit.data.corpus.corpus import Corpus, CorpusReading, load_corpus
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.errors import DataError, UsageError, did_you_mean, first_line, shown
from mnerkit.printable import counted, show


class Form(NamedTuple):
    """A form of annotation files.

    Attributes:
        about: what it holds, for the help.
        suffixes: of its files; the first is that of a folder's files.
        text: the lines that are written for posts.
        whole: whether it holds ids and pictures.
    """

    about: str
    suffixes: tuple[str, ...]
    text: Callable[[Sequence[Post]], Iterator[str]]
    whole: bool = True


def convert(
    corpus: str | Path,
    out: str | Path,
    to: str | None = None,
    *,
    root: str | Path | None = None,
    variant: str | None = None,
    captions: str | Path | None = None,
    columns: str | None = None,
    report: Callable[[str], Any] = show,
) -> list[Path]:
    r"""Write a corpus in another form, without a loss: what is written is read back and compared.

    Pictures stay where they are; where all of them lie in one folder, the new corpus has a link to it, `images`. Those
    of a generated corpus are written.

    Args:
        corpus: a corpus, its folder, or one file of posts.
        out: the folder to make; of one file, the file.
        to: one of `FORMS`; default: the one that the name of the file `out` ends like, else `jsonl`.
        root: the folder that holds the corpora.
        variant: of the corpus.
        captions: a file of captions, or `none`; default: the corpus's own. Records take them.
        columns: which columns of a user's own files are read.
        report: takes lines on what was taken for what, and on what was written.

    Returns:
        The files that were written.

    Raises:
        UsageError: no such corpus or form, or `out` is not free.
        DataError: the corpus can't be read, or that form can't hold its posts; nothing is written then.

    Examples:
        >>> _ = Path("posts.conll").write_text("Ada B-PER\nflies O\n")
        >>> [file.name for file in mnerkit.convert("posts.conll", "posts.jsonl", report=lambda line: None)]
        ['posts.jsonl']
    """
    target = Path(out)
    file = Path(corpus) if root is None and str(corpus) not in CORPORA and Path(corpus).is_file() else None
    name = to or next((name for name, form in FORMS.items() if file and target.suffix in form.suffixes), "jsonl")
    if name not in FORMS:
        raise UsageError(f"no form {shown(name)}: {', '.join(FORMS)}.{did_you_mean(name, FORMS)}")
    _check_free(target, file is not None)
    if str(corpus) == "probe" and columns is None:
        source = load_corpus("probe", root, variant, captions)
    else:
        place = None if file is None else Place(file.stem, file.parent, file.parent, {"train": file}, True)
        source = _read(CorpusReading(str(corpus), root, variant, captions, columns=columns, place=place))
    for remark in source.remarks:
        report(remark)
    with tempfile.TemporaryDirectory(prefix=".convert-", suffix=".part", dir=target.parent) as draft:
        folder = Path(draft) / "corpus"
        folder.mkdir()
        names = {"dev": "valid"}
        files = {
            split: folder / (target.name if file else f"{names.get(split, split)}{FORMS[name].suffixes[0]}")
            for split in source.splits
        }
        for split, posts in source.splits.items():
            files[split].write_text("".join(FORMS[name].text(posts)), encoding="utf-8", newline="\n")
        _check_equal(source, Place("convert", folder, folder, files, True), name)
        if file is None:
            report(_with_pictures(source, folder))
        with writing_to(target):
            os.rename(files["train"] if file else folder, target)
    if not FORMS[name].whole:
        report(f"files of {name} hold words and tags: ids, pictures and captions were left out")
    written = {split: target if file else target / path.name for split, path in files.items()}
    for split, path in written.items():
        report(f"wrote {path} ({counted(len(source.splits[split]), 'post')})")
    return list(written.values())


def _read(reading: CorpusReading) -> Corpus:
    """The corpus with the posts of all its splits, as they are trained on."""
    splits = {split: list(reading.completed(reading.posts(split))) for split in reading.place.files}
    if empty := [str(reading.place.files[split]) for split, posts in splits.items() if not posts]:
        raise DataError(f"{empty[0]}: no post of it has words.")
    corpus = reading.corpus()
    corpus.splits, corpus.counts = splits, reading.checked_counts()
    return corpus


def _check_free(target: Path, is_file: bool) -> None:
    """Refuse to write over anything.

    Raises:
        UsageError: something is there, or there is no folder to write into.
    """
    if target.exists() and (is_file or not target.is_dir() or any(target.iterdir())):
        what = "a folder" if target.is_dir() else "there"
        raise UsageError(f"{target} is {what} already.\nGive a name that is free; nothing is overwritten.")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent} to write {target.name} into.")


# ------------------------------------------------------------------ what is written


def _records(posts: Iterable[Post], words: str = "words", tags: str = "tags") -> Iterator[str]:
    for post in posts:
        record: dict[str, Any] = {"id": post.given_id, words: list(post.words), tags: list(post.tags or ())}
        record["images"] = [ref.name for ref in post.images]
        if any(ref.caption is not None for ref in post.images):
            record["captions"] = [ref.caption or "" for ref in post.images]
        if any(ref.relevance is not None for ref in post.images):
            record["relevance"] = [ref.relevance for ref in post.images]
        if any(ref.objects for ref in post.images):
            record |= {"unit": "shares", "boxes": [list(map(_object, ref.objects)) for ref in post.images]}
        yield json.dumps(record, ensure_ascii=False) + "\n"


def _object(each: Any) -> Mapping[str, Any]:
    return {"box": each.box, "score": each.score, "label": each.label}


def _imgid(posts: Iterable[Post]) -> Iterator[str]:
    for post in posts:
        # the line names the picture, after which the post is called
        name = post.images[0].name.removesuffix(".jpg") if post.images else post.id
        yield f"IMGID:{name}\n" + "".join(_rows(post, "\t")) + "\n"


def _columns(posts: Sequence[Post]) -> Iterator[str]:
    blank = any(len(word.split()) != 1 for post in posts for word in post.words)
    for post in posts:
        yield "".join(_rows(post, "\t" if blank else " ")) + "\n"


def _rows(post: Post, separator: str) -> Iterator[str]:
    return (f"{word}{separator}{tag}\n" for word, tag in zip(post.words, post.tags or (), strict=True))


FORMS = {
    "jsonl": Form("records, a post a line: words, tags, pictures, captions", (".jsonl", ".json"), _records),
    "hf": Form(
        "the same with tokens and ner_tags, as the Hugging Face library `datasets` has them",
        (".jsonl",),
        lambda posts: _records(posts, "tokens", "ner_tags"),
    ),
    "imgid": Form("IMGID: lines and word<TAB>tag, for posts with one picture each", (".txt",), _imgid),
    "conll": Form(
        "words and tags alone, with blank lines between posts", (".conll", ".bio", ".tsv"), _columns, whole=False
    ),
}


# ------------------------------------------------------------------ what is checked


def _check_equal(source: Corpus, place: Place, form: str) -> None:
    """Refuse what would be read otherwise than it was.

    Raises:
        DataError: naming the first post that the form can't hold, and what of it.
    """
    reading = CorpusReading("convert", captions="none" if form == "imgid" else None, place=place)
    for split, posts in source.splits.items():
        fault = ""
        read: Iterator[Post] = iter(())
        try:
            read = iter(list(reading.completed(reading.posts(split))))
        except DataError as problem:
            fault = f"it would not be read again ({first_line(problem).removeprefix(str(place.folder))})"
        for post in posts:
            copy = None if fault else next(read, None)
            fault = fault or _difference(post, copy, FORMS[form].whole)
            if fault:
                others = " or ".join(name for name in FORMS if name != form and FORMS[name].whole)
                without = ", or --captions none" if fault == _CAPTIONED else ""
                raise DataError(
                    f"{form} can't hold post {shown(post.id)} of {split}: {fault}.\nGive --to {others}{without}."
                )


def _difference(post: Post, copy: Post | None, whole: bool) -> str:
    """What of a post is other in its copy; empty where nothing is."""
    if copy is None:
        return "it would be read as part of another"
    if post.words != copy.words or post.tags != copy.tags:
        return f"its {'words' if post.words != copy.words else 'tags'} would be read as others"
    if not whole:
        return ""
    if not post.images and copy.images:
        return "it has no picture"
    if [ref.name for ref in post.images] != [ref.name for ref in copy.images]:
        return f"it has {len(post.images)} pictures" if len(post.images) > 1 else "its picture is of another name"
    if post.id != copy.id:
        return "its id is not the name of its picture"
    if [ref.caption or None for ref in post.images] != [ref.caption or None for ref in copy.images]:
        return _CAPTIONED
    same = all(_measured(one) == _measured(other) for one, other in zip(post.images, copy.images, strict=True))
    return "" if same else "its pictures have boxes or relevance"


_CAPTIONED = "its pictures have captions"


def _measured(ref: ImageRef) -> Any:
    return ref.relevance, ref.objects


def _with_pictures(source: Corpus, folder: Path) -> str:
    """Make the pictures reachable from the new corpus; returns a line about them."""
    refs = [ref for posts in source.splits.values() for post in posts for ref in post.images]
    drawn = {ref.name: ref.pixels for ref in refs if ref.pixels is not None}
    if drawn:
        from PIL import Image

        (folder / "images").mkdir()
        for name, pixels in drawn.items():
            Image.fromarray(pixels).save(folder / "images" / name)
        return f"wrote {len(drawn):,} pictures"
    paths = {ref.path for ref in refs if ref.path}
    # of pictures that lie in none of the corpus's folders, as those of a data set do, their own one
    roots = {next((each for each in source.folders if path.is_relative_to(each)), path.parent) for path in paths}
    if len(roots) != 1:
        return "pictures lie in several folders; copy them into images" if roots else "there are no pictures"
    (where,) = roots
    try:
        (folder / "images").symlink_to(where.resolve(), target_is_directory=True)
    except OSError as problem:
        return f"pictures stay in {where}; link or copy that folder to images ({problem.strerror})"
    return f"images is a link to {where}"
