"""The forms in which `mnerkit predict` writes tagged posts: JSON lines, CSV, columns, an HTML page, lines of text.

A form writes block by block: what it writes of a post depends on no other one, and the first block begins the file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.post import Entity
from mnerkit.data.corpus.tags import tags_of
from mnerkit.errors import UsageError
from mnerkit.printable import one_line, printable, printable_json
from mnerkit.text_table import csv_text

Rows = Sequence[dict[str, Any]]

_CSV_HEAD = ("id", "type", "start", "end", "char_start", "char_end", "text", "score", "error")


@dataclass(frozen=True)
class OutputForm:
    """A form of output.

    Attributes:
        name: as `--output_format` takes it.
        suffixes: of files that have this form unless another is requested.
        write: the text of a block: its records, the entity types, and whether it is the first.
        printable: makes the text safe for a terminal.
    """

    name: str
    suffixes: tuple[str, ...]
    write: Callable[[Rows, Sequence[str], bool], str]
    printable: Callable[[str], str] = printable


def _jsonl(rows: Rows, _types: Sequence[str], _first: bool) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _csv(rows: Rows, _types: Sequence[str], first: bool) -> str:
    """A row an entity; of a post without entities, one with its id alone."""
    nothing: list[dict[str, Any]] = [{}]
    cells = [
        {"id": str(row.get("id", "")), "error": row.get("error"), **entity}
        for row in rows
        for entity in row.get("entities") or nothing
    ]
    whole = csv_text(_CSV_HEAD, cells)
    return whole if first else whole.split("\n", 1)[1]


def _conll(rows: Rows, _types: Sequence[str], _first: bool) -> str:
    """`IMGID:` lines, and words with their tags; lines that could not be read are left out."""
    posts = []
    for row in rows:
        if "entities" in row:
            spans = [Entity(each["start"], each["end"], each["type"]) for each in row["entities"]]
            words = ["_".join(word.split()) or "_" for word in row["words"]]  # a blank would end the word
            lines = [f"{word}\t{tag}\n" for word, tag in zip(words, tags_of(spans, len(words)), strict=True)]
            posts.append(f"IMGID:{one_line(row['id'])}\n{''.join(lines)}\n")
    return "".join(posts)


def _html(rows: Rows, types: Sequence[str], first: bool) -> str:
    from mnerkit.methods.tagged_posts import as_html

    return as_html(rows, types, page=first, style=first)


def _text(rows: Rows, _types: Sequence[str], _first: bool) -> str:
    from mnerkit.methods.tagged_posts import as_line

    return "".join(as_line(row) + "\n" for row in rows)


FORMS = {
    form.name: form
    for form in (
        OutputForm("jsonl", (".jsonl", ".json"), _jsonl, printable_json),
        OutputForm("csv", (".csv",), _csv),
        OutputForm("conll", (".conll", ".bio"), _conll),
        OutputForm("html", (".html", ".htm"), _html),
        OutputForm("text", (), _text),
    )
}


def output_form(target: str, requested: str | None) -> OutputForm:
    """The form of an output: the requested one, else by the file's name, else JSON lines.

    Raises:
        UsageError: no such form.
    """
    if requested is not None:
        if requested not in FORMS:
            raise UsageError(f"output format {requested!r}: give one of {', '.join(FORMS)}")
        return FORMS[requested]
    suffix = Path(target).suffix.lower()
    return next((form for form in FORMS.values() if suffix in form.suffixes), FORMS["jsonl"])
