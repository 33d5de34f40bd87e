"""What the page shows: a post that a person typed, its entities, and where the method looked."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.data.pictures.decoding import decode_content
from mnerkit.demo.looks import Look, Overlay, looks_of, overlay_of
from mnerkit.errors import DataError, UsageError
from mnerkit.methods.tagged_posts import TaggedPosts
from mnerkit.printable import counted
from mnerkit.runs.predict import check_tags, text_post

if TYPE_CHECKING:
    from mnerkit.methods.predictor import Predictor

MOST_LETTERS = 5_000  # of a text or caption


@dataclass(frozen=True)
class Answer:
    """A tagged post.

    Attributes:
        rows: its record.
        pictures: its pictures; empty where `looks` has them.
        looks: what each entity attends to, where the method attends to pictures.
        warnings: about the post, a line each.
    """

    rows: TaggedPosts
    pictures: list[Overlay] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


class Demo:
    """A method that tags one post after the other, for several browser windows at once.

    Args:
        predictor: the method.

    Raises:
        UsageError: the method tags nothing.
    """

    def __init__(self, predictor: Predictor) -> None:
        check_tags(predictor)
        self.predictor, self.plugin = predictor, predictor.method.plugin
        needs = predictor.method.needs()
        self.most_pictures = needs.max_images if needs.picture is not None else 0
        self.reads_captions = bool({"captions", "labels", "second"} & needs.views)
        self._free = threading.Lock()

    def answer(self, text: str, pictures: Sequence[bytes] = (), caption: str = "") -> Answer:
        """Tag a post.

        Args:
            text: its text.
            pictures: files of its pictures.
            caption: that of the first picture, for methods that read captions.

        Raises:
            DataError: the text is empty or too long, or a picture can't be decoded.
        """
        for kind, content in (("text", text), ("caption", caption)):
            if len(content) > MOST_LETTERS:
                raise DataError(f"the {kind} has {len(content):,} letters; at most {MOST_LETTERS:,} are read.")
        if len(pictures) > self.most_pictures:
            raise DataError(f"{counted(len(pictures), 'picture')}; the method reads {self.most_pictures}.")
        refs = [
            ImageRef(f"picture {number}", pixels=decode_content(content, str(number)), caption=caption or None)
            for number, content in enumerate(pictures, 1)
        ]
        if caption and not refs:
            refs = [ImageRef("caption", caption=caption)]
        notes = RecordNotes()
        post = text_post(text, refs, notes, self.predictor.characters)
        with self._free:
            rows, warnings = self.predictor.tag(post)
            looks = self._looks(post)
        plain = [] if looks else [overlay_of(ref.pixels) for ref in refs if ref.pixels is not None]
        return Answer(rows, plain, looks, [*warnings, *notes.remarks()])

    def _looks(self, post: Post) -> list[Look]:
        if not post.images:
            return []
        try:
            found = list(self.predictor.maps("attention", post))
        except UsageError:  # the method does not attend to pictures
            return []
        return [look for each in found for look in looks_of(each, self.predictor.types, post.images)]
