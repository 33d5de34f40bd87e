"""Taggers that prefix a text tower with the stage maps of images and of the objects in them."""

from __future__ import annotations

from typing import Any, Literal

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import Tagger
from mnerkit.ranges import COUNT, check
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import TextTower


class StagePrefixTagger(Tagger):
    """The towers and pictures of HVPNet and of GMF, which extends it; they differ in the way from stages to prefix.

    A method builds its encoder from `make_text` and `make_sight`, and says with `views` what is looked at. The encoder
    keeps the sight as its `sight`.
    """

    encoder: Any

    def __init__(
        self,
        text: str = "tiny-bert",
        vision: str = "tiny",
        freeze_text: bool = False,
        freeze_vision: bool = True,
        max_tokens: int = 128,
        word_pool: Literal["first", "mean"] = "first",
        max_images: int = 1,
        max_objects: int = 3,
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            text: the text tower, one that takes a prefix: `tiny-bert`, a hub name such as `bert-base-uncased`, or a
                folder.
            vision: the vision tower, one with stages: `tiny`, `resnet50`; or `captions`, whose words stand in for
                positions.
            freeze_text: keep the text tower's weights as they are.
            freeze_vision: keep the vision tower's weights as they are. What reads captions is frozen where its weights
                come from a hub or folder, and learns where they are new, whatever this says.
            max_tokens: length limit in pieces, special pieces included.
            word_pool: a word's state is that of its first piece, or the mean over its pieces.
            max_images: look at this many images of a post, the first ones.
            max_objects: look at this many objects of an image, the surest ones.
            training: options of `Tagger`.
        """
        super().__init__(**training)
        check("model", COUNT, max_tokens=max_tokens, max_images=max_images, max_objects=max_objects)
        self.text, self.vision = text, vision
        self.freeze_text, self.freeze_vision = freeze_text, freeze_vision
        self.max_tokens, self.word_pool = max_tokens, word_pool
        self.max_images, self.max_objects = max_images, max_objects

    def make_text(self) -> TextTower:
        """The text tower that takes the prefix."""
        return self.text_tower(
            "text", self.text, freeze=self.freeze_text, max_tokens=self.max_tokens, word_pool=self.word_pool
        )

    def make_sight(self, text: TextTower) -> Sight:
        """What sees the pictures, or reads their captions as `text` would."""
        return self.sight("vision", self.vision, text, freeze=self.freeze_vision)

    def views(self) -> tuple[str, ...]:
        """What is looked at: `whole`, `objects`, or both."""
        raise NotImplementedError

    def needs(self) -> Needs:
        """The views, of so many images and objects."""
        limits = {"max_images": self.max_images, "max_objects": self.max_objects}
        return self.encoder.sight.needs(self.towers["text"].reader, self.views(), **limits)
