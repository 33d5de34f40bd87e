"""The figures that a paper prints: CSV files in the folders of the experiments, and their errata."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from pydantic import model_validator

from mnerkit.errors import DataError, did_you_mean
from mnerkit.strict_json import number
from mnerkit.validation import Content, Text
from mnerkit.validation import Figure as Number

ERRATA = "errata.csv"  # in the folder of all experiments
COLUMNS = ("paper", "location", "as_printed", "likely_correct", "basis")
# folder -> what `errata.csv` calls the paper
PAPERS = {"mousing": "MOUSING", "mgips_cl": "MGIPS-CL", "gmf": "GMF", "gei": "GEI", "gifr": "GIFR"}


@dataclass(frozen=True)
class Figure:
    """One printed figure.

    Attributes:
        value: on the scale of ours, 0 to 100; None where the paper leaves the place empty.
        raw: as it is printed.
        erratum: what is wrong with it, and what it should be, where that is known.
        corrected: what it should be, on the scale of ours, where that is known.
    """

    value: float | None = None
    raw: str | None = None
    erratum: str | None = None
    corrected: float | None = None


class Printed(Content):
    """A CSV file of printed figures.

    Attributes:
        file: its name, in the folder of the experiment.
        row: the column that names the rows.
        scale: what printed figures are multiplied with.
    """

    file: Text
    row: Text
    scale: Number = 1

    @model_validator(mode="after")
    def _check(self) -> Printed:
        self._check_column(self.row)
        return self

    @property
    def path(self) -> Path:
        """The CSV file, in the folder of the experiment's file."""
        return self._context["file"].parent / self.file

    def _check_column(self, column: str) -> None:
        _check_columns(self.path, [column])

    def figure(self, row: str, where: Mapping[str, str], column: str) -> Figure:
        """The figure of a row in a column.

        Args:
            row: what the row is called.
            where: what else must stand in its line, by column.
            column: the column of the figure.

        Raises:
            DataError: no line, or several, are meant; or there is no such column, or no number in it.
        """
        for name in (column, *where):
            self._check_column(name)
        rows = [line for line in _lines(self.path) if line[self.row] == row]
        if not rows:
            near = did_you_mean(row, {line[self.row] for line in _lines(self.path)})
            raise DataError(f"{self.path}: no {self.row} {row!r}.{near}")
        lines = [line for line in rows if all(line[key] == value for key, value in where.items())]
        if len(lines) != 1:
            wanted = ", ".join(f"{key} {value}" for key, value in where.items())
            raise DataError(f"{self.path}: {len(lines)} lines of {row!r} with {wanted or 'nothing else given'}")
        raw = lines[0][column].strip()
        if not raw:
            return Figure()
        try:
            # a share of four digits stays one of four digits
            return Figure(round(number(raw) * self.scale, 6), raw)
        except ValueError:
            raise DataError(f"{self.path}: {column} of {row!r} is no number: {raw!r}") from None


class Erratum(Content):
    """What is wrong with printed figures: a line of `errata.csv`, and where it belongs in a table.

    Attributes:
        row: the row of the table.
        column: the column; None: the whole row.
        location: names the line of `errata.csv`.
        corrected: what the figure should be, one of those that the line calls likely.
    """

    row: Text
    column: Text | None = None
    location: Text
    corrected: Number | None = None

    @model_validator(mode="after")
    def _check(self) -> Erratum:
        if self.corrected is not None and self.column is None:
            raise ValueError("a corrected figure belongs to a column")
        likely = self._line["likely_correct"]
        if self.corrected is not None and self.corrected not in map(float, re.findall(r"\d+(?:\.\d+)?", likely)):
            raise ValueError(f"corrected {self.corrected:g} is not what {ERRATA} calls likely: {likely}")
        return self

    @cached_property
    def _line(self) -> Mapping[str, str]:
        """Its line of the errata of all experiments."""
        path, folder = self._context["folder"] / ERRATA, self._context["file"].parent.name
        paper = PAPERS.get(folder, folder)
        _check_columns(path, COLUMNS)
        lines = {line["location"]: line for line in _lines(path) if line["paper"] == paper}
        if self.location not in lines:
            near = did_you_mean(self.location, lines)
            raise ValueError(f"{path} has no {self.location!r} of {paper}.{near}")
        return lines[self.location]

    @property
    def text(self) -> str:
        """What is wrong, in a line."""
        line = self._line
        return f"printed {line['as_printed']}, likely {line['likely_correct']}: {line['basis']}"


def _check_columns(path: Path, names: Sequence[str]) -> None:
    """Refuse a CSV file that lacks a column."""
    columns = [name for line in _lines(path)[:1] for name in line]
    for name in names:
        if name not in columns:
            raise DataError(f"{path}: no column {name[:80]!r}.{did_you_mean(name, columns)}")


@cache
def _lines(path: Path) -> tuple[dict[str, str], ...]:
    """The lines of a CSV file, by column."""
    try:
        with path.open(encoding="utf-8", newline="\n") as stream:
            reader = csv.reader(stream, strict=True)
            head, lines = next(reader, []), []
            if len(set(head)) < len(head):
                raise DataError(f"{path}:1: two columns have one name")
            for cells in filter(None, reader):
                if len(cells) != len(head):
                    raise DataError(f"{path}:{reader.line_num}: {len(cells)} cells below {len(head)} names of columns")
                lines.append(dict(zip(head, cells, strict=True)))
            return tuple(lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
