"""HVPNet (zjunlp/HVPNeT)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.methods.tagger import Tagger
from mnerkit.nn.visual_prefix import pooled_maps
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.fusion.stage_maps import StageMaps
from mnerkit.towers.interface import ImageStates, VisionTower
from mnerkit.towers.vision.pretrained import IMAGENET
from parity_methods.base import ParityMethod, of_first_pieces
from parity_methods.case import TableTower, Watch, bert_config, first_pieces_of, numbered, tower_folder, words_batch
from parity_methods.comparing import At, Ours

HEADS, POSITIONS, POOL = {"prefix_heads": "proper"}, {"layout": "proper"}, {"pool": "adaptive"}
# the cases' small pictures were made with 28 in place of 224 wherever the code has it: in green's deviation, too
SMALL_STD = (0.229, 0.28, 0.225)


class Method(ParityMethod):
    plugin = "hvpnet"
    groups = {
        "output": {},
        "variant/heads_proper": HEADS,
        "variant/positions_proper": POSITIONS,
        "variant/pool_adaptive": POOL,
        "variant/heads_and_positions_proper": HEADS | POSITIONS,
        "variant/heads_proper_absent_masked": HEADS | {"absent": "mask"},
        "variant/all_sane": HEADS | POSITIONS | POOL | {"absent": "mask"},
        "variant/no_prompt": {},
    }
    not_ours = {
        "batchnorm/pixels_*": "input of the other tensors of batchnorm",
        "batchnorm/weights/*": "weights of the other tensors of batchnorm",
        "pixels/picture*": "input of the other tensors of pixels",
    }

    def options(self, folder: Path) -> dict[str, Any]:
        weights = self.case.weights
        config = bert_config(weights, "bert", self.case.sized("heads"))
        return {"text": tower_folder(folder, config)}

    def vision(self) -> VisionTower:
        images, objects = (self.case.below(f"input/maps_{each}_stage") for each in ("image", "objects"))
        return TableTower(stages=[torch.cat([images[i], objects[i].flatten(0, 1)]) for i in sorted(images, key=int)])

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
        watch.module("slices", encoder.to_slices)
        watch.module("gate", encoder.gate)
        for name in ("positions", "keys_values", "heads", "look"):
            watch.method(name, encoder, name)
        if self.group == "variant/no_prompt":
            object.__setattr__(
                encoder, "look", lambda batch: (None, StageMaps.of(encoder.sight, batch), torch.zeros(0))
            )
        tagged = self.tagged(method, batch)
        mask = tagged["mask"]
        results: dict[str, Ours] = {
            "states": At(tagged["states"], mask),
            "emissions": At(tagged["emissions"], mask),
            "loss_total": tagged["total"],
            "total": tagged["total"],
        }
        if self.group != "output":
            return results
        _, pictures, gates = watch["look"]
        heads = encoder.text.config.num_attention_heads
        before, after = watch.calls["heads"][-1].args[0], watch["heads"]
        layers, count, width = len(before.keys), before.keys[0].shape[1], before.keys[0].shape[2]
        picture = (torch.arange(count) // encoder.grid**2).view(1, count, 1).expand(1, count, width)
        picture_of = encoder.heads(Prefix((picture,), (picture,), before.mask)).keys[0]
        pooled = pooled_maps(pictures.maps, encoder.grid, encoder.options.pool)
        return results | {
            **{f"pooled_stage{i}": pictures.spread(each) for i, each in enumerate(pooled, 1)},
            "positions": pictures.spread(watch["positions"]),
            "slices": pictures.spread(watch["slices"].unflatten(-1, (encoder.stages, -1)).transpose(1, 2)),
            "gate_input": pictures.spread(watch.calls["gate"][-1].args[0]),
            "gates": gates,
            "key_before_heads": torch.stack(before.keys, 1),
            "value_before_heads": torch.stack(before.values, 1),
            "prefix_keys": torch.stack([split_heads(each, heads) for each in after.keys], 1),
            "prefix_values": torch.stack([split_heads(each, heads) for each in after.values], 1),
            "picture_of_prefix_entry": split_heads(picture_of, heads)[0],
            "attention_layer0": At(watch.attention(0), mask[:, None, :].expand(-1, heads, -1)),
            "hidden_states": At(
                torch.stack([watch.states(i) for i in range(layers)], 1), mask[:, None, :].expand(-1, layers, -1)
            ),
            "loss_crf": tagged["losses"]["head"],
            "crf_log_partition": tagged["log_partition"],
            "crf_gold_score": tagged["gold_score"],
            "decoded": tagged["decoded"],
            "decoded_words": of_first_pieces(tagged["decoded"], self.case["input/word_start"]),
        }

    def extra(self) -> dict[str, Ours]:
        """Preprocessing of pictures, and a tiny trunk of BatchNorm that trains or not."""
        results: dict[str, Ours] = {}
        for number in range(sum(name.startswith("pixels/picture") for name in self.case.tensors)):
            pixels = self.case[f"pixels/picture{number}"].numpy()
            small, large = (
                torch.from_numpy(PictureFormat(size, IMAGENET[0], std, "centre_crop").apply(pixels))
                for size, std in ((28, SMALL_STD), (224, IMAGENET[1]))
            )
            results[f"pixels/resize32_crop28_{number}"] = small
            results[f"pixels/resize256_crop224_{number}_every16th"] = large[:, ::16, ::16]
        if not (weights := self.case.below("batchnorm/weights/resnet.")):
            return results
        trunk = Trunk(weights)
        sight = Sight(trunk, absent="zeros")
        for step in ("eval_before", "train", "eval_after"):
            sight.train(step == "train")
            seen = StageMaps.of(sight, self.trunk_batch())
            for stage, each in enumerate(pooled_maps(seen.maps, 2, "released"), 1):
                results[f"batchnorm/{step}/pooled_stage{stage}"] = seen.spread(each)
        after = {f"batchnorm/after/resnet.{name}": value for name, value in trunk.named_buffers() if "running" in name}
        return results | after

    def trunk_batch(self) -> Batch:
        """The posts with the pictures of `batchnorm`."""
        batch, case = self.batch(), self.case
        batch.images = case["batchnorm/pixels_image"].unsqueeze(1)
        batch.crops = case["batchnorm/pixels_objects"]
        return batch


class Trunk(VisionTower):
    """The small frozen CNN of `batchnorm`, whose statistics drift: five convolutions with BatchNorm, four stages."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()

        def layer(name: str, stride: int) -> tuple[nn.Module, nn.Module]:
            outputs, inputs = weights[f"{name}.weight"].shape[:2]
            return nn.Conv2d(inputs, outputs, 3, stride, padding=1), nn.BatchNorm2d(outputs)

        self.conv1, self.bn1 = layer("conv1", 2)
        for number, stride in enumerate((1, 2, 1, 2), 1):
            setattr(self, f"layer{number}", nn.Sequential(*layer(f"layer{number}.0", stride)))
        missing, unexpected = self.load_state_dict(weights, strict=False)
        assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
        widths = tuple(len(weights[f"layer{number}.0.weight"]) for number in (1, 2, 3, 4))
        self.spec, self.stage_widths, self.width, self.pooled_width = "parity", widths, widths[-1], widths[-1]
        self.picture, self.options = PictureFormat(16), {}
        freeze(self)
        self.drifting = True

    def forward(self, pixels: Tensor) -> ImageStates:
        x, maps = self.bn1(self.conv1(pixels)).relu(), []
        for number in (1, 2, 3, 4):
            x = getattr(self, f"layer{number}")(x).relu()
            maps.append(x)
        return ImageStates(x.mean((2, 3)), x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3]), tuple(maps))


def split_heads(rows: Tensor, heads: int) -> Tensor:
    """(B, P, d) to (B, heads, P, d / heads), as attention splits keys and values."""
    return rows.view(*rows.shape[:2], heads, -1).transpose(1, 2)
