"""Plugin `gei`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.prediction import Prediction
from mnerkit.methods.tagger import PictureTagger
from mnerkit.nn.untyped_spans import tags_of_spans
from mnerkit.scoring.metrics import EntityScores
from mnerkit_plugins.gei.detection import detection_figures, gold_spans, untyped
from mnerkit_plugins.gei.model import GeiEncoder
from mnerkit_plugins.gei.options import GeiOptions


class GeiTagger(PictureTagger):
    """GEI: detected entities attend to image and objects and update their words (EMNLP Findings 2022)."""

    plugin = "gei"
    options_class = GeiOptions
    encoder: GeiEncoder

    def make_encoder(self) -> GeiEncoder:
        text = self.make_text()
        return GeiEncoder(text, self.make_sight(text), self.options)

    def views(self) -> tuple[str, ...]:
        """The views of the visual nodes."""
        return self.encoder.visual.views

    def loss_weights(self) -> dict[str, float]:
        """The two losses of the paper's objective."""
        return {"head": self.options.lambda_mner, "span": self.options.lambda_span}

    # ------------------------------------------------------------------ detected spans

    def on_validation_epoch_start(self) -> None:
        """Extend `Tagger`: start new counts of detected spans."""
        super().on_validation_epoch_start()
        self._dev_spans: list[tuple[Tensor, list[int]]] = []

    def validation_step(self, batch: Batch, index: int) -> None:
        """Count entities of the dev posts, and keep their spans on the device: a step need not wait for them."""
        super().validation_step(batch, index)
        if (detected := self.encoder.detected) is not None:
            both = torch.stack((gold_spans(batch, self.options.span_repair), detected))
            lengths = [batch.places.lengths[row] for row in batch.places.queries]
            self._dev_spans.append((tags_of_spans(both.flatten(0, 1)).view_as(both)[:, batch.places.query], lengths))

    def on_validation_epoch_end(self) -> None:
        """Extend `Tagger`: log the F1 of detected spans."""
        super().on_validation_epoch_end()
        if self.encoder.spans is not None:
            detection = EntityScores().to(self.device)
            for tags, lengths in self._dev_spans:
                detection.update(*(untyped(rows, lengths) for rows in tags.tolist()))
            self.log("dev/span_f1", detection.compute()["f1"], rank_zero_only=False, sync_dist=False)
        self._dev_spans = []

    def tag(self, batch: Batch) -> list[Prediction]:
        """Extend `Tagger`: add the trace `spans` to each prediction, untyped tag numbers of the detected spans."""
        predictions = super().tag(batch)
        if self.encoder.detected is not None:
            tags = tags_of_spans(self.encoder.detected)[batch.query].cpu().numpy()
            for row, prediction in zip(tags, predictions, strict=True):
                prediction.traces["spans"] = row[: len(prediction.tags)]
        return predictions

    def figures(self, answers: Sequence[Prediction]) -> dict[str, Any]:
        """Extend `Tagger`: add the scores of the detected spans."""
        return {**super().figures(answers), **detection_figures(answers)}
