"""GEI (Findings of EMNLP 2022): entities attend to a post's image and objects, and update their words.

Equation numbers are the paper's. B posts of n tokens and W words, N spans, k visual nodes; d_C is the width of the text
tower, d_m that of the graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.errors import UsageError
from mnerkit.nn import chain_tree
from mnerkit.nn.attention import TransformerLayer
from mnerkit.nn.graph_backends import load_dgl
from mnerkit.nn.untyped_spans import ScheduledSampling, SpanTask, spans_of, tags_of_spans
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit_plugins.gei.entity_graph import entity_graph
from mnerkit_plugins.gei.entity_layer import HeteroEntityLayer, Interaction, Nodes
from mnerkit_plugins.gei.nodes import TokenNodes, Tokens, VisualNodes
from mnerkit_plugins.gei.options import GeiOptions


class GeiEncoder(Encoder):
    """One graph of tokens, detected spans and visual nodes; word states come from its tokens.

    Attributes:
        epoch: number of the training epoch, from 1; determines the share of predicted spans.
        detected: (B, W) spans predicted for the last batch; None without the span task.
    """

    def __init__(self, text: TextTower, sight: Sight, o: GeiOptions) -> None:
        """Create the modules around the towers.

        Raises:
            UsageError: `transformer_heads` does not divide the text tower's width, or DGL is missing.
        """
        super().__init__()
        self.options = o
        if text.width % o.transformer_heads:
            raise UsageError(f"--model.transformer_heads {o.transformer_heads} does not divide the width {text.width}")
        if o.graph == "dgl":
            load_dgl()  # so that a missing DGL is reported before training
        self.tokens = TokenNodes(text, o)
        self.visual = VisualNodes(sight, o)

        def transformer() -> TransformerLayer:
            return TransformerLayer(text.width, o.transformer_heads, dropout=o.transformer_dropout)

        self.reader, self.token_map = transformer(), nn.Linear(text.width, o.width)  # Transformer1, W_t
        self.span_reader = transformer() if o.span_task else None  # Transformer2
        self.spans = SpanTask(text.width) if o.span_task else None
        self.layers = nn.ModuleList(
            HeteroEntityLayer(o, last=number == o.graph_layers - 1) for number in range(o.graph_layers)
        )
        self.sampling = ScheduledSampling(o.ss_unit, o.ss_start, o.ss_end, o.ss_max)
        self.width = o.width + (text.width if o.decode_on == "concat_bert" else 0)
        self.epoch = 1
        self.detected: Tensor | None = None
        self.by_post = not o.span_task  # the tagger also reads `detected` after a call

    @property
    def sight(self) -> Sight:
        """The reader of the pictures."""
        return self.visual.sight

    def begin_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def detected_tags(self) -> Tensor | None:
        return None if self.detected is None else tags_of_spans(self.detected)

    def set_detected_tags(self, tags: Tensor) -> None:
        self.detected = spans_of(tags, torch.ones_like(tags, dtype=torch.bool), self.options.span_repair)

    def find_spans(self, batch: Batch, tokens: Tokens) -> tuple[Tensor, dict[str, Tensor]]:
        """Spans of words (B, W), predicted or (by scheduled sampling in training) gold; and the span task's loss."""
        assert self.span_reader is not None and self.spans is not None
        text = batch.text
        mask = text.read_mask
        states = self.tokens.words(self.span_reader(tokens.states, tokens.mask), text)  # Eq. 2: T', (B, W, d_C)
        emissions = self.spans.emissions(states)
        gold = None if batch.tags is None else spans_of(batch.tags, mask, self.options.span_repair)
        if gold is not None and self.training and not self.sampling.share(self.epoch):
            spans = gold  # nothing reads predictions in the first epochs
        else:
            spans = self.detected = spans_of(self.spans.decode(emissions, mask), mask, self.options.span_repair)
        if gold is None:
            return spans, {}
        loss = self.spans.loss(emissions, tags_of_spans(gold), mask, observed=batch.play_mask)  # Eq. 3-4
        if self.training:
            spans = self.sampling.choose(gold, spans, self.epoch)
        return spans, {"span": loss}

    def owners(self, tokens: Tokens, spans: Tensor | None) -> Tensor:
        """The number of each token's entity, (B, n), -1 for none; without spans, all real tokens have number 0."""
        if spans is None:
            return torch.zeros_like(tokens.word).masked_fill(~tokens.mask, -1)
        return spans.gather(1, tokens.word.clamp_min(0)).masked_fill(tokens.word < 0, -1)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        o, text = self.options, batch.text
        tokens = self.tokens(text)
        h_t = self.token_map(self.reader(tokens.states, tokens.mask))  # Eq. 1: T~, (B, n, d_m)
        spans, losses = self.find_spans(batch, tokens) if self.spans is not None else (None, {})
        h_v, visual_mask = self.visual(batch)  # Eq. 5-6: V~, (B, k, d_m)
        # a GPU would have to be waited for to tell how many entities there are: there is room for one a word
        room = None if self.training or trace or not chain_tree.used_on(h_t.device) else text.word_mask.shape[1]
        graph = entity_graph(tokens.mask, visual_mask, self.owners(tokens, spans), o.entity_nodes, o.graph, room)
        nodes = Nodes(h_t, h_v, graph.pool(h_t) if o.entity_nodes else None)
        interactions: list[Interaction] = []
        for number, layer in enumerate(self.layers):
            # nothing is fused before the first layer
            apart = o.isolate_non_entity and number > 0
            nodes, interaction = layer(nodes, graph, apart, trace)  # Eq. 7-12
            if interaction is not None:
                interactions.append(interaction)
        states = self.tokens.words(nodes.tokens, text)  # (B, W, d_m)
        if o.decode_on == "concat_bert":
            states = torch.cat((self.tokens.words(tokens.states, text), states), -1)
        return WordStates(
            states.unsqueeze(0), losses, trace=self._trace(interactions, batch, spans, visual_mask) if trace else {}
        )

    def _trace(
        self, interactions: list[Interaction], batch: Batch, spans: Tensor | None, visual_mask: Tensor
    ) -> dict[str, Tensor]:
        """Traces of the L layers for figures; without entity nodes, words take the place of entities.

        `entity_attention` (B, L, N, k) or `word_attention` (B, L, W, k), the mean over heads; `entity_gate` (B, L, N or
        W) and `token_gate` (B, L, W), means over features; `spans` (B, W), untyped tag numbers of the spans;
        `visual_mask`, `visual_image` and `visual_place` (B, k), the mask and the positions of visual nodes
        (`VisualNodes.places`); `boxes` (B, k, 4), the boxes of visual nodes if they are objects.
        """

        def of_words(values: Tensor) -> Tensor:
            return self.tokens.words(values, batch.text)

        def actors(values: Tensor) -> Tensor:
            return values if self.options.entity_nodes else of_words(values)

        attention = torch.stack([actors(layer.attention.mean(1)) for layer in interactions], 1)
        entity_gates = [actors(layer.entity_gate.mean(-1, keepdim=True)) for layer in interactions]
        traces = {
            f"{'entity' if self.options.entity_nodes else 'word'}_attention": attention,
            "entity_gate": torch.stack(entity_gates, 1)[..., 0],
        }
        image, place = self.visual.places(batch, visual_mask)
        traces |= {"visual_mask": visual_mask, "visual_image": image, "visual_place": place}
        token_gates = [layer.token_gate for layer in interactions if layer.token_gate is not None]
        if token_gates:
            traces["token_gate"] = torch.stack([of_words(gate.mean(-1, keepdim=True)) for gate in token_gates], 1)[
                ..., 0
            ]
        if spans is not None:
            traces["spans"] = tags_of_spans(spans)
        if (boxes := self.visual.boxes(batch)) is not None:
            traces["boxes"] = boxes
        return traces
