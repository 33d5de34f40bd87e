"""Files of columns that other tools write, as IMGID/BIO lines: CoNLL columns, `-DOCSTART-`, BIOES and IOB1 tags."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mnerkit.data.corpus.records import RecordNotes
from mnerkit.errors import DataError

_TAG = re.compile(r"O|[BIESLUM]-\S+")
_BIO_TAG = re.compile(r"O|[BI]-\S+")
_TO_BIO = {"S": "B", "U": "B", "E": "I", "L": "I", "M": "I"}
_DOCSTART = re.compile(r"-DOCSTART-(?=\s|$)")

Numbered = tuple[int, str]


def is_docstart(text: str) -> bool:
    """Whether a line begins a document: `-DOCSTART-`, with or without further columns."""
    return _DOCSTART.match(text) is not None


def is_tag(text: str) -> bool:
    """Whether a text is a tag of BIO, IOB1, BIOES or the like."""
    return _TAG.fullmatch(text) is not None


def bio_tag(tag: str, where: str) -> str:
    """The BIO tag of a tag of BIOES or the like; BIO and IOB1 tags stay, which the lenient rule reads alike.

    Args:
        tag: the tag.
        where: file and line, for messages.

    Raises:
        DataError: it is none.
    """
    if not is_tag(tag):
        raise DataError(f"{where}: {tag[:40]!r} is no tag; tags are O, B-<type>, I-<type>, or those of BIOES.")
    return _TO_BIO.get(tag[0], tag[0]) + tag[1:]


def is_plain(rows: Iterable[Numbered]) -> bool:
    """Whether `as_bio` would leave these lines as they are and note nothing: `IMGID:` lines, and words with BIO tags.

    It may say no where that holds, but never yes where it doesn't; it looks at the lines one by one.
    """
    tags: set[str] = set()
    named = beginning = orphan = apart = False
    before = "O"
    for _, text in rows:
        word, tab, tag = text.partition("\t")
        if apart and tag in tags and word and word[0] != "-":
            continue
        if not tab:
            if not _names_post(text) and text.strip(" "):
                return False
            named, before = named or bool(text.strip(" ")), "O"
            continue
        if tag not in tags:
            if not _BIO_TAG.fullmatch(tag):
                return False
            tags.add(tag)
        if not word or is_docstart(text):
            return False
        if not apart and tag != "O":
            beginning, apart = beginning or tag[0] == "B", tag[0] == "B" and tag[1:] != before[1:]
            orphan = orphan or (tag[0] == "I" and before == "O")
        before = tag
    return named and (apart or not beginning or not orphan)


def as_bio(rows: Sequence[Numbered], stem: str, notes: RecordNotes) -> tuple[Sequence[Numbered], bool]:
    """The lines of a file as `word<TAB>BIO tag` lines, and whether its posts are named by `IMGID:` lines.

    Lines in which no such form is recognised stay as they are. What was taken for what is noted.

    Args:
        rows: numbered lines.
        stem: of the file's name; posts without `IMGID:` lines are called `<stem>-<line>`.
        notes: takes the remarks.
    """
    # the line of a document ends a post, as a blank one does
    kept = [(number, "" if is_docstart(text) else text) for number, text in rows]
    body = [(number, text) for number, text in kept if text.strip(" \t") and not _names_post(text)]
    named = len(body) < sum(bool(text.strip(" \t")) for _, text in kept)
    separator = "\t" if body and "\t" in body[0][1] else " "
    cells = {number: text.split(separator) for number, text in body}
    widths = {len(row) for row in cells.values()}
    if len(widths) != 1 or min(widths) < 2 or (named and separator == " "):
        return rows, True
    column = _tag_column(list(cells.values()))
    if column is None or not all(row[0] for row in cells.values()):
        return rows, True
    if kept != list(rows):
        notes.taken["-DOCSTART- lines are passed over"] = None
    if min(widths) > 2:
        notes.taken[f"of {min(widths)} columns the first was read as the word, number {column + 1} as the tag"] = None
    tags = {number: row[column] for number, row in cells.items()}
    if any(tag[0] in _TO_BIO for tag in tags.values()):
        notes.taken["BIOES tags were read as BIO"] = None
        tags = {number: bio_tag(tag, stem) for number, tag in tags.items()}
    elif _is_iob1(kept, tags):
        notes.taken["IOB1 tags, with B- between neighbours alone, were read as BIO"] = None
        tags = _from_iob1(kept, tags)
    if not named:
        notes.taken["posts without IMGID lines are called after file and line, and have no pictures"] = None
    lines: list[Numbered] = []
    open_ = False
    for number, text in kept:
        if number not in tags:
            open_ = False
            lines.append((number, text))
            continue
        if not named and not open_:
            lines.append((number, f"IMGID:{stem}-{number}"))
        open_ = True
        lines.append((number, f"{cells[number][0]}\t{tags[number]}"))
    return lines, named


def _names_post(text: str) -> bool:
    return text.startswith("IMGID:") and "\t" not in text


def _tag_column(rows: list[list[str]]) -> int | None:
    """The column of the tags: the last one; of coarse and fine types of the same entities, the coarse one."""
    columns = list(zip(*rows, strict=True))
    tagged = [place for place in range(1, len(columns)) if all(map(is_tag, columns[place]))]
    if not tagged or tagged[-1] != len(columns) - 1:
        return None
    roles = [tag[0] for tag in columns[-1]]
    return next(place for place in tagged if [tag[0] for tag in columns[place]] == roles)


def _before(rows: Sequence[Numbered], tags: dict[int, str]) -> list[tuple[int, str, str]]:
    """Number, tag and the tag before it, O at a post's beginning."""
    pairs, before = [], "O"
    for number, _ in rows:
        if number in tags:
            pairs.append((number, before, tags[number]))
        before = tags.get(number, "O")
    return pairs


def _is_iob1(rows: Sequence[Numbered], tags: dict[int, str]) -> bool:
    pairs = _before(rows, tags)
    beginnings = [before[1:] == tag[1:] for _, before, tag in pairs if tag[0] == "B"]
    return bool(beginnings) and all(beginnings) and any(tag[0] == "I" and before == "O" for _, before, tag in pairs)


def _from_iob1(rows: Sequence[Numbered], tags: dict[int, str]) -> dict[int, str]:
    return {
        number: f"B{tag[1:]}" if tag[0] == "I" and before[1:] != tag[1:] else tag
        for number, before, tag in _before(rows, tags)
    }
