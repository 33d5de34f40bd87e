"""Plugin `gei`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.methods.prediction import Prediction
from mnerkit.methods.tagger import Tagger
from mnerkit.nn.untyped_spans import tags_of_spans
from mnerkit.ranges import COUNT, DROPOUT, SHARE, WEIGHT, check
from mnerkit.scoring.metrics import EntityScores
from mnerkit_plugins.gei.detection import detection_figures, gold_spans, untyped
from mnerkit_plugins.gei.model import GeiEncoder

ENCODER_OPTIONS = tuple(
    name for name, each in inspect.signature(GeiEncoder).parameters.items() if each.kind is each.KEYWORD_ONLY
)


class GeiTagger(Tagger):
    """GEI: detected entities look at image and objects and hand what they saw to their words (EMNLP Findings 2022)."""

    plugin = "gei"
    encoder: GeiEncoder

    def __init__(
        self,
        text: str = "tiny",
        vision: str = "tiny",
        freeze_text: bool = False,
        freeze_vision: bool = True,
        max_tokens: int = 128,
        max_images: int = 1,
        max_objects: int = 8,
        augment: bool = False,
        lambda_span: float = 0.5,
        lambda_mner: float = 0.5,
        width: int = 512,
        hidden: int = 2048,
        graph_layers: int = 6,
        heads: int = 8,
        dropout: float = 0.4,
        transformer_heads: int = 12,
        transformer_dropout: float = 0.1,
        tokens: Literal["pieces", "words"] = "pieces",
        visual: Literal["objects", "regions"] = "objects",
        use_global: bool = True,
        entity_nodes: bool = True,
        span_task: bool = True,
        residual: bool = True,
        norm: Literal["post", "pre"] = "post",
        obj_update: Literal["parallel", "sequential", "none"] = "parallel",
        gate: Literal["feature", "scalar"] = "feature",
        isolate_non_entity: bool = False,
        entity_state: Literal["from_tokens", "carry"] = "from_tokens",
        ss_unit: Literal["sentence", "batch"] = "sentence",
        ss_start: int = 2,
        ss_end: int = 6,
        ss_max: float = 0.9,
        span_repair: Literal["lenient", "strict"] = "lenient",
        decode_on: Literal["graph", "concat_bert"] = "graph",
        graph: Literal["dense", "dgl"] = "dense",
        **training: Any,
    ) -> None:
        """Keep the options; where the paper states a setting, it is the default.

        Args:
            text: the text tower: `tiny`, `tiny-bert`, a hub name such as `bert-base-cased`, or a folder.
            vision: the vision tower: `tiny`, `resnet152`, a hub name, a folder; or `captions`, read by a copy of the
                text tower in place of the pictures.
            freeze_text: keep the text tower's weights as they are.
            freeze_vision: keep the vision tower's weights as they are. What reads captions is frozen where its weights
                come from a hub or folder, and learns where they are new, whatever this says.
            max_tokens: length limit in pieces, special pieces included.
            max_images: read this many images of a post, the first ones.
            max_objects: most objects of an image, the surest ones.
            augment: mirror and shift pictures and crops while training, where the vision tower is not frozen.
            lambda_span: weight of the span task's loss.
            lambda_mner: weight of the tagging loss.
            width: d_m, width of the graph's nodes.
            hidden: width of the graph's feed-forward networks.
            graph_layers: how often the nodes change each other.
            heads: of the graph's attentions; must divide width.
            dropout: in the graph: on attention weights, behind attention and feed-forward networks.
            transformer_heads: of the two transformer layers behind the text tower; must divide its width.
            transformer_dropout: in those two layers.
            tokens: token nodes are pieces, [CLS] and [SEP] among them, or words; towers that read whole words have
                words alone.
            visual: beside the image, visual nodes are the objects in it, or the regions of the tower's last map.
            use_global: the image itself is a visual node, the first one.
            entity_nodes: spans are nodes; false lets each token of a span look at the visual nodes by itself.
            span_task: detect spans; false (with entity_nodes false) lets all tokens look at the visual nodes.
            residual: residual and layer norm around attention (Eq. 7) and feed-forward networks; false leaves out both.
            norm: where those layer norms stand.
            obj_update: visual nodes look at the entities of before the layer (parallel), at those that have seen
                (sequential), or at none.
            gate: a share for each feature, or one for a node (Eq. 9, 11).
            isolate_non_entity: tokens outside spans do not look at those inside, from the second layer on.
            entity_state: after a layer, an entity is pooled from its tokens (from_tokens), or what it fused (carry).
            ss_unit: predicted spans take the place of gold ones sentence by sentence, or for a whole batch.
            ss_start: last epoch of training, counted from 1, with gold spans alone.
            ss_end: epoch from which on the share of predicted spans is ss_max.
            ss_max: largest share of predicted spans while training.
            span_repair: an I without a B before it starts a span (lenient), or belongs to none (strict).
            decode_on: the head reads the graph's tokens, or the text tower's states beside them.
            graph: messages as matrix products (dense), or over lists of edges with the library DGL (dgl, to be
                installed besides); both give the same numbers.
            training: options of `Tagger`.

        """
        given = locals()
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout, transformer_dropout=transformer_dropout)
        check("model", COUNT, max_tokens=max_tokens, max_images=max_images, max_objects=max_objects)
        check("model", COUNT, width=width, hidden=hidden, graph_layers=graph_layers, heads=heads)
        check("model", COUNT, transformer_heads=transformer_heads)
        check("model", WEIGHT, lambda_span=lambda_span, lambda_mner=lambda_mner, ss_start=ss_start, ss_end=ss_end)
        check("model", SHARE, ss_max=ss_max)
        self.text, self.vision = text, vision
        self.freeze_text, self.freeze_vision, self.augment = freeze_text, freeze_vision, augment
        self.max_tokens, self.max_images, self.max_objects = max_tokens, max_images, max_objects
        self.lambda_span, self.lambda_mner = lambda_span, lambda_mner
        self.options = {name: given[name] for name in ENCODER_OPTIONS}

    def make_encoder(self) -> GeiEncoder:
        text = self.text_tower("text", self.text, freeze=self.freeze_text, max_tokens=self.max_tokens)
        sight = self.sight("vision", self.vision, text, freeze=self.freeze_vision, augment=self.augment)
        return GeiEncoder(text, sight, **self.options)

    def needs(self) -> Needs:
        visual = self.encoder.visual
        limits = {"max_images": self.max_images, "max_objects": self.max_objects}
        return visual.sight.needs(self.towers["text"].reader, visual.views, **limits)

    def loss_weights(self) -> dict[str, float]:
        """Both losses of the paper's objective."""
        return {"head": self.lambda_mner, "span": self.lambda_span}

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
            pairs = zip(gold_spans(batch, self.encoder.span_repair), self._detected(batch), rows, strict=True)
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
