"""UMGF (TransformersWsz/UMGF)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.released import ReleasedWeights
from mnerkit.methods.tagger import Tagger
from mnerkit.towers.interface import VisionTower
from mnerkit_plugins.umgf.graph_layer import GraphLayer
from mnerkit_plugins.umgf.released import ENTRIES
from parity_methods.base import ParityMethod, of_first_pieces
from parity_methods.case import TableTower, Watch, bert_config, first_pieces_of, numbered, tower_folder, words_batch
from parity_methods.comparing import At, Ours

# links, and what stands behind the names of what is computed with them
MATRICES = {"": "input/inter_matrix", "_sparse": "input/inter_matrix_sparse"}


class Method(ParityMethod):
    plugin = "umgf"
    # shapes of parameters
    structural = ("subword", "object_attention")

    def options(self, folder: Path) -> dict[str, Any]:
        weights = self.case.weights
        return {
            "text": tower_folder(folder, bert_config(weights, "bert", self.case.sized("bert_heads", "heads"))),
            "max_tokens": self.case["input/labels"].shape[1],
            "heads": self.case.sized("graph_heads"),
            "max_objects": self.case["input/object_features"].shape[1],
        }

    def vision(self) -> VisionTower:
        return TableTower(self.case["input/object_features"].flatten(0, 1))

    def released_tags(self, method: Tagger) -> tuple[str, ...]:
        return tuple({"CLS": "[CLS]", "SEP": "[SEP]"}.get(tag, tag) for tag in self.case.tags)

    def batch(self) -> Batch:
        case = self.case
        ids, mask = case["input/input_ids"], case["input/attention_mask"]
        firsts = first_pieces_of(case["input/word_starts"], ids.shape)
        batch = words_batch(ids, mask, firsts, case["input/labels"], case.tags, self.types)
        shape = case["input/object_features"].shape[:2]
        batch.crop_view, batch.crop_mask = "objects", torch.ones(shape, dtype=torch.bool)
        batch.crops, batch.crop_image = numbered(batch.crop_mask), torch.zeros(shape, dtype=torch.long)
        return batch

    def results(self, method: Tagger, batch: Batch) -> dict[str, Ours]:
        encoder: Any = method.encoder
        pairs = {end: self.case[name].bool() for end, name in MATRICES.items()}
        watch = Watch()
        watch.bert(encoder.text.model)
        for name in ("object_reader", "object_map", "word_map"):
            watch.module(name, getattr(encoder, name))
        for number, layer in enumerate(encoder.layers):
            watch.module(("layer", number), layer)
        tagged = {}
        for end in reversed(MATRICES):  # the watched calls are then those with all links
            object.__setattr__(encoder, "links", lambda *_, end=end: pairs[end])
            tagged[end] = self.tagged(method, batch)
        whole, mask = tagged[""], tagged[""]["mask"]
        # the released loss is summed over posts
        losses = {end: each["losses"]["head"] * len(batch) for end, each in tagged.items()}
        results: dict[str, Ours] = {
            "bert_states": At(watch.states(len(encoder.text.model.encoder.layer)), mask),
            "object_vectors": watch["object_reader"],
            "objects_0": watch["object_map"],
            "words_0": At(watch["word_map"], mask),
            "states": At(whole["states"], mask),
            **{f"emissions{end}": At(each["emissions"], mask) for end, each in tagged.items()},
            **{f"loss{end}": loss for end, loss in losses.items()},
            "loss_per_post": whole["log_partition"] - whole["gold_score"],
            "total": losses[""],
            "decoded": whole["decoded"],
        }
        words = of_first_pieces(whole["decoded"], self.case["input/word_starts"])
        others = torch.tensor([self.case.tags.index(tag) for tag in ("PAD", "X", "CLS", "SEP")])
        results["decoded_words"] = words.masked_fill(torch.isin(words, others), self.case.tags.index("O"))
        table = ReleasedWeights(ENTRIES).ours(self.case.weights, self.order(method))
        for number in range(len(encoder.layers)):
            given = watch.calls["layer", number][-1].args
            for name, value in of_layer(encoder, number, given, table, mask).items():
                results[f"layer{number}.{name}"] = value
        return results


def of_layer(encoder: Any, number: int, given: Any, table: dict[str, Tensor], mask: Tensor) -> dict[str, Ours]:
    """The tensors within a layer, which here also updates objects where it is the last one."""
    o = replace(encoder.options, dropout=0.0)
    layer, prefix = GraphLayer(o), f"encoder.layers.{number}."
    layer.load_state_dict({name[len(prefix) :]: each for name, each in table.items() if name.startswith(prefix)})
    watch = Watch()
    for side in ("words", "objects"):
        modules: Any = getattr(layer, side)
        for name in ("around_attention", "around_intake", "think", "gates"):
            watch.module((side, name), getattr(modules, name))
    words, objects, links = given
    layer(words, objects, links)
    results: dict[str, Ours] = {}
    for name, part in (("self", "around_attention"), ("cross", "around_intake"), ("out", "think")):
        results[f"words_{name}"] = At(watch["words", part], mask)
        results[f"objects_{name}"] = watch["objects", part]
    if number == 0:
        sides: Any = layer
        results["word_gates"] = At(watch["words", "gates"], mask)
        results["object_gates"] = At(
            watch["objects", "gates"].transpose(1, 2), mask[:, None].expand(-1, objects.shape[1], -1)
        )
        weights = sides.words.attention(words, words, mask=links.words, need_weights=True)[1]
        results["word_attention"] = At(weights, mask[:, None].expand(-1, weights.shape[1], -1))
        results["object_attention"] = sides.objects.attention(objects, objects, mask=links.objects, need_weights=True)[
            1
        ]
    return results
