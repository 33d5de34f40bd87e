"""N-way K-shot episodes: which posts are support, which are query, which types are in play.

An episode is a pure function of (seed, split, number): the same for every method, worker count, rank and machine.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

import numpy as np

from mnerkit.data.corpus.corpus import LABELS
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import entities
from mnerkit.data.episodes.types_of_posts import TypesOfPosts
from mnerkit.data.options import EpisodeOptions
from mnerkit.data.random_draws import permutation, stream
from mnerkit.errors import DataError, UsageError, did_you_mean

# a draw can run into a dead end where posts hold several types or entities: so often it is tried afresh
TRIES = 20


@dataclass(frozen=True)
class Episode:
    """One episode: indices of posts, and the types in play in sorted order."""

    number: int
    types: tuple[str, ...]
    support: tuple[int, ...]
    query: tuple[int, ...]


class Episodes:
    """The episodes of one split by their numbers, whether drawn (`DrawnEpisodes`) or read from a file.

    Attributes:
        split: `train`, `dev` or `test`.
        posts: the posts that an episode's `query` points to.
        support_posts: the posts that its `support` points to.
    """

    split: str
    posts: Sequence[Post]
    support_posts: Sequence[Post]

    def __len__(self) -> int:
        """How many evaluation episodes there are."""
        raise NotImplementedError

    def numbers(self, limit: int | Literal["all_queries"] = "all_queries") -> list[int]:
        """Numbers of the evaluation episodes, in rising order."""
        raise NotImplementedError

    def episode(self, number: int) -> Episode:
        """The episode of this number."""
        raise NotImplementedError

    def record(self, number: int) -> dict[str, Any]:
        """The episode with post ids in place of indices: plain data, to be written to a file and published."""
        episode = self.episode(number)
        return {
            "split": self.split,
            "number": number,
            "types": list(episode.types),
            "support": [self.support_posts[place].id for place in episode.support],
            "query": [self.posts[place].id for place in episode.query],
        }


class DrawnEpisodes(Episodes):
    """Draws the episodes of one split.

    A support post always holds a type in play. `support` `total`: `k_shot` support posts in all, such that each type in
    play occurs (one post is drawn for each type that is still missing, the rest freely). `per_type`: `k_shot` posts for
    each type in play, no post counted twice. `greedy`: posts with `k_shot` to twice `k_shot` entities of each type in
    play (Ding et al. 2021, Few-NERD, Algorithm 1).

    With `out_of_play` `drop_sentence` a post with an entity of a type that is not in play is neither support nor query
    (as in that algorithm); otherwise it may be both, and the collator decides what becomes of the entity's tags.

    In training the types in play and then the query are drawn. In evaluation the episode's number is the place of its
    query among the eligible posts of the split, and of the types in play one is a type of the query's own (all of the
    query's own, with `drop_sentence`).

    Args:
        posts: the posts of the split; queries come from them.
        types: the types to draw from.
        options: the few-shot protocol.
        seed: with `split` and the episode's number, the only source of randomness.
        split: `train`, `dev` or `test`: keeps the draws of the splits apart.
        evaluation: every eligible post is a query once.
        support_posts: where the support comes from, when not from `posts`.

    Raises:
        UsageError: a type too few for `n_way`, or a K too small for it.
        DataError: untagged posts, no eligible query, or a type with too few posts for K (named, with its count).
    """

    def __init__(
        self,
        posts: Sequence[Post],
        types: Sequence[str],
        options: EpisodeOptions,
        *,
        seed: int,
        split: str,
        evaluation: bool = False,
        support_posts: Sequence[Post] | None = None,
    ) -> None:
        # sorted, since the order of a set of names differs from run to run
        self.types = tuple(sorted(set(types)))
        self.options, self.seed, self.split, self.evaluation = options, seed, split, evaluation
        self.out_of_play_option, out_of_play = options.out_of_play_in(split)
        self.whole_posts = out_of_play == "drop_sentence"
        self._check_options()
        self.own_support = support_posts is None
        self.posts, self.support_posts = posts, posts if support_posts is None else support_posts
        self._types = TypesOfPosts(posts, self.types, split)
        self._support_types = self._types if self.own_support else TypesOfPosts(self.support_posts, self.types, split)
        self.queries = self._queries(self.types, n_way=options.n_way).tolist()
        self._check_counts()

    def _queries(self, types: Sequence[str], n_way: int | None = None) -> np.ndarray:
        """Numbers of the posts that may be a query of an episode of `types`, or of `n_way` of them."""
        of_posts = self._types
        fits = of_posts.holding_any(types) if self.options.query_has_entity else np.ones(len(self.posts), dtype=bool)
        if self.whole_posts:
            fits &= of_posts.holding_only(types)
            if n_way is not None:
                fits &= of_posts.count <= n_way
        return np.flatnonzero(fits)

    def _may_be_support(self, types: Sequence[str], query: int | None) -> np.ndarray:
        """(P,) bool: posts that may be support in an episode of `types`, if they hold one of them."""
        posts = self._support_types
        free = posts.holding_only(types) if self.whole_posts else np.ones(len(self.support_posts), dtype=bool)
        if self.own_support and query is not None:
            free[query] = False
        return free

    def _holding(self, kinds: Sequence[str], free: np.ndarray) -> np.ndarray:
        """Numbers of the free support posts with an entity of one of `kinds`."""
        return np.flatnonzero(self._support_types.holding_any(kinds) & free)

    @cached_property
    def _holders(self) -> dict[str, int]:
        """How many posts may be support for each type."""
        free = self._may_be_support(self.types, None)
        return {kind: len(self._holding((kind,), free)) for kind in self.types}

    def _check_options(self) -> None:
        o = self.options
        if o.n_way > len(self.types):
            others = "; --data.dev_types names other ones" if self.split == "dev" else ""
            raise UsageError(
                f"--data.n_way {o.n_way}: the {self.split} episodes have {len(self.types)} types to draw from "
                f"({', '.join(self.types)}){others}"
            )
        if o.support == "total" and o.ensure_all_types and o.k_shot < o.n_way:
            raise UsageError(
                f"--data.k_shot {o.k_shot} is too few: with --data.support {o.support} and {o.n_way} types "
                f"in play give at least {o.n_way}"
            )

    def _check_counts(self) -> None:
        if not self.queries:
            raise self._no_query(self.types)
        o, free = self.options, self._may_be_support(self.types, None)
        least = {"per_type": o.k_shot, "greedy": 1, "total": int(o.ensure_all_types)}[o.support]
        for kind, holders in self._holders.items():
            self._demand(kind, holders, least + self.own_support)
            if o.support == "greedy":
                count = sum(self._entity_counts[place][kind] for place in self._holding((kind,), free))
                self._demand(kind, count, o.k_shot, "has {} entities")
        if o.support == "total":
            pool = self._holding(self.types, free)
            self._demand(" or ".join(self.types), len(pool), o.k_shot + self.own_support)

    def _no_query(self, types: Sequence[str]) -> DataError:
        alone = f" and of no other type ({self.out_of_play_option} drop_sentence)" if self.whole_posts else ""
        return DataError(f"no post of {self.split} holds an entity of the types {', '.join(types)}{alone}")

    def _demand(self, kind: str, count: int, wanted: int, wording: str = "occurs in {}") -> None:
        if count < wanted:
            dropped = f", {self.out_of_play_option} drop_sentence" if self.whole_posts else ""
            raise DataError(
                f"too few posts of {self.split if self.own_support else 'the support split'} for --data.k_shot "
                f"{self.options.k_shot} (--data.support {self.options.support}{dropped}): "
                f"type {kind} {wording.format(count)}, {wanted} are needed"
            )

    @cached_property
    def _entity_counts(self) -> list[Counter[str]]:
        """Entities by type of each support post; `greedy` asks for every post in every episode."""
        return [Counter(span.type for span in entities(post.tags or ())) for post in self.support_posts]

    def __len__(self) -> int:
        """How many posts may be a query: the number of evaluation episodes."""
        return len(self.queries)

    def numbers(self, limit: int | Literal["all_queries"] = "all_queries") -> list[int]:
        """Numbers of the evaluation episodes: all, or the first `limit` of a permutation that `seed` fixes."""
        if limit == "all_queries":
            return list(range(len(self)))
        if limit < 1:
            raise UsageError(f"{limit} evaluation episodes: give a positive number or all_queries")
        return sorted(permutation(len(self), "queries", self.seed, self.split)[:limit])

    def episode(self, number: int) -> Episode:
        """The episode of this number.

        Raises:
            DataError: no support of that size can be drawn; the type and its count are named.
        """
        draw = stream("episode", self.seed, self.split, number)
        if self.evaluation:
            query = self.queries[number]
            types = self._types_around(query, draw)
        else:
            types = tuple(sorted(draw.sample(self.types, self.options.n_way)))
            query = self._query(types, draw)
        for left in reversed(range(TRIES)):
            try:
                support = self._support(types, query, draw)
                break
            except DataError:
                if not left:
                    raise
        return Episode(number, types, support, (query,))

    def _types_around(self, query: int, draw: random.Random) -> tuple[str, ...]:
        """Types in play, one of them (all, where others would drop the query) the query's own where it has any."""
        n_way = self.options.n_way
        if n_way == len(self.types):
            return self.types
        held = self._types.of(query)
        own = held if self.whole_posts or not held else [draw.choice(held)]
        others = [kind for kind in self.types if kind not in own]
        return tuple(sorted(own + draw.sample(others, n_way - len(own))))

    def _query(self, types: tuple[str, ...], draw: random.Random) -> int:
        eligible = self._queries(types)
        if not len(eligible):
            raise self._no_query(types)
        return int(draw.choice(eligible))

    def _support(self, types: tuple[str, ...], query: int, draw: random.Random) -> tuple[int, ...]:
        o, taken, free = self.options, list[int](), self._may_be_support(types, query)

        def take(kinds: Sequence[str], count: int) -> None:
            pool = self._holding(kinds, free)
            if len(pool) < count:
                self._demand(" or ".join(kinds), len(pool), count)
            drawn = pool[draw.sample(range(len(pool)), count)]
            free[drawn] = False
            taken.extend(drawn.tolist())

        # the rarest type first: it has the least choice
        by_count = sorted(types, key=lambda kind: self._holders[kind])
        if o.support == "greedy":
            taken = self._greedy(types, self._holding(types, free).tolist(), draw)
        elif o.support == "per_type":
            for kind in by_count:
                take((kind,), o.k_shot)
        else:
            for kind in by_count if o.ensure_all_types else ():
                if not self._support_types.holding_any((kind,))[taken].any():
                    take((kind,), 1)
            take(types, o.k_shot - len(taken))
        draw.shuffle(taken)
        return tuple(taken)

    def _greedy(self, types: tuple[str, ...], pool: list[int], draw: random.Random) -> list[int]:
        """Go through the pool once in random order, and take the posts that some type needs and none forbids."""
        draw.shuffle(pool)
        k_shot, counts, taken = self.options.k_shot, Counter[str](), []
        for place in pool:
            if all(counts[kind] >= k_shot for kind in types):
                break
            held = self._entity_counts[place]
            needed = any(held[kind] and counts[kind] < k_shot for kind in types)
            if needed and all(counts[kind] + held[kind] <= 2 * k_shot for kind in types):
                taken.append(place)
                counts += held
        for kind in types:
            self._demand(kind, counts[kind], k_shot, "has {} entities in a draw")
        return taken


def complement(types: Sequence[str], all_types: Sequence[str]) -> tuple[str, ...]:
    """The types of `all_types` that are not among `types`, in their order."""
    return tuple(kind for kind in all_types if kind not in types)


def split_name(types: Sequence[str]) -> str:
    """The papers' name of a split by its training types: `Per+Loc`."""
    return "+".join(kind.capitalize() for kind in types)


def two_type_splits(all_types: Sequence[str]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """All splits into two training types and the rest, by name: six for four types.

    Returns:
        name -> (training types, testing types).
    """
    return {split_name(pair): (pair, complement(pair, all_types)) for pair in combinations(all_types, 2)}


def named_types(names: Sequence[str] | str, all_types: Sequence[str], option: str) -> tuple[str, ...]:
    """Types that a user named, as a list or as `Per+Loc`, in any case and order, in the corpus's order.

    Names that releases give to a type (`Other` for MISC) stand for it.

    Raises:
        UsageError: a name is not among `all_types`.
    """
    kinds = {kind.lower(): kind for kind in all_types}
    kinds |= {other.lower(): kind for other, kind in LABELS.items() if kind in all_types and other.lower() not in kinds}
    given = [names] if isinstance(names, str) else names
    chosen = set()
    for name in (part.strip() for each in given for part in str(each).replace(",", "+").split("+")):
        if name.lower() not in kinds:
            guess = did_you_mean(name.upper(), all_types)
            raise UsageError(f"{option}: no type {name!r} among {', '.join(all_types)}.{guess}")
        chosen.add(kinds[name.lower()])
    return tuple(kind for kind in all_types if kind in chosen)
