"""Plugin `hvpnet`."""

from __future__ import annotations

from typing import Any, Literal

from mnerkit.data.views import Needs
from mnerkit.encoders.sight import CAPTIONS
from mnerkit.ranges import COUNT, DROPOUT, check
from mnerkit.tagging.tagger import Tagger
from mnerkit_plugins.hvpnet.model import HvpnetEncoder

VIEWS = {"both": ("whole", "objects"), "image": ("whole",), "objects": ("objects",)}


class HvpnetTagger(Tagger):
    """HVPNet: image and objects as a visual prefix of every layer of the text tower (NAACL 2022 Findings)."""

    plugin = "hvpnet"
    encoder: HvpnetEncoder

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
        pictures: Literal["both", "image", "objects"] = "both",
        prefix_grid: int = 2,
        hidden: int = 800,
        gate: bool = True,
        gate_input: Literal["flat", "mean"] = "flat",
        layout: Literal["proper", "released"] = "proper",
        standardise: bool = False,
        dropout: float = 0.1,
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            text: the text tower, one that takes a prefix: `tiny-bert`, a hub name such as `bert-base-uncased`, or a
                folder.
            vision: the vision tower, one with stages: `tiny`, `resnet50`; or `captions`, whose words stand in for
                positions.
            freeze_text: keep the text tower's weights as they are.
            freeze_vision: keep the vision tower's weights as they are.
            max_tokens: length limit in pieces, special pieces included.
            word_pool: a word's state is that of its first piece, or the mean over its pieces.
            max_images: look at this many images of a post, the first ones.
            max_objects: look at this many objects of an image, the surest ones.
            pictures: the prefix shows the image and its objects, or one of the two.
            prefix_grid: each stage is pooled to this many rows and columns of positions.
            hidden: width between the two maps from stages to keys and values.
            gate: weigh the stages for each layer; false takes their mean.
            gate_input: a gate reads all positions side by side, or their mean (captions always).
            layout: a position holds the channels of one place, or what the reshape of the public code makes of them.
            standardise: bring each channel of the stages to mean 0 and deviation 1 over a batch (not with captions);
                a help for short training.
            dropout: on the word states.
            training: options of `Tagger`.

        """
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", COUNT, max_tokens=max_tokens, max_images=max_images, max_objects=max_objects)
        check("model", COUNT, prefix_grid=prefix_grid, hidden=hidden)
        self.text, self.vision = text, vision
        self.freeze_text, self.freeze_vision = freeze_text, freeze_vision
        self.max_tokens, self.word_pool = max_tokens, word_pool
        self.max_images, self.max_objects, self.pictures = max_images, max_objects, pictures
        self.options: dict[str, Any] = {
            "grid": prefix_grid,
            "hidden": hidden,
            "gate": gate,
            "gate_input": gate_input,
            "layout": layout,
            "standardise": standardise,
            "dropout": dropout,
        }

    def make_encoder(self) -> HvpnetEncoder:
        text = self.text_tower(
            "text", self.text, freeze=self.freeze_text, max_tokens=self.max_tokens, word_pool=self.word_pool
        )
        # a new text tower that were to read captions frozen would know nothing of them
        freeze = self.freeze_vision and self.vision != CAPTIONS
        sight = self.sight("vision", self.vision, text, freeze=freeze)
        return HvpnetEncoder(text, sight, pictures=self.pictures, **self.options)

    def needs(self) -> Needs:
        return self.encoder.sight.needs(
            self.towers["text"].reader,
            VIEWS[self.pictures],
            max_images=self.max_images,
            max_objects=self.max_objects,
        )
