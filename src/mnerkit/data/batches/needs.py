"""What a method asks to see of a post."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from mnerkit.data.pictures.label_words import label_words, object_words

if TYPE_CHECKING:
    from mnerkit.data.batches.batch import TextBatch
    from mnerkit.data.corpus.post import Post
    from mnerkit.data.pictures.decoding import PictureFormat

VIEWS = {
    "whole": "each picture, resized",
    "grid": "the k x k cells of each picture, each resized",
    "objects": "crops of the objects in each picture, each resized; of set places where no object is known",
    "captions": "the caption of each picture, as a text of its own",
    "labels": "labels of the objects in each picture, or else nouns of its caption, in place of `captions`",
    "second": "what is known of the pictures in words, as second segment of the post's text",
}
# what a second segment can hold: captions, labels of objects, and the words that are written in a picture
SECOND_PARTS = ("caption", "objects", "ocr")


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
        caption_reader: reads captions for the `captions` view, and labels for `labels`.
        max_images: at most this many images of a post, the first ones.
        max_objects: at most this many objects of an image, the surest ones.
        relevance: whether every image must have a relevance score.
        second: the parts of the second segment in their order, of `SECOND_PARTS`.
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
    second: tuple[str, ...] = ("caption",)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of the second segment; none without that view."""
        return self.second if "second" in self.views else ()

    @property
    def reads_captions(self) -> bool:
        """Whether captions are read, as texts of their own, in the second segment, or where labels are lacking."""
        return bool(self.views & {"captions", "labels"}) or "caption" in self.parts

    @property
    def reads_objects(self) -> bool:
        """Whether objects are looked at, or their labels read."""
        return bool(self.views & {"objects", "labels"}) or "objects" in self.parts

    def captions(self, post: Post) -> list[list[str]]:
        """Words of the caption of each picture that is looked at; with the view `labels`, of its labels."""
        if "labels" in self.views:
            return [label_words(image, self.max_objects) for image in post.images[: self.max_images]]
        return [(image.caption or "").split() for image in post.images[: self.max_images]]

    def labels(self, post: Post) -> list[list[str]]:
        """Words of the labels of each picture's objects, the surest `max_objects` of them; a label counts once."""
        return [object_words(image, self.max_objects) for image in post.images[: self.max_images]]

    def second_segment(self, post: Post) -> list[str]:
        """Words of the second segment, part by part, of each part one picture after the other; none without that view.

        What is not known of a picture is left out.
        """
        rows: list[list[str]] = []
        for part in self.parts:
            if part == "caption":
                rows += self.captions(post)
            elif part == "objects":
                rows += self.labels(post)
            else:
                rows += [(image.text or "").split() for image in post.images[: self.max_images]]
        return [word for row in rows for word in row]
