"""Posts to tensors: exactly the views that a method needs, plain or as an episode."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mnerkit.data.batch import Batch
from mnerkit.data.post import Post
from mnerkit.data.tagset import TagSet
from mnerkit.data.views import VIEWS, Needs

if TYPE_CHECKING:
    from mnerkit.data.images import PictureLoader
    from mnerkit.data.picture_source import PictureSource
    from mnerkit.data.text import Reader

_Place = tuple[int, int]  # row of the post, column of the picture


class Collator:
    """Turns posts into a `Batch`.

    A picture that is missing or broken (and let through by the loader's policy) is zeros with `image_mask` False: a
    method must cope with a post without pictures, and no stand-in is taken for a real one. The image axis is as long
    as the batch's longest list of pictures, at most `needs.max_images`, at least 1.

    Args:
        needs: the method's readers and views.
        loader: reads pictures; may be None where `needs` has neither `whole` nor `grid`.
        tagset: the tags of plain batches; an episode has its own.
        out_of_play: what becomes of a tag outside `tagset`: an error (O in an episode), O, or O and no part of
            `play_mask` (`ignore`). Padding is no part of that mask either.
        known: digests of the pictures that the vision towers know already (`PictureSource.digest`). Where all pictures
            of a batch are among them none is decoded.
    """

    def __init__(
        self,
        needs: Needs,
        loader: PictureLoader | None,
        tagset: TagSet,
        out_of_play: str = "error",
        known: Container[str] | None = None,
    ) -> None:
        unknown = needs.views - VIEWS.keys()
        if unknown:
            raise ValueError(f"no views {sorted(unknown)}; there are {', '.join(VIEWS)}")
        if needs.views & {"whole", "grid"} and loader is None:
            raise ValueError("the views `whole` and `grid` need a picture loader")
        if "captions" in needs.views and needs.caption_reader is None:
            raise ValueError("the view `captions` needs a caption reader")
        self.needs, self.loader, self.tagset, self.out_of_play, self.known = needs, loader, tagset, out_of_play, known

    def __call__(self, posts: Sequence[Post]) -> Batch:
        """Collate posts, all of them scored."""
        return self._collate(posts, self.tagset, self.out_of_play)

    def episode(
        self, support: Sequence[Post], query: Sequence[Post], types: Sequence[str], number: int | None = None
    ) -> Batch:
        """Collate an episode: support rows, then query rows; tags of types that are not in play become O.

        Query posts to predict carry no tags: their rows are O, and nothing reads them.
        """
        out_of_play = "ignore" if self.out_of_play == "ignore" else "O"
        batch = self._collate([*support, *query], TagSet(tuple(types)), out_of_play, labelled=len(support))
        batch.query[: len(support)] = False
        batch.episode = number
        return batch

    def length(self, post: Post) -> int:
        """Length of a post in the text tower's input, up to a constant: what batches by length sort by."""
        reader = self.needs.reader
        length = reader.length(post.words)
        return length + reader.length(self._second(post)) if "second" in self.needs.views else length

    def _second(self, post: Post) -> list[str]:
        """Words of the post's captions, one picture after the other."""
        return [word for image in post.images[: self.needs.max_images] for word in (image.caption or "").split()]

    def _collate(self, posts: Sequence[Post], tagset: TagSet, out_of_play: str, labelled: int | None = None) -> Batch:
        """All views of `posts`; tags where the first `labelled` of them (default: all) carry some."""
        views = self.needs.views
        second = [self._second(post) for post in posts] if "second" in views else None
        text = self.needs.reader.collate([post.words for post in posts], second)
        batch = Batch(list(posts), text, tagset, query=torch.ones(len(posts), dtype=torch.bool))
        if all(post.tags is not None for post in posts[:labelled]):
            batch.tags = torch.zeros(text.word_mask.shape, dtype=torch.long)
            if out_of_play == "ignore":
                batch.play_mask = text.word_mask.clone()
            for row, post in enumerate(posts):
                tags = post.tags if post.tags is not None else ["O"] * len(post.words)
                batch.tags[row, : len(post.words)] = torch.tensor(tagset.encode(tags, out_of_play))
                if batch.play_mask is not None:
                    batch.play_mask[row, : len(post.words)] = torch.tensor(tagset.in_play(tags), dtype=torch.bool)
        if "whole" in views:
            self._add_whole(batch)
        if "grid" in views:
            self._add_grid(batch)
        if "captions" in views:
            self._add_captions(batch)
        if self.loader is not None and self.loader.broken:
            # a worker's findings reach the main process with the batch
            batch.notes["broken"] = dict(self.loader.broken)
            self.loader.broken.clear()
        return batch

    def _axis(self, posts: Sequence[Post]) -> int:
        """Length m of the image axis."""
        return max([1, *(min(len(post.images), self.needs.max_images) for post in posts)])

    def _add_whole(self, batch: Batch) -> None:
        m = self._axis(batch.posts)
        pixels, sources, mask = self._read(batch.posts, m, 0)
        batch.image_mask = mask[:, :, 0]  # (B, m)
        batch.image_sources = sources
        batch.images = None if pixels is None else pixels.squeeze(2)  # (B, m, 3, H, W)

    def _add_grid(self, batch: Batch) -> None:
        k, m = self.needs.grid, self._axis(batch.posts)
        pixels, sources, mask = self._read(batch.posts, m, k)
        batch.crop_mask = mask.flatten(1)  # (B, m k k)
        batch.crop_sources = sources
        batch.crops = None if pixels is None else pixels.flatten(1, 2)  # (B, m k k, 3, h, w)
        batch.crop_image = torch.arange(m).repeat_interleave(k * k).expand(len(batch), -1).clone()
        batch.boxes = _cells(k).repeat(m, 1).expand(len(batch), -1, -1).clone()  # (B, m k k, 4)
        if batch.image_mask is None:
            batch.image_mask = mask[:, :, 0].clone()

    def _read(
        self, posts: Sequence[Post], m: int, k: int
    ) -> tuple[Tensor | None, list[PictureSource | None] | None, Tensor]:
        """The first m pictures of each post, whole (k = 0, one cell) or as the cells of a k x k grid.

        Returns:
            Pixels (B, m, cells, 3, size, size), zeros where masked, None where all are known; B * m * cells sources,
            None where nobody knows any; the mask (B, m, cells).
        """
        assert self.loader is not None
        loader, size, cells = self.loader, self.loader.format.size, max(1, k * k)
        refs = {(row, column): ref for row, post in enumerate(posts) for column, ref in enumerate(post.images[:m])}
        sources: dict[_Place, list[PictureSource]] = {}
        known: set[_Place] = set()
        if self.known is not None:
            told = {place: loader.sources(ref, k) for place, ref in refs.items()}
            sources = {place: each for place, each in told.items() if each is not None}
            refs = {place: refs[place] for place in sources}
            known = {place for place, each in sources.items() if all(one.digest in self.known for one in each)}

        def decoded(places: Iterable[_Place]) -> dict[_Place, np.ndarray]:
            tried = {place: loader.grid(refs[place], k) if k else loader.whole(refs[place]) for place in places}
            return {place: each for place, each in tried.items() if each is not None}

        new = decoded(place for place in refs if place not in known)
        wanted = bool(new) or not known  # all of them, or none
        new |= decoded(known if wanted else ())
        mask = torch.zeros(len(posts), m, cells, dtype=torch.bool)
        pixels = torch.zeros(len(posts), m, cells, 3, size, size) if wanted else None
        listed: list[PictureSource | None] = [None] * mask.numel()
        for row, column in new if wanted else known:
            mask[row, column] = True
            if pixels is not None:
                pixels[row, column] = torch.from_numpy(new[row, column])
            if sources:
                begin = (row * m + column) * cells
                listed[begin : begin + cells] = sources[row, column]
        return pixels, None if self.known is None else listed, mask

    def _add_captions(self, batch: Batch) -> None:
        assert self.needs.caption_reader is not None
        reader: Reader = self.needs.caption_reader
        m = self._axis(batch.posts)
        rows: list[list[str]] = []
        for post in batch.posts:
            captions = [(image.caption or "").split() for image in post.images[:m]]
            rows += captions + [[]] * (m - len(captions))
        batch.captions = reader.collate(rows)
        batch.caption_mask = torch.tensor([bool(row) for row in rows]).view(len(batch), m)


def _cells(k: int) -> Tensor:
    """(k k, 4) boxes of a k x k grid, row-major, as shares of width and height."""
    rows, columns = np.divmod(np.arange(k * k), k)
    return torch.from_numpy(np.stack([columns, rows, columns + 1, rows + 1], 1) / k).float()
