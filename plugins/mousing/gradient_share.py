"""How much of the gradient on the environments' networks comes from Eq. 13: measured, or set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Balanced(torch.autograd.Function):
    """Hands nodes to two losses, and scales the second one's gradient to a share of the first one's.

    The shares of Eq. 14 then hold for what moves the networks: a divergence that is a mean over nodes has a thousandth
    of the gradient of a tagging loss, and once the tagging loss has vanished it has nearly all.
    """

    @staticmethod
    def forward(ctx: Any, nodes: Tensor, share: float) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """The nodes, for the first and for the second loss."""
        ctx.share = share
        return nodes.view_as(nodes), nodes.view_as(nodes)

    @staticmethod
    def backward(ctx: Any, first: Tensor, second: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """The sum of the first gradient and the scaled second one; a second one of zero stays zero."""
        length = second.norm()
        scale = torch.where(length > 0, ctx.share * first.norm() / length.clamp_min(1e-30), 0.0)
        return first + scale * second, None


def gradient_share(head: Tensor, divergence: Tensor, networks: nn.Module) -> Tensor:
    """Norm of the divergence's gradient over that of the head's, on the trained weights of some networks.

    The divergence's is the gradient of both less that of the head's: `Balanced` scales one by the other.

    Args:
        head: the weighted tagging loss.
        divergence: the weighted divergence, of the same graph, which is kept.
        networks: both losses depend on them.

    Returns:
        Scalar.
    """
    weights = [weight for weight in networks.parameters() if weight.requires_grad]

    def gradients(loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, weights, retain_graph=True))

    alone = gradients(head)
    others = [both - own for both, own in zip(gradients(head + divergence), alone, strict=True)]
    return _norm(others) / _norm(alone).clamp_min(1e-30)


def _norm(parts: Iterable[Tensor]) -> Tensor:
    return torch.stack([part.norm() for part in parts]).norm()
