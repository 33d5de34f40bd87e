"""TPM-MI (JinFish/MNER-MI)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.tagger import Tagger
from parity_methods.base import ParityMethod
from parity_methods.case import Watch, bert_config, first_pieces_of, tower_folder, vit_folder, words_batch
from parity_methods.comparing import At, Ours


class Method(ParityMethod):
    plugin = "tpm_mi"
    groups = {"output": {}, "images_axis": {"attend": "images"}}
    gradients = {"grad": "output", "images_axis_grad": "images_axis"}
    structural = ("subword", "pooled")

    def options(self, folder: Path) -> dict[str, Any]:
        case, weights = self.case, self.case.weights
        heads, of_vit = case.sized("heads", "num_attention_heads"), case.sized("vit_heads")
        return {
            "text": tower_folder(folder / "bert", bert_config(weights, "bert", heads)),
            "vision": vit_folder(folder / "vit", weights, "vit", of_vit),
            "heads": case.sized("transformer_heads"),
        }

    def batch(self) -> Batch:
        case = self.case
        ids, mask = case["input/input_ids"], case["input/attention_mask"]
        firsts = first_pieces_of(case["input/first_piece"], ids.shape)
        batch = words_batch(ids, mask, firsts, case["input/labels"], case.tags, self.types)
        batch.images, batch.image_mask = case["input/pixel_values"], case["input/image_present"].bool()
        return batch

    def results(self, method: Tagger, batch: Batch) -> dict[str, Ours]:
        encoder: Any = method.encoder
        watch, layer = Watch(), encoder.graph.layers[0]
        watch.bert(encoder.text.model)
        for name, module in (("layer", layer), ("norm", layer.norms[0]), ("tanh", encoder.prompts.mlp[1])):
            watch.module(name, module)
        watch.module("vit", encoder.sight.reads.model)
        watch.module("prompts", encoder.prompts)
        if encoder.pooler is not None:
            watch.module("pooler", encoder.pooler)
        tagged = self.tagged(method, batch)
        mask, posts = tagged["mask"], encoder.graph.axis == "posts"

        def by_post(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.transpose(0, 1) if posts else tensor

        each = tagged["log_partition"] - tagged["gold_score"]
        vectors, attention = watch["layer"]
        results: dict[str, Ours] = {
            "last_state": At(tagged["states"], mask),
            "emissions": At(tagged["emissions"], mask),
            "decoded": tagged["decoded"],
            "loss": tagged["total"],
            "loss_each_post": each,
            "transformer_out": by_post(vectors),
            "transformer_attention": attention,
            "total": tagged["total"],
        }
        if self.group != "output":
            return results
        heads = encoder.text.config.num_attention_heads
        keys, values = watch["prompts"]
        for number, (key, value) in enumerate(zip(keys, values, strict=True)):
            for name, part in (("key", key), ("value", value)):
                results[f"layer{number}_prefix_{name}"] = part.unflatten(-1, (heads, -1)).transpose(1, 2)
            results[f"layer{number}_state"] = At(watch.states(number + 1), mask)
        inputs = watch.calls["layer"][-1].args[0]
        class_state = watch["vit"].last_hidden_state[:, 0]
        if len(class_state) == inputs.shape[0] * inputs.shape[1]:  # every place is shown
            results["vit_cls_state"] = class_state.unflatten(0, self.case["input/image_present"].shape)
        if encoder.pooler is not None:
            results["vit_pooled"] = watch["pooler"]
        return results | {
            "bert_embeddings": At(watch.states(0), mask),
            "layer0_attention": At(watch.attention(0), mask[:, None].expand(-1, heads, -1)),
            "transformer_in": by_post(inputs),
            "transformer_after_attention": by_post(watch["norm"]),
            "prompt_hidden": watch["tanh"],
            "eval_loss": tagged["total"],
        }
