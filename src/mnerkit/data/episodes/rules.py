"""The few-shot protocol of a run: one field for each way in which papers read it. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from mnerkit.data.corpus.post import Post
from mnerkit.data.episodes.sampling import EpisodeSource, OutOfPlay, Support, complement, named_types
from mnerkit.errors import UsageError, did_you_mean

Types = Sequence[str] | str
Queries = int | Literal["all_queries"]
SupportFrom = Literal["test", "train"]

# what of `EpisodeRules.record` decides how episodes are drawn, and says nothing of episodes that are read from a file
DRAWING = ("k_shot", "support", "support_from", "ensure_all_types", "query_has_entity", "episode_seed")


@dataclass(frozen=True)
class EpisodeRules:
    """How episodes are drawn; the fields are options of `MnerData` and of `mnerkit data episodes`, and said there."""

    n_way: int = 2
    k_shot: int = 5
    train_types: Types | None = None
    test_types: Types | None = None
    dev_types: Types = "source"
    support: Support = "total"
    support_from: SupportFrom = "test"
    ensure_all_types: bool = True
    query_has_entity: bool = True
    out_of_play: OutOfPlay = "O"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a reading that does not exist.

        Raises:
            UsageError: with the ones that do.
        """
        for option, value, choices in (
            ("support", self.support, get_args(Support)),
            ("support_from", self.support_from, get_args(SupportFrom)),
            ("out_of_play", self.out_of_play, get_args(OutOfPlay)),
        ):
            if value not in choices:
                near = did_you_mean(str(value), choices)
                raise UsageError(f"--data.{option} {value}: choose {', '.join(choices)}.{near}")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> EpisodeRules:
        """The rules among some options, which have their names."""
        return cls(**{rule.name: options[rule.name] for rule in fields(cls)})

    # ------------------------------------------------------------------ types

    def source_types(self, known: Sequence[str]) -> tuple[str, ...]:
        """Types of training episodes: those asked for, else the first half of the types that the corpus knows."""
        if self.train_types is None:
            return tuple(known[: max(1, len(known) // 2)])
        return named_types(self.train_types, known, "--data.train_types")

    def target_types(self, known: Sequence[str]) -> tuple[str, ...]:
        """Types of test episodes.

        Raises:
            UsageError: one of them is a training type, or none is left.
        """
        source = self.source_types(known)
        if self.test_types is None:
            chosen = complement(source, known)
        else:
            chosen = named_types(self.test_types, known, "--data.test_types")
        both = [kind for kind in chosen if kind in source]
        if both:
            raise UsageError(f"--data.test_types: {', '.join(both)} is among the training types too")
        if not chosen:
            raise UsageError(f"--data.train_types: none of {', '.join(known)} is left for testing")
        return chosen

    def types(self, split: str, known: Sequence[str]) -> tuple[str, ...]:
        """Types that the episodes of a split are drawn from."""
        if split == "test":
            return self.target_types(known)
        if split == "train" or self.dev_types == "source":
            return self.source_types(known)
        if self.dev_types == "target":
            return self.target_types(known)
        return named_types(self.dev_types, known, "--data.dev_types (source, target, or names of types)")

    def selects_on_test_types(self, known: Sequence[str]) -> bool:
        """Whether the dev episodes, which select the checkpoint, show a type that the test is to be the first of."""
        return not set(self.types("dev", known)).isdisjoint(self.target_types(known))

    # ------------------------------------------------------------------ episodes

    def support_split(self, split: str) -> str:
        """The split that the support of `split`'s episodes comes from."""
        return "train" if self.support_from == "train" else split

    def source(self, split: str, posts: Callable[[str], Sequence[Post]], known: Sequence[str]) -> EpisodeSource:
        """The episodes of a split.

        Args:
            split: `train`, `dev` or `test`.
            posts: gives the posts of a split.
            known: the types of the corpus.

        Raises:
            UsageError: options that do not fit each other or the corpus.
            DataError: too few posts.
        """
        support = self.support_split(split)
        return EpisodeSource(
            posts(split),
            self.types(split, known),
            n_way=self.n_way,
            k_shot=self.k_shot,
            seed=self.seed,
            split=split,
            support=self.support,
            ensure_all_types=self.ensure_all_types,
            query_has_entity=self.query_has_entity,
            out_of_play=self.out_of_play,
            each_query=split != "train",
            support_posts=None if support == split else posts(support),
        )

    def record(self, known: Sequence[str]) -> dict[str, Any]:
        """The rules as plain data, all types resolved: part of a run's record and of an episode file's first line."""
        return {
            "n_way": self.n_way,
            "k_shot": self.k_shot,
            "train_types": list(self.source_types(known)),
            "test_types": list(self.target_types(known)),
            "dev_types": list(self.types("dev", known)),
            "dev_selects_on_test_types": self.selects_on_test_types(known),
            "support": self.support,
            "support_from": self.support_from,
            "ensure_all_types": self.ensure_all_types,
            "out_of_play": self.out_of_play,
            "query_has_entity": self.query_has_entity,
            "episode_seed": self.seed,
        }
