"""The few-shot protocol on a corpus: which types, and how episodes are drawn. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mnerkit.data.corpus.post import Post
from mnerkit.data.episodes.sampling import DrawnEpisodes, complement, named_types
from mnerkit.data.options import EpisodeOptions
from mnerkit.errors import UsageError

_READINGS = ("support", "support_from", "ensure_all_types", "out_of_play", "query_has_entity")
# what of `FewShotProtocol.record` decides how episodes are drawn, and has no bearing on those that are read from a file
DRAWING = ("k_shot", "support", "support_from", "ensure_all_types", "query_has_entity", "episode_seed")


@dataclass(frozen=True)
class FewShotProtocol:
    """The types of each split's episodes, and how these are drawn.

    Attributes:
        options: the protocol.
        corpus_types: the types of the corpus.
        seed: of the draws.
    """

    options: EpisodeOptions
    corpus_types: Sequence[str]
    seed: int = 0

    @property
    def train_types(self) -> tuple[str, ...]:
        """Types of training episodes: the option's, else the first half of the types of the corpus."""
        if self.options.train_types is None:
            return tuple(self.corpus_types[: max(1, len(self.corpus_types) // 2)])
        return named_types(self.options.train_types, self.corpus_types, "--data.train_types")

    @property
    def test_types(self) -> tuple[str, ...]:
        """Types of test episodes.

        Raises:
            UsageError: one of them is a training type, or none is left.
        """
        if self.options.test_types is None:
            chosen = complement(self.train_types, self.corpus_types)
        else:
            chosen = named_types(self.options.test_types, self.corpus_types, "--data.test_types")
        both = [kind for kind in chosen if kind in self.train_types]
        if both:
            raise UsageError(f"--data.test_types: {', '.join(both)} is among the training types too")
        if not chosen:
            raise UsageError(f"--data.train_types: none of {', '.join(self.corpus_types)} is left for testing")
        return chosen

    def types(self, split: str) -> tuple[str, ...]:
        """Types that the episodes of a split are drawn from."""
        dev_types = self.options.dev_types
        if split == "test" or (split == "dev" and dev_types == "target"):
            return self.test_types
        if split == "train" or dev_types == "source":
            return self.train_types
        return named_types(dev_types, self.corpus_types, "--data.dev_types (source, target, or names of types)")

    def draw(self, split: str, posts: Callable[[str], Sequence[Post]]) -> DrawnEpisodes:
        """The episodes of a split.

        Args:
            split: `train`, `dev` or `test`.
            posts: gives the posts of a split.

        Raises:
            UsageError: options that do not fit each other or the corpus.
            DataError: too few posts.
        """
        from_train = self.options.support_from == "train" and split != "train"
        return DrawnEpisodes(
            posts(split),
            self.types(split),
            self.options,
            seed=self.seed,
            split=split,
            evaluation=split != "train",
            support_posts=posts("train") if from_train else None,
        )

    def record(self) -> dict[str, Any]:
        """The protocol as plain data, all types resolved: part of a run's record and of an episode file's first line.

        `dev_selects_on_test_types`: the dev episodes, which select the checkpoint, show a type that the test is to be
        the first of. `train_out_of_play` is there where the option was given.
        """
        trained = {"train_out_of_play": self.options.out_of_play_in("train")[1]}
        return {
            "n_way": self.options.n_way,
            "k_shot": self.options.k_shot,
            **{f"{split}_types": list(self.types(split)) for split in ("train", "test", "dev")},
            "dev_selects_on_test_types": not set(self.types("dev")).isdisjoint(self.test_types),
            **{name: getattr(self.options, name) for name in _READINGS},
            **(trained if self.options.train_out_of_play is not None else {}),
            "episode_seed": self.seed,
        }
