"""MGIPS-CL (chenchenhtd/MGIPS-CL), without five faults of the released code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.tagger import Tagger
from parity_methods.base import ParityMethod
from parity_methods.case import Watch, two_stream_towers, words_batch
from parity_methods.comparing import At, Ours

FAULTY = (
    "as released, with five faults: heads of the vision queries, of the first layer's foreign embeddings and of the "
    "image-guided extractor are reinterpreted rows (F1, F2, F5, which also keeps gradients back), values of text's "
    "foreign part are the keys (F3), and their logits get 1 more (F4); repaired/* has none of them"
)
FED = "padded rows of text_mge, which the released column logits put at -1e4 before a softmax in float32, enter here"
FIRST = ("text_keys", "text_values", "vision_keys", "vision_values")
# what stands before the faults
INTACT = ("vision_embeddings", "vision_states_0", "text_states_0", *(f"{each}_1" for each in FIRST))


def heads_first(weights: Sequence[Tensor]) -> list[Tensor]:
    """(B, c, h, n) to (B, h, c, n), each."""
    return [each.transpose(1, 2) for each in weights]


class Method(ParityMethod):
    plugin = "mgips_cl"
    main = "repaired"
    groups = {"repaired": {}}
    gradients = {"repaired_grad": "repaired"}
    structural = ("subword", "mge_text_block", "mge_hidden", "gate", "image_gate", "cl_pool")
    not_ours = {"output/*": FAULTY, "grad/*": FAULTY}
    tolerances = {
        f"repaired/{name}*": (5e-4, FED) for name in ("image_mge_2", "gated_image", "gate_image", "contrast_")
    }

    def options(self, folder: Path) -> dict[str, Any]:
        case, crops = self.case, self.case["input/aux_imgs"]
        return {
            **two_stream_towers(case, folder),
            "max_tokens": case["input/input_ids"].shape[1],
            "max_objects": crops.shape[1],
            "crop_size": crops.shape[-1],
            "mge_heads": case.sized("heads"),
            "ips_k": case.sized("k"),
        }

    def batch(self) -> Batch:
        case = self.case
        ids, mask = case["input/input_ids"], case["input/attention_mask"]
        batch = words_batch(ids, mask, case["input/word_start"], case["input/labels"], case.tags, self.types)
        batch.crops = case["input/aux_imgs"]
        batch.crop_mask = batch.crops.flatten(2).any(-1)
        batch.crop_image = torch.zeros_like(batch.crop_mask, dtype=torch.long)
        batch.crop_view = "objects"
        return batch

    def results(self, method: Tagger, batch: Batch) -> dict[str, Ours]:
        encoder: Any = method.encoder
        encoder.training = True  # losses are of training; no module below it trains
        heads = self.case.sized("heads")
        watch, vision = Watch(), encoder.vision.model.vision_model
        watch.module("vision_embeddings", vision.pre_layrnorm)
        watch.module("streams", encoder.streams)
        layers = [*zip(encoder.text.model.encoder.layer, vision.encoder.layers, strict=True)]
        for number, (text, image) in enumerate(layers, 1):
            watch.module(("text", number), text.attention.self)
            watch.module(("vision", number), image.self_attn)
        for part, module in {
            "text_keys": layers[0][0].attention.self.key,
            "text_values": layers[0][0].attention.self.value,
            "vision_keys": layers[0][1].self_attn.k_proj,
            "vision_values": layers[0][1].self_attn.v_proj,
        }.items():
            watch.module(part, module)
        for side in ("image", "text"):
            extractor, vector = getattr(encoder, f"mge_{side}"), getattr(encoder.contrast, side)
            watch.module(f"{side}_mge", extractor)
            watch.module(f"{side}_out", extractor.out)
            watch.method(f"{side}_weights", extractor, "weights")
            watch.module(f"{side}_vector", vector.activation)
        watch.module("gate_text", encoder.gate)
        if encoder.image_gate is not None:
            watch.module("gate_image", encoder.image_gate)
        watch.method("similarity", encoder.contrast, "similarity")
        tagged = self.tagged(method, batch)
        texts, images = watch["streams"]
        real = tagged["mask"]
        row, column = heads_first(watch["text_weights"])
        gated, share = watch["gate_text"]
        results: dict[str, Ours] = {
            "vision_embeddings": watch.calls["vision_embeddings"][-1].args[0],
            "text_mge": At(watch["text_mge"][0], real),
            "text_mge_extracted": At(watch.calls["text_out"][-1].args[0], real),
            "text_mge_row": row,
            "text_mge_column": At(column.expand(-1, -1, row.shape[2], -1), real[:, None].expand(-1, heads, -1)),
            "gate_text": At(share, real),
            "gated_text": At(gated, real),
            "contrast_text_pre": watch.calls["text_vector"][0].args[0],
            "contrast_image_pre": watch.calls["image_vector"][0].args[0],
            "similarity": watch["similarity"].t(),
            "sequence_output": At(tagged["states"], real),
            "emissions": At(tagged["emissions"], real),
            "tags": tagged["decoded"].float(),
            "loss_crf": tagged["losses"]["head"],
            "loss_contrastive": tagged["losses"]["ips"],
            "loss": tagged["total"],
            "total": tagged["total"],
        }
        for number in (1, 2):
            row, column = heads_first(watch.calls["image_weights"][number - 1].output)
            results |= {
                f"image_mge_{number}": watch.calls["image_mge"][number - 1].output[0],
                f"image_mge_{number}_extracted": watch.calls["image_out"][number - 1].output,
                f"image_mge_{number}_row": row,
                f"image_mge_{number}_column": column,
            }
        if encoder.image_gate is not None:
            results["gated_image"], results["gate_image"] = watch["gate_image"]
        for number, (text, image) in enumerate(zip(texts, images, strict=True)):
            results |= {f"text_states_{number}": text, f"vision_states_{number}": image}
            if number:
                results |= {f"{side}_attention_{number}": watch[side, number][1] for side in ("text", "vision")}
        return results | {f"{part}_1": split_heads(watch[part], heads) for part in FIRST}

    def compute(self) -> dict[str, Ours]:
        """Extend it: what stands before the faults is compared with the code as released, too."""
        ours = super().compute()
        return ours | {f"output/{name}": ours[f"{self.main}/{name}"] for name in INTACT}


def split_heads(states: Tensor, heads: int) -> Tensor:
    """(B, n, d) to (B, heads, n, d / heads)."""
    return states.unflatten(-1, (heads, -1)).transpose(1, 2)
