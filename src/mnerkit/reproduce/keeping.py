"""Finished runs in a folder, small enough to be committed: what it holds is not run again (`--keep DIR`).

<plugin>-<corpus>-s<seed>-<digest>.json  format `mnerkit-kept`: configuration, environment, scores, curve, and the
                                         answers to the test posts (`said`)
asked/<name>.txt                         the questions: posts and episodes, once for all runs that had them

Words and gold entities of posts, weights and paths are left out, so a run folder that is restored from here serves
tables, tests and the report, and nothing that needs its checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_json, write_text
from mnerkit.data.corpus.post import Post
from mnerkit.errors import DataError, MnerkitError
from mnerkit.plain_yaml import yaml_text
from mnerkit.report import folders
from mnerkit.report.posts.browser import corpus_posts
from mnerkit.reproduce.answers_kept import Row, joined, name_of, parted
from mnerkit.reproduce.cells import Grid, Run
from mnerkit.reproduce.executors.executor import Executor, Outcome, Task
from mnerkit.reproduce.sweep import complete, done, foreign
from mnerkit.runs.run_folder import RunFolder
from mnerkit.strict_json import read_format

FORMAT, VERSION = "mnerkit-kept", 1
SPLIT = "test"  # whose predictions tables and report read
PREDICTIONS, CURVE = f"predictions.{SPLIT}.jsonl", "curve/metrics.csv"


@dataclass
class Kept:
    """The folder, and what is needed to fill run folders from it.

    Attributes:
        folder: the folder.
        places: what stands for a path in it -> the path here, for instance `<root>` -> the folder of the corpora.
        rows: digest -> what is kept of a run.
        files: digest -> its file.
    """

    folder: Path
    places: Mapping[str, str]
    rows: dict[str, Row] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    _posts: dict[str, dict[str, Post]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, places: Mapping[str, str]) -> Kept:
        """The folder as it is; empty where there is none.

        Raises:
            DataError: it is a file, or one of its files is damaged or of another version; in one line.
        """
        kept = cls(folder, places)
        if folder.exists() and not folder.is_dir():
            raise DataError(f"--keep {folder} is a file; give a folder")
        for path in sorted(folder.glob("*.json")):
            try:
                row = read_format(path, "kept run", FORMAT, VERSION)
            except DataError:
                if path.exists():
                    raise
                continue  # another sweep has just put a newer one in its place
            if not isinstance(row.get("digest"), str):
                raise DataError(f"{path} is damaged: it has no digest")
            kept.rows[row["digest"]] = {"format": FORMAT, "version": VERSION, **row}
            kept.files[row["digest"]] = path
        return kept

    def add(self, run: Run, folder: RunFolder) -> None:
        """Take a finished run in; one that was the same before a behaviour number was raised makes room.

        Those of other data or weights stay, also where these are called alike.
        """
        record = folders.read(folder.path)
        here = {"config": record.config, "env": record.env, "metrics": record.metrics}
        row: Row = {"format": FORMAT, "version": VERSION, "digest": run.digest, "reads": run.reads}
        row |= self.moved(here, back=False)
        curve = folder.path / CURVE
        if curve.is_file():
            row["curve"] = curve.read_bytes().decode()  # with its own ends of lines
        row |= self._answers(record, folder.path / PREDICTIONS)
        name = f"{run.plugin}-{run.corpus}-s{run.seed}-"
        same = {part: row[part] for part in ("config", "reads")}
        older = [
            digest
            for digest, other in self.rows.items()
            if self.files[digest].name.startswith(name) and same.items() <= other.items()
        ]
        path = self.folder / f"{name}{run.digest}.json"
        write_json(path, row)
        unused = {posts for digest in older if (posts := self.rows.pop(digest).get("asked")) is not None}
        for file in {self.files.pop(digest) for digest in older} - {path}:
            file.unlink(missing_ok=True)
        self.rows[run.digest], self.files[run.digest] = row, path
        try:
            # another sweep may have added runs
            unused -= {other.get("asked") for other in Kept.read(self.folder, {}).rows.values()} if unused else set()
        except DataError:  # reported to whoever begins to read the folder
            return
        for posts in unused:
            self._questions(posts).unlink(missing_ok=True)

    def _answers(self, record: folders.Record, file: Path) -> Row:
        """A run's answers, with its questions on file; nothing where the file would not come back byte by byte."""
        if not file.is_file():
            return {}
        try:
            text = file.read_bytes().decode()
            questions, answers = parted(json.loads(line) for line in text.split("\n") if line)
            if _text(joined(questions, answers, self._posts_of(record))) != text:
                return {}
        except (ValueError, KeyError, TypeError, MnerkitError):
            return {}
        name = name_of(questions)
        if not self._questions(name).is_file():
            write_text(self._questions(name), questions + "\n")
        return {"asked": name, "said": answers}

    def _questions(self, name: str) -> Path:
        return self.folder / "asked" / f"{name}.txt"

    def holds(self) -> set[str]:
        """Digests of the runs that can be restored; not of one whose questions another sweep took for unused."""
        return {
            digest for digest, row in self.rows.items() if "asked" not in row or self._questions(row["asked"]).is_file()
        }

    def restore(self, run: Run, folder: RunFolder) -> bool:
        """Write the folder of a run that is kept; its scores come last.

        Returns:
            False where its questions have gone meanwhile, and nothing was written.

        Raises:
            DataError: what is kept of it is damaged.
        """
        row = self.rows[run.digest]
        try:
            content = self.moved({name: row[name] for name in ("config", "env", "metrics")}, back=True)
            files = {CURVE: row["curve"]} if "curve" in row else {}
            if "said" in row:
                questions = self._questions(row["asked"])
                if not questions.is_file():
                    return False
                posts = self._posts_of(folders.Record(folder.path, **content))
                files[PREDICTIONS] = _text(joined(questions.read_text("utf-8").strip(), row["said"], posts))
            with folder.writing():
                folder.clear()
                write_text(folder.config_file, yaml_text(content["config"]))
                write_json(folder.path / "env.json", content["env"])
                for name, text in files.items():
                    write_text(folder.path / name, text)
                write_json(folder.metrics_file, content["metrics"])
        except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise DataError(f"{self.files[run.digest]} is damaged: {error!r}"[:300]) from None
        return True

    def _posts_of(self, record: folders.Record) -> dict[str, Post]:
        """The test posts of a run's corpus, by id."""
        if record.corpus not in self._posts:
            self._posts[record.corpus] = corpus_posts(record.config, SPLIT, None)
        return self._posts[record.corpus]

    def moved(self, content: Any, back: bool) -> Any:
        """Plain data with paths in place of what stands for them (`back`), or the other way round."""
        if isinstance(content, Mapping):
            return {key: self.moved(value, back) for key, value in content.items()}
        if isinstance(content, list | tuple):
            return [self.moved(value, back) for value in content]
        if isinstance(content, str):
            for name, place in self.places.items():
                old, new = (name, place) if back else (place, name)
                if content == old or content.startswith(f"{old}/"):
                    return new + content[len(old) :]
        return content


def _text(lines: Sequence[Row]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def exchange(kept: Kept, grid: Grid) -> int:
    """Restore wanted runs that are kept and not there, and take those in that are there and not kept.

    One of which a run that is left reads a file is done again: nothing that is kept has such files.

    Returns:
        How many were restored.
    """
    restored = 0
    whole = kept.holds()
    for run in done(grid, whole):
        if foreign(run, grid) is not None:
            continue  # reported by the sweep
        if not complete(run, grid):
            restored += kept.restore(run, grid.folder(run))
        elif run.digest not in whole and _may_stay(run, grid):
            kept.add(run, grid.folder(run))
    return restored


def _may_stay(run: Run, grid: Grid) -> bool:
    """Whether nobody reads another file of a run's folder."""
    return all(other.first is None or other.first[0] != run.digest for other in grid.runs.values())


@dataclass
class Keeping:
    """An executor whose finished runs are kept."""

    inner: Executor
    kept: Kept
    grid: Grid

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Do the tasks; a run that came to its end is on file before its outcome is reported."""
        for outcome in self.inner.run(tasks):
            run = self.grid.runs.get(outcome.name)
            if run is not None and outcome.error is None and complete(run, self.grid) and _may_stay(run, self.grid):
                self.kept.add(run, self.grid.folder(run))
            yield outcome
