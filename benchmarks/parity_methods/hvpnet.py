"""HVPNet (zjunlp/HVPNeT)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.tagger import Tagger
from mnerkit.towers.interface import VisionTower
from parity_methods.base import ParityMethod
from parity_methods.case import TableTower, Watch, bert_config, first_pieces_of, numbered, tower_folder, words_batch
from parity_methods.comparing import At, Ours

SANE = {"prefix_heads": "proper", "layout": "proper", "pool": "adaptive", "absent": "mask"}


class Method(ParityMethod):
    plugin = "hvpnet"
    groups = {
        "output": {},
        "variant/all_sane": {},
    }

    def options(self, folder: Path) -> dict[str, Any]:
        weights = self.case.weights
        config = bert_config(weights, "bert", self.case.sized("heads"))
        return {"text": tower_folder(folder, config), "hidden": len(weights["encoder_conv.0.weight"])}

    def vision(self) -> VisionTower:
        maps = [
            torch.cat(
                [self.case[f"input/maps_image_stage{i}"], self.case[f"input/maps_objects_stage{i}"].flatten(0, 1)]
            )
            for i in (1, 2, 3, 4)
        ]
        return TableTower(stages=maps)

    def batch(self) -> Batch:
        case = self.case
        ids, mask = case["input/input_ids"], case["input/attention_mask"]
        firsts = first_pieces_of(case["input/word_start"], ids.shape)
        batch = words_batch(ids, mask, firsts, case["input/labels"], case.tags, self.types)
        batch.image_mask = torch.ones(len(batch), 1, dtype=torch.bool)
        batch.images = numbered(batch.image_mask)
        batch.crop_view, batch.crop_mask = "objects", case["input/object_mask"].bool()
        batch.crops = numbered(batch.crop_mask, first=len(batch))
        batch.crop_image = torch.zeros_like(batch.crop_mask, dtype=torch.long)
        return batch

    def results(self, method: Tagger, batch: Batch) -> dict[str, Ours]:
        encoder: Any = method.encoder
        watch = Watch()
        watch.bert(encoder.text.model)
        tagged = self.tagged(method, batch)
        return {
            "states": At(tagged["states"], tagged["mask"]),
            "emissions": At(tagged["emissions"], tagged["mask"]),
            "loss_total": tagged["total"],
            "loss_crf": tagged["total"],
            "crf_log_partition": tagged["log_partition"],
            "crf_gold_score": tagged["gold_score"],
            "decoded": tagged["decoded"],
            "total": tagged["total"],
        }
