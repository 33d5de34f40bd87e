"""UMT (jefferyYu/UMT)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.tagger import Tagger
from mnerkit.towers.interface import VisionTower
from parity_methods.base import ParityMethod
from parity_methods.case import TableTower, Watch, bert_config, numbered, tower_folder, words_batch
from parity_methods.comparing import At, Ours


class RegionCase(ParityMethod):
    """What the cases of UMT and of MAF, which grew from its code, have in common."""

    def options(self, folder: Path) -> dict[str, Any]:
        config = bert_config(self.case.weights, "bert", self.case.sized("num_attention_heads"))
        sizes = {"heads": config.num_attention_heads, "max_tokens": self.case["input/labels"].shape[1]}
        return {"text": tower_folder(folder, config), **sizes}

    def vision(self) -> VisionTower:
        return TableTower(stages=[self.case["input/region_map"]])

    def batch(self) -> Batch:
        case = self.case
        ids, mask, firsts = (case[f"input/{name}"] for name in ("input_ids", "input_mask", "first_piece"))
        batch = words_batch(ids, mask, firsts, case["input/labels"], case.tags, self.types)
        batch.image_mask = torch.ones(len(batch), 1, dtype=torch.bool)
        batch.images = numbered(batch.image_mask)
        return batch

    def hide_regions(self, encoder: Any) -> None:
        """In the group `output/partial` some regions are hidden."""
        if self.group == "output/partial":
            given, mask = encoder.regions, self.case["input/added_mask_partial"].bool()
            object.__setattr__(encoder, "regions", lambda batch: (given(batch)[0], mask[:, : given(batch)[0].shape[1]]))


class Method(RegionCase):
    plugin = "umt"
    groups = {"output": {}, "output/partial": {}}

    def results(self, method: Tagger, batch: Batch) -> dict[str, Ours]:
        encoder: Any = method.encoder
        head: Any = method.head
        self.hide_regions(encoder)
        watch = Watch()
        watch.bert(encoder.text.model)
        for name in ("auxiliary", "main", "visual", "region_reader", "textual", "region_map", "region_map_2"):
            watch.module(name, getattr(encoder, name))
        weights = {
            name: watch.weights(("weights", name), getattr(encoder, name)[0].attention)
            for name in ("visual", "region_reader", "textual")
        }
        watch.method("fused", encoder, "fused")
        watch.method("u", encoder.spans, "emissions")
        tagged = self.tagged(method, batch)
        mask, order = tagged["mask"], self.order(method)

        def of_words(values: Tensor) -> At:
            return At(values, mask)

        def attention_of_words(values: Tensor) -> At:
            return At(values, mask[:, None].expand(-1, values.shape[1], -1))

        results: dict[str, Ours] = {
            "attention_words_to_regions": attention_of_words(weights["visual"]()),
            "visual_words": of_words(watch["visual"]),
            "emissions": of_words(tagged["emissions"]),
            "loss_main": tagged["losses"]["head"],
            "loss": tagged["total"],
            "total": tagged["total"],
        }
        if self.group != "output":
            return results
        typed, u = head.linear(tagged["states"]), watch["u"]
        converted = head_of_boundary(tagged["encoded"].boundary, len(self.types)) / (1 - encoder.options.span_mix)
        # the released untyped tags are in the order of the typed ones
        firsts = torch.cat([order[:3], order[2 * len(self.types) + 1 :]])
        return results | {
            "text_states": of_words(watch.states(len(encoder.text.model.encoder.layer))),
            "attention_bert_layer0": attention_of_words(watch.attention(0)),
            "aux_states": of_words(watch["auxiliary"]),
            "main_states": of_words(watch["main"]),
            "aux_emissions": of_words(torch.zeros_like(u).index_copy(-1, firsts.argsort().argsort(), u)),
            "regions": watch["region_map"],
            "regions_second": watch["region_map_2"],
            "attention_regions_to_words": weights["region_reader"](),
            "region_texts": watch["region_reader"],
            "attention_words_to_region_texts": attention_of_words(weights["textual"]()),
            "textual_words": of_words(watch["textual"]),
            "gate": of_words(watch["fused"][1]),
            "final_states": of_words(tagged["states"]),
            "main_emissions": of_words(torch.zeros_like(typed).index_copy(-1, order, typed)),
            "converted_emissions": of_words(torch.zeros_like(converted).index_copy(-1, order, converted)),
            "loss_aux": tagged["losses"]["span"],
            "tags": tagged["decoded"],
        }


def head_of_boundary(boundary: Tensor, types: int) -> Tensor:
    """What each of our tags gets (B, n, K) of scores (B, n, 3 + others) in the order B, I, O, others."""
    return torch.cat([boundary[..., 2:3], boundary[..., :2].repeat(1, 1, types), boundary[..., 3:]], -1)
