"""Parameter groups by module, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["linear", "cosine", "constant"]

# trained numbers from which on a step of AdamW on a processor is bound by memory: those of a whole tower
FUSED = 10_000_000


def parameter_groups(modules: dict[str, tuple[list[nn.Module], float]], whole: nn.Module, weight_decay: float) -> list:
    """AdamW groups from named modules; vectors and scalars (biases, norms) do not decay.

    Args:
        modules: name -> (modules, learning rate).
        whole: the model all of whose trainable tensors must be in exactly one group.
        weight_decay: decay of matrices.

    Raises:
        ValueError: a trainable tensor is in no group or in two: such a module would never learn, or learn twice.
    """
    owner: dict[int, str] = {}
    groups = []
    for name, (members, rate) in modules.items():
        decay: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for parameter in (parameter for member in members for parameter in member.parameters()):
            if not parameter.requires_grad:
                continue
            if id(parameter) in owner:
                raise ValueError(f"a trainable tensor is in the groups {owner[id(parameter)]!r} and {name!r}")
            owner[id(parameter)] = name
            (decay if parameter.ndim > 1 else plain).append(parameter)
        for members_, rule in ((decay, weight_decay), (plain, 0.0)):
            if members_:
                groups.append({"params": members_, "lr": rate, "weight_decay": rule, "name": name})
    lost = [name for name, each in whole.named_parameters() if each.requires_grad and id(each) not in owner]
    if lost:
        raise ValueError(f"trainable tensors in no parameter group: {', '.join(lost[:5])}")
    return groups


def factor(schedule: Schedule, warmup_steps: int, total_steps: int) -> Callable[[int], float]:
    """Multiplier of the learning rate at a step: linear warm-up, then `linear`, `cosine` or no decay."""

    def at(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if schedule == "constant":
            return 1.0
        done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return 1.0 - done if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))

    return at


def adamw(groups: list, schedule: Schedule, warmup: float, total_steps: int) -> tuple[Optimizer, LambdaLR]:
    """AdamW over `groups` with a schedule that moves every step; `warmup` is a share of `total_steps`.

    On a processor the step of `FUSED` weights or more is one pass over them. torch takes a dozen by itself, of 47 MB
    each for the word embeddings of MiniLM alone: 136 ms a step in one thread, in one pass 16 ms. The sums are the same
    up to rounding.
    """
    optimiser = AdamW(groups)
    weights = [each for group in groups for each in group["params"]]
    if sum(each.numel() for each in weights) >= FUSED and all(each.device.type == "cpu" for each in weights):
        for group in optimiser.param_groups:
            group["fused"] = True
    return optimiser, LambdaLR(optimiser, factor(schedule, round(warmup * total_steps), total_steps))
