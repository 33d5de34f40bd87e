"""What a method asks to see of a post."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from mnerkit.data.batches.batch import TextBatch
    from mnerkit.data.corpus.post import Post
    from mnerkit.data.pictures.decoding import PictureFormat

VIEWS = {
    "whole": "each picture, resized",
    "grid": "the k x k cells of each picture, each resized",
    "objects": "crops of the objects in each picture, each resized; of set places where no object is known",
    "captions": "the caption of each picture, as a text of its own",
    "second": "the caption as second segment of the post's text",
}


class Reader(Protocol):
    """Turns words into a text tower's input (`mnerkit.towers.text`); rebuilt from plain data without a hub."""

    def collate(self, rows: Sequence[Sequence[str]], second: Sequence[Sequence[str]] | None = None) -> TextBatch:
        """Pad rows of words, each with an optional second segment, into a batch."""
        ...

    def length(self, words: Sequence[str]) -> int:
        """Pieces or words of a row, for batches by length."""
        ...

    def words_read(self, words: Sequence[str]) -> int:
        """Number of words, from the first on, of which the tower reads at least one piece."""
        ...

    def windows(self, words: Sequence[str], second: Sequence[str] = ()) -> list[tuple[int, int]]:
        """Spans of words that each fit into the length limit and cover the row; one if the row fits itself."""
        ...

    def cuts_second(self, words: Sequence[str], second: Sequence[str]) -> bool:
        """Whether the length limit cuts the second segment of a row, or leaves it out."""
        ...

    def state(self) -> dict[str, Any]:
        """Plain data (text and numbers) for `text_reader.reader_from_state`."""
        ...


@dataclass(frozen=True)
class Needs:
    """The inputs of one method; the datamodule builds exactly these.

    Attributes:
        reader: turns words into the text tower's input.
        views: names among `VIEWS`.
        picture: size and normalisation of pictures; None where no picture is read.
        grid: k of the `grid` view.
        caption_reader: reads captions for the `captions` view.
        max_images: at most this many images of a post, the first ones.
        max_objects: at most this many objects of an image, the surest ones.
        relevance: whether every image must have a relevance score.
        every_place: whether a batch has `max_images` images and `max_objects` objects each even where no post has as
            many.
    """

    reader: Reader
    views: frozenset[str] = frozenset()
    picture: PictureFormat | None = None
    grid: int = 3
    caption_reader: Reader | None = None
    max_images: int = 1
    max_objects: int = 3
    relevance: bool = False
    every_place: bool = False

    def captions(self, post: Post) -> list[list[str]]:
        """Words of the caption of each picture that is looked at."""
        return [(image.caption or "").split() for image in post.images[: self.max_images]]

    def second_segment(self, post: Post) -> list[str]:
        """Words of the second segment: the post's captions, one picture after the other; none without that view."""
        return [word for caption in self.captions(post) for word in caption] if "second" in self.views else []
