"""Posts with their entities, for people: as lines of a terminal, and as HTML for pages and notebooks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mnerkit.printable import Printable, one_line
from mnerkit.templates import render
from mnerkit.type_colours import colours_of, letters_on

Row = Mapping[str, Any]


class TaggedPosts(list[dict[str, Any]]):
    """Records of tagged posts: a list that prints a post a line, and shows as coloured text in a notebook.

    Args:
        rows: the records, as `mnerkit predict` writes them.
        types: the entity types, in the order of their colours.
    """

    def __init__(self, rows: Iterable[dict[str, Any]] = (), types: Sequence[str] = ()) -> None:
        super().__init__(rows)
        self.types = tuple(types)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self, coloured: bool = False) -> list[Printable]:
        """The posts, a line each; coloured for a terminal."""
        return [as_line(row, colours_of(self.types) if coloured else None) for row in self]

    def _repr_html_(self) -> str:
        return as_html(self, self.types)


def pieces(row: Row) -> Iterator[tuple[str, Row | None]]:
    """The text of a post in pieces, each with its entity or None; ends of lines and tabs are blanks."""
    text = re.sub(r"[\r\n\t]", " ", row["text"] if "text" in row else " ".join(row["words"]))
    done = 0
    for entity in row["entities"]:
        yield text[done : entity["char_start"]], None
        yield text[entity["char_start"] : entity["char_end"]], entity
        done = entity["char_end"]
    yield text[done:], None


def label(entity: Row) -> str:
    """An entity's type, and its score where it has one."""
    return f"{entity['type']} {entity['score']:.2f}" if "score" in entity else str(entity["type"])


def as_line(row: Row, colours: Mapping[str, str] | None = None) -> Printable:
    """A post in a line: `[Jordan PER 0.98] scores`; in a terminal with colours, by type."""
    if "entities" not in row:
        return one_line(problem(row))
    parts: list[str] = []
    for text, entity in pieces(row):
        if entity is None:
            parts.append(one_line(text))
        elif colours is None:
            parts.append(f"[{one_line(text)} {one_line(label(entity))}]")
        else:
            paint = _paint(colours.get(entity["type"], "#000000"))
            parts.append(f"{paint} {one_line(text)} \x1b[1m{one_line(label(entity))} \x1b[0m")
    return Printable("".join(parts))


def as_html(rows: Iterable[Row], types: Sequence[str], page: bool = False, style: bool = True, ids: bool = True) -> str:
    """Posts as HTML.

    Args:
        rows: the records; one of a line that could not be read shows its error.
        types: the entity types, in the order of their colours.
        page: whether a page begins here, which more posts may follow (`style=False`).
        style: whether the style sheet and a legend come first.
        ids: whether each post's id stands before it.
    """
    colours = colours_of(types)
    posts = [
        (row.get("id", "") if ids else "", list(pieces(row)) if "entities" in row else [(problem(row), None)])
        for row in rows
    ]
    return render(
        __package__,
        "tagged_posts.html",
        page=page,
        style=style,
        colours=list(colours.items()),
        colour={name: Markup(value) for name, value in colours.items()},
        posts=posts,
        label=label,
    )


def problem(row: Row) -> str:
    """What a line that could not be read says in place of its post."""
    return f"line {row['line']}: {row['error']}"


def _paint(colour: str) -> str:
    """The escape sequence of a background colour, with black or white letters, whichever stands out more."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"\x1b[48;2;{red};{green};{blue};{30 if letters_on(colour) == '#000000' else 97}m"
