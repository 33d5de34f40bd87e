"""Object detectors of transformers: DETR, and those with text prompts (Grounding DINO, OWLv2)."""

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
    """A kind of detector: default weights, model class, default threshold, and whether it takes prompts."""

    hub: str
    revision: str | None
    model_class: str
    threshold: float
    prompts: bool


FAMILIES = {
    # this revision has no backbone from timm, which would be another dependency
    "detr": Family("facebook/detr-resnet-50", "no_timm", "AutoModelForObjectDetection", 0.5, False),
    "grounding-dino": Family(
        "IDEA-Research/grounding-dino-tiny", None, "AutoModelForZeroShotObjectDetection", 0.3, True
    ),
    "owlv2": Family("google/owlv2-base-patch16-ensemble", None, "AutoModelForZeroShotObjectDetection", 0.2, True),
}


@dataclass(frozen=True)
class Detection:
    """A detected object: x0 y0 x1 y1 in pixels, the detector's confidence, and the label."""

    box: tuple[float, float, float, float]
    score: float
    label: str


class Detector:
    """A detector with its weights.

    Attributes:
        kind: a name of `FAMILIES`.
        spec: the name on the hub, or of the folder.
        revision: the commit on the hub; for a folder, the digest of the weights.
        threshold: default threshold of the family.
        prompted: whether it detects what prompts describe.
    """

    def __init__(self, spec: str) -> None:
        """Load a detector.

        Args:
            spec: a name of `FAMILIES`, a hub name, or a folder with config.json, weights and processor.

        Raises:
            TowerError: the files are unavailable, or not those of a known detector.
        """
        default = FAMILIES.get(spec)
        source = Source(default.hub, "hub", default.hub, default.revision) if default else source_of(spec)
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
        """Move the weights to a device."""
        self.model.to(device)
        return self

    @torch.inference_mode()
    def find(
        self, pictures: Sequence[np.ndarray], prompts: Sequence[Sequence[str]], threshold: float
    ) -> list[list[Detection]]:
        """Detect the objects in pictures, sorted by descending score.

        Args:
            pictures: (H, W, 3) uint8 each.
            prompts: prompts for each picture, at least one; ignored by a detector without prompts.
            threshold: minimum score of an object.
        """
        sizes = [picture.shape[:2] for picture in pictures]
        inputs = self._inputs(list(pictures), prompts).to(self.model.device)
        outputs = self.model(**inputs)
        if self.kind == "detr":
            results = self.processor.post_process_object_detection(outputs, threshold, sizes)
            names = self.model.config.id2label
            labels = [[names.get(int(number), "") for number in result["labels"]] for result in results]
        elif self.kind == "owlv2":
            longest = max(len(texts) for texts in prompts)
            padded = [[*texts, *[""] * (longest - len(texts))] for texts in prompts]
            results = self.processor.post_process_grounded_object_detection(
                outputs, threshold=threshold, target_sizes=torch.tensor(sizes), text_labels=padded
            )
            labels = [result["text_labels"] for result in results]
        else:
            results = self.processor.post_process_grounded_object_detection(
                outputs, inputs["input_ids"], threshold, 0.25, target_sizes=sizes
            )
            labels = [result["text_labels"] for result in results]
        return [_sorted(result, texts, self.prompted) for result, texts in zip(results, labels, strict=True)]

    def _inputs(self, pictures: list[np.ndarray], prompts: Sequence[Sequence[str]]) -> Any:
        # the format is explicit, since a processor takes a side of 1 or 3 pixels for the channels
        options: dict[str, Any] = {"images": pictures, "input_data_format": "channels_last", "return_tensors": "pt"}
        if self.kind == "grounding-dino":
            options |= {"text": ["".join(f"{text}. " for text in texts) for texts in prompts], "padding": True}
            options |= {"truncation": True, "max_length": self.model.config.max_text_len}
        elif self.kind == "owlv2":
            options |= {"text": [list(texts) for texts in prompts], "padding": "max_length"}
            options |= {"truncation": True, "max_length": self._positions}
        return self.processor(**options)


def _sorted(result: Any, labels: Sequence[str], prompted: bool) -> list[Detection]:
    detections = [
        Detection((box[0], box[1], box[2], box[3]), score, label)
        for box, score, label in zip(result["boxes"].tolist(), result["scores"].tolist(), labels, strict=True)
        # an object without a label matches the padding of the prompts
        if label or not prompted
    ]
    return sorted(detections, key=lambda detection: -detection.score)
