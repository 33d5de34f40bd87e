"""The few-shot protocol of a run: one field for each way in which papers read it. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mnerkit.data.corpus.post import Post
from mnerkit.data.episodes.sampling import EpisodeSource, complement, named_types
from mnerkit.data.options import EpisodeOptions
from mnerkit.errors import UsageError

# what of `EpisodeRules.record` decides how episodes are drawn, and says nothing of episodes that are read from a file
DRAWING = ("k_shot", "support", "support_from", "ensure_all_types", "query_has_entity", "episode_seed")


@dataclass(frozen=True)
class EpisodeRules:
    """How episodes are drawn from a corpus.

    Attributes:
        options: the few-shot protocol.
        seed: of the draws.
    """

    options: EpisodeOptions = field(default_factory=EpisodeOptions)
    seed: int = 0

    def with_ways(self, n_way: int) -> EpisodeRules:
        """The same rules for episodes of another number of types."""
        return replace(self, options=replace(self.options, n_way=n_way))

    # ------------------------------------------------------------------ types

    def source_types(self, corpus_types: Sequence[str]) -> tuple[str, ...]:
        """Types of training episodes: those asked for, else the first half of the types of the corpus."""
        if self.options.train_types is None:
            return tuple(corpus_types[: max(1, len(corpus_types) // 2)])
        return named_types(self.options.train_types, corpus_types, "--data.train_types")

    def target_types(self, corpus_types: Sequence[str]) -> tuple[str, ...]:
        """Types of test episodes.

        Raises:
            UsageError: one of them is a training type, or none is left.
        """
        source = self.source_types(corpus_types)
        if self.options.test_types is None:
            chosen = complement(source, corpus_types)
        else:
            chosen = named_types(self.options.test_types, corpus_types, "--data.test_types")
        both = [kind for kind in chosen if kind in source]
        if both:
            raise UsageError(f"--data.test_types: {', '.join(both)} is among the training types too")
        if not chosen:
            raise UsageError(f"--data.train_types: none of {', '.join(corpus_types)} is left for testing")
        return chosen

    def types(self, split: str, corpus_types: Sequence[str]) -> tuple[str, ...]:
        """Types that the episodes of a split are drawn from."""
        if split == "test":
            return self.target_types(corpus_types)
        if split == "train" or self.options.dev_types == "source":
            return self.source_types(corpus_types)
        if self.options.dev_types == "target":
            return self.target_types(corpus_types)
        return named_types(self.options.dev_types, corpus_types, "--data.dev_types (source, target, or names of types)")

    def selects_on_test_types(self, corpus_types: Sequence[str]) -> bool:
        """Whether the dev episodes, which select the checkpoint, show a type that the test is to be the first of."""
        return not set(self.types("dev", corpus_types)).isdisjoint(self.target_types(corpus_types))

    # ------------------------------------------------------------------ episodes

    def support_split(self, split: str) -> str:
        """The split that the support of `split`'s episodes comes from."""
        return "train" if self.options.support_from == "train" else split

    def source(self, split: str, posts: Callable[[str], Sequence[Post]], corpus_types: Sequence[str]) -> EpisodeSource:
        """The episodes of a split.

        Args:
            split: `train`, `dev` or `test`.
            posts: gives the posts of a split.
            corpus_types: the types of the corpus.

        Raises:
            UsageError: options that do not fit each other or the corpus.
            DataError: too few posts.
        """
        support = self.support_split(split)
        return EpisodeSource(
            posts(split),
            self.types(split, corpus_types),
            n_way=self.options.n_way,
            k_shot=self.options.k_shot,
            seed=self.seed,
            split=split,
            support=self.options.support,
            ensure_all_types=self.options.ensure_all_types,
            query_has_entity=self.options.query_has_entity,
            out_of_play=self.options.out_of_play,
            each_query=split != "train",
            support_posts=None if support == split else posts(support),
        )

    def record(self, corpus_types: Sequence[str]) -> dict[str, Any]:
        """The rules as plain data, all types resolved: part of a run's record and of an episode file's first line."""
        return {
            "n_way": self.options.n_way,
            "k_shot": self.options.k_shot,
            "train_types": list(self.source_types(corpus_types)),
            "test_types": list(self.target_types(corpus_types)),
            "dev_types": list(self.types("dev", corpus_types)),
            "dev_selects_on_test_types": self.selects_on_test_types(corpus_types),
            "support": self.options.support,
            "support_from": self.options.support_from,
            "ensure_all_types": self.options.ensure_all_types,
            "out_of_play": self.options.out_of_play,
            "query_has_entity": self.options.query_has_entity,
            "episode_seed": self.seed,
        }
