"""Benchmarks made of cells: a cell is one run of `mnerkit fit`, and what it found is one row of a file.

A row is on disk as soon as its cell is finished, and the cell is skipped from then on, until its digest changes: that
of its configuration, the data, the weights and the behaviour numbers of what it uses. A cell that fails does not stop
the others. Stop a benchmark when you like; the same command goes on.

A raised behaviour number that changes only some figures need not cost all cells again: `recheck` runs some of them,
drawn at random, and where those of a system find what they found before, its other rows stand for today's code, too.
Such a row keeps the digest that it was measured with as `measured`.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import multiprocessing
import random
import shutil
import time
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from bench_quality import minilm

from mnerkit.atomic_files import write_lines
from mnerkit.cli.method_verbs import configuration_of
from mnerkit.reproduce.executors.tasks import complaint
from mnerkit.runs.identity import digest_of
from mnerkit.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from typing_extensions import Self

Row = dict[str, Any]
RECHECK = "rows are out of date: run N cells again, drawn at random, and take over rows of systems that find the same"


@dataclass(frozen=True)
class Cell:
    """One run: a system with one seed. Its fields are the first ones of its row, and tell it from the others.

    Attributes:
        system: name of the row that it is part of.
    """

    system: str

    @property
    def name(self) -> str:
        """Plain name of its run folder."""
        raise NotImplementedError

    @classmethod
    def of(cls, row: Row) -> Self:
        """The cell that a row belongs to."""
        return cls(**{field.name: row[field.name] for field in fields(cls)})


AnyCell = TypeVar("AnyCell", bound=Cell)


@dataclass(frozen=True)
class Bench(ABC):
    """What all cells of a benchmark share.

    Attributes:
        corpus: name of the corpus.
        root: folder of the corpora and captions.
        runs: folder of the runs.
    """

    corpus: str
    root: str
    runs: str

    cell: ClassVar[type[Cell]]

    @abstractmethod
    def plugin(self, cell: Any) -> str:
        """The plugin that a cell runs."""

    @abstractmethod
    def argv(self, cell: Any) -> list[str]:
        """The command of a cell, from `fit` on."""

    @abstractmethod
    def figures(self, folder: RunFolder) -> Row:
        """What the row of a finished run holds beside the cell, its digest and its times."""

    def text(self, cell: Any) -> str:
        """Folder of the text tower."""
        return str(minilm())

    def tower(self, cell: Any) -> str:
        """What tells the text tower from others: a folder, whose files are digested, or a name."""
        return self.text(cell)

    def folder(self, cell: Any) -> RunFolder:
        """Where the run of a cell lies."""
        return RunFolder(Path(self.runs) / self.plugin(cell) / self.corpus / cell.name)

    def config(self, cell: Any) -> dict[str, Any]:
        """The configuration of a cell, as `mnerkit fit` would have it.

        Raises:
            UsageError: the command of the cell is none of mnerkit's.
        """
        return configuration_of(self.argv(cell)).content

    def digest(self, cell: Any) -> str:
        """Digest of all that decides a cell's figures: configuration, data, behaviour; not where things lie."""
        config = self.config(cell)
        config["model"]["text"] = self.tower(cell)
        return digest_of(config)


def pairs(options: dict[str, str]) -> list[str]:
    """Options and their values as words of a command."""
    return [word for pair in options.items() for word in pair]


def compressed(text: str) -> str:
    """A text as a short printable one, for a row."""
    return base64.b85encode(zlib.compress(text.encode(), 9)).decode()


def expanded(text: str) -> str:
    """The text that was `compressed`."""
    return zlib.decompress(base64.b85decode(text)).decode()


def packed(counts: Iterable[Sequence[int]]) -> str:
    """Gold, predicted and correct entities of each post or episode, in a short text (see `unpacked`)."""
    text = " ".join(",".join(map(str, each)) for each in counts)
    return compressed(text)


def unpacked(counts: str) -> list[list[int]]:
    """Gold, predicted and correct entities of each post or episode."""
    return [[int(number) for number in each.split(",")] for each in expanded(counts).split()]


def side_by_side(what: str, a: str, b: str) -> list[list[int]]:
    """Gold entities, then predicted and correct ones of a and of b, for each post or episode that both were asked.

    Args:
        what: the two, for the message when they were not asked alike.
        a: counts, packed.
        b: counts, packed.
    """
    rows, others = unpacked(a), unpacked(b)
    if [each[0] for each in rows] != [each[0] for each in others]:
        raise SystemExit(f"{what} were asked different things")
    return [[*one, *other[1:]] for one, other in zip(rows, others, strict=True)]


def over_seeds(what: str, seeds: Sequence[list[list[int]]]) -> list[list[int]]:
    """Sum of `side_by_side` over seeds, post by post: one that is asked with three seeds is no three posts.

    Args:
        what: these are of, for the message when the seeds were not asked alike.
        seeds: rows of each seed.
    """
    if len({tuple(row[0] for row in rows) for rows in seeds}) > 1:
        raise SystemExit(f"the seeds of {what} were asked different things")
    return [[sum(column) for column in zip(*posts, strict=True)] for posts in zip(*seeds, strict=True)]


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, none where there is no file."""
    if path.is_file():
        yield from (json.loads(line) for line in path.read_text("utf-8").split("\n") if line)


def left(wanted: Sequence[AnyCell], path: Path) -> list[AnyCell]:
    """The cells that have no row in a file yet."""
    rows = read_rows(path)
    there = {wanted[0].of(row) for row in rows} if wanted else set()
    return [cell for cell in wanted if cell not in there]


def run(task: tuple[Bench, Cell, str]) -> Row:
    """Run a cell in this process; its row, or its error."""
    bench, cell, digest = task
    from mnerkit.cli import main as mnerkit

    started, used, said = time.time(), time.process_time(), io.StringIO()
    folder = bench.folder(cell)
    if folder.path.is_dir():  # of an older behaviour, or cut off
        shutil.rmtree(folder.path)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = mnerkit(bench.argv(cell))
        found: Row = {"error": complaint(said.getvalue()) or f"exit code {code}"} if code else bench.figures(folder)
    except Exception as problem:  # a fault of the program, or of the machine, stops this cell alone
        found = {"error": " ".join(f"{type(problem).__name__}: {problem}".split())}
    times = {"seconds": round(time.time() - started, 1), "seconds_cpu": round(time.process_time() - used, 1)}
    if "error" not in found:
        for each in (folder.best, folder.last):  # the figures and predictions are kept
            each.unlink(missing_ok=True)
    return {**asdict(cell), "digest": digest, **times, **found}


def sweep(bench: Bench, wanted: Sequence[Any], path: Path, jobs: int) -> dict[Any, Row]:
    """Run the cells that are not done yet; every finished one is on disk at once.

    Args:
        bench: what the cells share.
        wanted: the cells, in the order in which they are run.
        path: file of the rows.
        jobs: cells at once.

    Returns:
        The rows of the wanted cells that are done.
    """
    known = {bench.cell.of(row): row for row in read_rows(path)}
    digests = {cell: bench.digest(cell) for cell in wanted}
    done = {cell: known[cell] for cell in wanted if cell in known and known[cell]["digest"] == digests[cell]}
    left = [(bench, cell, digests[cell]) for cell in wanted if cell not in done]
    print(f"{len(wanted)} cells, {len(done)} done before, {len(left)} to run in {jobs} processes", flush=True)
    if not left:
        return done
    started, failed = time.time(), 0
    # a process each: importing takes seconds, and a cell not much longer
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(left))) as pool:
        for number, row in enumerate(pool.imap_unordered(run, left), start=1):
            cell = bench.cell.of(row)
            said = row.get("error") or f"test F1 {row['test']['f1']:5.1f}"
            rest = (time.time() - started) / number * (len(left) - number)
            print(
                f"{number}/{len(left)} {cell.name}: {said} ({row['seconds']:.0f} s; {rest / 60:.0f} min left)",
                flush=True,
            )
            if "error" in row:
                failed += 1
                continue
            done[cell] = known[cell] = row
            write_lines(path, known.values())
    if failed:
        print(f"{failed} cells failed; the same command tries them again")
    return done


def recheck(bench: Bench, path: Path, number: int, jobs: int) -> dict[Any, Row]:
    """Run some stale cells again; rows of a system whose cells find what they found before are taken for current.

    Args:
        bench: what the cells share.
        path: file of the rows.
        number: cells to run, at most; drawn at random, of as many systems as there are.
        jobs: cells at once.

    Returns:
        All rows of the file.
    """
    rows = {bench.cell.of(row): row for row in read_rows(path)}
    digests = {cell: bench.digest(cell) for cell in rows}
    stale = [cell for cell, row in rows.items() if row["digest"] != digests[cell]]
    random.shuffle(stale)
    turns = Counter[str]()
    order = []
    for cell in stale:
        turns[cell.system] += 1
        order.append((turns[cell.system], cell))
    drawn = [cell for _, cell in sorted(order, key=lambda each: each[0])][:number]
    print(
        f"{len(stale)} of {len(rows)} rows are of other behaviour, settings or data; {len(drawn)} cells run again",
        flush=True,
    )
    if not drawn:
        return rows
    same: dict[str, bool] = {}
    with multiprocessing.get_context("spawn").Pool(min(jobs, len(drawn))) as pool:
        for row in pool.imap_unordered(run, [(bench, cell, digests[cell]) for cell in drawn]):
            cell = bench.cell.of(row)
            alike = _figures(row) == _figures(rows[cell])
            print(f"{cell.name}: {row.get('error') or ('the same' if alike else 'other figures')}", flush=True)
            same[cell.system] = same.get(cell.system, True) and alike
    taken = [cell for cell in stale if same.get(cell.system)]
    for cell in taken:
        before = rows[cell].get("measured", rows[cell]["digest"])
        rows[cell] = {**rows[cell], "digest": digests[cell], "measured": before}
    write_lines(path, rows.values())
    print(f"{len(taken)} rows are taken for those of today's code; {len(stale) - len(taken)} stay as they are")
    return rows


def _figures(row: Row) -> Row:
    """What a row found, without what tells when and how fast."""
    return {key: value for key, value in row.items() if key not in ("digest", "measured") and "seconds" not in key}


def kept(bench: Bench, path: Path) -> dict[Any, Row]:
    """The rows of a file; says how many of them were measured before something changed that decides figures."""
    done = {bench.cell.of(row): row for row in read_rows(path)}
    stale = sum(row["digest"] != bench.digest(cell) for cell, row in done.items())
    if stale:
        print(f"{stale} of {len(done)} rows were measured before behaviour, settings or data changed")
    return done
