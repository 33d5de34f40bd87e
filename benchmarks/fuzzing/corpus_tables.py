"""Corpora as tables with a head: a word or a post in each row."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Literal

from fuzzing.plain_json import TAG, lines_of, of_types, spans, text, text_of, with_prefixes
from fuzzing.posts import drawn_posts, plain_columns, plain_value, spelled
from fuzzing.reader import Reader
from mnerkit.data.corpus.corpus_files import ImageFolders
from mnerkit.data.corpus.readers import read_posts
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.data.corpus.tags import entities

WORDS = ("words", "tokens", "word", "token", "text", "sentence")
TAGS = ("ner_tags", "ner_tag", "ner_labels", "ner", "tags", "tag", "labels", "label", "bio_tags", "bio", "iob")
PARTS = ("sentence_id", "sentence_idx", "sentence_no", "sentence_number", "sent_id", "sent", "post_id", "tweet_id")


def table(delimiter: str) -> Callable[[Random], bytes]:
    def made(draw: Random) -> bytes:
        content = io.StringIO()
        rows = csv.writer(content, delimiter=delimiter, lineterminator=draw.choice(("\n", "\r\n")))
        whole, blank = draw.random() < 0.4, draw.random() < 0.3
        word, tag = draw.choice(("Word", "token", "words")), draw.choice(("Tag", "labels", "ner"))
        number = draw.choice(("Sentence #", "sentence_id"))
        rows.writerow([word, "note", tag] if whole or blank else [number, word, "note", tag])
        for place, (_, words, tags) in enumerate(drawn_posts(draw)):
            if whole:
                words = [each for each in words if each.split() == [each]] or ["a"]
                tags = (tags + ["O"] * 2)[: len(words)] if len(words) > 1 else ["O"]
                row: Any = draw.choice((str, json.dumps, " ".join))
                rows.writerow([row(words), "x", row(tags) if len(tags) > 1 else str(tags)])
                continue
            for at, pair in enumerate(zip(words, tags, strict=False)):
                first = [] if blank else ["" if at and draw.random() < 0.5 else f"s{place}"]
                rows.writerow([*first, pair[0], "NN", pair[1]])
            if blank:
                rows.writerow([])
        return content.getvalue().encode()

    return made


def read(path: Path) -> Any:
    posts = read_posts(path, None, ImageFolders([path.parent]), RecordNotes())
    return [(list(post.words), [(s.start, s.end, s.type) for s in entities(post.tags or ())]) for post in posts]


def plain(delimiter: str) -> Callable[[Path], Any]:
    def read_plainly(path: Path) -> Any:
        content = text_of(path)
        raw = lines_of(content)
        first = next(line for line in raw if line.strip(" \t"))
        parts = max(",;\t", key=first.count) if delimiter == "," else delimiter
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
        if parts == "\t" and any(line.count('"') % 2 for line in raw):
            quoting = csv.QUOTE_NONE
        limit = csv.field_size_limit(1 << 30)
        try:
            lines = (f"{line}\n" for line in raw)
            head, *rows = list(csv.reader(lines, delimiter=parts, strict=True, quoting=quoting))
        finally:
            csv.field_size_limit(limit)
        names = [re.sub("[ -]+", "_", name.strip().lower().replace(" #", "_id")) for name in head]
        assert len({*names}) == len(names)
        if delimiter == "\t" and not ({*names} & {*WORDS} and {*names} & {*TAGS}):
            return [post[1:3] for post in plain_columns(path)]
        word = names.index(next(name for name in WORDS if name in names))
        tag = names.index(next(name for name in TAGS if name in names))
        part = next((names.index(name) for name in PARTS if name in names), None)
        assert "id" not in names
        bodies = [row for row in rows if not blank(row)]
        assert all(len(row) == len(head) for row in bodies)
        several = any(row[tag].strip()[:1] == "[" or len(re.split(r"[\s,]+", row[tag].strip())) > 1 for row in bodies)
        posts: list[tuple[list[str], list[str]]] = []
        if several:
            posts = [(listed(row[word], r"\s+"), listed(row[tag], r"[\s,]+")) for row in bodies]
        else:
            before: str | None = None
            for row in rows:
                if blank(row):
                    before = None
                    continue
                name = row[part].strip() if part is not None else ""
                if before is None or (name and name != before):
                    posts.append(([], []))
                before = name or before or ""
                assert row[word].strip(" \t") and row[tag].strip(" \t")
                posts[-1][0].append(row[word])
                posts[-1][1].append(row[tag].strip())
        kinds, found = set(), []
        for words, tags in posts:
            tags = list(map(spelled, tags))
            kinds |= {of_types(tags)} if {*tags} - {"O"} else set()
            tags = with_prefixes(tags) if of_types(tags) else tags
            assert len(words) == len(tags) and all(map(TAG.fullmatch, tags))
            found.append((words, spans(tags)))
        assert found and len(kinds) < 2
        return found

    return read_plainly


def blank(row: list[str]) -> bool:
    return not any(cell.strip(" \t") for cell in row)


def listed(cell: str, between: str) -> list[str]:
    cell = cell.strip()
    if re.match(r"""\[['"\]0-9]""", cell) and cell.endswith("]"):
        return list(map(text, plain_value(cell)))
    return [each for each in re.split(between, cell) if each]


READERS = (
    Reader("corpus as CSV", "train.csv", "lines", table(","), read, plain(",")),
    Reader("corpus as TSV", "train.tsv", "lines", table("\t"), read, plain("\t")),
)
