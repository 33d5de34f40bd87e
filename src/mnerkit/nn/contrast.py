"""Contrast of texts and pictures: late interaction (FILIP, Yao et al. 2022) and InfoNCE, over the rows of all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional


def late_interaction(words: Tensor, word_mask: Tensor, seen: Tensor, seen_mask: Tensor | None = None) -> Tensor:
    """Similarities of texts and pictures: the mean over a text's words of the best cosine with a region (eq. 4-5).

    Args:
        words: (A, W, d) of unit length.
        word_mask: (A, W) bool; a text without words has similarity 0.
        seen: (B, R, d) regions of unit length.
        seen_mask: (B, R) bool; a picture without regions has similarity -1. None: all are real.

    Returns:
        (A, B), in -1..1.

    """
    real = words[word_mask]  # (n, d)
    cosine = (real @ seen.flatten(0, 1).T).view(len(real), *seen.shape[:2])  # (n, B, R)
    if seen_mask is not None:
        cosine = cosine.masked_fill(~seen_mask, -1.0)
    share = word_mask / word_mask.sum(1, keepdim=True).clamp_min(1)  # (A, W)
    best = cosine.amax(-1) * share[word_mask].unsqueeze(-1)  # (n, B)
    return best.new_zeros(len(words), len(seen)).index_add(0, torch.nonzero(word_mask)[:, 0], best)


@dataclass(frozen=True)
class TopK:
    """Positives that nobody labelled: for each row the K most similar columns (MGIPS-CL, Eq. 15-16).

    Attributes:
        k: K.
        clamp: at most N - 1 of N columns, since with all of them the loss is 0 whatever the similarities.
        exclude_own: the own partner is no candidate (it stays in the denominator).
        detach_index: which columns are chosen is constant; else membership passes the gradient of a sigmoid around
            the threshold between the K-th and the next similarity, its value staying 0 or 1.
        add_own: the own pair is added to the K as one more positive; where it is among them already it counts twice,
            and the loss can be negative.
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
    """InfoNCE of the cosines of two sets of vectors, row i of one belonging to row i of the other, over all ranks.

    Every rank must call it in the same step, also one without a valid row; all get the same value, and the mean of the
    ranks' gradients, which DDP takes, is the gradient of one process that holds all rows.

    Args:
        a: (N, d), `N` may differ between ranks and be 0.
        b: (N, d).
        temperature: divides the cosines.
        weight: of the direction a -> b (each row of `a` chooses among those of `b`); 1 - weight is that of b -> a.
        valid: (N,) bool, pairs that take part; None: all.
        positives: None: the own pairs.

    Returns:
        A scalar; 0 where no pair is valid.

    """
    return nce(pair_cosines(a, b, valid) / temperature, weight, positives)


def pair_cosines(a: Tensor, b: Tensor, valid: Tensor | None = None) -> Tensor:
    """Cosines (N, N) in float32 of the valid rows of all ranks, own pairs on the diagonal (`info_nce`'s arguments)."""
    if valid is not None:
        a, b = a[valid], b[valid]
    return cosines(gather_rows(a), gather_rows(b))


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Of all rows of (A, d) and (B, d), (A, B) in float32, also under autocast: close ones would be tied."""
    with torch.autocast(a.device.type, enabled=False):
        return functional.normalize(a.float(), dim=-1) @ functional.normalize(b.float(), dim=-1).T


def nce(logits: Tensor, weight: float = 0.5, positives: TopK | None = None) -> Tensor:
    """Scaled similarities (N, N), own pairs on the diagonal, to weight * L(rows) + (1 - weight) * L(columns).

    L is the mean over the rows of -log(sum of e^logit over the positives / sum of e^logit over all columns).
    """
    if not len(logits):
        return logits.sum()  # 0, with a gradient for every parameter behind it
    directions = ((weight, logits), (1 - weight, logits.T))
    return torch.stack([share * _row_nce(each, positives) for share, each in directions if share]).sum()


def _row_nce(logits: Tensor, positives: TopK | None) -> Tensor:
    if positives is None:
        return functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
    # of N candidates all but one where clamped; without the own one there are N - 1 anyway
    others = len(logits) - 1
    most = others if positives.exclude_own else max(others, 1) if positives.clamp else others + 1
    k = min(positives.k, most)
    if not k:
        return logits.sum() * 0.0  # a pair alone, its own partner excluded
    return (logits.logsumexp(1) - _top_k(logits, k, positives)).mean()


def _top_k(logits: Tensor, k: int, positives: TopK) -> Tensor:
    """log of the sum of e^logit over each row's K positives, (N,)."""
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
    """The rows (sum of N, ...) of all ranks, in their order; the tensor itself outside distributed training.

    For losses that every rank computes alike over all rows. A rank's own rows get the gradient times the number of
    ranks, the others' none: the mean over ranks, which DDP takes, is then the gradient of one process with all rows.

    Args:
        tensor: (N, ...); N may differ between ranks and be 0, the other axes not.
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
        rows = [int(each) for each in counts]
        padded = tensor.new_zeros(max(rows), *tensor.shape[1:])
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(world)]
        distributed.all_gather(parts, padded)
        ctx.own, ctx.world = (sum(rows[:rank]), sum(rows[: rank + 1])), world
        return torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        first, last = ctx.own
        return gradient[first:last] * ctx.world
