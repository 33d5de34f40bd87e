"""Finished runs in a folder, small enough to be committed: what it holds is not run again (`--keep DIR`).

<plugin>-<corpus>-s<seed>-<digest>.json  format `mnerkit-kept`: configuration, environment, scores, curve, and the
                                         answers to the test posts (`said`)
asked/<name>.txt                         the questions: posts and episodes, once for all runs that had them

Words and gold entities of posts, weights and paths are left out, so a run folder that is restored from here serves
tables, tests and the report, and nothing that needs its checkpoint.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_json, write_text
from mnerkit.data.corpus.post import Entity, Post
from mnerkit.data.corpus.tags import entities
from mnerkit.errors import DataError, MnerkitError
from mnerkit.plain_yaml import yaml_text
from mnerkit.report import folders
from mnerkit.report.folders import OtherVersion
from mnerkit.report.posts.browser import corpus_posts
from mnerkit.reproduce.cells import Grid, Run, files_read
from mnerkit.runs.files_read import has_other_pictures
from mnerkit.strict_json import Unreadable, read_format

FORMAT, VERSION = "mnerkit-kept", 1
SPLIT = "test"  # whose predictions tables and report read
PREDICTIONS, CURVE = f"predictions.{SPLIT}.jsonl", "curve/metrics.csv"
# keys of a line of the predictions that are stored with the post's id; not every line has them
RULES = ("episode", "types", "support", "ignored")
MAX_UNPACKED = 256 << 20
Row = dict[str, Any]


@dataclass
class RunArchive:
    """The folder, and what is needed to fill run folders from it.

    Attributes:
        folder: the folder.
        places: what stands for a path in it -> the path here, for instance `<root>` -> the folder of the corpora.
        rows: digest -> what the archive holds of a run.
        files: digest -> its file.
    """

    folder: Path
    places: Mapping[str, str]
    rows: dict[str, Row] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    _posts: dict[str, dict[str, Post]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, places: Mapping[str, str]) -> RunArchive:
        """The folder as it is; empty where there is none.

        Raises:
            DataError: it is a file, or one of its files is damaged or of another version; in one line.
        """
        archive = cls(folder, places)
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
            archive.rows[row["digest"]] = {"format": FORMAT, "version": VERSION, **row}
            archive.files[row["digest"]] = path
        return archive

    def add(self, run: Run, grid: Grid) -> None:
        """Take a finished run in, unless another run of the grid reads a further file of its folder.

        One that was the same before a behaviour number was raised makes room. Those of other data or weights stay, also
        where these are called alike.
        """
        if run.digest in files_read(grid.runs.values()):
            return
        folder = run.folder.path
        record = folders.read(folder)
        content = {"config": record.config, "env": record.env, "metrics": record.metrics}
        row: Row = {"format": FORMAT, "version": VERSION, "digest": run.digest, "reads": run.reads}
        row |= self.moved(content, back=False)
        if (folder / CURVE).is_file():
            row["curve"] = (folder / CURVE).read_bytes().decode()  # with its own ends of lines
        row |= self._answers(record, folder / PREDICTIONS)
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
            rows_now = RunArchive.read(self.folder, {}).rows.values() if unused else ()
        except DataError:  # reported to whoever begins to read the folder
            return
        for posts in unused - {other.get("asked") for other in rows_now}:
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
        name = hashlib.sha256(questions.encode()).hexdigest()[:16]
        if not self._questions(name).is_file():
            write_text(self._questions(name), questions + "\n")
        return {"asked": name, "said": answers}

    def _questions(self, name: str) -> Path:
        return self.folder / "asked" / f"{name}.txt"

    def holds(self) -> set[str]:
        """Digests of the runs that can be restored.

        Not of one whose questions another sweep took for unused, or whose pictures are not those that are here.
        """
        return {
            digest
            for digest, row in self.rows.items()
            if ("asked" not in row or self._questions(row["asked"]).is_file()) and not self._is_of_other_pictures(row)
        }

    def _is_of_other_pictures(self, row: Row) -> bool:
        pictures = folders.mapping(row.get("env")).get("pictures")
        return has_other_pictures(self.moved(folders.mapping(row.get("config")), back=True), pictures)

    def restore(self, run: Run) -> bool:
        """Write the folder of a run that the archive holds; its scores come last.

        Returns:
            False where its questions have gone meanwhile, and nothing was written.

        Raises:
            DataError: what the archive holds of it is damaged.
        """
        row, folder = self.rows[run.digest], run.folder
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
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
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


def exchange(archive: RunArchive, grid: Grid) -> int:
    """Restore the wanted runs that only the archive holds, and add those that are complete and not in it.

    One of which a run that is left reads a file is done again: the archive has no such files.

    Returns:
        How many were restored.
    """
    restored = 0
    whole = archive.holds()
    left = {run.digest for run in grid.left(whole)}
    for run in grid.wanted:
        # one of another version, or that can't be read now, may be whole: the sweep reports it
        if run.digest in left or isinstance(run.record(), OtherVersion | Unreadable):
            continue
        if not run.complete:
            restored += archive.restore(run)
        elif run.digest not in whole:
            archive.add(run, grid)
    return restored


# ------------------------------------------------------------------ predictions without words and gold entities
#
# The corpus has these, so files stay small and no data of others is published. The questions (posts, episodes), which
# many runs have in common, are one packed text; the answers of a run are another.


def pack(content: Any) -> str:
    """Plain data as a short line of text."""
    return base64.b85encode(zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 9)).decode()


def unpack(text: str) -> Any:
    """What was packed.

    Raises:
        ValueError: nothing was.
    """
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(base64.b85decode(text), MAX_UNPACKED)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if not unpacker.eof:  # a few kilobytes of zeros would fill the memory
        raise ValueError(f"cut off, or more than {MAX_UNPACKED >> 20} MB when unpacked")
    return json.loads(content)


def parted(lines: Iterable[Row]) -> tuple[str, str]:
    """The questions and the answers of a run's predictions, both packed."""
    questions, answers = [], []
    for line in lines:
        rules = {name: line[name] for name in RULES if name in line}
        questions.append([line["id"], rules] if rules else [line["id"]])
        answers.append([[entity["type"], entity["start"], entity["end"]] for entity in line["entities"]])
    return pack(questions), pack(answers)


def joined(questions: str, answers: str, posts: Mapping[str, Post]) -> list[Row]:
    """The lines that were parted; gold entities are those of the types in play.

    Args:
        questions: packed posts and episodes.
        answers: packed entities.
        posts: id -> post.

    Raises:
        ValueError: the two are damaged, or do not belong together.
        KeyError: `posts` lacks a post.
    """
    lines = []
    for (name, *more), answer in zip(unpack(questions), unpack(answers), strict=True):
        rules, post = more[0] if more else {}, posts[name]
        spans = [Entity(start, end, kind) for kind, start, end in answer]
        gold = [span for span in entities(post.tags or ()) if span.type in rules.get("types", (span.type,))]
        line = {"id": name, "words": list(post.words), "entities": list(post.records(spans))}
        line["gold"] = [[span.start, span.end, span.type] for span in gold]
        lines.append(line | {rule: rules[rule] for rule in RULES if rule in rules})
    return lines
