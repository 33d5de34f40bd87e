"""Parameter groups by module, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["linear", "cosine", "constant", "linear_from_zero"]
Decay = Literal["matrices", "all", "all_but_bias"]

# number of parameters (a whole tower) above which a step of AdamW on a CPU is bound by memory bandwidth
FUSED = 10_000_000


def parameter_groups(
    modules: dict[str, tuple[list[nn.Module], float]],
    model: nn.Module,
    weight_decay: float,
    decay_of: Decay = "matrices",
) -> list:
    """AdamW groups from named modules.

    Args:
        modules: name -> (modules, learning rate).
        model: the whole model; each of its trainable tensors must be in exactly one group.
        weight_decay: AdamW's weight decay.
        decay_of: what decays: matrices, so that vectors and scalars (biases, norms) do not; all; or all but biases and
            norms, so that other vectors do (the ends of a CRF).

    Raises:
        ValueError: a trainable tensor is in no group or in two.
    """
    owner: dict[int, str] = {}
    groups = []
    exempt = {id(weight) for name, weight in model.named_parameters() if name.endswith("bias")}
    exempt |= {id(weight) for each in model.modules() if isinstance(each, nn.LayerNorm) for weight in each.parameters()}
    for name, (members, rate) in modules.items():
        decay: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for parameter in (parameter for member in members for parameter in member.parameters()):
            if not parameter.requires_grad:
                continue
            if id(parameter) in owner:
                raise ValueError(f"a trainable tensor is in the groups {owner[id(parameter)]!r} and {name!r}")
            owner[id(parameter)] = name
            decays = id(parameter) not in exempt if decay_of == "all_but_bias" else parameter.ndim > 1
            (decay if decay_of == "all" or decays else plain).append(parameter)
        for parameters, rule in ((decay, weight_decay), (plain, 0.0)):
            if parameters:
                groups.append({"params": parameters, "lr": rate, "weight_decay": rule, "name": name})
    missing = [name for name, weight in model.named_parameters() if weight.requires_grad and id(weight) not in owner]
    if missing:
        raise ValueError(f"trainable tensors in no parameter group: {', '.join(missing[:5])}")
    return groups


def factor(schedule: Schedule, warmup_steps: float, total_steps: int) -> Callable[[int], float]:
    """Multiplier of the learning rate at a step: linear warm-up, then `linear`, `cosine` or no decay.

    `linear_from_zero` begins at zero, and its warm-up may end between two steps.
    """

    def at(step: int) -> float:
        if schedule == "linear_from_zero":
            if step < warmup_steps:
                return step / max(1.0, warmup_steps)
            return max(0.0, (total_steps - step) / max(1.0, total_steps - warmup_steps))
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if schedule == "constant":
            return 1.0
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return 1.0 - progress if schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))

    return at


def takes_fused_step(weights: Sequence[Tensor]) -> bool:
    """Whether AdamW makes a single pass over the weights: on CUDA always, on a CPU for at least `FUSED` numbers.

    On a CPU the default of torch makes a dozen passes, of 47 MB each for the word embeddings of MiniLM alone: 136 ms a
    step in one thread, against 16 ms fused. On CUDA it starts a kernel for each group of tensors and each of these
    passes.
    """
    kinds = {weight.device.type for weight in weights}
    return kinds == {"cuda"} or (kinds == {"cpu"} and sum(weight.numel() for weight in weights) >= FUSED)


def adamw(groups: list, schedule: Schedule, warmup: float, total_steps: int) -> tuple[Optimizer, LambdaLR]:
    """AdamW over `groups` with a schedule that is updated each step; `warmup` is a share of `total_steps`.

    Where `takes_fused_step`, a step is a single pass over the weights, which gives the same up to rounding.
    """
    optimiser = AdamW(groups)
    if takes_fused_step([weight for group in groups for weight in group["params"]]):
        # not by the argument: with it Lightning refuses to clip gradients in mixed precision
        for group in optimiser.param_groups:
            group["fused"] = True
    steps = warmup * total_steps
    whole = steps if schedule == "linear_from_zero" else round(steps)
    return optimiser, LambdaLR(optimiser, factor(schedule, whole, total_steps))


class BertAdam(Optimizer):
    """Adam as BERT's first code has it: no bias correction, and each tensor's gradient is clipped to norm 1 by itself.

    Args:
        groups: as `parameter_groups` makes them; a tensor moves by -lr (m / (sqrt(v) + eps) + weight_decay w).
        betas: shares of the former means in m and v.
        eps: added to the root of v.
        most: largest norm of a tensor's gradient.
    """

    def __init__(
        self, groups: list, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6, most: float = 1.0
    ) -> None:
        super().__init__(groups, {"betas": betas, "eps": eps, "most": most})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (first, second), eps = group["betas"], group["eps"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
                gradient = weight.grad * (group["most"] / (weight.grad.norm() + 1e-6)).clamp(max=1.0)
                state["mean"].lerp_(gradient, 1 - first)
                state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
                step = state["mean"] / (state["square"].sqrt() + eps) + group["weight_decay"] * weight
                weight.sub_(group["lr"] * step)
        return loss


def bert_adam(groups: list, warmup: float, total_steps: int) -> tuple[Optimizer, LambdaLR]:
    """`BertAdam` with its schedule: rate x / `warmup` at the share x of `total_steps`, behind the warm-up 1 - x."""

    def at(step: int) -> float:
        share = step / max(1, total_steps)
        return share / warmup if share < warmup else 1.0 - share

    optimiser = BertAdam(groups)
    return optimiser, LambdaLR(optimiser, at)
