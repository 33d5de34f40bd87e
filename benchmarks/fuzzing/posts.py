"""Annotations, records, captions, names of tags, and posts to tag."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.plain_json import TAG, TAG_KEYS, lines_of, loads, of_types, spans, text, text_of, with_prefixes
from fuzzing.reader import Reader
from mnerkit.data.batches.input_reader import BadLine
from mnerkit.data.batches.inputs import input_reader, read_input
from mnerkit.data.corpus.corpus import LABELS, TYPES, load_corpus
from mnerkit.data.corpus.corpus_files import ImageFolders
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.readers import read_posts
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.data.corpus.tags import entities
from mnerkit.data.pictures.written_words import WrittenWords

WORDS = (
    "Ann",
    "rt",
    "@user",
    "Paris",
    "#Köln",
    "东京",
    "don't",
    "😀",
    "http://t.co/1",
    "a",
    ".",
    "1,000",
    "\u200d",
    "\x85",
)
DOCSTART = re.compile(r"-DOCSTART-(?=\s|$)")
PHRASES = {"NP", "VP", "PP", "ADVP", "ADJP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "VC", "PC"}
IN_BIO = {"S": "B", "U": "B", "E": "I", "L": "I", "M": "I"}
KINDS = ("PER", "LOC", "ORG", "MISC")
KNOWN = (*TYPES, *LABELS)


def drawn_post(draw: Random) -> tuple[str, list[str], list[str]]:
    """Id, words and BIO tags of an invented post."""
    words = [draw.choice(WORDS) for _ in range(draw.randint(1, 12))]
    tags: list[str] = []
    while len(tags) < len(words):
        kind = draw.choice(KINDS)
        inside = [f"I-{kind}"] * draw.randrange(3)
        tags += draw.choice((["O"], ["O", "O"], [f"B-{kind}", *inside]))
    return str(draw.randrange(10**6)), words, tags[: len(words)]


def drawn_posts(draw: Random) -> list[tuple[str, list[str], list[str]]]:
    return [drawn_post(draw) for _ in range(draw.randint(1, 8))]


def bio(draw: Random) -> bytes:
    end = draw.choice(("\n", "\n", "\r\n"))
    blocks = [
        "".join(
            f"{line}{end}"
            for line in (f"IMGID:{id_}", *(f"{word}\t{tag}" for word, tag in zip(words, tags, strict=False)))
        )
        for id_, words, tags in drawn_posts(draw)
    ]
    return end.join(blocks).encode()


def columns(draw: Random) -> bytes:
    """Columns as other tools write them: further ones, comments, BIOES, IOB1, fine types, -DOCSTART-."""
    separator, scheme = draw.choice("\t "), draw.choice(("bio", "bioes", "iob1"))
    middle, fine, named = draw.randrange(3), draw.random() < 0.2, separator == "\t" and draw.random() < 0.3
    text = draw.choice(("", f"-DOCSTART-{separator}-X-{separator}O\n\n")) if not named else ""
    numbered, phrases, comments = (draw.random() < 0.2 for _ in range(3))
    spelling = draw.choice(("{0}-{1}", "{0}-{1}", "{0}-{1}", "{0}_{1}", "{1}-{0}", "{1}"))
    drawn = drawn_posts(draw)
    if spelling == "{1}":  # types alone are read only beside an O
        fine, spelling = False, spelling if any("O" in tags for _, _, tags in drawn) else "{0}-{1}"
    for id_, words, tags in drawn:
        text += f"IMGID:{id_}\n" if named else f"# id {id_}\n" if comments else ""
        for place, (word, tag) in enumerate(zip(words, in_scheme(tags, scheme), strict=False), 1):
            before = [*([str(place)] if numbered else []), word, *["NN"] * middle, *(["B-NP"] if phrases else [])]
            tag = spelling.format(*tag.split("-")) if "-" in tag else tag
            cells = [*before, tag, *([f"{tag}x" if tag != "O" else tag] if fine else [])]
            text += separator.join(cells) + "\n"
        text += "\n"
    return text.encode()


def in_scheme(tags: list[str], scheme: str) -> list[str]:
    made = list(tags)
    for start, end, kind in spans(tags):
        if scheme == "bioes":
            roles = "S" if end - start == 1 else "B" + "I" * (end - start - 2) + "E"
            made[start:end] = [f"{role}-{kind}" for role in roles]
        elif scheme == "iob1" and not (start and tags[start - 1][2:] == kind):
            made[start] = f"I-{kind}"
    return made


def record(draw: Random) -> dict[str, Any]:
    id_, words, tags = drawn_post(draw)
    names = [f"{draw.randrange(1000)}.jpg" for _ in range(draw.randrange(3))]
    content: dict[str, Any] = {"id": draw.choice((id_, int(id_)))}
    content[draw.choice(("words", "text", "tokens"))] = words
    content[draw.choice(TAG_KEYS)] = tags
    if draw.random() < 0.8:
        content["images"] = names
    if "images" in content and draw.random() < 0.3:
        content["captions"] = ["a cat" for _ in names]
    if "images" in content and draw.random() < 0.3:
        content["relevance"] = [round(draw.random(), 3) for _ in names]
    if "images" in content and draw.random() < 0.3:
        content |= {"unit": "shares", "boxes": [[{"box": [0.1, 0.1, 0.5, 0.5], "score": 0.5}] for _ in names]}
    if draw.random() < 0.1:
        content["lang"] = "en"
    return content


def records(draw: Random) -> bytes:
    rows = [record(draw) for _ in range(draw.randint(1, 6))]
    form = draw.choice(("json", "json", "literal", "list"))
    if form == "list":
        return json.dumps(rows, ensure_ascii=draw.random() < 0.5).encode()
    return "".join((repr(row) if form == "literal" else json.dumps(row)) + "\n" for row in rows).encode()


def requests(draw: Random) -> bytes:
    """Posts to tag: records with words or a text, or columns."""
    if draw.random() < 0.2:
        return bio(draw)
    rows = [record(draw) for _ in range(draw.randint(1, 6))]
    for row in rows:
        for key in (*TAG_KEYS, "words", "text", "tokens"):
            if key in row and (key in TAG_KEYS or draw.random() < 0.5):
                words = row.pop(key)
                if key in ("words", "text", "tokens"):
                    row["text"] = " ".join(words)
    return (json.dumps(rows) if draw.random() < 0.2 else "".join(json.dumps(row) + "\n" for row in rows)).encode()


def captions(draw: Random) -> bytes:
    lines = [f"{number}.jpg :{' '.join(draw.choices(WORDS, k=4))}\n" for number in range(4)]
    draw.shuffle(lines)
    return "".join(lines).encode()


def written(draw: Random) -> bytes:
    return captions(draw).replace(b" :", b": ")


def names_of_tags(draw: Random) -> bytes:
    names = ["O", *(f"{role}-{kind}" for kind in KINDS for role in "BI")]
    draw.shuffle(names)
    return draw.choice(("\n", "\r\n")).join([*names, ""]).encode()


# ------------------------------------------------------------------ as mnerkit reads them


def facts(post: Post) -> Any:
    """Id, words, entities, and what is said of the pictures."""
    pictures = [(ref.name, ref.caption, ref.relevance, len(ref.objects)) for ref in post.images]
    found = [(span.start, span.end, span.type) for span in entities(post.tags or ())]
    return post.id, list(post.words), found, pictures


def read_known(path: Path) -> Any:
    return [facts(post)[1:3] for post in read_posts(path, KNOWN)]


def read_own(path: Path) -> Any:
    posts = read_posts(path, None, ImageFolders([path.parent]), RecordNotes())
    return [facts(post) if post.images else (None, *facts(post)[1:]) for post in posts]


def read_records(path: Path) -> Any:
    return [facts(post) for post in read_posts(path, None, ImageFolders([path.parent]), RecordNotes())]


def read_captions(path: Path) -> Any:
    posts = load_corpus(str(path.parent / "corpus"), captions=path, splits=("train",)).splits["train"]
    return [ref.caption for post in posts for ref in post.images]


def read_written(path: Path) -> Any:
    corpus = load_corpus(str(path.parent / "corpus"), captions="none", splits=("train",))
    posts = WrittenWords(str(path), corpus).annotated(corpus.splits["train"])
    return [ref.text for post in posts for ref in post.images]


def read_requests(path: Path) -> Any:
    with path.open("rb") as stream:
        reader = input_reader(stream, str(path), ImageFolders([path.parent]), notes=RecordNotes())
        items = [item for block in reader.blocks(100) for item in block]
    return [None if isinstance(item, BadLine) else words_of(item.words) for item in items]


def read_labelled(path: Path) -> Any:
    return [(post.id, list(post.words), facts(post)[2]) for post in read_input(path)]


def plain_labelled(path: Path) -> Any:
    content = text_of(path)
    if content.lstrip(" \t\r\n").startswith("IMGID:"):
        return [post[:3] for post in plain_bio(lines_of(content))]
    if content.lstrip(" \t\r\n").startswith("["):
        rows = list(enumerate(loads(content), 1))
    else:
        rows = [(at, plain_value(line)) for at, line in enumerate(lines_of(content), 1) if line.strip(" \t")]
    return [plain_record(row, str(at))[:3] for at, row in rows]


def tag_names_as_json(draw: Random) -> bytes:
    """As the library `datasets` writes them."""
    names = names_of_tags(draw).decode().split()
    feature = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}
    return json.dumps({"description": "", "features": {"id": {"dtype": "string"}, "ner_tags": feature}}).encode()


def plain_tag_names_as_json(path: Path) -> Any:
    content = loads(text_of(path))
    inner = list(content.values())
    places = [content, *inner, *(each for value in inner if isinstance(value, list) for each in value)]
    columns = [each for place in places if isinstance(place, dict) for each in (place.get("features"), place)]
    names = next(names for each in columns if isinstance(each, dict) and (names := names_of(each.get("ner_tags"))))
    if isinstance(names, dict):
        numbers = {str(name if type(number) is not int else number): name for name, number in names.items()}
        names = [numbers[str(number)] for number in range(len(names))]
    assert isinstance(names, list) and all(isinstance(name, str) for name in names) and len({*names}) == len(names)
    tags = list(map(spelled, names[:5]))
    tags = with_prefixes(tags) if of_types(tags) else tags
    assert len(tags) == 5 and all(TAG.fullmatch(tag) for tag in tags)
    return [("1", ["a", "b", "c", "d", "e"], spans(tags), [])]


def names_of(feature: Any) -> Any:
    while isinstance(feature, dict) and not isinstance(feature.get("names"), list | dict):
        feature = next((feature[key] for key in ("class_label", "feature", "sequence", "list") if key in feature), None)
    return feature and feature["names"]


def labelled(draw: Random) -> bytes:
    return draw.choice((bio, records, records))(draw)


def words_of(words: Any) -> str:
    """The letters of words, however a text is split."""
    return "".join("".join(words).split())


# ------------------------------------------------------------------ as few lines read them


def plain_known(path: Path) -> Any:
    posts = plain_bio(lines_of(text_of(path)))
    assert all(kind in KNOWN for post in posts for *_, kind in post[2])
    return [post[1:3] for post in posts]


def plain_bio(lines: list[str]) -> list[Any]:
    posts: list[Any] = []
    open_ = False
    for line in lines:
        if line.startswith("IMGID:") and "\t" not in line:
            posts.append((line[6:].strip(" "), [], []))
            open_ = True
        elif not line.strip(" \t"):
            open_ = open_ and not posts[-1][1]
        else:
            word, tag = line.split("\t")
            assert open_ and word and TAG.fullmatch(tag) and tag[0] in "OBI"
            posts[-1][1].append(word)
            posts[-1][2].append(tag)
    assert posts and all(words for _, words, _ in posts)
    return [(id_, words, spans(tags), [(picture(id_), None, None, 0)]) for id_, words, tags in posts]


def picture(id_: str) -> str:
    return id_ if re.search(r"(?i)\.(jpe?g|png|webp|gif|bmp)$", id_) else f"{id_}.jpg"


def plain_columns(path: Path) -> Any:
    lines = without_comments(lines_of(text_of(path)))
    rows = [line for line in lines if line.strip(" \t") and not DOCSTART.match(line) and not is_name(line)]
    if "\t" not in rows[0]:
        return plain_table(lines, rows, False)
    try:
        return plain_table(lines, rows, True)
    except (AssertionError, LookupError, ValueError):
        return plain_table(lines, rows, False)


def spelled(tag: str) -> str:
    """A tag that is written as others do, as B-TYPE."""
    if TAG.fullmatch(tag):
        return tag
    found = re.fullmatch(r"([BIESLUMbieslum])[-_]([^\s-]\S*)", tag) or re.fullmatch(r"()([^\s-]\S*)-([BIESLUM])", tag)
    if found is None:
        return tag.upper() if tag == "o" else tag
    return f"{(found[1] or found[3]).upper()}-{found[2]}"


def plain_table(lines: list[str], rows: list[str], tabs: bool) -> Any:
    if any(map(is_name, lines)) and len(rows[0].split("\t")) < 3 and tabs:
        middle = [line.split("\t")[1:] for line in rows]
        if all(len(cells) == 1 and cells[0][:1] in "OBI" for cells in middle):
            return plain_bio([line for line in lines if not DOCSTART.match(line)])
    posts: list[Any] = [(None, [])]
    for line in lines:
        if not line.strip(" \t") or DOCSTART.match(line):
            posts.append((None, []))
        elif is_name(line):
            posts.append((line[6:].strip(" "), []))
        else:
            if not posts[-1][1] and len(posts) > 1 and posts[-1][0] is None and posts[-2][0] is not None:
                assert posts[-2][1] == []  # blank lines between a name and its words
                posts.pop()
            posts[-1][1].append(cells_of(line, tabs))
    posts = [post for post in posts if post[0] is not None or post[1]]
    named = [post for post in posts if post[0] is not None]
    assert not named or (len(named) == len(posts) and all(post[1] for post in posts))
    table = [row for _, block in posts for row in block]
    width = len(table[0])
    assert width > 1 and all(len(row) == width and row[0] for row in table)
    firsts = [[row[0] for row in block] for _, block in posts]
    word = 0
    if width > 2 and max(map(len, firsts)) > 1 and all(re.fullmatch("[0-9]{1,9}", row[0]) for row in table):
        word = int(any(all([*map(int, block)] == [*range(at, at + len(block))] for block in firsts) for at in (0, 1)))
    tagged = [place for place in range(word + 1, width) if all(TAG.fullmatch(spelled(row[place])) for row in table)]
    if not tagged and width == 2 and all(TAG.fullmatch(spelled(row[0])) for row in table):
        word, tagged = 1, [0]
    table = [[spelled(cell) if place in tagged else cell for place, cell in enumerate(row)] for row in table]
    types = {place: {row[place][2:] for row in table if row[place] != "O"} for place in tagged}
    tagged = [place for place in tagged if not types[place] or types[place] - PHRASES]
    types_alone = not tagged
    if types_alone:
        last = [spelled(row[-1]) for row in table]
        assert "O" in [row[-1] for row in table] and of_types(last)
        tagged = [width - 1]
    assert tagged[-1] == width - 1 or len(tagged) == 1
    roles = [[row[place][0] for row in table] for place in tagged]
    column = tagged[0 if word else roles.index(roles[-1])]
    return [
        (
            id_,
            [row[word] for row in block],
            spans((with_prefixes if types_alone else list)([spelled(row[column]) for row in block])),
            [(picture(id_), None, None, 0)] if named else [],
        )
        for id_, block in posts
    ]


def is_name(line: str) -> bool:
    return line.startswith("IMGID:") and "\t" not in line


def cells_of(line: str, tabs: bool) -> list[str]:
    return line.split("\t") if tabs else [cell for cell in line.replace("\t", " ").split(" ") if cell]


def without_comments(lines: list[str]) -> list[str]:
    kept: list[str] = []
    first = next((line for line in lines if line.strip(" \t") and line[0] not in "#-"), "")
    if re.match(r"(?:0|1|1-2)\t[^\t]+\t", first):
        lines = [line for line in lines if not re.match(r"\d{1,9}[-.]\d{1,9}\t", line)]
    for line in lines:
        begins = not kept or not kept[-1].strip(" \t") or bool(DOCSTART.match(kept[-1]))
        comment = (
            re.match("#[ \t]", line)
            and begins
            and (re.match(r"#\s+\w+\s=\s", line) or not TAG.fullmatch(cells_of(line, False)[-1]))
        )
        kept.append("" if comment else line)
    return kept


def plain_record(row: dict[str, Any], default: str) -> Any:
    assert isinstance(row, dict)
    contents = [row[key] for key in ("words", "text", "tokens") if key in row]
    tags = [row[key] for key in TAG_KEYS if row.get(key) is not None]
    assert len([key for key in ("words", "text") if key in row]) < 2 and all(each == tags[0] for each in tags)
    words = contents[0] if not isinstance(contents[0], str) else contents[0].split()
    if isinstance(contents[0], list | tuple):
        words = list(map(text, words))
    names = row.get("images") or []
    names = [names] if isinstance(names, str) else list(map(text, names))
    said = [row.get(key) or [None] * len(names) for key in ("captions", "relevance", "boxes")]
    pictures = [
        (name, caption, relevance, 0 if boxes is None else len(boxes["objects"] if isinstance(boxes, dict) else boxes))
        for name, caption, relevance, boxes in zip(names, *said, strict=True)
    ]
    if tags:
        assert len(tags[0]) == len(words) and all(re.fullmatch(r"O|[BI]-\S+", tag) for tag in tags[0])
    id_ = row.get("id")
    assert id_ is None or type(id_) in (str, int)
    return default if id_ in (None, "") else str(id_), words, spans(tags[0]) if tags else [], pictures


def plain_value(line: str) -> Any:
    try:
        return loads(line)
    except ValueError:
        tree = ast.parse(line.strip(), mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                keys = [ast.literal_eval(key) for key in node.keys if key is not None]
                assert len(keys) == len(node.keys) == len(set(keys))
        return ast.literal_eval(tree)


def plain_records(path: Path) -> Any:
    content = text_of(path)
    first = next(line for line in lines_of(content) if line.strip(" \t")).strip()
    if first.startswith("[") or first[-1] in "{[,":
        given = loads(content)
        rows = list(enumerate(given if isinstance(given, list) else [given], 1))
    else:
        rows = [(at, plain_value(line)) for at, line in enumerate(lines_of(content), 1) if line.strip(" \t")]
    assert all({*TAG_KEYS} & row.keys() for _, row in rows)
    kinds = {plain_kind(row) for _, row in rows} - {""}
    assert len(kinds) < 2
    return [plain_record(prefixed(row), f"{path.stem}-{at}") for at, row in rows]


def plain_kind(row: dict[str, Any]) -> str:
    """Whether a record has tags that are types alone, or others; an empty text where all are O."""
    tags = next(row[key] for key in TAG_KEYS if row.get(key) is not None)
    return "types" if of_types(tags) else "tags" if {*tags} - {"O"} else ""


def prefixed(row: dict[str, Any]) -> dict[str, Any]:
    """The record with BIO tags, whichever scheme it has."""
    key = next(key for key in TAG_KEYS if row.get(key) is not None)
    tags = list(map(spelled, map(text, row[key])))
    bio = with_prefixes(tags) if of_types(tags) else tags
    return {**row, key: [IN_BIO.get(tag[0], tag[0]) + tag[1:] for tag in bio]}


def plain_captions(path: Path) -> Any:
    found: dict[str, str] = {}
    for line in lines_of(text_of(path)):
        if line.strip():
            name, caption = line.split(" :", 1)
            assert found.setdefault(name, caption) == caption
    return [found[f"{number}.jpg"] for number in range(3)]


def plain_written(path: Path) -> Any:
    found: dict[str, str] = {}
    for line in lines_of(text_of(path)):
        if line.strip():
            name, words = line.split(":", 1)
            assert found.setdefault(name, words) == words
    texts = [found.get(f"{number}.jpg") for number in range(3)]
    assert any(text is not None for text in texts)
    return texts


def plain_names_of_tags(path: Path) -> Any:
    names = [line.strip() for line in lines_of(text_of(path)) if line.strip()]
    assert len(set(names)) == len(names)
    tags = [spelled(names[number]) for number in range(5)]
    tags = with_prefixes(tags) if of_types(tags) else tags
    assert all(TAG.fullmatch(tag) for tag in tags)
    return [("1", ["a", "b", "c", "d", "e"], spans(tags), [])]


def plain_requests(path: Path) -> Any:
    content = path.read_bytes()
    bare = content.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n")
    if bare.startswith(b"IMGID:"):
        chunks = re.split(rb"(?m)^(?=IMGID:[^\t\n]*$)", content.removeprefix(b"\xef\xbb\xbf"))
        return [_words_or_none(plain_chunk, chunk) for chunk in chunks if chunk.strip(b" \t\r\n")]
    if bare.startswith(b"["):
        return [_words_or_none(plain_words, row) for row in loads(text_of(path))]
    lines = content.split(b"\n")
    lines[0] = lines[0].removeprefix(b"\xef\xbb\xbf")
    return [_words_or_none(plain_line, line) for line in lines if line.strip(b" \t\r") or line.strip(b" \t") == b"\r\r"]


def _words_or_none(read: Any, content: Any) -> str | None:
    try:
        return read(content)
    except (AssertionError, ValueError, SyntaxError, TypeError, LookupError, RecursionError, MemoryError):
        return None


def plain_chunk(chunk: bytes) -> str:
    (post,) = plain_bio(lines_of(chunk.decode()))
    return words_of(post[1])


def plain_line(line: bytes) -> str:
    return plain_words(plain_value(line.decode().removesuffix("\r")))


def plain_words(row: dict[str, Any]) -> str:
    return words_of(plain_record(row, "1")[1])


def same_requests(read: list[str | None], plain: list[str | None]) -> bool:
    """Each line has its place, and what is read of it is what stands there."""
    return len(read) == len(plain) and all(one in (None, other) for one, other in zip(read, plain, strict=False))


NUMBERED = json.dumps({"id": "1", "words": ["a", "b", "c", "d", "e"], "ner_tags": [0, 1, 2, 3, 4]}).encode()
PICTURES = {
    "corpus/train.txt": b"".join(b"IMGID:%d\na\tO\n\n" % number for number in range(3)),
    "corpus/dev.txt": b"IMGID:8\na\tO\n",
    "corpus/test.txt": b"IMGID:9\na\tO\n",
}


def read_names_of_tags(path: Path) -> Any:
    return read_records(path.with_name("numbered.jsonl"))


READERS = (
    Reader("annotations", "train.txt", "lines", bio, read_known, plain_known),
    Reader("columns", "train.txt", "lines", columns, read_own, plain_columns),
    Reader("records", "train.jsonl", "json lines", records, read_records, plain_records),
    Reader("captions", "captions.txt", "lines", captions, read_captions, plain_captions, beside=PICTURES),
    Reader("written words", "ocr.txt", "lines", written, read_written, plain_written, beside=PICTURES),
    Reader(
        "tag names", "labels.txt", "lines", names_of_tags, read_names_of_tags, plain_names_of_tags,
        beside={"numbered.jsonl": NUMBERED},
    ),
    Reader(
        "tag names as JSON", "dataset_info.json", "json", tag_names_as_json, read_names_of_tags,
        plain_tag_names_as_json, beside={"numbered.jsonl": NUMBERED},
    ),
    Reader("support", "support.jsonl", "json lines", labelled, read_labelled, plain_labelled),
    Reader("posts to tag", "in.jsonl", "json lines", requests, read_requests, plain_requests, agree=same_requests),
)  # fmt: skip
