"""Contrastive losses of texts and pictures over all ranks: late interaction (FILIP, Yao et al. 2022) and InfoNCE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional


def late_interaction(
    words: Tensor,
    word_mask: Tensor,
    regions: Tensor,
    region_mask: Tensor | None = None,
    places: Tensor | None = None,
) -> Tensor:
    """Similarities of texts and pictures: the mean over a text's words of the best cosine with a region (eq. 4-5).

    Args:
        words: (A, W, d) of unit length.
        word_mask: (A, W) bool; a text without words has similarity 0.
        regions: (B, R, d) of unit length.
        region_mask: (B, R) bool; a picture without regions has similarity -1. None: all are real.
        places: (n,) long, numbers a * W + w of the real words, where they are known; a device is waited for otherwise.

    Returns:
        (A, B), in -1..1.

    """
    if places is None:
        places = torch.nonzero(word_mask.flatten()).flatten()
    real = words.flatten(0, 1)[places]  # (n, d)
    cosine = (real @ regions.flatten(0, 1).T).view(len(real), *regions.shape[:2])  # (n, B, R)
    if region_mask is not None:
        cosine = cosine.masked_fill(~region_mask, -1.0)
    share = word_mask / word_mask.sum(1, keepdim=True).clamp_min(1)  # (A, W)
    best = cosine.amax(-1) * share.flatten()[places].unsqueeze(-1)  # (n, B)
    return best.new_zeros(len(words), len(regions)).index_add(0, places // word_mask.shape[1], best)


@dataclass(frozen=True)
class TopK:
    """Unlabelled positives: for each row the K most similar columns (MGIPS-CL, Eq. 15-16).

    Attributes:
        k: K.
        clamp: choose at most N - 1 of N columns, since with all of them the loss is 0 whatever the similarities.
        exclude_own: a row's own partner is no candidate (it stays in the denominator).
        detach_index: the choice of columns is constant; else membership has the gradient of a sigmoid around the
            threshold between the K-th and the next similarity, while its value stays 0 or 1.
        add_own: the own pair is added to the K as one more positive. If it is among them, it counts twice, and the loss
            can be negative.
    """

    k: int = 3
    clamp: bool = True
    exclude_own: bool = False
    detach_index: bool = True
    add_own: bool = False


def info_nce(
    a: Tensor,
    b: Tensor,
    temperature: float | Tensor = 1.0,
    weight: float = 0.5,
    valid: Tensor | None = None,
    positives: TopK | None = None,
) -> Tensor:
    """InfoNCE of the cosines of two sets of vectors, in which equal rows are pairs, over all ranks.

    Every rank must call it in the same step, even without a valid row. All ranks get the same value, and the mean of
    their gradients, which DDP takes, is the gradient of one process that holds all rows.

    Args:
        a: (N, d), `N` may differ between ranks and be 0.
        b: (N, d).
        temperature: divisor of the cosines.
        weight: weight of the direction a -> b (each row of `a` chooses among those of `b`); b -> a has 1 - weight.
        valid: (P,) long, the pairs that take part, or (N,) bool, for which a device is waited for; None: all.
        positives: None: the own pairs.

    Returns:
        A scalar; 0 if no pair is valid.

    """
    return nce(pair_cosines(a, b, valid) / temperature, weight, positives)


def pair_cosines(a: Tensor, b: Tensor, valid: Tensor | None = None) -> Tensor:
    """Cosines (N, N) in float32 of the valid rows of all ranks, own pairs on the diagonal (`info_nce`'s arguments)."""
    if valid is not None:
        a, b = a[valid], b[valid]
    return cosines(gather_rows(a), gather_rows(b))


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Cosines (A, B) of all rows of (A, d) and (B, d), in float32 even under autocast, which would make ties."""
    with torch.autocast(a.device.type, enabled=False):
        return functional.normalize(a.float(), dim=-1) @ functional.normalize(b.float(), dim=-1).T


def nce(logits: Tensor, weight: float = 0.5, positives: TopK | None = None) -> Tensor:
    """Loss weight * L(rows) + (1 - weight) * L(columns) of scaled similarities (N, N), own pairs on the diagonal.

    L is the mean over the rows of -log(sum of e^logit over the positives / sum of e^logit over all columns).
    """
    if not len(logits):
        return logits.sum()  # 0, with a gradient for every parameter that it depends on
    directions = ((weight, logits), (1 - weight, logits.T))
    return torch.stack([share * _row_nce(rows, positives) for share, rows in directions if share]).sum()


def _row_nce(logits: Tensor, positives: TopK | None) -> Tensor:
    if positives is None:
        return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
    # clamped, all but one of N candidates; without the own partner there are N - 1 anyway
    last = len(logits) - 1
    limit = last if positives.exclude_own else max(last, 1) if positives.clamp else last + 1
    k = min(positives.k, limit)
    if not k:
        return logits.sum() * 0.0  # a single pair whose partner is excluded
    return (logits.logsumexp(1) - _top_k(logits, k, positives)).mean()


def _top_k(logits: Tensor, k: int, positives: TopK) -> Tensor:
    """Log of the sum of e^logit over each row's K positives, (N,)."""
    own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    candidates = logits.detach().masked_fill(own, -torch.inf) if positives.exclude_own else logits.detach()
    chosen = torch.zeros_like(own).scatter(1, candidates.topk(k, 1).indices, True)
    terms = logits.masked_fill(~chosen, -torch.inf).logsumexp(1, keepdim=True)  # (N, 1)
    if not positives.detach_index and k < len(logits):
        terms = terms + _of_membership(logits, candidates, k, terms.detach())
    if positives.add_own:
        terms = torch.cat([terms, logits.diagonal().unsqueeze(1)], 1)
    return terms.logsumexp(1)


def _of_membership(logits: Tensor, candidates: Tensor, k: int, total: Tensor) -> Tensor:
    """Zeros (N, 1) with the gradient that log(sum of m e^logit) has through a soft membership m (straight through)."""
    ordered = candidates.topk(k + 1, 1).values
    last, following = ordered[:, k - 1 : k], ordered[:, k:]
    threshold = torch.where(following.isfinite(), (last + following) / 2, last)  # (N, 1)
    soft = torch.sigmoid(logits - threshold)
    return ((soft - soft.detach()) * (candidates - total).exp()).sum(1, keepdim=True)


def gather_rows(tensor: Tensor) -> Tensor:
    """The rows (sum of N, ...) of all ranks, in rank order; the tensor itself outside distributed training.

    For losses that every rank computes over all rows. A rank's own rows get the gradient times the number of ranks, the
    rows of other ranks get none: the mean over ranks, which DDP takes, is then the gradient of one process with all
    rows.

    Args:
        tensor: (N, ...); N may differ between ranks and be 0, the other axes may not differ.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return tensor
    return _GatherRows.apply(tensor)


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        world, rank = distributed.get_world_size(), distributed.get_rank()
        counts = [torch.zeros(1, dtype=torch.long, device=tensor.device) for _ in range(world)]
        distributed.all_gather(counts, counts[0].new_tensor([len(tensor)]))
        rows = [int(count) for count in counts]
        padded = tensor.new_zeros(max(rows), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(world)]
        distributed.all_gather(parts, padded)
        ctx.bounds, ctx.world = (sum(rows[:rank]), sum(rows[: rank + 1])), world
        return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        first, last = ctx.bounds
        return gradient[first:last] * ctx.world
