"""Finished runs in one file, small enough to be committed: what it holds is not run again (`--keep FILE`).

Format `mnerkit-kept`, JSON lines: what runs were asked (`asked`), then a line a run: its digest, configuration,
environment, scores, curve, and what it said of the test posts. Words of posts, weights and paths are left out, so a run
folder that is restored from here serves tables, tests and the report, and nothing that asks its checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError, MnerkitError
from mnerkit.plain_yaml import yaml_text
from mnerkit.report import folders
from mnerkit.report.browser import corpus_posts
from mnerkit.reproduce.answers_kept import Row, joined, name_of, parted
from mnerkit.reproduce.cells import Grid, Run
from mnerkit.reproduce.executors import Executor, Outcome, Task
from mnerkit.reproduce.sweep import complete
from mnerkit.runs import RunFolder, write_json, write_lines, write_text

FORMAT, VERSION = "mnerkit-kept", 1
SPLIT = "test"  # whose predictions tables and report read
PREDICTIONS, CURVE = f"predictions.{SPLIT}.jsonl", "curve/metrics.csv"


@dataclass
class Kept:
    """The file, and what is needed to fill run folders from it.

    Attributes:
        path: the file.
        places: what stands for a path in it -> the path here, for instance `<root>` -> the folder of the corpora.
        rows: digest -> a run's line.
        asked: name -> what runs were asked, packed.
    """

    path: Path
    places: Mapping[str, str]
    rows: dict[str, Row] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    _words: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    _left: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, path: Path, places: Mapping[str, str]) -> Kept:
        """The file as it is; empty where there is none.

        Raises:
            DataError: it is damaged, of another version, or no such file, in one line.
        """
        kept = cls(path, places)
        if not path.exists():
            return kept
        try:
            lines = [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: {str(error).splitlines()[0]}") from None
        head = lines[0] if lines else None
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise DataError(f"{path} is no file of kept runs (format {FORMAT!r}); give another --keep")
        if head.get("version") != VERSION:
            raise DataError(f"{path} is of version {head.get('version')!r}; this mnerkit reads version {VERSION}")
        for number, line in enumerate(lines[1:], 2):
            if not isinstance(line, dict) or not ({"asked", "as"} <= line.keys() or {"digest", "run"} <= line.keys()):
                raise DataError(f"{path}:{number}: no line of a kept run")
            if "digest" in line:
                kept.rows[line["digest"]] = line
            else:
                kept.asked[line["as"]] = line["asked"]
        return kept

    def write(self) -> None:
        """Write the file, whole or not at all; what another sweep has put there in the meantime stays.

        Runs stand in the order of what they are, so that changes are read easily.
        """
        others = Kept.read(self.path, self.places)
        self.rows |= {key: row for key, row in others.rows.items() if key not in self.rows and key not in self._left}
        self.asked |= others.asked
        used = {row.get("asked") for row in self.rows.values()}
        asked = [{"as": name, "asked": text} for name, text in sorted(self.asked.items()) if name in used]
        rows = sorted(self.rows.values(), key=lambda row: (row["run"], row["digest"]))
        write_lines(self.path, [{"format": FORMAT, "version": VERSION}, *asked, *rows])

    def add(self, run: Run, folder: RunFolder) -> None:
        """Take a finished run in; one that was the same before the sources or data changed makes room."""
        record = folders.read(folder.path)
        here = {"config": record.config, "env": record.env, "metrics": record.metrics}
        row: Row = {"run": _named(run), "digest": run.digest, **self._moved(here, back=False)}
        curve = folder.path / CURVE
        if curve.is_file():
            row["curve"] = curve.read_bytes().decode()  # with its own ends of lines
        file = folder.path / PREDICTIONS
        if file.is_file():
            try:
                text = file.read_bytes().decode()
                asked, said = parted(json.loads(line) for line in text.split("\n") if line)
                # kept where they come back byte by byte, and else not at all
                if _text(joined(asked, said, self._words_of(record))) == text:
                    self.asked[name_of(asked)] = asked
                    row |= {"asked": name_of(asked), "said": said}
            except (ValueError, KeyError, TypeError, MnerkitError):
                pass
        before = {digest for digest, each in self.rows.items() if _same(each, row)}
        self._left |= before
        self.rows = {digest: each for digest, each in self.rows.items() if digest not in before}
        self.rows[run.digest] = row

    def restore(self, run: Run, folder: RunFolder) -> None:
        """Write the folder of a run that is kept; its scores come last.

        Raises:
            DataError: its line is damaged.
        """
        row = self.rows[run.digest]
        try:
            content = self._moved({name: row[name] for name in ("config", "env", "metrics")}, back=True)
            with folder.writing():
                folder.clear()
                write_text(folder.config_file, yaml_text(content["config"]))
                write_json(folder.path / "env.json", content["env"])
                if "curve" in row:
                    write_text(folder.path / CURVE, row["curve"])
                if "said" in row:
                    record = folders.Record(folder.path, content["config"], content["metrics"], content["env"])
                    lines = joined(self.asked[row["asked"]], row["said"], self._words_of(record))
                    write_text(folder.path / PREDICTIONS, _text(lines))
                write_json(folder.metrics_file, content["metrics"])
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise DataError(f"{self.path}: the line of run {run.digest} is damaged: {error!r}"[:300]) from None

    def _words_of(self, record: folders.Record) -> dict[str, tuple[str, ...]]:
        """Words of the posts of a run's corpus, by id."""
        if record.corpus not in self._words:
            posts = corpus_posts(record, SPLIT, None)
            self._words[record.corpus] = {name: tuple(post.words) for name, post in posts.items()}
        return self._words[record.corpus]

    def _moved(self, content: Any, back: bool) -> Any:
        """Plain data with paths in place of what stands for them (`back`), or the other way round."""
        if isinstance(content, Mapping):
            return {key: self._moved(each, back) for key, each in content.items()}
        if isinstance(content, list | tuple):
            return [self._moved(each, back) for each in content]
        if isinstance(content, str):
            for name, place in self.places.items():
                old, new = (name, place) if back else (place, name)
                if content == old or content.startswith(f"{old}/"):
                    return new + content[len(old) :]
        return content


def _named(run: Run) -> str:
    return f"{run.plugin} {run.corpus} s{run.seed}"


def _same(one: Row, other: Row) -> bool:
    """Whether two lines are of one configuration."""
    return all(one.get(key) == other.get(key) for key in ("run", "config"))


def _text(lines: Sequence[Row]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def exchange(kept: Kept, grid: Grid, wanted: Sequence[Run], runs: Path) -> int:
    """Restore wanted runs that are kept and not there, and take those in that are there and not kept.

    Returns:
        How many were restored.
    """
    restored, found = 0, False
    for run in wanted:
        if complete(run, runs):
            if run.digest not in kept.rows and _may_stay(run, grid):
                kept.add(run, run.folder(runs))
                found = True
        elif run.digest in kept.rows:
            kept.restore(run, run.folder(runs))
            restored += 1
    if found:
        kept.write()
    return restored


def _may_stay(run: Run, grid: Grid) -> bool:
    """Whether nobody reads another file of a run's folder."""
    return all(each.first is None or each.first[0] != run.digest for each in grid.runs.values())


class Keeping:
    """An executor whose finished runs are kept."""

    def __init__(self, inner: Executor, kept: Kept, grid: Grid, runs: Path) -> None:
        self.inner, self.kept, self.grid, self.runs = inner, kept, grid, runs
        self.jobs = inner.jobs

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do the tasks; a run that came to its end is on file before its outcome is told."""
        for outcome in self.inner.run(tasks):
            run = self.grid.runs.get(outcome.name)
            if run is not None and outcome.error is None and complete(run, self.runs) and _may_stay(run, self.grid):
                self.kept.add(run, run.folder(self.runs))
                self.kept.write()
            yield outcome
