"""Ranking the images of a post: the Bradley-Terry loss, relevance against a blank image, and the scorer.

A ranking is given by *worths*, one number for each candidate; the better candidate has the larger worth. Candidates
whose worths differ by no more than a margin are tied and form no pair. The blank image is a candidate like the others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit_plugins.relevance.options import PairMean


def ranked_pairs(worths: Tensor, mask: Tensor, margin: float = 0.0) -> Tensor:
    """Pairs of candidates in which the first is ranked above the second.

    Args:
        worths: (B, N).
        mask: (B, N) bool, real candidates.
        margin: candidates whose worths differ by no more are tied.

    Returns:
        (B, N, N) bool: entry (a, b) is true if a is ranked above b. A strict ranking of N candidates has
        N (N - 1) / 2 pairs.
    """
    above = worths.unsqueeze(2) - worths.unsqueeze(1) > margin
    return above & mask.unsqueeze(2) & mask.unsqueeze(1)


def pair_rank_loss(scores: Tensor, pairs: Tensor, mean: PairMean = "pairs") -> Tensor:
    """Bradley-Terry log-loss of ranked pairs (GIFR, Eq. 1): the mean of -log sigmoid(r_a - r_b), a above b.

    Args:
        scores: (B, N) raw scores r.
        pairs: (B, N, N) bool, from `ranked_pairs`.
        mean: over all pairs of the batch, or over the pairs of each post and then over posts, so that posts with many
            images do not outweigh the others.

    Returns:
        A scalar in float32; 0, with a gradient of 0, if there are no pairs.
    """
    scores = scores.float()
    differences = scores.unsqueeze(2) - scores.unsqueeze(1)  # (B, N, N)
    losses = -functional.logsigmoid(differences)
    counts = pairs.sum((1, 2))  # (B,)
    if mean == "pairs":
        return (losses * pairs).sum() / counts.sum().clamp_min(1)
    by_post = (losses * pairs).sum((1, 2)) / counts.clamp_min(1)
    return by_post.sum() / (counts > 0).sum().clamp_min(1)


class PairRankLoss(nn.Module):
    """`pair_rank_loss` with its options (GIFR, Eq. 1).

    Args:
        mean: over all pairs of a batch (`pairs`), or over each post's pairs first (`posts`).
        margin: candidates whose worths differ by no more are tied.
    """

    def __init__(self, mean: PairMean = "pairs", margin: float = 0.0) -> None:
        super().__init__()
        self.mean, self.margin = mean, margin

    def pairs(self, worths: Tensor, mask: Tensor) -> Tensor:
        """`ranked_pairs` of worths (B, N) and mask (B, N), with the margin."""
        return ranked_pairs(worths, mask, self.margin)

    def forward(self, scores: Tensor, pairs: Tensor) -> Tensor:
        """Loss of scores (B, N) against pairs (B, N, N)."""
        return pair_rank_loss(scores, pairs, self.mean)


def pair_hits(scores: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Number of pairs that the scores put in the right order (equal scores count one half), and number of pairs.

    Args:
        scores: (B, N).
        pairs: (B, N, N) bool, from `ranked_pairs`.

    Returns:
        Two scalars in float32.
    """
    differences = scores.unsqueeze(2) - scores.unsqueeze(1)
    right = (differences > 0).float() + 0.5 * (differences == 0).float()
    return (right * pairs).sum(), pairs.sum().float()


def relevance(scores: Tensor, blank: Tensor) -> Tensor:
    """R = sigmoid(r - r_blank) (GIFR, Eq. 2), in (0, 1): above 0.5 if an image is ranked above the blank one.

    Args:
        scores: (B, m).
        blank: (B,) score of the blank image with the same text.
    """
    return torch.sigmoid(scores - blank.unsqueeze(-1))


class RelevanceScorer(nn.Module):
    """A text vector and an image vector to a raw score r (GIFR, 4.1): two linear maps, concatenation, an MLP.

    Args:
        text_width: d of the text vectors (CLIP ViT-B/32: 512).
        image_width: d of the image vectors (768).
        joint: d_s, width of each map's output.
        hidden: hidden width of the MLP 2 d_s -> hidden -> 1.
        dropout: dropout before the MLP's last layer.
    """

    def __init__(
        self, text_width: int, image_width: int, joint: int = 512, hidden: int = 512, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.text, self.image = nn.Linear(text_width, joint), nn.Linear(image_width, joint)
        self.mlp = nn.Sequential(nn.Linear(2 * joint, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1))

    def forward(self, text: Tensor, images: Tensor) -> Tensor:
        """Scores (B, m) of texts (B, d_t) and their images (B, m, d_v); images do not affect each other's scores."""
        text, images = self.text(text).unsqueeze(1).expand(-1, images.shape[1], -1), self.image(images)
        return self.mlp(torch.cat([text, images], -1)).squeeze(-1)
