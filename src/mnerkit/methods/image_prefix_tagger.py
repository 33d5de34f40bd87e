"""Taggers that prefix a text tower with the images of a post, one position an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import Tagger
from mnerkit.ranges import COUNT, check
from mnerkit.towers.fusion.image_prefix import ImagePrefixEncoder
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import TextTower

if TYPE_CHECKING:
    from mnerkit.data.datamodule import MnerData


class ImagePrefixTagger(Tagger):
    """The towers and images of TPM-MI and of GIFR, which extends it; their encoders are `ImagePrefixEncoder`s.

    A method builds its encoder from `make_text` and `make_sight`.
    """

    encoder: ImagePrefixEncoder

    def __init__(
        self,
        text: str = "bert-base-uncased",
        vision: str = "google/vit-base-patch16-224",
        freeze_text: bool = False,
        freeze_vision: bool = False,
        max_tokens: int = 64,
        word_pool: Literal["first", "mean"] = "first",
        max_images: int = 4,
        augment: bool = False,
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            text: the text tower, one that takes a prefix: `tiny-bert`, a hub name such as `bert-base-uncased`, or a
                folder.
            vision: the vision tower: `tiny`, a hub name (`google/vit-base-patch16-224`), a folder, or `captions`, which
                reads captions in place of pictures.
            freeze_text: keep the text tower's weights as they are.
            freeze_vision: keep the vision tower's weights as they are. What reads captions is frozen where its weights
                come from a hub or folder, and learns where they are new, whatever this says.
            max_tokens: length limit in pieces, special pieces included.
            word_pool: a word's state is that of its first piece, or the mean over its pieces.
            max_images: read this many images of a post, the first ones.
            augment: mirror and shift pictures while training; off for a frozen vision tower.
            training: options of `Tagger`.
        """
        super().__init__(**training)
        check("model", COUNT, max_tokens=max_tokens, max_images=max_images)
        self.text, self.vision = text, vision
        self.freeze_text, self.freeze_vision, self.augment = freeze_text, freeze_vision, augment
        self.max_tokens, self.word_pool, self.max_images = max_tokens, word_pool, max_images

    def make_text(self) -> TextTower:
        """The text tower that takes the prefix."""
        return self.text_tower(
            "text", self.text, freeze=self.freeze_text, max_tokens=self.max_tokens, word_pool=self.word_pool
        )

    def make_sight(self, text: TextTower) -> Sight:
        """What sees the images, or reads their captions as `text` would."""
        return self.sight("vision", self.vision, text, freeze=self.freeze_vision, augment=self.augment)

    def needs(self) -> Needs:
        """The images, and their relevance where the encoder reads it."""
        return self.encoder.sight.needs(
            self.towers["text"].reader,
            max_images=self.max_images,
            relevance=self.encoder.relevance == "given",
        )

    def prepare(self, data: MnerData) -> None:
        """As every tagger; and posts without a score that the encoder reads are refused before the training.

        Raises:
            DataError: a training post has a picture without a score.
        """
        super().prepare(data)
        needs = self.needs()
        if not needs.relevance:
            return
        for post in data.posts("train"):
            if any(ref.relevance is None for ref in post.images[: needs.max_images]):
                data.collator()([post])  # tells which picture, and what to give
