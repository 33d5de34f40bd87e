"""A report's folder: tables in three formats, the page, and `report.json`, which says that the folder is a report's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mnerkit.atomic_files import write_json, write_text
from mnerkit.errors import DataError, UsageError
from mnerkit.release import RELEASE
from mnerkit.report import folders
from mnerkit.report.figures.gallery import kinds_of
from mnerkit.report.folders import mapping, sequence
from mnerkit.report.page.page import page
from mnerkit.report.posts import browser
from mnerkit.report.posts.answers import Library
from mnerkit.report.tables import formats
from mnerkit.report.tables.run_tables import TESTED, ablations, of_runs
from mnerkit.report.tables.table_file import Table, read_table
from mnerkit.report.tables.tables import Filled, Shelf, fill
from mnerkit.strict_json import read_json

MARKER = "report.json"
PAGE = "index.html"


@dataclass
class Written:
    """What a report holds.

    Attributes:
        out: its folder.
        files: what was written, relative to it.
        problems: what was wrong with runs and tables, a line each; the rest is there.
        tables: the tables with their figures.
    """

    out: Path
    files: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    tables: list[Filled] = field(default_factory=list)


def write_report(
    out: Path,
    tables: Sequence[Path],
    runs: Sequence[Path],
    title: str = "mnerkit report",
    root: Path | None = None,
    posts: int = 4000,
    picture_bytes: int = browser.PICTURE_BYTES,
    draws_seeds: bool = False,
) -> Written:
    """Write a report; see `mnerkit.report.write`.

    Args:
        out: its folder.
        tables: table files.
        runs: run folders.
        title: of the page.
        root: folder of the corpora, for the pictures; that of each run's configuration where None.
        posts: at most so many posts of each set (corpus, split, episodes) in the error browser.
        picture_bytes: at most so many bytes of pictures in the page.
        draws_seeds: whether tests draw seeds as well as posts: they hold for the methods, not for the runs at hand.
    """
    check_folder(out)
    shelf, library, done = Shelf(runs), Library(draws_seeds), Written(out)
    done.tables = [fill(table, shelf, library) for table in _tables(tables, done.problems)]
    board = _board(shelf, library, done.tables)
    if board is not None:
        done.tables.append(board)
    records = list(shelf.records.values())
    without_parts = [fill(table, shelf, library) for table in ablations(records)]
    done.problems += shelf.problems
    if not done.tables and not any(map(kinds_of, records)):
        raise DataError("\n".join(["nothing to report.", *done.problems[:5]]))
    texts: dict[str, str] = {}
    for filled in [*done.tables, *without_parts]:
        for suffix, text_of in formats.FORMATS.items():
            name = f"tables/{filled.table.experiment}.{suffix}"
            if name in texts:
                raise DataError(f"two tables would be written to {name}")
            texts[name] = text_of(filled)
    sets = browser.sets(records, library, root, posts, done.problems)
    texts[PAGE] = page(
        title, records, library, done.problems, done.tables, without_parts, sets, root, picture_bytes, board
    )
    done.files = list(texts)
    before = _files_of_report(out)
    # first, so that a folder that a kill leaves half written is recognised as a report's
    _mark(out, before)
    for name, text in texts.items():
        write_text(out / name, text)
    for name in before - texts.keys():
        (out / name).unlink(missing_ok=True)
    _mark(out, done.files)
    return done


def _board(shelf: Shelf, library: Library, tables: Sequence[Filled]) -> Filled | None:
    """All runs in one table, but for those that only tables of a smoke test name; None where there are none."""
    named: dict[bool, set[Path]] = {True: set(), False: set()}
    for filled in tables:
        named[filled.table.smoke] |= {
            record.path.resolve() for figure in filled.figures.values() for record in figure.records
        }
    smoke = named[True] - named[False]
    made = of_runs([record for path, record in shelf.records.items() if path not in smoke])
    if made is None:
        return None
    filled = fill(made.table, shelf, library, TESTED)
    filled.about, filled.facts = made.about, made.facts
    return filled


def _tables(paths: Sequence[Path], problems: list[str]) -> list[Table]:
    """The tables that can be read; of two tables with one name, the first."""
    tables: dict[str, tuple[Table, Path]] = {}
    for path in paths:
        try:
            table = read_table(path)
            if table.experiment in tables:
                first = tables[table.experiment][1]
                raise DataError(f"{path}: a second table {table.experiment}, besides {first}")
            tables[table.experiment] = table, path
        except DataError as problem:
            problems.append(str(problem))
    return [table for table, _ in tables.values()]


def figure_page(kind: str, runs: Sequence[Path], split: str, root: Path | None = None) -> tuple[str, list[str]]:
    """A page of the figures that runs have of their own, and what was wrong.

    Args:
        kind: what each must have (`figures.KINDS`).
        runs: their folders.
        split: of which it must be.
        root: folder of the corpora; that of each run's configuration where None.

    Raises:
        DataError: a run is damaged, or has no such figure.
    """
    records = [folders.read(run) for run in runs]
    for record in records:
        if (kind, split) not in kinds_of(record):
            raise DataError(f"run {record.path} of plugin {record.plugin} has no figure {kind} of {split}")
    problems: list[str] = []
    return page(f"mnerkit draw {kind}", records, Library(), problems, root=root, first=(kind, split)), problems


def _mark(out: Path, files: Iterable[str]) -> None:
    """Mark the folder as a report's, with the names of its files."""
    write_json(out / MARKER, {"format": "mnerkit-report", "mnerkit": RELEASE, "files": sorted(files)})


def _files_of_report(out: Path) -> set[str]:
    """Files of the report that lies in a folder."""
    try:
        files = sequence(mapping(read_json(out / MARKER)).get("files"))
    except DataError:
        return set()
    names = {name for name in files if isinstance(name, str) and (name == PAGE or name.startswith("tables/"))}
    return {name for name in names if ".." not in name and "\\" not in name}


def check_folder(out: Path, overwrite: bool = True) -> None:
    """Refuse a folder whose files are not a report's, or are a report's that may not be replaced.

    Raises:
        UsageError: with the way out.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; --out names a folder")
    if (out / MARKER).is_file():
        if not overwrite:
            raise UsageError(f"{out} holds a report.\nGive --overwrite to replace it, or another --out.")
        return
    taken = [name for name in (PAGE, "tables", MARKER) if (out / name).exists()]
    if taken:
        raise UsageError(f"{out / taken[0]} is there and is no report's; give another --out")
