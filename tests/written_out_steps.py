"""Steps of an optimiser written out, beside those of the optimiser that a method configures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

# step, name, weight, gradient, mean of gradients, mean of their squares; moves the weight and both means in place
Update = Callable[[int, str, Tensor, Tensor, Tensor, Tensor], None]


def total(method: Any, batch: Any) -> Tensor:
    """The weighted sum of a batch's losses."""
    shares = method.loss_weights()
    return torch.stack([shares.get(name, 1.0) * loss for name, loss in method.losses(batch).items()]).sum()


def three_steps(
    made: Any, batch: Any, steps: int, update: Update, monkeypatch: pytest.MonkeyPatch, clip: float | None = None
) -> dict[str, Tensor]:
    """Take three steps with a method's optimiser, and three written-out ones with a copy of the method.

    Args:
        made: a built method, on which nothing is random.
        batch: what it learns from.
        steps: how many the training would have.
        update: one step of one weight, written out.
        clip: largest norm of all gradients together; None: they are not clipped.

    Returns:
        The trainable weights of the copy by name.
    """
    plain = copy.deepcopy(made)
    monkeypatch.setattr(type(made), "trainer", property(lambda self: SimpleNamespace(estimated_stepping_batches=steps)))
    configured = made.configure_optimizers()
    optimiser, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    weights = {name: each for name, each in plain.named_parameters() if each.requires_grad}
    means = {name: (torch.zeros_like(each), torch.zeros_like(each)) for name, each in weights.items()}
    for step in range(3):
        optimiser.zero_grad()
        total(made, batch).backward()
        if clip is not None:  # as the Trainer does
            torch.nn.utils.clip_grad_norm_(made.parameters(), clip)
        optimiser.step()
        schedule.step()
        gradients = torch.autograd.grad(total(plain, batch), [*weights.values()])
        norm = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
        share = 1.0 if clip is None else min(1.0, clip / float(norm))
        with torch.no_grad():
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                update(step, name, weight, share * gradient, *means[name])
    return weights


def adamw(rate: Callable[[int, str], float], decay: Callable[[str], float]) -> Update:
    """AdamW's update.

    Args:
        rate: of a step and a weight's name.
        decay: of a weight's name.
    """

    def update(step: int, name: str, weight: Tensor, gradient: Tensor, mean: Tensor, square: Tensor) -> None:
        mean.lerp_(gradient, 0.1)
        square.mul_(0.999).add_(0.001 * gradient.square())
        root = (square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        moved = rate(step, name)
        weight.mul_(1 - moved * decay(name)).sub_(moved * mean / (1 - 0.9 ** (step + 1)) / root)

    return update


def linear_from_zero(step: int, steps: int, warmup: float) -> float:
    """Share of the rate: from zero up to the end of the warm-up, then down to zero at the last step."""
    rising = warmup * steps
    return step / rising if step < rising else (steps - step) / (steps - rising)
