"""Pretrained vision towers: CLIP's, ViT-like models, and torchvision's ResNets."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.errors import TowerError
from mnerkit.towers.frozen.caching_tower import CachingTower
from mnerkit.towers.hub import architecture_of
from mnerkit.towers.interface import ImageStates

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# name -> blocks of each stage
RESNETS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}


def picture_of(config: Any, preprocessor: dict[str, Any], default: tuple[Any, Any]) -> PictureFormat:
    """Size and normalisation that a transformer expects.

    Args:
        config: its configuration: the position embeddings determine the size.
        preprocessor: its preprocessor_config.json, or empty.
        default: mean and std if the preprocessor has none.

    Raises:
        TowerError: the values are not numbers of three channels.

    """
    mean, std = (
        preprocessor.get(name) or value for name, value in zip(("image_mean", "image_std"), default, strict=True)
    )
    try:
        picture = PictureFormat(int(config.image_size), tuple(map(float, mean)), tuple(map(float, std)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TowerError(f"preprocessor_config.json: image_mean {mean!r}, image_std {std!r} are no numbers") from None
    if len(picture.mean) != 3 or len(picture.std) != 3 or min(picture.std) <= 0:
        raise TowerError("preprocessor_config.json: image_mean and image_std need three numbers each, std above 0")
    return picture


class _PatchTower(CachingTower):
    """Base of the towers that split a picture into patches: the class token, then the patches row by row."""

    model: Any
    grid: tuple[int, int]

    def __init__(self, spec: str, model: Any, picture: PictureFormat) -> None:
        super().__init__()
        self.spec, self.model, self.picture = spec, model, picture
        self.config: Any = self.model.config
        self.revision: str | None = getattr(self.config, "_commit_hash", None)
        self.width = self.pooled_width = self.config.hidden_size
        side = self.config.image_size // self.config.patch_size
        self.grid = (side, side)

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        return self.grid

    def architecture(self) -> dict[str, Any]:
        """The model's configuration as plain data."""
        return architecture_of(self.config)


class VitTower(_PatchTower):
    """ViT and similar models (DeiT, DINOv2): states after the final layer norm; pooled is the class token's state.

    The pooler is removed, as in the text towers. Extra tokens before the patches (distillation) are dropped.
    """

    def __init__(self, spec: str, model: Any, picture: PictureFormat) -> None:
        """See the base class; `model` is a transformers model with `pixel_values`."""
        if hasattr(model, "pooler"):
            model.pooler = None
        super().__init__(spec, model, picture)

    def _states(self, pixels: Tensor) -> ImageStates:
        states = self.model(pixels).last_hidden_state  # (N, extra + R, d)
        pooled, regions = states[:, 0], states[:, -self.grid[0] * self.grid[1] :]
        return ImageStates(pooled, regions, self.grid, tokens=states)


class ClipVisionTower(_PatchTower):
    """CLIP's vision half: pooled is in the space shared with text, regions are the last layer's patches.

    `joint` applies the layer norm and projection of the class token to regions (they were trained on that token only).
    Both are frozen, since a method that reads regions never uses them.
    """

    def __init__(self, spec: str, model: Any, picture: PictureFormat) -> None:
        """See the base class; `model` is a `CLIPVisionModelWithProjection`."""
        super().__init__(spec, model, picture)
        self.model.vision_model.post_layernorm.requires_grad_(False)
        self.model.visual_projection.requires_grad_(False)
        self.pooled_width = self.model.visual_projection.out_features

    @property
    def joint_width(self) -> int:
        """Width of the space shared with text."""
        return self.pooled_width

    def joint(self, regions: Tensor) -> Tensor:
        """(..., width) to (..., joint_width)."""
        return self.model.visual_projection(self.model.vision_model.post_layernorm(regions))

    def _states(self, pixels: Tensor) -> ImageStates:
        states = self.model.vision_model(pixels).last_hidden_state  # (N, 1 + R, d)
        return ImageStates(self.joint(states[:, 0]), states[:, 1:], self.grid, tokens=states)


class ResNetTower(CachingTower):
    """A ResNet of torchvision: regions from the last map, stages of four maps, pooled is the mean of the regions.

    It takes pictures of any size; 224 x 224 pixels give 7 x 7 regions.

    Args:
        spec: the user's name for the tower.
        name: one of `RESNETS`; `resnet50/8` has an eighth of the width behind the stem.
        picture: size and normalisation; default: 224 pixels, ImageNet's.

    """

    def __init__(self, spec: str, name: str, picture: PictureFormat | None = None) -> None:
        super().__init__()
        from torchvision import models

        self.spec, self.name = spec, name
        self.picture = picture or PictureFormat(224, *IMAGENET)
        model = models.get_model(name, weights=None) if "/" not in name else narrow_resnet(*name.split("/"))
        self.width = self.pooled_width = model.fc.in_features
        self.stage_widths = (self.width // 8, self.width // 4, self.width // 2, self.width)
        self.stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        self.stages = nn.ModuleList([model.layer1, model.layer2, model.layer3, model.layer4])

    def architecture(self) -> dict[str, Any]:
        """The name of the network."""
        return {"name": self.name}

    def load_torchvision(self, state: dict[str, Tensor]) -> None:
        """Load the weights of torchvision's state dict, without the classifier.

        Raises:
            TowerError: the state dict is not that of this network.

        """
        stem = {"conv1": "stem.0", "bn1": "stem.1"}
        renamed = {}
        for name, value in state.items():
            head, _, rest = name.partition(".")
            if head == "fc":
                continue
            place = (
                f"stages.{int(head[5:]) - 1}" if head[:5] == "layer" and head[5:].isdigit() else stem.get(head, head)
            )
            renamed[f"{place}.{rest}"] = value
        try:
            self.load_state_dict(renamed)
        except RuntimeError:
            raise TowerError(f"tower {self.spec}: the weights are not those of torchvision's {self.name}") from None

    def grid_of(self, height: int, width: int) -> tuple[int, int]:
        # five steps halve the sides, rounding up
        return -(-height // 32), -(-width // 32)

    def _states(self, pixels: Tensor) -> ImageStates:
        x, maps = self.stem(pixels), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)  # (N, c, h, w)
        return ImageStates(x.mean((2, 3)), x.flatten(2).transpose(1, 2), (x.shape[2], x.shape[3]), tuple(maps))


def narrow_resnet(name: str, divisor: str = "1") -> Any:
    """A ResNet of torchvision whose blocks have a fraction of their channels, and begin as the identity."""
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

    class Narrow(ResNet):
        def _make_layer(self, block: Any, planes: int, *given: Any, **named: Any) -> nn.Sequential:
            return super()._make_layer(block, planes // int(divisor), *given, **named)

    block = BasicBlock if name in ("resnet18", "resnet34") else Bottleneck
    model = Narrow(block, list(RESNETS[name]), zero_init_residual=True)
    model.fc = nn.Linear(model.fc.in_features // int(divisor), 1)
    return model
