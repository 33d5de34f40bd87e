"""The inputs of frozen towers in the posts of a run, so that a tower computes all of a view at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch

from mnerkit.data.batches.batch import PictureBatch, TextBatch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import Post
from mnerkit.data.episodes.sampling import Episodes
from mnerkit.data.pictures.picture_loader import PictureLoader, PictureSource

BLOCK = 32  # inputs that are computed together
_CHUNK = 512  # rows of words that are read together to learn their lengths


class ViewInputs:
    """The different inputs of some posts in one view, in order of appearance.

    Attributes:
        keys: digest of each.
        lengths: the length of each in the tower's input; 0 for pictures.
        words: the number of words of each; 0 for pictures.
    """

    keys: list[str]
    lengths: list[int]
    words: list[int]

    @cached_property
    def key_set(self) -> frozenset[str]:
        """The digests."""
        return frozenset(self.keys)

    @cached_property
    def blocks(self) -> list[list[int]]:
        """Numbers of inputs of one length, at most `BLOCK` together; no block needs padding.

        They depend on the posts alone, so that a run that was interrupted computes the same numbers again.
        """
        blocks: list[list[int]] = []
        for number in sorted(range(len(self.keys)), key=lambda number: self.lengths[number]):
            if not blocks or len(blocks[-1]) == BLOCK or self.lengths[blocks[-1][0]] != self.lengths[number]:
                blocks.append([])
            blocks[-1].append(number)
        return blocks

    def batch(self, numbers: Sequence[int]) -> tuple[TextBatch | PictureBatch, list[int]]:
        """The inputs of these numbers, and which of them there are: a broken picture is left out."""
        raise NotImplementedError


class TextInputs(ViewInputs):
    """The words of posts (view `text`), with second segments and in windows as the collator reads them, or captions."""

    def __init__(self, collator: Collator, posts: Sequence[Post], view: str) -> None:
        needs = collator.needs
        self._reader = needs.reader if view == "text" else needs.caption_reader
        self._rows: list[tuple[tuple[str, ...], Sequence[str] | None]] = []
        self.keys, self.lengths, self.words = [], [], []
        known: set[str] = set()
        rows = _texts(collator, posts) if view == "text" else _captions(collator, posts)
        while chunk := list(islice(rows, _CHUNK)):
            text = collator.keep_keys(self._collate(chunk), view)
            assert text.attn_mask is not None and text.keys is not None
            for row, key, length in zip(chunk, text.keys, text.attn_mask.sum(1).tolist(), strict=True):
                if key not in known:
                    known.add(key)
                    self._rows.append(row)
                    self.keys.append(key)
                    self.lengths.append(length)
                    self.words.append(len(row[0]))

    def batch(self, numbers: Sequence[int]) -> tuple[TextBatch, list[int]]:
        return self._collate([self._rows[number] for number in numbers]), list(numbers)

    def _collate(self, rows: Sequence[tuple[tuple[str, ...], Sequence[str] | None]]) -> TextBatch:
        assert self._reader is not None
        tails = [tail for _, tail in rows if tail is not None]
        return self._reader.collate([words for words, _ in rows], tails or None)


def _texts(collator: Collator, posts: Sequence[Post]) -> Iterator[tuple[tuple[str, ...], Sequence[str] | None]]:
    needs = collator.needs
    for post in posts:
        second = needs.second_segment(post) if "second" in needs.views else None
        spans: Sequence[tuple[int, int]] = [(0, len(post.words))]
        if collator.windows:
            spans = needs.reader.windows(post.words, second or ())
        for start, end in spans:
            yield tuple(post.words[start:end]), second


def _captions(collator: Collator, posts: Sequence[Post]) -> Iterator[tuple[tuple[str, ...], None]]:
    yield (), None  # a picture without a caption
    for post in posts:
        for caption in collator.needs.captions(post):
            yield tuple(caption), None


class PictureInputs(ViewInputs):
    """The pictures of posts (view `whole`), the cells of their grids (`grid`) or the objects in them (`objects`)."""

    def __init__(self, collator: Collator, posts: Sequence[Post], view: str) -> None:
        assert collator.loader is not None
        # its own loader: the collator's tells which pictures of a batch are broken
        self._view, self._loader = view, PictureLoader(collator.loader.format)
        self._sources: dict[str, PictureSource] = {}
        for parts in collator.sources(posts, view).values():
            for source in self._loader.identified(parts):
                if source is not None:
                    self._sources.setdefault(source.digest, source)
        self.keys = list(self._sources)
        self.lengths = self.words = [0] * len(self._sources)

    def batch(self, numbers: Sequence[int]) -> tuple[PictureBatch, list[int]]:
        sources = [self._sources[self.keys[number]] for number in numbers]
        pixels = {row: each for row, each in enumerate(self._loader.read(sources)) if each is not None}
        there = list(pixels)
        decoded = torch.from_numpy(np.stack(list(pixels.values()))) if there else torch.zeros(0, 3, 1, 1)
        pictures = PictureBatch(decoded, [sources[row] for row in there], crops=self._view != "whole", view=self._view)
        return pictures, [numbers[row] for row in there]


@dataclass
class _Group:
    """Posts that are read together, as a split, with their inputs by view."""

    source: Any
    collator: Collator
    posts: Callable[[], Sequence[Post]]
    views: dict[str, ViewInputs]


class RunInputs:
    """The inputs of all posts that the loaders of a run read, split by split.

    Attributes:
        ranks: number of processes that read them.
        rank: number of this one.
    """

    def __init__(self) -> None:
        self.ranks, self.rank = 1, 0
        self._groups: list[_Group] = []

    def add(self, source: Any, collator: Collator, posts: Callable[[], Sequence[Post]]) -> None:
        """Take the posts of a loader.

        Args:
            source: what the loader reads; the same thing is taken once.
            collator: the loader's.
            posts: lists them when they are first needed.
        """
        if not any(group.source is source and group.collator.windows == collator.windows for group in self._groups):
            self._groups.append(_Group(source, collator, posts, {}))

    def clear(self) -> None:
        """Forget all posts."""
        self._groups.clear()

    def of(self, view: str) -> Iterator[ViewInputs]:
        """The inputs of a view, group by group."""
        for group in self._groups:
            if view not in group.views:
                kind = TextInputs if view in ("text", "captions") else PictureInputs
                group.views[view] = kind(group.collator, group.posts(), view)
            yield group.views[view]


def posts_of_episodes(episodes: Episodes, numbers: Sequence[int], k_shot: int) -> list[Post]:
    """The posts of some episodes, each once; all that they are drawn from where the episodes are many."""
    pools = [episodes.posts] if episodes.support_posts is episodes.posts else [episodes.support_posts, episodes.posts]
    if len(numbers) * k_shot >= sum(map(len, pools)):
        return [post for pool in pools for post in pool]
    drawn = [episodes.episode(number) for number in numbers]
    support, query = ({place for each in drawn for place in getattr(each, part)} for part in ("support", "query"))
    if len(pools) == 1:
        return [episodes.posts[place] for place in sorted(support | query)]
    return [pool[place] for pool, places in zip(pools, (support, query), strict=True) for place in sorted(places)]
