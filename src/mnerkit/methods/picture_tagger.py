"""Taggers with a text tower and a vision tower: what they have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.options import ObjectOptions, PictureOptions
from mnerkit.methods.tagger import Tagger
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import TextTower

if TYPE_CHECKING:
    from mnerkit.data.datamodule import MnerData


class PictureTagger(Tagger):
    """Towers, freezing, limits and views of a method that reads a post and looks at its pictures.

    A method builds its encoder from `make_text` and `make_sight`; the encoder keeps the sight as its `sight`, None
    where it looks at nothing. `views` says what of the pictures it looks at.
    """

    options_class: ClassVar[type[PictureOptions]] = PictureOptions
    encoder: Any

    def make_text(self) -> TextTower:
        """The text tower, as the options `text`, `freeze_text`, `max_tokens` and `word_pool` have it."""
        o = self.options
        return self.text_tower("text", o.text, freeze=o.freeze_text, max_tokens=o.max_tokens, word_pool=o.word_pool)

    def make_sight(self, text: TextTower) -> Sight:
        """The vision tower, or a copy of `text` that reads captions, as `vision` and `freeze_vision` have it."""
        o = self.options
        return self.sight("vision", o.vision, text, freeze=o.freeze_vision, augment=getattr(o, "augment", False))

    def views(self) -> tuple[str, ...]:
        """What is looked at: `whole`, `objects`, or both."""
        return ("whole",)

    def needs(self) -> Needs:
        """The views, of so many images and objects, with their relevance where the encoder reads it."""
        reader, sight = self.towers["text"].reader, self.encoder.sight
        if sight is None:
            return Needs(reader=reader)
        o, relevance = self.options, getattr(self.encoder, "relevance", "") == "given"
        needs = sight.needs(reader, self.views(), relevance=relevance, max_images=o.max_images)
        return replace(needs, max_objects=o.max_objects) if isinstance(o, ObjectOptions) else needs

    def prepare(self, data: MnerData) -> None:
        """As every tagger; and posts without a relevance score that the encoder reads are refused before training.

        Raises:
            DataError: a training post has a picture without a score.
        """
        super().prepare(data)
        needs = self.needs()
        if not needs.relevance:
            return
        for post in data.posts("train"):
            if any(ref.relevance is None for ref in post.images[: needs.max_images]):
                data.collator()([post])  # refuses, naming the picture
