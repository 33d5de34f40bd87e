"""Frozen episodes: a file that says which posts are support and query, so that every method meets the same ones.

JSON lines. The first is a header: format and version, the corpus with its variant and digest, the split, the rules by
which the episodes were drawn, and their number. Each other line is one episode as `Episodes.record` gives it: split,
number, types, and the ids of support and query posts. Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from typing_extensions import Self

from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.text_lines import json_lines
from mnerkit.data.episodes.protocol import FewShotProtocol
from mnerkit.data.episodes.sampling import Episode, Episodes
from mnerkit.errors import DataError, UsageError, shown
from mnerkit.validation import Line, ListOf, Place, validated

FORMAT, VERSION = "mnerkit episodes", 1
MAX_BYTES = 64 << 20  # a hundred thousand episodes and more
MAX_NUMBER = 1 << 31


def _check_distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"{Counter(names).most_common(1)[0][0][:80]!r} stands there twice")
    return names


_Names = Annotated[ListOf[str], Field(min_length=1), AfterValidator(_check_distinct)]


class Header(Line):
    """The first line of a file: of which posts its episodes are, and how they were drawn."""

    corpus: str
    variant: str
    digest: str
    split: Literal["train", "dev", "test"]
    episodes: Place
    protocol: dict[str, Any]


class Row(Line):
    """One episode of a file, by ids; `where` is its file and line."""

    where: str
    number: Annotated[Place, Field(lt=MAX_NUMBER)]
    types: Annotated[_Names, AfterValidator(lambda types: tuple(sorted(types)))]
    support: _Names
    query: _Names

    @model_validator(mode="after")
    def _check_roles(self) -> Self:
        if both := set(self.support).intersection(self.query):
            raise ValueError(f"the support contains the query {min(both)[:80]!r}")
        return self


@dataclass(frozen=True)
class EpisodeFile:
    """A read file: its digest is that of its bytes, as `sha256sum` prints it."""

    path: Path
    sha256: str
    header: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def split(self) -> str:
        """The split whose episodes these are."""
        return str(self.header["split"])

    @property
    def support_split(self) -> str:
        """The split that support posts are to be found in."""
        return "train" if self.header["protocol"].get("support_from") == "train" else self.split

    def check_corpus(self, corpus: Corpus) -> None:
        """Refuse the file of another corpus, or of another release of its labels.

        Raises:
            DataError: naming both.
        """
        if self.header["digest"] != corpus.digest:
            raise DataError(
                f"{self.path}: frozen from {self.header['corpus']} ({self.header['variant']}, digest "
                f"{self.header['digest'][:12]}), and this is {corpus.name} ({corpus.variant}, digest "
                f"{corpus.digest[:12]}): another corpus, release of labels or --data.limit"
            )


def header_of(corpus: Corpus, split: str, protocol: FewShotProtocol, episodes: int) -> dict[str, Any]:
    """The first line of a file."""
    return {
        "format": FORMAT,
        "version": VERSION,
        **corpus.header,
        "split": split,
        "episodes": episodes,
        "protocol": protocol.record(),
    }


def paths_of(given: Sequence[str] | str | None) -> list[Path]:
    """The files that `--data.episode_file` names: a list, or names with commas between them."""
    names = given.split(",") if isinstance(given, str) else given or []
    return [Path(str(name).strip()) for name in names]


def digests_of(given: Sequence[str] | str | None) -> str:
    """SHA-256 of each named file, joined by commas: the content that a run's configuration stands for."""
    return ",".join(_sha256(path) for path in paths_of(given))


def read_episode_files(given: Sequence[str] | str | None, corpus: Corpus) -> dict[str, EpisodeFile]:
    """The named files by split.

    Raises:
        DataError: one can't be read, is malformed (file and line are named), or of another corpus.
        UsageError: two are of the same split.
    """
    files: dict[str, EpisodeFile] = {}
    for path in paths_of(given):
        file = read_episode_file(path)
        file.check_corpus(corpus)
        if file.split in files:
            raise UsageError(
                f"--data.episode_file: {files[file.split].path} and {path} both hold {file.split} episodes"
            )
        files[file.split] = file
    return files


def read_episode_file(path: Path) -> EpisodeFile:
    """Read a file and check its form; `FrozenEpisodes` checks it against the posts.

    Raises:
        DataError: it can't be read, is too large or malformed, or a number or an episode's id stands there twice.
    """
    sha256 = _sha256(path)
    lines = json_lines(path)
    where, header = next(lines, (f"{path}:1", {}))
    if header.get("format") != FORMAT:
        raise DataError(f"{where}: no episode file of mnerkit (its first line has no format {FORMAT!r})")
    if header.get("version") != VERSION:
        raise DataError(f"{where}: version {str(header.get('version'))[:40]}, and this mnerkit reads version {VERSION}")
    count, split = validated(Header, header, where).episodes, header["split"]
    rows: dict[int, Row] = {}
    for where, content in lines:
        row = validated(Row, {**content, "where": where}, where)
        if content.get("split") != split:
            raise DataError(f"{where}: an episode of {str(content.get('split'))[:40]!r} in a file of {split!r}")
        if row.number in rows:
            raise DataError(f"{where}: episode {row.number} stands in {rows[row.number].where} already")
        rows[row.number] = row
    if len(rows) != count:
        raise DataError(f"{path}: its first line says {count} episodes, it holds {len(rows)}: cut off?")
    if not rows:
        raise DataError(f"{path}: it holds no episodes")
    return EpisodeFile(path, sha256, header, tuple(rows[number] for number in sorted(rows)))


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"--data.episode_file {shown(path)}: no such file; `mnerkit data episodes` writes one")
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES >> 20} MiB, so no episode file; split it")
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as problem:
        raise DataError(f"{path} can't be read: {problem.strerror}") from None


class FrozenEpisodes(Episodes):
    """Replays the episodes of a file on the posts of a run.

    Evaluation replays each episode once, whatever `limit`. Training, whose numbers grow without end, goes through the
    file's episodes in the order of their numbers, again and again.

    Args:
        file: the read file.
        posts: gives the posts of a split.
        protocol: the types that episodes of this split may have; all others are refused. How many types an episode has,
            and whether its posts may hold an entity of a type that is not in play, must fit the file, too.

    Raises:
        DataError: an episode does not fit, with file and line.
    """

    def __init__(self, file: EpisodeFile, posts: Callable[[str], Sequence[Post]], protocol: FewShotProtocol) -> None:
        self.file, self.split, self.protocol = file, file.split, protocol
        self.posts, self.support_posts = posts(file.split), posts(file.support_split)
        self._places = {post.id: place for place, post in enumerate(self.posts)}
        self._support_places = {post.id: place for place, post in enumerate(self.support_posts)}
        types = protocol.types(self.split)
        for row in file.rows:
            self._check_types(row, types)
            self._check_posts(row)

    def _check_types(self, row: Row, types: Collection[str]) -> None:
        where, n_way = row.where, self.protocol.options.n_way
        if len(row.types) != n_way:
            raise DataError(f"{where}: {len(row.types)} types in play, --data.n_way {n_way} wants as many")
        for kind in row.types:
            if kind not in types:
                trained = self.split == "test" and kind in self.protocol.train_types
                raise DataError(
                    f"{where}: type {kind[:40]!r} is not among the types of {self.split} episodes "
                    f"({', '.join(sorted(types))}){', it is a training type' if trained else ''}; "
                    "see --data.train_types"
                )

    def _check_posts(self, row: Row) -> None:
        where = row.where
        option, out_of_play = self.protocol.options.out_of_play_in(self.split)
        whole_posts = out_of_play == "drop_sentence"
        for ids, places, posts, split in (
            (row.support, self._support_places, self.support_posts, self.file.support_split),
            (row.query, self._places, self.posts, self.split),
        ):
            for id_ in ids:
                if id_ not in places:
                    raise DataError(f"{where}: post {id_[:80]!r} is not among the posts of {split} that this run reads")
                tags = posts[places[id_]].tags
                if tags is None:
                    raise DataError(f"{where}: post {id_!r} of {split} has no tags: episodes need tagged posts")
                if whole_posts and any(tag != "O" and tag[2:] not in row.types for tag in tags):
                    raise DataError(
                        f"{where}: post {id_!r} holds a type that is not in play, which {option} "
                        "drop_sentence forbids; the file was frozen without it"
                    )

    @cached_property
    def _by_number(self) -> dict[int, Row]:
        return {row.number: row for row in self.file.rows}

    def __len__(self) -> int:
        """Episodes of the file."""
        return len(self.file.rows)

    def numbers(self, limit: int | Literal["all_queries"] = "all_queries") -> list[int]:
        """Numbers of the file's episodes, all of them."""
        return [row.number for row in self.file.rows]

    def episode(self, number: int) -> Episode:
        """The episode of this number; of a training file the one whose turn it is."""
        row = self.file.rows[number % len(self)] if self.split == "train" else self._by_number[number]
        return Episode(
            row.number,
            row.types,
            tuple(self._support_places[each] for each in row.support),
            tuple(self._places[each] for each in row.query),
        )
