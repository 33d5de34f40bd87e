"""`table.json`: rows, columns and printed figures of a table, and the runs that fill its cells; read strictly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mnerkit.errors import DataError, did_you_mean
from mnerkit.report.folders import read_json

FORMAT, VERSION = "mnerkit-table", 1
KINDS = ("table", "sweep", "curve", "figure")
STATES = ("done", "missing", "failed", "printed_only")
MAX_SIDE = 500  # rows or columns of a table


@dataclass(frozen=True)
class Row:
    """A row: a method, or the reason why it is only printed."""

    name: str
    plugin: str | None = None
    ablation: str | None = None
    printed_only: str | None = None


@dataclass(frozen=True)
class Column:
    """A column: what was measured."""

    name: str
    corpus: str | None = None
    split: str = "test"
    metric: str = "f1"


@dataclass(frozen=True)
class Cell:
    """A figure of the table; figures are percentages.

    Attributes:
        row: place of its row.
        column: place of its column.
        printed: the paper's figure, or None.
        printed_raw: the same as it stands in the paper.
        erratum: what is wrong with the printed figure.
        corrected: what it should have been, where that is known.
        runs: run folders, one a seed.
        metric: name of the score.
        value: our figure where no run gives it.
        of: the cells that it is the mean of.
        state: one of `STATES`.
        why: reason of a failure, or of the cell's being printed only.
        differs: reasons why ours and the printed figure can't be compared.
    """

    row: int
    column: int
    printed: float | None = None
    printed_raw: str | None = None
    erratum: str | None = None
    corrected: float | None = None
    runs: tuple[Path, ...] = ()
    metric: str = "f1"
    value: float | None = None
    of: tuple[tuple[int, int], ...] = ()
    state: str = "missing"
    why: str | None = None
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """The option that a sweep varies, and its values in order."""

    option: str
    values: tuple[float | str, ...]


@dataclass(frozen=True)
class Table:
    """A table or figure of a paper, to be filled."""

    experiment: str
    title: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: tuple[Cell, ...]
    paper: str = ""
    what: str = "table"
    profile: str = ""
    note: str = ""
    x: str | None = None
    sweep: Sweep | None = None
    baseline_row: int | None = None
    draw: Sequence[str] = ()
    path: Path | None = None


def read_table(path: Path) -> Table:
    """Read a table file.

    Raises:
        DataError: it is no table file, of another version, or has a key, value or place that can't be; in one line.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path} is no table file (format {FORMAT!r})")
    if content.get("version") != VERSION:
        raise DataError(f"{path} is of version {content.get('version')!r}; this mnerkit reads version {VERSION}")
    try:
        return _table(content, path)
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None


def _table(content: Mapping[str, Any], path: Path) -> Table:
    keys: dict[str, Callable[[Any], Any]] = {
        "format": _any,
        "version": _any,
        "experiment": _name,
        "paper": _text,
        "title": _text,
        "what": _kind,
    }
    keys |= {"profile": _text, "note": _text, "rows": _list, "columns": _list, "cells": _list, "x": _maybe(_text)}
    keys |= {"sweep": _maybe(_sweep), "baseline_row": _maybe(_place), "draw": _texts}
    read = _read(content, keys, "the table", ("experiment", "title", "rows", "columns", "cells"))
    rows = tuple(
        Row(
            **_read(
                each,
                {"name": _text, "plugin": _maybe(_text), "ablation": _maybe(_text), "printed_only": _maybe(_text)},
                f"row {n}",
                ("name",),
            )
        )
        for n, each in enumerate(read.pop("rows"))
    )
    kinds = {"name": _text, "corpus": _maybe(_text), "split": _text, "metric": _text}
    columns = tuple(
        Column(**_read(each, kinds, f"column {n}", ("name",))) for n, each in enumerate(read.pop("columns"))
    )
    if not rows or not columns or max(len(rows), len(columns)) > MAX_SIDE:
        raise DataError(f"{len(rows)} rows and {len(columns)} columns: a table has from 1 to {MAX_SIDE} of each")
    cells = tuple(_cell(each, n, path) for n, each in enumerate(read.pop("cells")))
    _check_places(rows, columns, cells)
    if read.get("baseline_row") is not None and read["baseline_row"] >= len(rows):
        raise DataError(f"baseline_row {read['baseline_row']}: there are {len(rows)} rows, counted from 0")
    for key in ("format", "version"):
        read.pop(key)
    return Table(rows=rows, columns=columns, cells=cells, path=path, **read)


def _cell(content: Any, number: int, path: Path) -> Cell:
    where = f"cell {number}"
    if isinstance(content, dict) and {"row", "column"} <= content.keys():
        where += f" (row {str(content['row'])[:9]}, column {str(content['column'])[:9]})"
    keys: dict[str, Callable[[Any], Any]] = {"row": _place, "column": _place, "printed": _maybe(_figure)}
    keys |= {"printed_raw": _maybe(_text), "erratum": _maybe(_erratum), "corrected": _maybe(_figure), "runs": _texts}
    keys |= {"metric": _text, "value": _maybe(_figure), "of": _maybe(_places), "state": _state, "why": _maybe(_text)}
    read = _read(content, keys | {"differs": _texts}, where, ("row", "column", "state"))
    if isinstance(read.get("erratum"), dict):
        read |= read.pop("erratum")
    read["runs"] = tuple(_run(name, where, path) for name in read.get("runs", ()))
    return Cell(**{**read, "of": read.get("of") or (), "differs": tuple(read.get("differs", ()))})


def _run(name: str, where: str, path: Path) -> Path:
    if not name or name.startswith(("/", "~")) or "\\" in name or PurePosixPath(name).is_absolute():
        raise DataError(f"{where}: run {name[:80]!r} is not a path relative to the table file")
    return path.parent / name


def _check_places(rows: tuple[Row, ...], columns: tuple[Column, ...], cells: tuple[Cell, ...]) -> None:
    places: set[tuple[int, int]] = set()
    for place in ((cell.row, cell.column) for cell in cells):
        if place[0] >= len(rows) or place[1] >= len(columns):
            raise DataError(f"there is no row {place[0]}, column {place[1]} (places are counted from 0)")
        if place in places:
            raise DataError(f"row {place[0]}, column {place[1]} has two cells")
        places.add(place)
    means = {(cell.row, cell.column) for cell in cells if cell.of}
    for cell in cells:
        for place in cell.of:
            if place not in places or place in means:
                how = "is a mean itself" if place in means else "does not exist"
                raise DataError(f"row {cell.row}, column {cell.column} is the mean of {list(place)}, which {how}")


# ------------------------------------------------------------------ values


def _read(
    content: Any, keys: Mapping[str, Callable[[Any], Any]], where: str, needed: tuple[str, ...]
) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise DataError(f"{where} is no mapping")
    for key in content:
        if key not in keys:
            raise DataError(f"{where}: no key {key[:60]!r}.{did_you_mean(key, keys)}")
    for key in needed:
        if key not in content:
            raise DataError(f"{where}: {key!r} is missing")
    read = {}
    for key, value in content.items():
        try:
            read[key] = keys[key](value)
        except (ValueError, TypeError) as problem:
            raise DataError(f"{where}: {key} is {str(value)[:60]!r}, not {problem}") from None
    return read


def _any(value: Any) -> Any:
    return value


def _maybe(kind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else kind(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 20_000:
        raise ValueError("a text")
    return value


def _name(value: Any) -> str:
    """`paper/table`, which names the files that are written."""
    parts = _text(value).split("/")
    if len(parts) > 4 or any(not each.replace("-", "").replace("_", "").replace(".", "").isalnum() for each in parts):
        raise ValueError("names of letters, digits, '-', '_' and '.', with '/' between")
    if any(each.startswith(".") or len(each) > 80 or not each.isascii() for each in parts):
        raise ValueError("short plain names with '/' between")
    return value


def _figure(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a figure")
    return float(value)


def _place(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a place, counted from 0")
    return value


def _places(value: Any) -> tuple[tuple[int, int], ...]:
    if not isinstance(value, list) or any(not isinstance(each, list) or len(each) != 2 for each in value):
        raise ValueError("a list of [row, column]")
    return tuple((_place(row), _place(column)) for row, column in value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("a list")
    return value


def _texts(value: Any) -> list[str]:
    return [_text(each) for each in _list(value)]


def _kind(value: Any) -> str:
    if value not in KINDS:
        raise ValueError(f"one of {', '.join(KINDS)}")
    return str(value)


def _state(value: Any) -> str:
    if value not in STATES:
        raise ValueError(f"one of {', '.join(STATES)}")
    return str(value)


def _erratum(value: Any) -> str | dict[str, Any]:
    """A text, or `{"text": ..., "corrected": figure}`."""
    if isinstance(value, dict) and value.keys() <= {"text", "corrected"}:
        return {"erratum": _text(value.get("text", "")), "corrected": _maybe(_figure)(value.get("corrected"))}
    return _text(value)


def _sweep(value: Any) -> Sweep:
    if not isinstance(value, dict) or value.keys() != {"option", "values"} or not isinstance(value["values"], list):
        raise ValueError("a mapping of option and values")
    values = tuple(_option_value(each) for each in value["values"])
    return Sweep(_text(value["option"]), values)


def _option_value(value: Any) -> float | str:
    """A number stays one; anything else is a name."""
    return _figure(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)[:200]
