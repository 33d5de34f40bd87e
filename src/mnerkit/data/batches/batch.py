"""The padded tensors of some posts. Every axis of variable length has a boolean mask, true = real."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor

from mnerkit.data.batches.places import Places
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet

if TYPE_CHECKING:
    from mnerkit.data.pictures.decoding import PictureFormat
    from mnerkit.data.pictures.picture_loader import PictureSource

Moved = TypeVar("Moved", bound="_Movable")


class _Movable:
    """Tensors of a dataclass, moved together (Lightning looks for `to` and `pin_memory`)."""

    def _each(self: Moved, change: Any) -> Moved:
        for each in fields(self):  # type: ignore[arg-type]
            value = getattr(self, each.name)
            if isinstance(value, Tensor | _Movable):
                setattr(self, each.name, change(value))
        return self

    def _all(self) -> dict[str, Tensor]:
        """Every tensor, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def _tensors(self, rows: Tensor) -> dict[str, Any]:
        """The rows of these numbers (R,) of every tensor, by name."""
        return {name: value[rows] for name, value in self._all().items()}

    def to(self: Moved, device: torch.device | str, non_blocking: bool = False) -> Moved:
        """Move every tensor, in place; a pinned one without waiting, which Lightning asks for tensors alone."""

        def moved(value: Any) -> Any:
            pinned = isinstance(value, Tensor) and value.is_pinned()
            return value.to(device, non_blocking=non_blocking or pinned)

        return self._each(moved)

    def pin_memory(self: Moved) -> Moved:
        """Pin every tensor, in place."""
        return self._each(lambda value: value.pin_memory())


@dataclass
class TextBatch(_Movable):
    """Word sequences, as a text tower reads them: B rows, W words, n pieces, C characters.

    A tower that reads pieces gets the first block, one that reads whole words the second; the other is None.

    Attributes:
        words: the words of each row.
        word_mask: (B, W) bool.
        input_ids: (B, n) long, piece ids with the tokenizer's special pieces.
        attn_mask: (B, n) bool.
        type_ids: (B, n) long, 1 in the second segment.
        piece_word: (B, n) long, the word of each piece; -1 for special pieces, padding and the second segment.
        first_piece: (B, W) long, the first piece of each word; -1 where the length limit cut the word off.
        word_ids: (B, V) long, numbers in the vocabulary; 0 pads, 1 is unknown. V = W; a second segment stands behind
            a row's words, and V grows by it.
        shapes: (B, V) long, number of the word's shape (capitals, digits, hashtag ...); 0 pads.
        chars: (B, V, C) long, character numbers; 0 pads, 1 is unknown.
        view: `text` or `captions` where the collator made the rows; empty for what was made of them.
        keys: digest of each row as the collator made it (`text_keys`), for frozen towers. A copy by `replace` has none,
            so that no row is taken for another one.
    """

    words: list[tuple[str, ...]]
    word_mask: Tensor
    input_ids: Tensor | None = None
    attn_mask: Tensor | None = None
    type_ids: Tensor | None = None
    piece_word: Tensor | None = None
    first_piece: Tensor | None = None
    word_ids: Tensor | None = None
    shapes: Tensor | None = None
    chars: Tensor | None = None
    view: str = field(default="", init=False)
    keys: list[str] | None = field(default=None, init=False)

    @property
    def read_mask(self) -> Tensor:
        """(B, W) bool: words that the tower sees. A word that was cut off is predicted O and stays gold."""
        if self.first_piece is None:
            return self.word_mask
        return self.word_mask & (self.first_piece >= 0)

    def select(self, rows: Tensor) -> TextBatch:
        """The rows of these numbers (R,), with their padding."""
        numbers = rows.tolist()
        chosen = replace(self, words=[self.words[row] for row in numbers], **self._tensors(rows))
        chosen.view, chosen.keys = self.view, self.keys and [self.keys[row] for row in numbers]
        return chosen

    def repeated(self, times: int) -> TextBatch:
        """All rows, this many times one after the other."""
        tensors: dict[str, Any] = {
            name: value.repeat(times, *(1,) * (value.dim() - 1)) for name, value in self._all().items()
        }
        return replace(self, words=self.words * times, **tensors)

    def row(self, row: int) -> TextBatch:
        """One row of a batch of pieces, without padding."""
        assert self.attn_mask is not None and self.first_piece is not None
        at, words = slice(row, row + 1), max(1, int(self.word_mask[row].sum()))
        pieces = int(self.attn_mask[row].nonzero()[-1]) + 1 if self.attn_mask[row].any() else 1
        names = ("input_ids", "attn_mask", "type_ids", "piece_word")
        cut: dict[str, Any] = {name: getattr(self, name)[at, :pieces] for name in names}
        return TextBatch(self.words[at], self.word_mask[at, :words], first_piece=self.first_piece[at, :words], **cut)


def text_keys(text: TextBatch) -> list[str]:
    """Digest of each row of pieces: the pieces, the word of each, and the number of words, of which some are cut off.

    Raises:
        ValueError: the batch contains no pieces.
    """
    if text.input_ids is None or text.attn_mask is None or text.piece_word is None:
        raise ValueError("the batch contains no pieces: it must come from a tower that reads pieces")
    mask, counts = text.attn_mask.cpu().numpy(), text.word_mask.sum(1).tolist()
    pieces = torch.stack([text.input_ids, text.piece_word, text.attn_mask.long()], -1).cpu().numpy()  # (B, n, 3)
    lengths = [int(row.nonzero()[0][-1]) + 1 if row.any() else 0 for row in mask]
    return [
        hashlib.sha256(f"{count} words\n".encode() + row[:length].tobytes()).hexdigest()
        for row, length, count in zip(pieces, lengths, counts, strict=True)
    ]


def normalised(raw: Tensor, mask: Tensor, format: PictureFormat) -> Tensor:
    """Pictures as bytes, (..., H, W, 3) uint8, to (..., 3, H, W) float, zeros where `mask` (...) is false.

    The same to the last bit as `PictureFormat.normalised`, on any device.
    """
    scale, shift = _linear(format, raw.device)
    pixels = raw.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    pixels.mul_(scale).sub_(shift)
    return pixels.masked_fill_(~mask.view(*mask.shape, 1, 1, 1), 0)


@lru_cache(maxsize=16)
def _linear(format: PictureFormat, device: torch.device) -> tuple[Tensor, Tensor]:
    """`PictureFormat.linear`, (3, 1, 1) each; copied to a device once."""
    scale, shift = (torch.from_numpy(each).view(3, 1, 1).to(device) for each in format.linear())
    return scale, shift


@dataclass
class PictureBatch:
    """N pictures for a vision tower: decoded, or only the sources that they are read from.

    Attributes:
        decoded: (N, 3, H, W) float, normalised, zeros where masked; None where all were known to be in the cache.
        sources: what each is, None where its place is masked; None for all where nobody asked.
        device: where their states belong.
        crops: whether they were cut from pictures (grid cells, objects).
        view: `whole`, `grid` or `objects` where they are those of a batch; else empty.
    """

    decoded: Tensor | None
    sources: list[PictureSource | None] | None = None
    device: torch.device | str = "cpu"
    crops: bool = False
    view: str = ""

    def __len__(self) -> int:
        return len(self.decoded if self.decoded is not None else self.sources or ())

    def select(self, rows: Tensor) -> PictureBatch:
        """The pictures of these numbers (R,)."""
        sources = None if self.sources is None else [self.sources[row] for row in rows.tolist()]
        decoded = None if self.decoded is None else self.decoded[rows]
        return replace(self, decoded=decoded, sources=sources)

    def pixels(self, row: int | None = None) -> Tensor:
        """(N, 3, H, W), or (1, 3, H, W) of one row; decoded now where they were not.

        Raises:
            DataError: a file that is gone or broken by now.
        """
        if self.decoded is not None:
            return self.decoded if row is None else self.decoded[row : row + 1]
        from mnerkit.data.pictures.picture_loader import read_pixels

        assert self.sources is not None
        wanted = self.sources if row is None else self.sources[row : row + 1]
        rows = [place for place, source in enumerate(wanted) if source is not None]
        if not rows:
            raise ValueError("no picture of the batch is real: there is nothing to decode")
        read = torch.from_numpy(read_pixels([source for source in wanted if source is not None]))
        pixels = read.new_zeros(len(wanted), *read.shape[1:])
        pixels[rows] = read
        return pixels.to(self.device)


@dataclass
class Windows(_Movable):
    """Overlapping windows of the posts of a batch, of which some are longer than the text tower reads.

    Attributes:
        text: words of the N windows, as the tower reads them.
        owner: (N,) long, row of the post that a window belongs to.
        start: (N,) long, number of the window's first word within its post.
        window: (B, W) long, the window that each word is read in; a window of the same post where padded.
    """

    text: TextBatch
    owner: Tensor
    start: Tensor
    window: Tensor

    def select(self, rows: Tensor) -> Windows:
        """The windows of these posts (R,)."""
        numbers, window = torch.unique(self.window[rows], return_inverse=True)
        owner = torch.zeros_like(numbers)
        owner[window] = torch.arange(len(rows), device=rows.device).unsqueeze(1).expand_as(window)
        return Windows(self.text.select(numbers), owner, self.start[numbers], window)


@dataclass
class Batch(_Movable):
    """The padded tensors of B posts with up to m images each; what a method did not ask for is None.

    In an episode the rows are the support posts and then the query posts; `query` marks those that are scored.

    Attributes:
        posts: the posts, one a row.
        text: their words.
        tagset: meaning of the numbers in `tags`: the corpus's types, or those in play in this episode.
        query: (B,) bool, rows that are decoded and scored (all of them outside episodes).
        tags: (B, W) long, 0 where padded; None where the posts carry no tags.
        play_mask: (B, W) bool, words whose tag counts; None: all.
        images: (B, m, 3, H, W) float, normalised for the vision tower; zeros where missing. Methods ask a tower about
            `pictures("whole")` instead: None also where the tower knows all of them already.
        image_mask: (B, m) bool.
        crops: (B, o, 3, h, w) float: k x k grid cells (row-major) of each image, or the objects in each, the surest
            first; None as `images`, ask about `pictures(crop_view)`. An image has o / m places, one image after the
            other.
        crop_mask: (B, o) bool.
        crop_image: (B, o) long, the image each crop was cut from.
        crop_view: `grid` or `objects`, what the crops are.
        boxes: (B, o, 4) float, x0 y0 x1 y1 as shares of the image's width and height; zeros where masked, and where
            only the crop is known.
        relevance: (B, m) float, how much each image has to do with the post, zeros where there is none; None where the
            scores of some images are not known.
        captions: words of the captions (or, with the view `labels`, of labels), B * m rows: row b * m + j is image j of
            post b; a row without words has none.
        caption_mask: (B, m) bool.
        episode: number of the episode within its split, or None.
        image_sources: B * m places, where each of `images` comes from; None where nobody may know them.
        crop_sources: B * o places, likewise.
        known_places: `places` if they are known; None: they are read from the masks where they are needed.
        bytes_of: where `images` and `crops` are bytes still, (..., H, W, 3) uint8, the format that they are to be
            normalised for: a quarter of the memory until the batch is on its device (`to`).
        windows: what the text tower reads where some posts are longer than its limit, one row a window; then `text`
            holds words and mask alone. None: every post is a row of `text`.
    """

    posts: list[Post]
    text: TextBatch
    tagset: TagSet
    query: Tensor
    tags: Tensor | None = None
    play_mask: Tensor | None = None
    images: Tensor | None = None
    image_mask: Tensor | None = None
    crops: Tensor | None = None
    crop_mask: Tensor | None = None
    crop_image: Tensor | None = None
    crop_view: str | None = None
    boxes: Tensor | None = None
    relevance: Tensor | None = None
    captions: TextBatch | None = None
    caption_mask: Tensor | None = None
    episode: int | None = None
    image_sources: list[PictureSource | None] | None = None
    crop_sources: list[PictureSource | None] | None = None
    bytes_of: PictureFormat | None = None
    windows: Windows | None = None
    known_places: Places | None = field(default=None, init=False)
    notes: dict[str, Any] = field(default_factory=dict)

    def pictures(self, view: Literal["whole", "grid", "objects"]) -> PictureBatch:
        """The input of a vision tower (`VisionTower.see`): B * m pictures, or B * o crops, row by row.

        Raises:
            ValueError: the batch was collated without this view.
        """
        self._normalise()
        whole = view == "whole"
        decoded = self.images if whole else self.crops
        sources = self.image_sources if whole else self.crop_sources
        if (decoded is None and sources is None) or not (whole or view == self.crop_view):
            raise ValueError(f"the batch lacks the view {view!r}")
        flat = None if decoded is None else decoded.flatten(0, 1)
        return PictureBatch(flat, sources, self.query.device, not whole, view)

    @property
    def places(self) -> Places:
        """Where the masks are true. The collator stores it before the batch is moved to a device."""
        if self.known_places is None or not self.known_places.true_of(self):
            self.known_places = Places(self)
        return self.known_places

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Move every tensor, in place; pictures become numbers there."""
        super().to(device, non_blocking)
        self._normalise()
        return self

    def _normalise(self) -> None:
        if self.bytes_of is not None:
            if self.images is not None and self.image_mask is not None:
                self.images = normalised(self.images, self.image_mask, self.bytes_of)
            if self.crops is not None and self.crop_mask is not None:
                self.crops = normalised(self.crops, self.crop_mask, self.bytes_of)
            self.bytes_of = None

    def _each(self, change: Any) -> Batch:
        places = None if self.known_places is None else self.places
        super()._each(change)
        if places is not None:
            places.follow(self)
        return self

    def __len__(self) -> int:
        return len(self.posts)

    def select(self, rows: Tensor) -> Batch:
        """The rows of these numbers (R,), with their padding and without notes."""

        def places(count: int) -> Tensor:
            """The places of the rows on an axis of `count` places, as many for each post."""
            of_post = count // len(self)
            return (rows.unsqueeze(1) * of_post + torch.arange(of_post).to(rows)).flatten()

        def select(sources: list[PictureSource | None] | None) -> list[PictureSource | None] | None:
            return None if sources is None else [sources[place] for place in places(len(sources)).tolist()]

        return replace(
            self,
            posts=[self.posts[row] for row in rows.tolist()],
            text=self.text.select(rows),
            captions=None if self.captions is None else self.captions.select(places(len(self.captions.words))),
            image_sources=select(self.image_sources),
            crop_sources=select(self.crop_sources),
            windows=None if self.windows is None else self.windows.select(rows),
            notes={},
            **self._tensors(rows),
        )

    def of_windows(self, numbers: Tensor) -> Batch:
        """A batch of the windows of these numbers (R,): the words of a window, with the pictures of its post."""
        assert self.windows is not None
        text, start = self.windows.text.select(numbers), self.windows.start[numbers]
        batch = replace(self, windows=None).select(self.windows.owner[numbers])
        spans = [slice(first, first + len(words)) for first, words in zip(start.tolist(), text.words, strict=True)]
        batch.posts = [
            replace(post, words=post.words[span], tags=post.tags and post.tags[span], text=None, offsets=None)
            for post, span in zip(batch.posts, spans, strict=True)
        ]
        places = start.unsqueeze(1) + torch.arange(text.word_mask.shape[1], device=start.device)  # (R, W of a window)
        places = places.clamp_max(self.text.word_mask.shape[1] - 1)
        if batch.tags is not None:
            batch.tags = batch.tags.gather(1, places) * text.word_mask
        if batch.play_mask is not None:
            batch.play_mask = batch.play_mask.gather(1, places) & text.word_mask
        batch.text = text
        return batch
