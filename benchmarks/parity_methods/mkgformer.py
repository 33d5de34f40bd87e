"""MKGformer (zjunlp/MKGformer, folder MNER)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.tagger import Tagger
from parity_methods.base import ParityMethod
from parity_methods.case import Watch, two_stream_towers, words_batch
from parity_methods.comparing import At, Ours


class Method(ParityMethod):
    plugin = "mkgformer"
    # in float32 a plain copy of the equations is up to 3e-5 away from float64 where the softmax saturates
    tolerances = {"output/*": (5e-5, "advised by the case: a softmax that saturates")}

    def options(self, folder: Path) -> dict[str, Any]:
        case = self.case
        return {
            **two_stream_towers(case, folder),
            "exchange_layers": case.sized("layers") - case.sized("first"),
            "max_objects": case["input/aux_imgs"].shape[1],
            "crop_size": case["input/aux_imgs"].shape[-1],
            "small_objects": case["input/rcnn_imgs"].shape[1],
            "small_size": case["input/rcnn_imgs"].shape[-1],
        }

    def batch(self) -> Batch:
        case = self.case
        ids, mask = case["input/input_ids"], case["input/attention_mask"]
        batch = words_batch(ids, mask, case["input/word_start"], case["input/labels"], case.tags, self.types)
        large, small = case["input/aux_imgs"], case["input/rcnn_imgs"]
        # the encoder shrinks these crops by means over areas, so it gets pictures of which those are the means
        means = functional.adaptive_avg_pool1d(torch.eye(large.shape[-1]).double()[None], small.shape[-1])[0].t()
        grow = torch.linalg.pinv(means)  # (large, small)
        batch.crops = torch.cat([large, (grow @ small.double() @ grow.t()).float()], 1)
        batch.crop_mask = batch.crops.flatten(2).any(-1)
        batch.crop_image = torch.zeros_like(batch.crop_mask, dtype=torch.long)
        batch.crop_view = "objects"
        return batch

    def results(self, method: Tagger, batch: Batch) -> dict[str, Ours]:
        encoder: Any = method.encoder
        watch = Watch()
        vision = encoder.vision.model.vision_model
        watch.module("vision_embeddings", vision.pre_layrnorm)
        watch.module("streams", encoder.streams)
        for number, (text, image) in enumerate(
            zip(encoder.text.model.encoder.layer, vision.encoder.layers, strict=True), 1
        ):
            for part in ("key", "value"):
                watch.module((part, number), getattr(text.attention.self, part))
            watch.module(("text_attention", number), text.attention.self)
            watch.module(("vision_attention", number), image.self_attn)
        for number, fusion in encoder.fusions.items():
            watch.module(("fusion", int(number) + 1), fusion)
            watch.module(("fused", int(number) + 1), fusion.map)
        tagged = self.tagged(method, batch)
        texts, images = watch["streams"]
        results: dict[str, Ours] = {
            "vision_embeddings": watch.calls["vision_embeddings"][-1].args[0],
            "sequence_output": At(tagged["states"], tagged["mask"]),
            "emissions": At(tagged["emissions"], tagged["mask"]),
            "tags": tagged["decoded"].float(),
            "loss": tagged["total"],
            "total": tagged["total"],
        }
        for number, (text, image) in enumerate(zip(texts, images, strict=True)):
            results |= {f"text_states_{number}": text, f"vision_states_{number}": image}
            if not number:
                continue
            for part in ("key", "value"):
                results[f"text_{part}s_{number}"] = split_heads(watch[part, number], self.case.sized("heads"))
            for part in ("text_attention", "vision_attention"):
                results[f"{part}_{number}"] = watch[part, number][1]
            if ("fusion", number) in watch.calls:
                results[f"fusion_context_{number}"] = watch["text_attention", number][0]
                results[f"fusion_weights_{number}"] = watch["fusion", number][1]
                results[f"fusion_{number}"] = watch.calls["fused", number][-1].args[0]
        return results


def split_heads(states: Tensor, heads: int) -> Tensor:
    """(B, n, d) to (B, heads, n, d / heads)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)
