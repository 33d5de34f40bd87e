"""Tiny towers trained against each other, as CLIP's are: so that frozen ones know what words and pictures share.

No entity type is looked at: a post's words and its caption are told apart from those of the other posts of a batch by
what its picture shows (late interaction, FILIP, Yao et al. 2022, eq. 4-6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.draws import permutation
from mnerkit.data.images import PictureLoader
from mnerkit.data.post import ImageRef, Post
from mnerkit.encoders.augment import flipped_and_shifted
from mnerkit.encoders.tiny import TinyText, TinyVision

CELLS = 3
_RATE = 2e-3
_BATCH = 64


def pretrain(
    text: TinyText,
    vision: TinyVision,
    posts: Sequence[Post],
    *,
    seed: int = 0,
    epochs: int = 8,
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, float]:
    """Train both towers in place on the words, pictures and captions of `posts`.

    Afterwards words and regions, and words and the pooled vectors of grid cells, lie in one space: their cosines tell
    which region a word speaks of.

    Args:
        text: the text tower; a frozen one is frozen again afterwards.
        vision: the vision tower, likewise.
        posts: training posts; those without a picture are left out. Tags and ground truth are not read.
        seed: of all draws.
        epochs: passes over the posts.
        progress: called after each epoch with its number and mean loss.

    Returns:
        `loss`, and `words` and `captions`: how often, in percent, a text found its own picture among those of its
        batch in the last epoch.

    """
    pairs = [(post, image) for post in posts for image in post.images if image.present]
    loader = PictureLoader(vision.picture)
    pixels = torch.from_numpy(np.stack([loader.whole(image) for _, image in pairs]))  # (N, 3, 64, 64)
    figures: dict[str, float] = {}
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), _trainable(text, vision):
        torch.manual_seed(seed)
        contrast = _Contrast()
        parameters = [*text.parameters(), *vision.parameters(), *contrast.parameters()]
        steps = epochs * (len(pairs) // _BATCH)
        optimiser = torch.optim.AdamW(parameters, _RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps + 1, pct_start=0.15)
        for epoch in range(epochs):
            order = permutation(len(pairs), "pretraining", seed, epoch)
            sums = torch.zeros(3)
            for start in range(0, len(order) - _BATCH + 1, _BATCH):
                chosen = order[start : start + _BATCH]
                loss, found = contrast(text, vision, [pairs[each] for each in chosen], pixels[chosen])
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 5.0)
                optimiser.step()
                schedule.step()
                sums += torch.stack([loss.detach(), *found])
            means = (sums / max(len(order) // _BATCH, 1)).tolist()
            figures = {"loss": means[0], "words": 100 * means[1], "captions": 100 * means[2]}
            if progress is not None:
                progress(epoch, means[0])
    return figures


@contextmanager
def _trainable(*towers: TinyText | TinyVision) -> Iterator[None]:
    """Towers in training mode with gradients; afterwards frozen and in the mode that they were in."""
    before = [(tower.frozen, tower.training) for tower in towers]
    for tower in towers:
        tower.frozen = False
        tower.requires_grad_(True).train()
    try:
        yield
    finally:
        for tower, (frozen, training) in zip(towers, before, strict=True):
            tower.requires_grad_(not frozen).train(training)
            tower.frozen = frozen


class _Contrast(nn.Module):
    """The loss of a batch of pairs, with a temperature for each kind of text and picture."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((4,), 3.0))

    def forward(
        self, text: TinyText, vision: TinyVision, pairs: Sequence[tuple[Post, ImageRef]], pixels: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Loss, and the shares of posts and of captions whose best picture in the batch is their own."""
        pixels = flipped_and_shifted(pixels)
        regions = functional.normalize(vision(pixels).regions, dim=-1)  # (B, R, d)
        cells = vision.pool(grid_cells(pixels)).view(len(pairs), -1, vision.width)  # (B, 9, d)
        cells = functional.normalize(cells, dim=-1)
        rows = [post.words for post, _ in pairs], [(image.caption or "").split() for _, image in pairs]
        losses, found = [], []
        for kind, words in enumerate(rows):
            batch = text.reader.collate(words)
            states = functional.normalize(text(batch).words, dim=-1)  # (B, W, d)
            for view, seen in enumerate((regions, cells)):
                similarity = late_interaction(states, batch.word_mask, seen) * self.log_scale[2 * kind + view].exp()
                own = torch.arange(len(pairs))
                losses += [functional.cross_entropy(similarity, own), functional.cross_entropy(similarity.T, own)]
            found.append((similarity.detach().argmax(1) == own).float().mean())
        return torch.stack(losses).mean(), found


def late_interaction(words: Tensor, word_mask: Tensor, seen: Tensor) -> Tensor:
    """(A, B) similarities of texts and pictures: the mean over a text's words of the best cosine with a region.

    Args:
        words: (A, W, d) of unit length.
        word_mask: (A, W) bool.
        seen: (B, R, d) of unit length.

    """
    best = torch.einsum("awd,brd->abwr", words, seen).amax(-1) * word_mask[:, None]  # (A, B, W)
    return best.sum(-1) / word_mask.sum(1).clamp_min(1)[:, None]


def grid_cells(pixels: Tensor, size: int | None = None) -> Tensor:
    """Cells of a 3 x 3 grid, each resized to the whole picture's size: (N, 3, H, W) to (9 N, 3, H, W), row-major."""
    count, _, height, width = pixels.shape
    rows, columns = ([side * cell // CELLS for cell in range(CELLS + 1)] for side in (height, width))
    cells = [
        functional.interpolate(
            pixels[:, :, top:bottom, left:right], (height, width), mode="bilinear", align_corners=False
        )
        for top, bottom in zip(rows, rows[1:], strict=False)
        for left, right in zip(columns, columns[1:], strict=False)
    ]
    return torch.stack(cells, 1).flatten(0, 1)
