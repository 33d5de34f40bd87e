"""A post: the words, tags and images of one tweet; and what a model must know of all posts to be built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnerkit.data.corpus.tweet_tokenizer import has_characters

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, order=True)
class Entity:
    """A typed span of words; `end` is exclusive."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, slots=True)
class PictureObject:
    """An object in a picture: a box, or a crop that somebody cut out of it.

    Attributes:
        box: (x0, y0, x1, y1) as shares of the picture's width and height; None where only the crop is known.
        score: how sure the detector is.
        label: what it is called, where that is known.
        crop: a picture of the object alone; None where it is to be cut out of the picture.
    """

    box: tuple[float, float, float, float] | None
    score: float = 1.0
    label: str = ""
    crop: ImageRef | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ImageRef:
    """One picture of a post, not yet decoded.

    Attributes:
        name: the name in the data file (`O_26.jpg`).
        path: the file it was found at, or None where it is missing.
        pixels: (H, W, 3) uint8, for generated pictures that have no file.
        caption: the words of its caption, where one is known.
        objects: what is in it, the surest first; empty where nothing is, or nobody looked.
        relevance: how much it has to do with the post's words, where that is known.
        text: words that are written in it, where they are known (OCR).
    """

    name: str
    path: Path | None = None
    pixels: np.ndarray | None = None
    caption: str | None = None
    objects: tuple[PictureObject, ...] = ()
    relevance: float | None = None
    text: str | None = None

    @property
    def present(self) -> bool:
        """Whether there is anything to decode."""
        return self.path is not None or self.pixels is not None


@dataclass(frozen=True, slots=True)
class EntityTruth:
    """What a generated corpus knows of an entity: where it is drawn, and whether its words tell the type.

    Attributes:
        entity: the span and type.
        ambiguous: whether only the picture tells the type.
        image: index of the image that shows it, or None where it is not drawn.
        box: (x0, y0, x1, y1) in pixels of that image.
        cell: index of its cell in the 3 x 3 grid.
    """

    entity: Entity
    ambiguous: bool
    image: int | None = None
    box: tuple[int, int, int, int] | None = None
    cell: int | None = None


@dataclass(frozen=True, slots=True)
class DrawnObject:
    """A pictogram in a generated picture: an entity's (`entity` >= 0) or a distractor's (-1)."""

    image: int
    box: tuple[int, int, int, int]
    noun: str
    colour: str
    entity: int


@dataclass(frozen=True, slots=True)
class Truth:
    """Ground truth of a generated post: its entities, every pictogram, and the relevance of each image."""

    entities: tuple[EntityTruth, ...]
    objects: tuple[DrawnObject, ...]
    relevant: tuple[bool, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Post:
    """One tweet.

    Attributes:
        id: unique within its corpus.
        words: the words, as the data file has them.
        tags: one BIO tag a word, or None where unknown.
        images: the pictures, in the file's order.
        text: the raw text when the post was given as text, else None.
        offsets: (start, end) of each word in `text`.
        truth: ground truth, for generated posts.
        numbered: whether the id was given as a number.

    Examples:
        >>> post = mnerkit.Post("7", ("Kevin", "Durant", "leaves"), ("B-PER", "I-PER", "O"))
        >>> post.given_id, len(post.words)
        ('7', 3)
    """

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    images: tuple[ImageRef, ...] = ()
    text: str | None = None
    offsets: tuple[tuple[int, int], ...] | None = None
    truth: Truth | None = None
    numbered: bool = False

    @property
    def given_id(self) -> str | int:
        """The id as it was given."""
        return int(self.id) if self.numbered else self.id

    def records(self, spans: Iterable[Entity]) -> Iterator[dict[str, Any]]:
        """Entities as plain data: word offsets, and character offsets into the text (or the words joined by blanks)."""
        offsets, text = self.offsets, self.text
        if offsets is None or text is None:
            text, places, position = " ".join(self.words), [], 0
            for word in self.words:
                places.append((position, position + len(word)))
                position += len(word) + 1
            offsets = tuple(places)
        for span in spans:
            first, last = offsets[span.start][0], offsets[span.end - 1][1]
            words = {"type": span.type, "start": span.start, "end": span.end}
            yield {**words, "char_start": first, "char_end": last, "text": text[first:last]}


@dataclass(frozen=True)
class CorpusFacts:
    """Entity types, and the words of the training posts, most frequent first; plain data, kept in checkpoints.

    Attributes:
        types: entity types of the corpus, in a fixed order.
        words: lower-cased words that occur at least `MIN_COUNT` times in training posts and the captions of their
            pictures, for towers with a vocabulary.
        characters: whether the training posts have each Chinese character or kana as a word; so has a text then.
    """

    types: tuple[str, ...]
    words: tuple[str, ...] = ()
    characters: bool = False

    MIN_COUNT = 2

    @classmethod
    def of(cls, types: Iterable[str], posts: Iterable[Post]) -> CorpusFacts:
        """Facts of a corpus with these `types` and training `posts`."""
        counts: Counter[str] = Counter()
        own: set[str] = set()
        for post in posts:
            own.update(post.words)
            counts.update(word.lower() for word in _texts(post))
        by_frequency = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(
            tuple(types), tuple(word for word in by_frequency if counts[word] >= cls.MIN_COUNT), has_characters(own)
        )

    def state(self) -> dict[str, Any]:
        """Plain data; `CorpusFacts.from_state` reads it back."""
        # as checkpoints of earlier releases have it, unless there is more to say
        more = {"characters": True} if self.characters else {}
        return {"types": list(self.types), "words": list(self.words), **more}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> CorpusFacts:
        """Facts from `state()`."""
        return cls(tuple(state["types"]), tuple(state["words"]), bool(state.get("characters")))


def _texts(post: Post) -> Iterator[str]:
    """Words of a post, and of its captions, which a method may read behind them."""
    yield from post.words
    for image in post.images:
        yield from (image.caption or "").split()
