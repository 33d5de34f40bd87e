"""The few-shot protocol of a run: the episodes that it trains and is scored on. Nothing here imports torch."""

from __future__ import annotations

from functools import partial
from typing import Any

from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.episodes.episode_file import EpisodeFile, FrozenEpisodes, read_episode_files
from mnerkit.data.episodes.rules import DRAWING, EpisodeRules
from mnerkit.data.episodes.sampling import Episodes
from mnerkit.data.options import DataOptions, Pictures, TrainMode
from mnerkit.data.split_posts import SplitPosts
from mnerkit.errors import DataError


class FewShotProtocol:
    """Episodes of each split: replayed from a file that names the split, otherwise drawn.

    Args:
        options: how episodes are drawn, how many, and the episode files.
        seed: of the draws.
        posts: the posts of each split.

    Attributes:
        rules: how episodes are drawn.
    """

    def __init__(self, options: DataOptions, seed: int, posts: SplitPosts) -> None:
        self.options, self.posts = options, posts
        self.rules = EpisodeRules(options, seed)
        self._files: dict[str, EpisodeFile] | None = None

    @property
    def train_types(self) -> tuple[str, ...]:
        """Types of training (and, by default, of dev) episodes."""
        return self.rules.source_types(self.posts.corpus.types)

    @property
    def test_types(self) -> tuple[str, ...]:
        """Types of test episodes.

        Raises:
            UsageError: one of them is a training type, or none is left.
        """
        return self.rules.target_types(self.posts.corpus.types)

    @property
    def files(self) -> dict[str, EpisodeFile]:
        """The episode files by split, read on first use.

        Raises:
            DataError: a file is damaged, of another corpus, or not the one that `episode_digest` names.
            UsageError: two are of one split.
        """
        if self._files is None:
            files = read_episode_files(self.options.episode_file, self.posts.corpus)
            digest = ",".join(file.sha256 for file in files.values())
            if self.options.episode_digest not in (None, digest):
                raise DataError(
                    f"--data.episode_file {self.options.episode_file}: another content than the run was started with "
                    "(--data.episode_digest); bring the file back, or give another --name"
                )
            self._files = files
        return self._files

    def episodes(self, split: str, pictures: Pictures | None = None) -> Episodes:
        """The episodes of a split, on posts with the pictures that `pictures` says."""
        posts = partial(self.posts.of, pictures=pictures)
        corpus_types = self.posts.corpus.types
        file = self.files.get(split)
        if file is None:
            return self.rules.source(split, posts, corpus_types)
        return FrozenEpisodes(
            file,
            posts(split),
            posts(file.support_split),
            types=self.rules.types(split, corpus_types),
            n_way=self.options.n_way,
            source_types=self.train_types,
            drop_sentence=self.options.out_of_play == "drop_sentence",
        )

    def training_episodes(self, train_mode: TrainMode) -> Episodes:
        """The training episodes; of fewer types than `n_way` where training is plain and there are no more types."""
        n_way = len(self.train_types)
        if train_mode == "episodic" or n_way >= self.options.n_way:
            return self.episodes("train")
        return self.rules.with_ways(n_way).source("train", self.posts.of, self.posts.corpus.types)

    def evaluation_numbers(self, split: str, episodes: Episodes) -> list[int]:
        """Numbers of the episodes among `episodes` that a split is scored on."""
        return episodes.numbers(self.options.dev_episodes if split == "dev" else self.options.eval_episodes)

    def own_support(self, train_mode: TrainMode) -> tuple[tuple[str, ...], list[Post]]:
        """The types in play and the support of the first training episode: for a model that predicts alone.

        Where training is plain and there are fewer training types than an episode has, all of them are in play. The
        posts keep the tags of types that are not in play: the collator decides what becomes of them.
        """
        source = self.training_episodes(train_mode)
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
        if self.options.out_of_play != "drop_sentence":
            return posts
        tagset = TagSet(types)
        fitting = [post for post in posts if all(tagset.in_play(post.tags or ()))]
        if not fitting:
            raise DataError(f"--data.out_of_play drop_sentence leaves no training post of {', '.join(types)}")
        return fitting

    def rehearse(self, train_mode: TrainMode) -> None:
        """Draw an episode of each split, so that what can't be drawn is reported before anything else is done.

        Raises:
            DataError: too few posts for K, or a damaged episode file.
            UsageError: types or numbers that can't be.
        """
        for split in ("dev", "test"):
            self._count_queries(split)
        self.training_episodes(train_mode).episode(0)

    def _count_queries(self, split: str) -> int:
        """How many episodes a split is scored on. One of them is drawn: a K that is too large shows here."""
        episodes = self.episodes(split)
        numbers = self.evaluation_numbers(split, episodes)
        episodes.episode(numbers[0])
        return len(numbers)

    def record(self, train_mode: TrainMode) -> dict[str, Any]:
        """The protocol as a score must name it: plain data."""
        return {
            "train_mode": train_mode,
            **self._rules_in_use(train_mode),
            "queries": {split: self._count_queries(split) for split in ("dev", "test")},
            "episode_files": {
                split: {"file": file.path.name, "sha256": file.sha256, "protocol": file.header["protocol"]}
                for split, file in self.files.items()
            },
        }

    def _rules_in_use(self, train_mode: TrainMode) -> dict[str, Any]:
        """The rules as far as episodes are drawn by them; those of an episode file stand beside its name."""
        evaluated = ("dev", "test")
        splits = ("train", *evaluated) if train_mode == "episodic" else evaluated
        drawn_splits = [split for split in splits if split not in self.files]
        rules = self.rules.record(self.posts.corpus.types)
        for split in self.files.keys() & evaluated:
            played = {kind for row in self.files[split].rows for kind in row.types}
            rules[f"{split}_types"] = [kind for kind in rules[f"{split}_types"] if kind in played]
        rules["dev_selects_on_test_types"] = not set(rules["dev_types"]).isdisjoint(rules["test_types"])
        if not drawn_splits:
            rules = {name: value for name, value in rules.items() if name not in DRAWING}
        return {**rules, "drawn_splits": drawn_splits}
