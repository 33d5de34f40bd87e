"""The episodes of each split of a run: those that it trains and is scored on. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.episodes.episode_file import EpisodeFile, FrozenEpisodes, read_episode_files
from mnerkit.data.episodes.protocol import DRAWING, FewShotProtocol
from mnerkit.data.episodes.sampling import Episodes
from mnerkit.data.options import DataOptions, Pictures, TrainMode
from mnerkit.data.split_posts import SplitPosts
from mnerkit.errors import DataError


class SplitEpisodes:
    """Episodes by split: replayed from a file that names the split, otherwise drawn.

    Args:
        options: how episodes are drawn, how many, and the episode files.
        seed: of the draws.
        posts: the posts of each split.
    """

    def __init__(self, options: DataOptions, seed: int, posts: SplitPosts) -> None:
        self.options, self.seed, self.posts = options, seed, posts

    @cached_property
    def protocol(self) -> FewShotProtocol:
        """Types, and how episodes are drawn; reads the corpus on first use."""
        return FewShotProtocol(self.options, self.posts.corpus.types, self.seed)

    @cached_property
    def files(self) -> dict[str, EpisodeFile]:
        """The episode files by split, read on first use.

        Raises:
            DataError: a file is damaged, of another corpus, or not the one that `episode_digest` names.
            UsageError: two are of one split.
        """
        files = read_episode_files(self.options.episode_file, self.posts.corpus)
        digest = ",".join(file.sha256 for file in files.values())
        if self.options.episode_digest not in (None, digest):
            raise DataError(
                f"--data.episode_file {self.options.episode_file}: another content than the run was started with "
                "(--data.episode_digest); bring the file back, or give another --name"
            )
        return files

    def of(self, split: str, pictures: Pictures | None = None) -> Episodes:
        """The episodes of a split, on posts with the pictures that `pictures` says."""
        posts = partial(self.posts.of, pictures=pictures)
        if split in self.files:
            return FrozenEpisodes(self._untrained(self.files[split]), posts, self.protocol)
        return self.protocol.draw(split, posts)

    def _untrained(self, file: EpisodeFile) -> EpisodeFile:
        """The file without episodes that hold a post which `drop_trained` leaves out."""
        for split in {file.split, file.support_split}:
            self.posts.of(split)
        query, support = (self.posts.left_out.get(split, set()) for split in (file.split, file.support_split))
        rows = tuple(row for row in file.rows if query.isdisjoint(row.query) and support.isdisjoint(row.support))
        if not rows:
            raise DataError(f"{file.path}: --data.drop_trained leaves none of its {len(file.rows)} episodes")
        if len(rows) < len(file.rows):
            self.posts.trained_counts[file.split]["episodes"] = len(file.rows) - len(rows)
        return replace(file, rows=rows)

    def training(self, train_mode: TrainMode) -> Episodes:
        """The training episodes; of fewer types than `n_way` where training is plain and there are no more types."""
        n_way = len(self.protocol.train_types)
        if train_mode == "episodic" or n_way >= self.options.n_way:
            return self.of("train")
        return replace(self.protocol, options=replace(self.options, n_way=n_way)).draw("train", self.posts.of)

    def evaluation_numbers(self, split: str, episodes: Episodes) -> list[int]:
        """Numbers of the episodes among `episodes` that a split is scored on."""
        return episodes.numbers(self.options.dev_episodes if split == "dev" else self.options.eval_episodes)

    def posts_in_play(self, split: str) -> tuple[list[Post], set[str]]:
        """The posts of the episodes that a split is scored on, each once, and the types that are in play in some."""
        source = self.of(split)
        drawn = [source.episode(number) for number in self.evaluation_numbers(split, source)]
        support = {place for episode in drawn for place in episode.support}
        query = {place for episode in drawn for place in episode.query}
        if source.support_posts is source.posts:
            support, query = set(), support | query
        posts = [source.support_posts[place] for place in sorted(support)]
        posts += [source.posts[place] for place in sorted(query)]
        return posts, {kind for episode in drawn for kind in episode.types}

    def own_support(self, train_mode: TrainMode) -> tuple[tuple[str, ...], list[Post]]:
        """The types in play and the support of the first training episode: for a model that predicts alone.

        Where training is plain and there are fewer training types than an episode has, all of them are in play. The
        posts keep the tags of types that are not in play: the collator decides what becomes of them.
        """
        source = self.training(train_mode)
        episode = source.episode(0)
        return episode.types, [source.support_posts[place] for place in episode.support]

    def plain_posts(self, types: tuple[str, ...]) -> list[Post]:
        """Training posts of plain batches; with `drop_sentence` only those without an entity of other types.

        Args:
            types: what is learnt from them.

        Raises:
            DataError: none is left.
        """
        posts = self.posts.of("train")
        option, out_of_play = self.options.out_of_play_in("train")
        if out_of_play != "drop_sentence":
            return posts
        tagset = TagSet(types)
        fitting = [post for post in posts if all(tagset.in_play(post.tags or ()))]
        if not fitting:
            raise DataError(f"{option} drop_sentence leaves no training post of {', '.join(types)}")
        return fitting

    def rehearse(self, train_mode: TrainMode) -> None:
        """Draw an episode of each split, so that what can't be drawn is reported before anything else is done.

        Raises:
            DataError: too few posts for K, or a damaged episode file.
            UsageError: types or numbers that can't be.
        """
        for split in ("dev", "test"):
            self._count_queries(split)
        self.training(train_mode).episode(0)

    def _count_queries(self, split: str) -> int:
        """How many episodes a split is scored on. One of them is drawn: a K that is too large shows here."""
        episodes = self.of(split)
        numbers = self.evaluation_numbers(split, episodes)
        episodes.episode(numbers[0])
        return len(numbers)

    def record(self, train_mode: TrainMode) -> dict[str, Any]:
        """The protocol as a score must name it: plain data."""
        return {
            "train_mode": train_mode,
            **self._protocol_in_use(train_mode),
            "queries": {split: self._count_queries(split) for split in ("dev", "test")},
            "episode_files": {
                split: {"file": file.path.name, "sha256": file.sha256, "protocol": file.header["protocol"]}
                for split, file in self.files.items()
            },
        }

    def _protocol_in_use(self, train_mode: TrainMode) -> dict[str, Any]:
        """The protocol as far as episodes are drawn by it; that of an episode file stands beside its name."""
        evaluated = ("dev", "test")
        splits = ("train", *evaluated) if train_mode == "episodic" else evaluated
        drawn_splits = [split for split in splits if split not in self.files]
        record = self.protocol.record()
        for split in self.files.keys() & evaluated:
            in_play = {kind for row in self.files[split].rows for kind in row.types}
            record[f"{split}_types"] = [kind for kind in record[f"{split}_types"] if kind in in_play]
        record["dev_selects_on_test_types"] = not set(record["dev_types"]).isdisjoint(record["test_types"])
        if not drawn_splits:
            record = {name: value for name, value in record.items() if name not in DRAWING}
        return {**record, "drawn_splits": drawn_splits}
