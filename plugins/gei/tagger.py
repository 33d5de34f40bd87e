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
        self.detection = EntityScores().to(self.device)

    def validation_step(self, batch: Batch, index: int) -> None:
        """Count entities and detected spans of the dev posts."""
        super().validation_step(batch, index)
        if self.encoder.detected is not None:
            rows = batch.query.tolist()
            pairs = zip(gold_spans(batch, self.options.span_repair), self._detected(batch), rows, strict=True)
            scored = [(gold, detected) for gold, detected, query in pairs if query]
            self.detection.update([gold for gold, _ in scored], [detected for _, detected in scored])

    def on_validation_epoch_end(self) -> None:
        """Extend `Tagger`: log the F1 of detected spans."""
        super().on_validation_epoch_end()
        if self.encoder.spans is not None:
            self.log("dev/span_f1", self.detection.compute()["f1"], rank_zero_only=False, sync_dist=False)

    def _detected(self, batch: Batch) -> list[list[str]]:
        assert self.encoder.detected is not None
        return untyped(self.encoder.detected, batch)

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
