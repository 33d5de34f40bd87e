"""The figures that a paper prints: CSV files beside the experiments, and what is known to be wrong in them."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mnerkit.errors import DataError, did_you_mean

# beside the folders of the papers: paper, location, as_printed, likely_correct, basis
ERRATA = "errata.csv"


@dataclass(frozen=True)
class Figure:
    """One printed figure.

    Attributes:
        value: on the scale of ours, 0 to 100; None where the paper leaves the place empty.
        raw: as it is printed.
        erratum: what is known to be wrong with it, and what it should be.
        corrected: what it should be, on the scale of ours, where that is known.
    """

    value: float | None
    raw: str | None
    erratum: str | None = None
    corrected: float | None = None


@dataclass(frozen=True)
class Erratum:
    """What is wrong with a printed figure, in a line, and what it should be where that is known."""

    text: str
    corrected: float | None = None

    def __add__(self, other: Erratum) -> Erratum:
        """What is wrong with a figure that two places of the errata are about; the first that corrects it does."""
        corrected = self.corrected if self.corrected is not None else other.corrected
        return Erratum(f"{self.text}; also {other.text}", corrected)


class Printed:
    """A CSV file of figures."""

    def __init__(self, path: Path, row_key: str, scale: float = 1.0) -> None:
        """Read it.

        Args:
            path: the file.
            row_key: the column that names the rows.
            scale: what printed figures are multiplied with.

        Raises:
            DataError: it is missing, or has no such column.
        """
        self.path, self.row_key, self.scale = path, row_key, scale
        self.rows = _rows(path)
        self._known(row_key)

    def _known(self, column: str) -> None:
        columns = list(self.rows[0]) if self.rows else []
        if column not in columns:
            raise DataError(f"{self.path}: no column {column!r}.{did_you_mean(column, columns)}")

    def figure(self, row: str, where: Mapping[str, str], column: str) -> Figure:
        """The figure of a row in a column.

        Args:
            row: what the row is called.
            where: what else must stand in its line, by column.
            column: the column of the figure.

        Raises:
            DataError: no line, or several, are meant; or there is no such column, or no number in it.
        """
        for each in (column, *where):
            self._known(each)
        names = {line[self.row_key] for line in self.rows}
        if row not in names:
            raise DataError(f"{self.path}: no {self.row_key} {row!r}.{did_you_mean(row, names)}")
        lines = [
            line
            for line in self.rows
            if line[self.row_key] == row and all(line[key] == value for key, value in where.items())
        ]
        if len(lines) != 1:
            said = ", ".join(f"{key} {value}" for key, value in where.items())
            raise DataError(f"{self.path}: {len(lines)} lines of {row!r} with {said or 'nothing else asked'}")
        raw = lines[0][column].strip()
        if not raw:
            return Figure(None, None)
        try:
            # a share of four digits stays one of four digits
            return Figure(round(float(raw) * self.scale, 6), raw)
        except ValueError:
            raise DataError(f"{self.path}: {column} of {row!r} is no number: {raw!r}") from None


def erratum(folder: Path, paper: str, location: str, corrected: float | None, where: str) -> Erratum:
    """What `errata.csv` says of a place in a paper.

    Args:
        folder: that of all experiments.
        paper: its name there.
        location: the place.
        corrected: which of its likely figures belongs to the cell that is asked for.
        where: who asks, for the message.

    Raises:
        DataError: it says nothing of the place, or has no such figure.
    """
    path = folder / ERRATA
    lines = {line["location"]: line for line in _rows(path) if line["paper"] == paper}
    if location not in lines:
        raise DataError(f"{where}: {path} has no {location!r} of {paper}.{did_you_mean(location, lines)}")
    line = lines[location]
    likely = line["likely_correct"]
    if corrected is not None and corrected not in map(float, re.findall(r"\d+(?:\.\d+)?", likely)):
        raise DataError(f"{where}: corrected {corrected} is not what {path} calls likely: {likely}")
    return Erratum(f"printed {line['as_printed']}, likely {likely}: {line['basis']}", corrected)


@cache
def _rows(path: Path) -> tuple[dict[str, str], ...]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return tuple({key: value or "" for key, value in line.items() if key} for line in csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
