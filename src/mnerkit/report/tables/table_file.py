"""`table.json`: rows, columns and printed figures of a table, and the runs that fill its cells; read strictly."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from mnerkit.strict_json import read_format
from mnerkit.validation import MOST_LETTERS, Content, Figure, ListOf, Place, RowOf, Text, validated

FORMAT, VERSION = "mnerkit-table", 1
MAX_SIDE = 500  # rows or columns of a table
FRACTIONS = ("mean_r", "auc")  # scores from 0 to 1; all others are percentages
NAME = re.compile(r"(?!\.)[\w.-]{1,80}(/(?!\.)[\w.-]{1,80}){0,3}", re.ASCII)


def _plain_name(name: str) -> str:
    """`paper/table`, which names the files that are written."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name[:80]!r} is no name: letters, digits, '-', '_' and '.', with at most three '/' between")
    return name


def _run_folder(run: object, info: ValidationInfo) -> object:
    """The folder of a run; a file names it relative to itself, and so that it works on other machines."""
    if isinstance(run, str):
        unsafe = run.startswith(("/", "~")) or "\\" in run or PurePosixPath(run).is_absolute()
        if not run or len(run) > MOST_LETTERS or unsafe:
            raise ValueError(f"run {run[:80]!r} is not a path relative to the table file")
        return Path((info.context or {})["folder"]) / run
    return run


def _option_value(value: object) -> object:
    """A number as it is; anything else as a name."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)[:200]


class Row(Content):
    """A row: a method, or the reason why it is only printed."""

    name: Text
    plugin: Text | None = None
    ablation: Text | None = None
    printed_only: Text | None = None


class Column(Content):
    """A column: what was measured."""

    name: Text
    corpus: Text | None = None
    split: Text = "test"
    metric: Text = "f1"


class Cell(Content):
    """A figure of the table; figures are percentages, those of `FRACTIONS` apart.

    Attributes:
        row: place of its row.
        column: place of its column.
        printed: the paper's figure, or None.
        printed_raw: the same, spelt as in the paper.
        erratum: what is wrong with the printed figure; in the file also `{"text": ..., "corrected": figure}`.
        corrected: what it should have been, where that is known.
        runs: run folders, one a seed.
        metric: name of the score.
        value: our figure where no run gives it.
        of: the cells that it is the mean of.
        state: whether its runs are done.
        why: reason of a failure, or of the cell's being printed only.
        differs: reasons why ours and the printed figure can't be compared.
    """

    row: Place
    column: Place
    printed: Figure | None = None
    printed_raw: Text | None = None
    erratum: Text | None = None
    corrected: Figure | None = None
    runs: ListOf[Annotated[Path, BeforeValidator(_run_folder)]] = ()
    metric: Text = "f1"
    value: Figure | None = None
    of: ListOf[RowOf[tuple[Place, Place]]] = ()
    state: Literal["done", "missing", "failed", "printed_only"]
    why: Text | None = None
    differs: ListOf[Text] = ()

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        content = {key: value for key, value in content.items() if (key, value) != ("of", None)}
        erratum = content.get("erratum")
        if isinstance(erratum, dict) and erratum.keys() <= {"text", "corrected"}:
            content |= {"erratum": erratum.get("text", ""), "corrected": erratum.get("corrected")}
        return content

    @property
    def printed_text(self) -> str:
        """The paper's figure, spelt as in the paper if that is in the unit of ours; empty without one."""
        if self.printed is None:
            return self.printed_raw or ""
        try:
            as_printed = self.printed_raw is not None and float(self.printed_raw) == self.printed
        except ValueError:
            as_printed = False
        return str(self.printed_raw) if as_printed else f"{self.printed:.2f}"


class Sweep(Content):
    """The option that a sweep varies, and its values in order."""

    option: Text
    values: ListOf[Annotated[Figure | Text, BeforeValidator(_option_value)]]


class Table(Content):
    """A table or figure of a paper, to be filled.

    `smoke` says that its runs only prove that the experiment runs: its figures are neither ranked nor tested.
    """

    experiment: Annotated[Text, AfterValidator(_plain_name)]
    title: Text
    rows: ListOf[Row] = Field(min_length=1, max_length=MAX_SIDE)
    columns: ListOf[Column] = Field(min_length=1, max_length=MAX_SIDE)
    cells: ListOf[Cell]
    paper: Text = ""
    what: Literal["table", "sweep", "curve", "figure"] = "table"
    profile: Text = ""
    smoke: bool = False
    note: Text = ""
    x: Text | None = None
    sweep: Sweep | None = None
    baseline_row: Place | None = None
    draw: ListOf[Text] = ()

    @model_validator(mode="after")
    def _check_places(self) -> Table:
        places = Counter((cell.row, cell.column) for cell in self.cells)
        for (row, column), cells in places.items():
            if row >= len(self.rows) or column >= len(self.columns):
                raise ValueError(f"there is no row {row}, column {column} (places are counted from 0)")
            if cells > 1:
                raise ValueError(f"row {row}, column {column} has two cells")
        means = {(cell.row, cell.column) for cell in self.cells if cell.of}
        for cell in self.cells:
            for part in cell.of:
                if part not in places or part in means:
                    problem = "is a mean itself" if part in means else "does not exist"
                    raise ValueError(
                        f"row {cell.row}, column {cell.column} is the mean of {list(part)}, which {problem}"
                    )
        if self.baseline_row is not None and self.baseline_row >= len(self.rows):
            raise ValueError(f"baseline_row {self.baseline_row}: there are {len(self.rows)} rows, counted from 0")
        return self

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
    return validated(Table, read_format(path, "table file", FORMAT, VERSION), path, folder=path.parent)
