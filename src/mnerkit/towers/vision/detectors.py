"""Detectors of objects, run through transformers: DETR, and those that take prompts (Grounding DINO, OWLv2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnerkit.errors import TowerError
from mnerkit.towers.frozen.memory import weight_digest
from mnerkit.towers.hub import Source, explained, read_config, read_model, source_of, source_options


@dataclass(frozen=True)
class Family:
    """A kind of detector: where its weights are by default, which model class it has, its usual threshold."""

    hub: str
    revision: str | None
    model_class: str
    threshold: float
    prompts: bool


FAMILIES = {
    # the revision without timm's backbone, which would be one more dependency
    "detr": Family("facebook/detr-resnet-50", "no_timm", "AutoModelForObjectDetection", 0.5, False),
    "grounding-dino": Family(
        "IDEA-Research/grounding-dino-tiny", None, "AutoModelForZeroShotObjectDetection", 0.3, True
    ),
    "owlv2": Family("google/owlv2-base-patch16-ensemble", None, "AutoModelForZeroShotObjectDetection", 0.2, True),
}


@dataclass(frozen=True)
class Detection:
    """An object: x0 y0 x1 y1 in pixels, how sure the detector is, and what it calls it."""

    box: tuple[float, float, float, float]
    score: float
    label: str


class Detector:
    """A detector with its weights.

    Attributes:
        kind: a name of `FAMILIES`.
        spec: its name on the hub, or that of its folder.
        revision: the hub's commit; of a folder, the digest of its weights.
        threshold: the family's usual one.
        prompted: whether it looks for what it is told.
    """

    def __init__(self, spec: str) -> None:
        """Load a detector.

        Args:
            spec: a name of `FAMILIES`, a hub name, or a folder with config.json, weights and processor.

        Raises:
            TowerError: files that can't be had, or that are of no known detector.
        """
        known = FAMILIES.get(spec)
        source = Source(known.hub, "hub", known.hub, known.revision) if known else source_of(spec)
        config = read_config(source)
        self.kind = str(config.model_type)
        self.spec = Path(source.place).resolve().name if source.kind == "folder" else source.place
        if self.kind not in FAMILIES:
            raise TowerError(f"detector {spec}: {self.kind!r} is none of {', '.join(FAMILIES)}")
        family = FAMILIES[self.kind]
        self.threshold, self.prompted = family.threshold, family.prompts
        import transformers

        self.processor = self._processor(source)
        self.model: Any = read_model(source, config, getattr(transformers, family.model_class)).eval()
        commit = getattr(config, "_commit_hash", None) if source.kind == "hub" else None
        self.revision = commit or f"weights {weight_digest(self.model)[:16]}"
        text = getattr(config, "text_config", None)
        self._positions = getattr(text, "max_position_embeddings", 16) if self.kind == "owlv2" else 0

    def _processor(self, source: Source) -> Any:
        from transformers import AutoImageProcessor, AutoProcessor

        make = AutoProcessor if FAMILIES[self.kind].prompts else AutoImageProcessor
        with explained(source, "its processor (preprocessor_config.json)"):
            return make.from_pretrained(source.place, **source_options(source))

    def to(self, device: str) -> Detector:
        """Move the weights."""
        self.model.to(device)
        return self

    @torch.inference_mode()
    def find(
        self, pictures: Sequence[np.ndarray], prompts: Sequence[Sequence[str]], threshold: float
    ) -> list[list[Detection]]:
        """The objects in pictures, the surest first.

        Args:
            pictures: (H, W, 3) uint8 each.
            prompts: what to look for in each; not read by a detector that takes no prompts, else at least one each.
            threshold: objects of which it is less sure are left out.
        """
        sizes = [picture.shape[:2] for picture in pictures]
        inputs = self._inputs(list(pictures), prompts).to(self.model.device)
        outputs = self.model(**inputs)
        if self.kind == "detr":
            found = self.processor.post_process_object_detection(outputs, threshold, sizes)
            names = self.model.config.id2label
            labels = [[names.get(int(each), "") for each in one["labels"]] for one in found]
        elif self.kind == "owlv2":
            most = max(len(each) for each in prompts)
            padded = [[*each, *[""] * (most - len(each))] for each in prompts]
            found = self.processor.post_process_grounded_object_detection(
                outputs, threshold=threshold, target_sizes=torch.tensor(sizes), text_labels=padded
            )
            labels = [one["text_labels"] for one in found]
        else:
            found = self.processor.post_process_grounded_object_detection(
                outputs, inputs["input_ids"], threshold, 0.25, target_sizes=sizes
            )
            labels = [one["text_labels"] for one in found]
        return [_sorted(one, named, self.prompted) for one, named in zip(found, labels, strict=True)]

    def _inputs(self, pictures: list[np.ndarray], prompts: Sequence[Sequence[str]]) -> Any:
        # said, since a processor takes a side of 1 or 3 pixels for the channels
        options: dict[str, Any] = {"images": pictures, "input_data_format": "channels_last", "return_tensors": "pt"}
        if self.kind == "grounding-dino":
            options |= {"text": ["".join(f"{each}. " for each in some) for some in prompts], "padding": True}
            options |= {"truncation": True, "max_length": self.model.config.max_text_len}
        elif self.kind == "owlv2":
            options |= {"text": [list(some) for some in prompts], "padding": "max_length"}
            options |= {"truncation": True, "max_length": self._positions}
        return self.processor(**options)


def _sorted(found: Any, labels: Sequence[str], prompted: bool) -> list[Detection]:
    rows = [
        Detection((box[0], box[1], box[2], box[3]), score, label)
        for box, score, label in zip(found["boxes"].tolist(), found["scores"].tolist(), labels, strict=True)
        # without its prompt an object of a prompted detector is one of the padding
        if label or not prompted
    ]
    return sorted(rows, key=lambda each: -each.score)
