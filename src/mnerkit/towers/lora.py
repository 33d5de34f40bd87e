"""LoRA (Hu et al. 2022): a pretrained tower stays as it is, and learns narrow additions to its layers' linear maps.

W x becomes W x + 2 B A x, with A (rank, n) and B (m, rank) for a W of (m, n); B begins at zero. peft puts the maps A
and B into the tower; they are all of it that is trained, and what a checkpoint holds of a tower from a hub or folder.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from mnerkit.errors import UsageError, first_line
from mnerkit.towers.frozen.memory import weight_digest
from mnerkit.towers.interface import Tower
from mnerkit.towers.layers import layers_of

SCALE = 2  # of B A x, whatever the rank
_NAME = "default"  # peft's own, of the only set of additions


def adapt(tower: Tower, rank: int) -> None:
    """Freeze a tower's weights and add maps of `rank` to the linear maps of its layers.

    Raises:
        UsageError: it is no transformer, has no pretrained weights, or peft is not installed.
    """
    maps = {id(part) for layer in layers_of(tower) for part in layer.modules() if isinstance(part, nn.Linear)}
    if not maps or tower.spec in ("tiny-bert", "tiny-vit"):
        reason = "has no pretrained weights to add to" if maps else "is no transformer"
        raise UsageError(
            f"--model.lora_rank {rank}: tower {tower.spec} {reason}; give one like BERT or CLIP, freeze this "
            "one, or give --model.lora_rank 0"
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except Exception as problem:  # whatever breaks an installation
        raise UsageError(
            f"--model.lora_rank {rank} needs peft ({first_line(problem)[:80]}): pip install 'mnerkit[lora]', or give "
            "--model.lora_rank 0"
        ) from None
    tower.lora_rank = rank
    if tower.loaded:
        tower.digest_without_lora = weight_digest(tower)
    tower.requires_grad_(False)
    model: Any = tower.model
    names = [name for name, part in model.named_modules() if id(part) in maps]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=names), model, _NAME)


def original_weights(tower: Tower) -> tuple[str, ...]:
    """Names in the state dict, or what they begin with, of the weights that a tower was given; with LoRA not all."""
    if not tower.lora_rank:
        return ("",)
    return tuple(name for name in tower.state_dict() if ".lora_" not in name)


def sentence(towers: Iterable[Tower]) -> str:
    """How many parameters of towers with LoRA are trained; empty where there is none."""
    adapted = [tower for tower in towers if tower.lora_rank]
    sizes = [(weight.numel(), weight.requires_grad) for tower in adapted for weight in tower.parameters()]
    if not sizes:
        return ""
    trained, whole = sum(size for size, trains in sizes if trains), sum(size for size, trains in sizes if not trains)
    names = " and ".join(dict.fromkeys(tower.spec for tower in adapted))
    return (
        f"LoRA of rank {adapted[0].lora_rank}: {trained:,} parameters are trained beside the {whole:,} of {names}, "
        "which stay as they are"
    )
