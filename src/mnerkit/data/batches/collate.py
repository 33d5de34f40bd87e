"""Posts to tensors: exactly the views that a method needs, plain or as an episode."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch, TextBatch, Windows, normalised, text_keys
from mnerkit.data.batches.needs import VIEWS, Needs, Reader
from mnerkit.data.batches.places import Places
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.objects import shown_objects
from mnerkit.data.pictures.picture_loader import PictureSource, object_sources, sources_of
from mnerkit.errors import DataError

if TYPE_CHECKING:
    from mnerkit.data.pictures.picture_loader import PictureLoader

_Place = tuple[int, int]  # row of the post, column of the picture
_PIXELS = {"whole", "grid", "objects"}


@dataclass
class _Shown:
    """What a view shows of the pictures of a batch, by place.

    Attributes:
        wanted: the parts of each picture that the view shows.
        sources: the same, with digests where towers cache; None for a part whose picture is missing or broken.
        known: places of pictures whose outputs the towers have cached.
        pixels: (size, size, 3) uint8 of each part, None where it is missing or broken; for places that were read.
    """

    wanted: Mapping[_Place, list[PictureSource]]
    sources: dict[_Place, list[PictureSource | None]] = field(default_factory=dict)
    known: set[_Place] = field(default_factory=set)
    pixels: dict[_Place, list[np.ndarray | None]] = field(default_factory=dict)

    @property
    def readable(self) -> bool:
        """Whether some part has pixels."""
        return any(part is not None for parts in self.pixels.values() for part in parts)


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
        windows: whether posts that are longer than the text tower reads are read in windows (`Batch.windows`); else
            they are cut.
        keyed: whether rows of pieces get their digests, for frozen text towers.
        as_bytes: whether pictures stay bytes until the batch is moved to its device (`Batch.bytes_of`).
    """

    def __init__(
        self,
        needs: Needs,
        loader: PictureLoader | None,
        tagset: TagSet,
        out_of_play: str = "error",
        known: Container[str] | None = None,
        windows: bool = False,
        keyed: bool = False,
        as_bytes: bool = False,
    ) -> None:
        unknown = needs.views - VIEWS.keys()
        if unknown:
            raise ValueError(f"no views {sorted(unknown)}; there are {', '.join(VIEWS)}")
        if needs.views & _PIXELS and loader is None:
            raise ValueError("the views `whole`, `grid` and `objects` need a picture loader")
        if needs.views >= {"grid", "objects"}:
            raise ValueError("a batch holds the crops of one view: `grid` or `objects`, not both")
        if needs.views >= {"captions", "labels"}:
            raise ValueError("a batch holds the words of one view: `captions` or `labels`, not both")
        if needs.views & {"captions", "labels"} and needs.caption_reader is None:
            raise ValueError("the views `captions` and `labels` need a caption reader")
        self.needs, self.loader, self.tagset, self.out_of_play, self.known = needs, loader, tagset, out_of_play, known
        self.windows, self.keyed, self.as_bytes = windows, keyed, as_bytes

    def __call__(self, posts: Sequence[Post]) -> Batch:
        """Collate posts, all of them scored."""
        batch = self._collate(posts, self.tagset, self.out_of_play)
        batch.known_places = Places(batch)
        return batch

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
        batch.known_places = Places(batch)
        return batch

    def length(self, post: Post) -> int:
        """Length of a post in the text tower's input, up to a constant: what batches by length sort by."""
        reader = self.needs.reader
        length = reader.length(post.words)
        return length + reader.length(self.needs.second_segment(post)) if "second" in self.needs.views else length

    def _collate(self, posts: Sequence[Post], tagset: TagSet, out_of_play: str, labelled: int | None = None) -> Batch:
        """All views of `posts`; tags where the first `labelled` of them (default: all) carry some."""
        views = self.needs.views
        second = [self.needs.second_segment(post) for post in posts] if "second" in views else None
        text, windows = self._read_text(posts, second)
        batch = Batch(list(posts), text, tagset, query=torch.ones(len(posts), dtype=torch.bool), windows=windows)
        if all(post.tags is not None for post in posts[:labelled]):
            batch.tags = torch.zeros(text.word_mask.shape, dtype=torch.long)
            if out_of_play == "ignore":
                batch.play_mask = text.word_mask.clone()
            for row, post in enumerate(posts):
                tags = post.tags if post.tags is not None else ["O"] * len(post.words)
                batch.tags[row, : len(post.words)] = torch.tensor(tagset.encode(tags, out_of_play))
                if batch.play_mask is not None:
                    batch.play_mask[row, : len(post.words)] = torch.tensor(tagset.in_play(tags), dtype=torch.bool)
        shown = self._shown(posts)
        batch.bytes_of = self.loader.format if shown and self.as_bytes and self.loader is not None else None
        if "whole" in views:
            self._add_whole(batch, shown["whole"])
        for view in views & {"grid", "objects"}:
            self._add_crops(batch, view, shown[view])
        if views & {"captions", "labels"}:
            self._add_captions(batch)
        self._add_relevance(batch)
        if self.loader is not None and self.loader.broken:
            # a worker's findings reach the main process with the batch
            batch.notes["broken"] = dict(self.loader.broken)
            self.loader.broken.clear()
        if self.loader is not None and self.loader.cache is not None and self.loader.cache.problem:
            batch.notes["picture_cache"] = self.loader.cache.problem
        return batch

    def _read_text(
        self, posts: Sequence[Post], second: Sequence[Sequence[str]] | None
    ) -> tuple[TextBatch, Windows | None]:
        """The words of posts with their second segments, and windows if they are wanted and some post is too long."""
        reader, rows = self.needs.reader, [post.words for post in posts]
        if not self.windows or all(reader.words_read(words) == len(words) for words in rows):
            return self.keep_keys(reader.collate(rows, second), "text"), None
        tails = second if second is not None else [()] * len(posts)
        spans = [reader.windows(words, tail) for words, tail in zip(rows, tails, strict=True)]
        owner = [row for row, each in enumerate(spans) for _ in each]
        flat = [span for each in spans for span in each]
        text = reader.collate(
            [rows[row][start:end] for row, (start, end) in zip(owner, flat, strict=True)],
            None if second is None else [second[row] for row in owner],
        )
        self.keep_keys(text, "text")
        window = torch.zeros(len(posts), max(1, *map(len, rows)), dtype=torch.long)
        mask = torch.zeros(window.shape, dtype=torch.bool)
        first = 0
        for row, each in enumerate(spans):
            mask[row, : len(rows[row])] = True
            window[row] = first
            window[row, : len(rows[row])] += torch.from_numpy(nearest_windows(each, len(rows[row])))
            first += len(each)
        starts = torch.tensor([start for start, _ in flat])
        return TextBatch(list(rows), mask), Windows(text, torch.tensor(owner), starts, window)

    def keep_keys(self, text: TextBatch, view: str) -> TextBatch:
        """Note the digests of the rows of a view where frozen towers ask for them; the same batch."""
        if self.keyed and text.input_ids is not None:
            text.view, text.keys = view, text_keys(text)
        return text

    def _axis(self, posts: Sequence[Post]) -> int:
        """Length m of the image axis."""
        return max([1, *(min(len(post.images), self.needs.max_images) for post in posts)])

    def _add_whole(self, batch: Batch, shown: _Shown) -> None:
        pixels, sources, mask = self._tensors(shown, len(batch), 1)
        batch.image_mask = mask[:, :, 0]  # (B, m)
        batch.image_sources = sources
        batch.images = None if pixels is None else pixels.squeeze(2)  # (B, m, 3, H, W)

    def _add_crops(self, batch: Batch, view: str, shown: _Shown) -> None:
        """The cells of a grid, or the objects, in each picture."""
        wanted, k = shown.wanted, self.needs.grid
        places = k * k if view == "grid" else max([1, *map(len, wanted.values())])
        if view == "objects" and self.needs.every_place:
            places = self.needs.max_objects
        pixels, sources, mask = self._tensors(shown, len(batch), places)
        m = mask.shape[1]
        batch.crop_view = view
        batch.crop_mask = mask.flatten(1)  # (B, m places)
        batch.crop_sources = sources
        batch.crops = None if pixels is None else pixels.flatten(1, 2)  # (B, m places, 3, h, w)
        batch.crop_image = torch.arange(m).repeat_interleave(places).expand(len(batch), -1).clone()
        if batch.image_mask is None:
            batch.image_mask = mask.any(2)
        if view == "grid":
            batch.boxes = _cells(k).repeat(m, 1).expand(len(batch), -1, -1).clone()  # (B, m k k, 4)
            return
        boxes = torch.zeros(len(batch), m, places, 4)
        for (row, column), parts in wanted.items():
            boxes[row, column, : len(parts)] = torch.tensor([part.box or (0.0,) * 4 for part in parts])
        batch.boxes = boxes.flatten(1, 2) * batch.crop_mask.unsqueeze(-1)  # (B, m o, 4)

    def sources(self, posts: Sequence[Post], view: str) -> dict[_Place, list[PictureSource]]:
        """What a view shows of each picture, by row of the post and column of the picture."""
        assert self.loader is not None
        format, needs = self.loader.format, self.needs
        refs = self._refs(posts)
        if view == "objects":
            most = needs.max_objects
            return {place: object_sources(ref, format, shown_objects(ref, most)) for place, ref in refs.items()}
        return {place: sources_of(ref, format, needs.grid if view == "grid" else 0) for place, ref in refs.items()}

    def _refs(self, posts: Sequence[Post]) -> dict[_Place, ImageRef]:
        """The pictures that are looked at: the first m of each post."""
        most = self.needs.max_images
        return {(row, column): ref for row, post in enumerate(posts) for column, ref in enumerate(post.images[:most])}

    def _shown(self, posts: Sequence[Post]) -> dict[str, _Shown]:
        """What each view shows of the pictures, with pixels where some picture is not known."""
        views = {view: _Shown(self.sources(posts, view)) for view in sorted(self.needs.views & _PIXELS)}
        for each in views.values():
            self._identify(each)
        self._decode([(each, each.sources.keys() - each.known) for each in views.values()])
        # all pictures of a view are decoded, or none
        late = [each for each in views.values() if each.readable or not each.known]
        self._decode([(each, each.known) for each in late])
        return views

    def _identify(self, shown: _Shown) -> None:
        """Find out where each part comes from, and which pictures are known in all their parts."""
        if self.known is None:
            shown.sources = {place: [*parts] for place, parts in shown.wanted.items()}
            return
        assert self.loader is not None
        for place, wanted in shown.wanted.items():
            parts = self.loader.identified(wanted)
            if any(parts):
                shown.sources[place] = parts
                if all(part is None or part.digest in self.known for part in parts):
                    shown.known.add(place)

    def _decode(self, requested: Sequence[tuple[_Shown, Set[_Place]]]) -> None:
        """Read the pictures at some places of each view; a picture in several views is decoded once."""
        for place in sorted(set().union(*(places for _, places in requested))):
            assert self.loader is not None
            views = [shown for shown, places in requested if place in places]
            parts = iter(self.loader.resized([part for shown in views for part in shown.sources[place]]))
            for shown in views:
                shown.pixels[place] = list(islice(parts, len(shown.sources[place])))

    def _tensors(
        self, shown: _Shown, size: int, places: int
    ) -> tuple[Tensor | None, list[PictureSource | None] | None, Tensor]:
        """Pixels of pictures, or where they come from.

        Args:
            shown: what is seen of each picture.
            size: B, number of posts.
            places: the most that is seen of a picture.

        Returns:
            Pixels (B, m, places, 3, size, size), zeros where masked, or bytes (B, m, places, size, size, 3); None where
            all are cached. B * m * places sources; None without a cache. The mask (B, m, places).
        """
        assert self.loader is not None
        format, m = self.loader.format, max([1, *(column + 1 for _, column in shown.wanted)])
        if self.needs.every_place:
            m = self.needs.max_images
        decoded = shown.readable or not shown.known
        seen: Mapping[_Place, Sequence[Any]] = (
            shown.pixels if decoded else {each: shown.sources[each] for each in shown.known}
        )
        raw = np.zeros((size, m, places, format.size, format.size, 3), np.uint8) if decoded else None
        mask = torch.zeros(size, m, places, dtype=torch.bool)
        listed: list[PictureSource | None] = [None] * mask.numel()
        for (row, column), parts in seen.items():
            for place, part in enumerate(parts):
                if part is None:
                    continue
                mask[row, column, place] = True
                listed[(row * m + column) * places + place] = shown.sources[row, column][place]
                if raw is not None:
                    raw[row, column, place] = part
        pixels = None if raw is None else torch.from_numpy(raw)
        if pixels is not None and not self.as_bytes:
            pixels = normalised(pixels, mask, format)
        return pixels, None if self.known is None else listed, mask

    def _add_relevance(self, batch: Batch) -> None:
        """The images' scores where all are known; a method that needs them can't do without one."""
        m = self._axis(batch.posts)
        scores = {place: ref.relevance for place, ref in self._refs(batch.posts).items()}
        lacking = next((place for place, score in scores.items() if score is None), None)
        if lacking is None and (scores or self.needs.relevance):
            batch.relevance = torch.zeros(len(batch), m)
            for (row, column), score in scores.items():
                batch.relevance[row, column] = float(score or 0)
        elif lacking is not None:
            self.check(batch.posts[lacking[0]])

    def check(self, post: Post) -> None:
        """Refuse a post that the method can't read.

        Raises:
            DataError: the method needs relevance scores, and a picture has none.
        """
        lacking = [ref for ref in post.images[: self.needs.max_images] if ref.relevance is None]
        if lacking and self.needs.relevance:
            raise DataError(
                f"post {post.id}: picture {lacking[0].name} has no relevance score.\n"
                "Give scores of all pictures: --data.relevance FILE (oracle for the probe corpus), or to predict "
                "'relevance' in the input, a list with one a picture."
            )

    def _add_captions(self, batch: Batch) -> None:
        assert self.needs.caption_reader is not None
        reader: Reader = self.needs.caption_reader
        m = self._axis(batch.posts)
        rows: list[list[str]] = []
        for post in batch.posts:
            captions = self.needs.captions(post)
            rows += captions + [[]] * (m - len(captions))
        batch.captions = self.keep_keys(reader.collate(rows), "captions")
        batch.caption_mask = torch.tensor([bool(row) for row in rows]).view(len(batch), m)


def nearest_windows(spans: Sequence[tuple[int, int]], count: int) -> np.ndarray:
    """The window among `spans` in which each of `count` words is farthest from an edge; of equal ones the first.

    Starts and ends of the spans increase, so a word's window is one of two: the last one whose right edge is the nearer
    one to it, or the first one whose left edge is. Time and memory grow with the number of words alone.
    """
    words, (starts, ends) = np.arange(count), np.array(spans).T
    last = len(spans) - 1
    following = np.searchsorted(starts + ends, 2 * words + 1, side="right")
    left, right = (following - 1).clip(0, last), following.clip(0, last)

    def distance(window: np.ndarray) -> np.ndarray:
        """Words between a word and the nearer edge; negative outside of the window."""
        return np.minimum(words - starts[window], ends[window] - 1 - words)

    return np.where(distance(right) > distance(left), right, left)


def _cells(k: int) -> Tensor:
    """(k k, 4) boxes of a k x k grid, row-major, as shares of width and height."""
    rows, columns = np.divmod(np.arange(k * k), k)
    return torch.from_numpy(np.stack([columns, rows, columns + 1, rows + 1], 1) / k).float()
