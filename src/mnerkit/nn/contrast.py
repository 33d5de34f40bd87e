"""Contrast of texts and pictures: late interaction (FILIP, Yao et al. 2022) and InfoNCE in both directions."""

from __future__ import annotations

import torch
from torch import Tensor
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


def info_nce(similarity: Tensor) -> Tensor:
    """Scaled similarities (B, B), own pairs on the diagonal, to the summed cross-entropies of rows and of columns."""
    own = torch.arange(len(similarity), device=similarity.device)
    return functional.cross_entropy(similarity, own) + functional.cross_entropy(similarity.T, own)
