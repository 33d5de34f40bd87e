"""`table.json`: rows, columns and printed figures of a table, and the runs that fill its cells; read strictly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mnerkit.errors import DataError
from mnerkit.strict_json import Check, anything, figure, listed, maybe, place, read_json, read_keys, row_of, text, texts

FORMAT, VERSION = "mnerkit-table", 1
KINDS = ("table", "sweep", "curve", "figure")
STATES = ("done", "missing", "failed", "printed_only")
MAX_SIDE = 500  # rows or columns of a table
FRACTIONS = ("mean_r", "auc")  # scores from 0 to 1; all others are percentages


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
    """A figure of the table; figures are percentages, those of `FRACTIONS` apart.

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

    @property
    def printed_text(self) -> str:
        """The paper's figure: as it stands there, if that is in the unit of ours; empty without one."""
        if self.printed is None:
            return self.printed_raw or ""
        try:
            as_printed = self.printed_raw is not None and float(self.printed_raw) == self.printed
        except ValueError:
            as_printed = False
        return str(self.printed_raw) if as_printed else f"{self.printed:.2f}"


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

    @property
    def unit(self) -> str:
        """What its figures are."""
        fractions = [column.metric.rpartition("/")[2] in FRACTIONS for column in self.columns]
        if all(fractions):
            return "from 0 to 1"
        return "in percent, but R and AUC from 0 to 1" if any(fractions) else "in percent"


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
    keys: dict[str, Check] = {
        "format": anything,
        "version": anything,
        "experiment": _name,
        "paper": text,
        "title": text,
        "what": _kind,
    }
    keys |= {"profile": text, "note": text, "rows": listed, "columns": listed, "cells": listed, "x": maybe(text)}
    keys |= {"sweep": maybe(_sweep), "baseline_row": maybe(place), "draw": texts}
    read = read_keys(content, keys, "the table", ("experiment", "title", "rows", "columns", "cells"))
    rows = tuple(
        Row(
            **read_keys(
                each,
                {"name": text, "plugin": maybe(text), "ablation": maybe(text), "printed_only": maybe(text)},
                f"row {n}",
                ("name",),
            )
        )
        for n, each in enumerate(read.pop("rows"))
    )
    kinds = {"name": text, "corpus": maybe(text), "split": text, "metric": text}
    columns = tuple(
        Column(**read_keys(each, kinds, f"column {n}", ("name",))) for n, each in enumerate(read.pop("columns"))
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
    keys: dict[str, Check] = {"row": place, "column": place, "printed": maybe(figure)}
    keys |= {"printed_raw": maybe(text), "erratum": maybe(_erratum), "corrected": maybe(figure), "runs": texts}
    keys |= {"metric": text, "value": maybe(figure), "of": maybe(_places), "state": _state, "why": maybe(text)}
    read = read_keys(content, keys | {"differs": texts}, where, ("row", "column", "state"))
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
    for spot in ((cell.row, cell.column) for cell in cells):
        if spot[0] >= len(rows) or spot[1] >= len(columns):
            raise DataError(f"there is no row {spot[0]}, column {spot[1]} (places are counted from 0)")
        if spot in places:
            raise DataError(f"row {spot[0]}, column {spot[1]} has two cells")
        places.add(spot)
    means = {(cell.row, cell.column) for cell in cells if cell.of}
    for cell in cells:
        for spot in cell.of:
            if spot not in places or spot in means:
                how = "is a mean itself" if spot in means else "does not exist"
                raise DataError(f"row {cell.row}, column {cell.column} is the mean of {list(spot)}, which {how}")


# ------------------------------------------------------------------ values

_pair = row_of(place, place)


def _name(value: Any) -> str:
    """`paper/table`, which names the files that are written."""
    parts = text(value).split("/")
    if len(parts) > 4 or any(not each.replace("-", "").replace("_", "").replace(".", "").isalnum() for each in parts):
        raise ValueError("names of letters, digits, '-', '_' and '.', with '/' between")
    if any(each.startswith(".") or len(each) > 80 or not each.isascii() for each in parts):
        raise ValueError("short plain names with '/' between")
    return value


def _places(value: Any) -> tuple[tuple[int, int], ...]:
    return tuple((row, column) for row, column in map(_pair, listed(value)))


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
        return {"erratum": text(value.get("text", "")), "corrected": maybe(figure)(value.get("corrected"))}
    return text(value)


def _sweep(value: Any) -> Sweep:
    if not isinstance(value, dict) or value.keys() != {"option", "values"} or not isinstance(value["values"], list):
        raise ValueError("a mapping of option and values")
    values = tuple(_option_value(each) for each in value["values"])
    return Sweep(text(value["option"]), values)


def _option_value(value: Any) -> float | str:
    """A number stays one; anything else is a name."""
    return figure(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)[:200]
