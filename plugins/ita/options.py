"""Options of the plugin `ita`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import TwoViewOptions
from mnerkit.options import POSITIVE, SIZE, WEIGHT, option


@dataclass(frozen=True, kw_only=True)
class ItaOptions(TwoViewOptions, second_words=64):
    """Options of what stands for the pictures, and of the agreement of the two views."""

    context: list[Literal["caption", "objects", "ocr"]] = option(
        ["caption", "objects", "ocr"],
        "what stands for the pictures, in this order: captions, labels of objects (data.boxes), and the words that are "
        "written in them (data.ocr); what is not known of a picture is left out",
    )
    max_labels: int = option(10, "read this many labels of an image's objects, those of the surest", SIZE)
    text_weight: float = option(1.0, "weight of the loss of the text alone", WEIGHT)
    context_weight: float = option(0.5, "weight of the loss of the text with its context, where a post has one", WEIGHT)
    agreement: float = option(
        0.5,
        "weight of the alignment, which pulls the distributions over the tags of each word of the text alone towards "
        "those with the context. It has no effect with other heads than crf and softmax",
        WEIGHT,
    )
    agreement_temperature: float = option(
        4.0, "temperature of the distributions that are aligned; the loss is multiplied by its square", POSITIVE
    )

    def check(self) -> None:
        """Refuse to read nothing, or to train nothing."""
        super().check()
        if not self.context:
            raise UsageError("--model.context []: give at least one of caption, objects and ocr")
        if not self.text_weight and not self.context_weight:
            raise UsageError("--model.text_weight 0 and --model.context_weight 0: no view would be trained on tags")
