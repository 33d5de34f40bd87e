"""Plugin `gei`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.prediction import Prediction
from mnerkit.methods.tagger import PictureTagger
from mnerkit.nn.untyped_spans import tags_of_spans
from mnerkit.scoring.metrics import EntityScores
from mnerkit_plugins.gei.detection import detection_figures, gold_spans, untyped
from mnerkit_plugins.gei.model import GeiEncoder
from mnerkit_plugins.gei.options import GeiOptions


class GeiTagger(PictureTagger):
    """GEI: detected entities look at image and objects and hand what they saw to their words (EMNLP Findings 2022)."""

    plugin = "gei"
    options_class = GeiOptions
    encoder: GeiEncoder

    def make_encoder(self) -> GeiEncoder:
        text = self.make_text()
        return GeiEncoder(text, self.make_sight(text), self.options)

    def views(self) -> tuple[str, ...]:
        """What the visual nodes are made of."""
        return self.encoder.visual.views

    def loss_weights(self) -> dict[str, float]:
        """Both losses of the paper's objective."""
        return {"head": self.options.lambda_mner, "span": self.options.lambda_span}

    # ------------------------------------------------------------------ what is detected

    def on_validation_epoch_start(self) -> None:
        """Fresh counts, of detected spans too."""
        super().on_validation_epoch_start()
        self.detection = EntityScores().to(self.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Count entities and detected spans of the dev posts."""
        super().validation_step(batch, index)
        if self.encoder.detected is not None:
            rows = batch.query.tolist()
            pairs = zip(gold_spans(batch, self.options.span_repair), self._detected(batch), rows, strict=True)
            scored = [(gold, found) for gold, found, query in pairs if query]
            self.detection.update([gold for gold, _ in scored], [found for _, found in scored])

    def on_validation_epoch_end(self) -> None:
        """Log the F1 of detected spans besides."""
        super().on_validation_epoch_end()
        if self.encoder.spans is not None:
            self.log("dev/span_f1", self.detection.compute()["f1"], rank_zero_only=False, sync_dist=False)

    def _detected(self, batch: Batch) -> list[list[str]]:
        assert self.encoder.detected is not None
        return untyped(self.encoder.detected, batch)

    def tag(self, batch: Batch) -> list[Prediction]:
        """As every tagger; with each prediction goes the trace `spans`, untyped tag numbers of the detected spans."""
        predictions = super().tag(batch)
        if self.encoder.detected is not None:
            tags = tags_of_spans(self.encoder.detected)[batch.query].cpu().numpy()
            for row, prediction in zip(tags, predictions, strict=True):
                prediction.traces["spans"] = row[: len(prediction.tags)]
        return predictions

    def figures(self, answers: Sequence[Prediction]) -> dict[str, Any]:
        """As every tagger; and what the detected spans are worth."""
        return {**super().figures(answers), **detection_figures(answers)}
