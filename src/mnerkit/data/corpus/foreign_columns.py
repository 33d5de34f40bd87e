"""Files of columns that other tools write, as `word<TAB>tag` lines with `IMGID:` lines, and BIOES and IOB1 as BIO."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.records import RecordNotes, tags_key
from mnerkit.errors import DataError, UsageError, shown

_TAG = re.compile(r"O|[BIESLUM]-\S+")
_BIO_TAG = re.compile(r"O|[BI]-\S+")
_OTHER_SPELLING = re.compile(r"([BIESLUMbieslum])[_-]([^\s-]\S*)|([^\s-]\S*)-([BIESLUM])")
_TYPE = re.compile(r"[^\W\d_][^\s,;]{0,80}")  # a tag that is a type alone
_TO_BIO = {"S": "B", "U": "B", "E": "I", "L": "I", "M": "I"}
_DOCSTART = re.compile(r"-DOCSTART-(?=\s|$)")
_SETS = re.compile(r"#\s+\w+\s=\s")  # a comment of CoNLL-U
_RANGE = re.compile(r"\d{1,9}[-.]\d{1,9}\t")  # a line of CoNLL-U for a word of several, or for one that is not written
_BLANKS = re.compile(r"[ \t]+")
# types of phrases, which stand in a column of their own before the entities (CoNLL 2000 and 2003)
_PHRASES = {"NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "VC", "PC"}
_ACCEPTED = (
    "A line holds a word, a tag (O, B-<type>, I-<type>, or those of BIOES) and perhaps further columns; blank lines "
    "part posts; --data.columns word,_,_,tag says which columns are read."
)

Numbered = tuple[int, str]


class Columns(NamedTuple):
    """Which columns are read, counted from 0, and how many there are."""

    word: int
    tag: int
    width: int

    @classmethod
    def parse(cls, text: str) -> Columns:
        """The columns that an option names, `word,_,_,tag`.

        Raises:
            UsageError: there is not one `word` and one `tag`, or another name.
        """
        names = [name.strip() for name in text.split(",")]
        if sorted(name for name in names if name != "_") != ["tag", "word"]:
            raise UsageError(
                f"columns {shown(text)}: name each column of a line, one of them word, one tag, the others _ "
                "(word,_,_,tag)"
            )
        return cls(names.index("word"), names.index("tag"), len(names))


def is_docstart(text: str) -> bool:
    """Whether a line begins a document: `-DOCSTART-`, with or without further columns."""
    return _DOCSTART.match(text) is not None


def is_tag(text: str) -> bool:
    """Whether a text is a tag of BIO, IOB1, BIOES or the like."""
    return _TAG.fullmatch(text) is not None


def in_our_spelling(tag: str) -> str:
    """A tag that is written `B_PER`, `PER-B` or `b-per`, as `B-PER`; any other text as it is.

    The type of lower case stays in lower case.
    """
    if is_tag(tag):
        return tag
    if tag == "o":
        return "O"
    found = _OTHER_SPELLING.fullmatch(tag)
    return f"{(found[1] or found[4]).upper()}-{found[2] or found[3]}" if found else tag


def spelled(record: Any, where: str, notes: RecordNotes, kinds: set[str]) -> Any:
    """A record with tags in our spelling; those that were not are noted.

    Args:
        record: what was read.
        where: file and line, for messages.
        notes: takes what was done.
        kinds: what the tags of this file's records were so far, `types` alone or `tags` with a prefix.

    Raises:
        DataError: it has the one, and those before had the other.
    """
    key = tags_key(record)
    if key is None or not all(isinstance(tag, str) for tag in record[key]):
        return record
    tags = list(record[key])
    ours = list(map(in_our_spelling, tags))
    if are_types(ours):
        kinds.add("types")
        ours = _with_prefixes(ours, notes)
    elif any(tag != "O" and is_tag(tag) for tag in ours):
        kinds.add("tags")
        if ours != tags:
            changed = next(tag for tag, own in zip(tags, ours, strict=True) if tag != own)
            notes.take(_spelling(changed), tags=sum(tag != own for tag, own in zip(tags, ours, strict=True)))
    if len(kinds) > 1:
        odd = next(tag for tag in tags if tag not in ("O", "o"))
        raise DataError(
            f"{where}: {shown(odd, 40)!r} is a tag of another kind than those before: "
            "a file has types alone (PER), or tags with B- and I-."
        )
    return record if ours == tags else {**record, key: ours}


def are_types(tags: Iterable[str]) -> bool:
    """Whether tags in our spelling are types alone (`PER`), and perhaps O."""
    types = {*tags} - {"O"}
    return bool(types) and not any(map(is_tag, types)) and all(map(_TYPE.fullmatch, types))


def _with_prefixes(tags: Sequence[str], notes: RecordNotes) -> list[str]:
    """BIO tags of a post's tags that are types alone: neighbours of one type are one entity."""
    notes.take(_TYPES_ALONE, tags=sum(tag != "O" for tag in tags))
    pairs = zip(("O", *tags), tags, strict=False)
    return [tag if tag == "O" else f"{'I' if tag == before else 'B'}-{tag}" for before, tag in pairs]


_TYPES_ALONE = "tags without B- and I- were read as types, neighbours of one type as one entity"


def _spelling(tag: str) -> str:
    return f"tags like {shown(tag, 40)} were read as {shown(in_our_spelling(tag), 40)}"


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
    """Whether these lines need neither `chosen_columns` nor `in_bio`: `IMGID:` lines, and words with BIO tags.

    It may say no where that holds, but never yes where it doesn't; it looks at the lines one by one.
    """
    tags: set[str] = set()
    named = orphan = apart = False
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
            apart = tag[0] == "B" and tag[1:] != before[1:]
            orphan = orphan or (tag[0] == "I" and before == "O")
        before = tag
    return named and (apart or not orphan)


def chosen_columns(
    rows: Sequence[Numbered], path: Path, notes: RecordNotes, columns: Columns | None = None
) -> tuple[Sequence[Numbered], bool]:
    """The lines of a file as `word<TAB>tag` lines, and whether its posts are named by `IMGID:` lines.

    Lines of a file with `IMGID:` lines in which no other form is recognised stay as they are. What was taken for what
    is noted.

    Args:
        rows: numbered lines.
        path: the file; posts without `IMGID:` lines are called `<stem>-<line>`.
        notes: takes the remarks.
        columns: which columns are read; recognised where None.

    Raises:
        DataError: with file and line, of a file without `IMGID:` lines, or where `columns` are given: lines of
            different numbers of columns, or no column of tags.
    """
    kept, marks = _without_marks(rows)
    body = [(number, text) for number, text in kept if text.strip(" \t") and not _names_post(text)]
    named = len(body) < sum(bool(text.strip(" \t")) for _, text in kept)
    if not body:
        return kept, True
    if len(rows) == 1 and "\r" in body[0][1]:
        raise DataError(f"{path}: its lines end with carriage returns alone.\nSave it with line feeds.")
    tabs = "\t" in body[0][1]
    cells = {number: text.split("\t") for number, text in body} if tabs else _at_blanks(body)
    chosen = columns or _recognised(kept, cells)
    if tabs and not columns and chosen is None:
        spaced = _at_blanks(body)
        chosen = _recognised(kept, spaced)
        if chosen is not None:
            cells = spaced
            notes.take("cells were read as parted by tabs or blanks")
    if chosen is None or any(len(row) != chosen.width or not row[chosen.word] for row in cells.values()):
        if named and columns is None:
            return rows, True
        raise DataError(_complaint(path, body, cells, columns))
    for mark, count in marks.items():
        notes.take(f"{mark} are passed over", lines=count)
    if chosen.width > 2 or chosen.word:
        word = "the first" if not chosen.word else f"number {chosen.word + 1}"
        notes.take(f"of {chosen.width} columns {word} was read as the word, number {chosen.tag + 1} as the tag")
    lines: list[Numbered] = []
    tags = {number: in_our_spelling(row[chosen.tag]) for number, row in cells.items()}
    foreign = [cells[number][chosen.tag] for number, tag in tags.items() if tag != cells[number][chosen.tag]]
    if foreign:
        notes.take(_spelling(foreign[0]), tags=len(foreign))
    if are_types(tags.values()):
        tags = _prefixed(kept, tags, notes)
    posts, open_ = 0, False
    for number, text in kept:
        if number not in cells:
            open_ = False
            lines.append((number, text))
            continue
        if not named and not open_:
            posts += 1
            lines.append((number, f"IMGID:{path.stem}-{number}"))
        open_ = True
        lines.append((number, f"{cells[number][chosen.word]}\t{tags[number]}"))
    if posts:
        notes.take("posts without IMGID lines are called after file and line, and have no pictures", posts=posts)
    return lines, named


def _prefixed(rows: Sequence[Numbered], tags: dict[int, str], notes: RecordNotes) -> dict[int, str]:
    """The tags of numbered lines, which are types alone, with prefixes; a line without a tag parts posts."""
    found: dict[int, str] = {}
    post: list[int] = []
    for number in [*(number for number, _ in rows), 0]:
        if number in tags:
            post.append(number)
        elif post:
            found.update(zip(post, _with_prefixes([tags[each] for each in post], notes), strict=True))
            post = []
    return found


def in_bio(posts: Iterable[Post], notes: RecordNotes) -> Iterator[Post]:
    """The posts of a file with BIO tags, whichever of BIO, IOB1, BIOES and BILOU they have.

    IOB1 writes `B-` between neighbours of one type alone: posts are held back until a `B-` elsewhere shows that the
    file is no IOB1.

    Args:
        posts: of one file, with tags.
        notes: takes the remarks.
    """
    stream = iter(posts)
    held: list[Post] = []
    orphan = apart = False
    for post in stream:
        held.append(_without_ends(post, notes))
        starts = [(tag[0], before) for before, tag in _pairs(held[-1]) if tag != "O" and tag[1:] != before[1:]]
        orphan = orphan or any(role == "I" for role, _ in starts)
        apart = any(role == "B" for role, _ in starts)
        if apart:
            break
    yield from map(_from_iob1, held, [notes] * len(held)) if orphan and not apart else held
    held.clear()
    for post in stream:
        yield _without_ends(post, notes)


def _pairs(post: Post) -> Iterator[tuple[str, str]]:
    """The tag before each tag, and the tag."""
    tags = post.tags or ()
    return zip(("O", *tags), tags, strict=False)


def _without_ends(post: Post, notes: RecordNotes) -> Post:
    ends = Counter(tag[0] for tag in post.tags or () if tag[0] in _TO_BIO)
    if not ends:
        return post
    scheme = "BILOU" if ends.keys() & {"L", "U"} else "BIOES" if ends.keys() & {"E", "S"} else "BME"
    notes.take(f"{scheme} tags were read as BIO", **{f"{role}- as {_TO_BIO[role]}-": ends[role] for role in ends})
    return replace(post, tags=tuple(_TO_BIO.get(tag[0], tag[0]) + tag[1:] for tag in post.tags or ()))


def _from_iob1(post: Post, notes: RecordNotes) -> Post:
    tags = tuple(f"B{tag[1:]}" if tag[0] == "I" and tag[1:] != before[1:] else tag for before, tag in _pairs(post))
    changed = sum(new != old for new, old in zip(tags, post.tags or (), strict=True))
    if changed:
        notes.take("IOB1 tags, with B- between neighbours of one type alone, were read as BIO", **{"I- as B-": changed})
    return replace(post, tags=tags)


def _at_blanks(body: Sequence[Numbered]) -> dict[int, list[str]]:
    return {number: _BLANKS.split(text.strip(" \t")) for number, text in body}


def _names_post(text: str) -> bool:
    return text.startswith("IMGID:") and "\t" not in text


def _without_marks(rows: Sequence[Numbered]) -> tuple[list[Numbered], Counter[str]]:
    """The lines with blank ones for those that begin a document, and for comments before a post; and how many."""
    kept: list[Numbered] = []
    marks: Counter[str] = Counter()
    begins = True  # no word of a post has been read
    first = [text for _, text in rows if text.strip(" \t") and text[0] not in "#-"][:1]
    # in a file whose words are numbered
    ranges = any(re.match(r"(?:0|1|1-2)\t[^\t]+\t", text) for text in first)
    for number, text in rows:
        mark = ""
        if is_docstart(text):
            mark = "-DOCSTART- lines"
        elif begins and text[:2] in ("# ", "#\t") and (_SETS.match(text) or not _ends_with_tag(text)):
            mark = "comments that begin with #"
        elif ranges and _RANGE.match(text):
            marks["lines of CoNLL-U for ranges of words"] += 1
            continue
        marks[mark] += bool(mark)
        begins = bool(mark) or not text.strip(" \t")
        kept.append((number, "" if mark else text))
    return kept, +marks


def _ends_with_tag(text: str) -> bool:
    return is_tag(_BLANKS.split(text.strip(" \t"))[-1])


def _recognised(rows: Sequence[Numbered], cells: dict[int, list[str]]) -> Columns | None:
    """The columns of words and tags: words come first, or second behind their numbers within the post."""
    widths = {len(row) for row in cells.values()}
    width = min(widths)
    if len(widths) > 1 or width < 2:
        return None
    word = int(width > 2 and _counts_words(rows, cells))
    columns = list(zip(*cells.values(), strict=True))
    tagged = [place for place in range(word + 1, width) if _holds_entities(columns[place])]
    if not tagged and width == 2 and _holds_entities(columns[0]):
        return Columns(1, 0, 2)
    if not tagged and "O" in columns[-1] and are_types(map(in_our_spelling, columns[-1])):
        return Columns(word, width - 1, width)
    if not tagged or (tagged[-1] != width - 1 and len(tagged) > 1):
        return None
    # of coarse and fine types of the same entities the coarse one; of entities within entities the outer one
    roles = _roles(columns[tagged[-1]])
    tag = tagged[0] if word else next(place for place in tagged if _roles(columns[place]) == roles)
    return Columns(word, tag, width)


def _roles(column: Sequence[str]) -> list[str]:
    return [in_our_spelling(tag)[0] for tag in column]


def _holds_entities(column: Sequence[str]) -> bool:
    ours = set(map(in_our_spelling, set(column)))
    if not all(map(is_tag, ours)):
        return False
    types = {tag[2:] for tag in ours if tag != "O"}
    return not types or not types <= _PHRASES


def _counts_words(rows: Sequence[Numbered], cells: dict[int, list[str]]) -> bool:
    """Whether the first column numbers the words of each post, from 0 or from 1."""
    starts, longest, place = set(), 0, 0
    for number, _ in rows:
        if number not in cells:
            place = 0
            continue
        first = cells[number][0]
        if not (first.isascii() and first.isdecimal()) or len(first) > 9:
            return False
        starts.add(int(first) - place)
        place += 1
        longest = max(longest, place)
    return longest > 1 and starts in ({0}, {1})


def _complaint(path: Path, body: Sequence[Numbered], cells: dict[int, list[str]], columns: Columns | None) -> str:
    """What is wrong with the first line that is not like the others, or with all columns."""
    width = columns.width if columns else len(cells[body[0][0]])
    for number, text in body:
        found = len(cells[number])
        if found != width or found < 2:
            others = (
                f"the {width} columns of --data.columns"
                if columns
                else f"{width} columns"
                if width > 1
                else "two columns or more"
            )
            return f"{path}:{number}: expected {others}, found {found} in {shown(text, 60)!r}.\n{_ACCEPTED}"
        if columns and not cells[number][columns.word]:
            return f"{path}:{number}: the column of words is empty in {shown(text, 60)!r}.\n{_ACCEPTED}"
        if not cells[number][0]:
            return f"{path}:{number}: the first column is empty in {shown(text, 60)!r}.\n{_ACCEPTED}"
    ours = {number: list(map(in_our_spelling, row)) for number, row in cells.items()}
    tagged = [place for place in range(1, width) if sum(is_tag(row[place]) for row in ours.values()) > len(cells) // 2]
    odd = [(number, row[tagged[0]]) for number, row in ours.items() if tagged and not is_tag(row[tagged[0]])]
    if len(tagged) == 1 and odd:
        number, cell = odd[0]
        return f"{path}:{number}: {shown(cell, 40)!r} in column {tagged[0] + 1} is no tag.\n{_ACCEPTED}"
    what = f"{', '.join(str(place + 1) for place in tagged)} may all be tags" if tagged else "none holds tags"
    return f"{path}:{body[0][0]}: of {width} columns {what}: {shown(body[0][1], 60)!r}.\n{_ACCEPTED}"
