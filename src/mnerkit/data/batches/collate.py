"""Posts to tensors: exactly the views that a method needs, plain or as an episode."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import VIEWS, Needs, Reader
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.objects import shown_objects
from mnerkit.errors import DataError

if TYPE_CHECKING:
    from mnerkit.data.pictures.picture_loader import PictureLoader, PictureSource

_Place = tuple[int, int]  # row of the post, column of the picture
_Seen = Any  # a sequence of arrays, None for each that can't be had; or None for all of them
_PIXELS = {"whole", "grid", "objects"}


class Collator:
    """Turns posts into a `Batch`.

    A picture that is missing or broken (and let through by the loader's policy) is zeros with `image_mask` False: a
    method must cope with a post without pictures, and no stand-in is taken for a real one. The image axis is as long
    as the batch's longest list of pictures, at most `needs.max_images`, at least 1.

    Args:
        needs: the method's readers and views.
        loader: reads pictures; may be None where `needs` has none of `whole`, `grid` and `objects`.
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
        if needs.views & _PIXELS and loader is None:
            raise ValueError("the views `whole`, `grid` and `objects` need a picture loader")
        if needs.views >= {"grid", "objects"}:
            raise ValueError("a batch holds the crops of one view: `grid` or `objects`, not both")
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
        if "objects" in views:
            self._add_objects(batch)
        if "captions" in views:
            self._add_captions(batch)
        self._add_relevance(batch)
        if self.loader is not None and self.loader.broken:
            # a worker's findings reach the main process with the batch
            batch.notes["broken"] = dict(self.loader.broken)
            self.loader.broken.clear()
        return batch

    def _axis(self, posts: Sequence[Post]) -> int:
        """Length m of the image axis."""
        return max([1, *(min(len(post.images), self.needs.max_images) for post in posts)])

    def _add_whole(self, batch: Batch) -> None:
        loader = self._loader
        m = self._axis(batch.posts)
        pixels, sources, mask = self._read(batch.posts, m, 1, lambda ref: _one(loader.whole(ref)), loader.sources)
        batch.image_mask = mask[:, :, 0]  # (B, m)
        batch.image_sources = sources
        batch.images = None if pixels is None else pixels.squeeze(2)  # (B, m, 3, H, W)

    def _add_grid(self, batch: Batch) -> None:
        k, loader = self.needs.grid, self._loader
        self._add_crops(batch, "grid", k * k, lambda ref: loader.grid(ref, k), lambda ref: loader.sources(ref, k))
        m = self._axis(batch.posts)
        batch.boxes = _cells(k).repeat(m, 1).expand(len(batch), -1, -1).clone()  # (B, m k k, 4)

    def _add_objects(self, batch: Batch) -> None:
        most, loader, m = self.needs.max_objects, self._loader, self._axis(batch.posts)
        shown = {id(ref): shown_objects(ref, most) for post in batch.posts for ref in post.images[:m]}
        o = max([1, *(len(each) for each in shown.values())])
        self._add_crops(
            batch,
            "objects",
            o,
            lambda ref: loader.objects(ref, shown[id(ref)]),
            lambda ref: loader.object_sources(ref, shown[id(ref)]),
        )
        boxes = torch.zeros(len(batch), m, o, 4)
        for row, post in enumerate(batch.posts):
            for column, ref in enumerate(post.images[:m]):
                for place, each in enumerate(shown[id(ref)]):
                    if each.box is not None:
                        boxes[row, column, place] = torch.tensor(each.box)
        assert batch.crop_mask is not None
        batch.boxes = boxes.flatten(1, 2) * batch.crop_mask.unsqueeze(-1)  # (B, m o, 4)

    def _add_crops(
        self,
        batch: Batch,
        view: str,
        places: int,
        decode: Callable[[ImageRef], _Seen],
        tell: Callable[[ImageRef], Sequence[PictureSource | None] | None],
    ) -> None:
        """Crops, `places` of each picture; see `_read`."""
        m = self._axis(batch.posts)
        pixels, sources, mask = self._read(batch.posts, m, places, decode, tell)
        batch.crop_view = view
        batch.crop_mask = mask.flatten(1)  # (B, m places)
        batch.crop_sources = sources
        batch.crops = None if pixels is None else pixels.flatten(1, 2)  # (B, m places, 3, h, w)
        batch.crop_image = torch.arange(m).repeat_interleave(places).expand(len(batch), -1).clone()
        if batch.image_mask is None:
            batch.image_mask = mask.any(2)

    @property
    def _loader(self) -> PictureLoader:
        assert self.loader is not None
        return self.loader

    def _read(
        self,
        posts: Sequence[Post],
        m: int,
        places: int,
        decode: Callable[[ImageRef], _Seen],
        tell: Callable[[ImageRef], Sequence[PictureSource | None] | None],
    ) -> tuple[Tensor | None, list[PictureSource | None] | None, Tensor]:
        """What is seen of the first m pictures of each post.

        Args:
            posts: B of them.
            m: length of the image axis.
            places: the most that is seen of a picture.
            decode: a picture to what is seen of it, in order; None for what can't be had.
            tell: likewise, what stands for each.

        Returns:
            Pixels (B, m, places, 3, size, size), zeros where masked, None where all are known; B * m * places sources,
            None where nobody knows any; the mask (B, m, places).
        """
        size = self._loader.format.size
        refs = {(row, column): ref for row, post in enumerate(posts) for column, ref in enumerate(post.images[:m])}
        sources: dict[_Place, Sequence[PictureSource | None]] = {}
        known: set[_Place] = set()
        if self.known is not None:
            told = {place: tell(ref) for place, ref in refs.items()}
            sources = {place: each for place, each in told.items() if each is not None and any(each)}
            refs = {place: refs[place] for place in sources}
            known = {
                place for place, each in sources.items() if all(one is None or one.digest in self.known for one in each)
            }

        def decoded(wanted: Iterable[_Place]) -> dict[_Place, Sequence[Any]]:
            tried = {place: decode(refs[place]) for place in wanted}
            return {place: each for place, each in tried.items() if each is not None}

        seen = decoded(place for place in refs if place not in known)
        if seen or not known:  # all of them are decoded, or none
            seen |= decoded(known)
            pixels = torch.zeros(len(posts), m, places, 3, size, size)
        else:
            seen, pixels = {place: sources[place] for place in known}, None
        mask = torch.zeros(len(posts), m, places, dtype=torch.bool)
        listed: list[PictureSource | None] = [None] * mask.numel()
        for (row, column), parts in seen.items():
            for place, part in enumerate(parts):
                if part is None:
                    continue
                mask[row, column, place] = True
                if pixels is not None:
                    pixels[row, column, place] = torch.from_numpy(part)
                if sources:
                    listed[(row * m + column) * places + place] = sources[row, column][place]
        return pixels, None if self.known is None else listed, mask

    def _add_relevance(self, batch: Batch) -> None:
        """The images' scores where all are known; a method that needs them can't do without one."""
        m = self._axis(batch.posts)
        scores = {
            (row, column): ref.relevance
            for row, post in enumerate(batch.posts)
            for column, ref in enumerate(post.images[:m])
        }
        lacking = next((place for place, score in scores.items() if score is None), None)
        if lacking is None and (scores or self.needs.relevance):
            batch.relevance = torch.zeros(len(batch), m)
            for (row, column), score in scores.items():
                batch.relevance[row, column] = float(score or 0)
        elif lacking is not None and self.needs.relevance:
            post = batch.posts[lacking[0]]
            raise DataError(
                f"post {post.id}: picture {post.images[lacking[1]].name} has no relevance score.\n"
                "Give scores of all pictures: --data.relevance FILE (oracle for the probe corpus), or to predict "
                "'relevance' in the input, a list with one a picture."
            )

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


def _one(picture: np.ndarray | None) -> _Seen:
    return None if picture is None else [picture]


def _cells(k: int) -> Tensor:
    """(k k, 4) boxes of a k x k grid, row-major, as shares of width and height."""
    rows, columns = np.divmod(np.arange(k * k), k)
    return torch.from_numpy(np.stack([columns, rows, columns + 1, rows + 1], 1) / k).float()
