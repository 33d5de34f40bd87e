"""Contrastive pretraining of tiny towers, as in CLIP, so that frozen ones have aligned features.

Entity types are not used: the picture of a post must be matched with its words and caption among those of the other
posts of a batch (late interaction, FILIP, Yao et al. 2022, eq. 4-6).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.random_draws import permutation
from mnerkit.nn.contrast import late_interaction, nce
from mnerkit.towers.interface import TextTower, VisionTower
from mnerkit.towers.vision.augment import flipped_and_shifted
from mnerkit.towers.vision.tiny_cnn import TinyVision

# Trained towers are cached under this number. Raise it with every change of the training's result (here, in the tiny
# towers, in `vision/augment.py` or in `nn/contrast.py`), so that the towers are trained again.
BEHAVIOUR = 1

CELLS = 3
_RATE = 3e-3
CAPTION_WEIGHT = 10.0
# one of this many pictures of a batch is also read cell by cell
GLANCED = 2
# large corpora are read fewer times: after this many steps the loss is nearly flat
MOST_STEPS = 850


def pretrain(
    text: TextTower,
    vision: TinyVision,
    posts: Sequence[Post],
    *,
    seed: int = 0,
    epochs: int = 8,
    batch_size: int = 32,
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, float]:
    """Train both towers in place on the words, pictures and captions of `posts`.

    Afterwards words, regions and the pooled vectors of grid cells share one space, in which cosines show the region
    that a word refers to.

    Args:
        text: the text tower, as wide as the vision tower; a frozen one is frozen again afterwards.
        vision: the vision tower; a frozen one is frozen again afterwards.
        posts: training posts; those without a readable picture are left out. Tags and ground truth are not read.
        seed: seed of all random draws.
        epochs: passes over the posts; fewer if they exceed `MOST_STEPS` steps, but at least one.
        batch_size: number of pictures that a text is compared with.
        progress: called after each epoch with its number and mean loss.

    Returns:
        `loss`, `words` and `captions`: the last two are the percentages of texts that were matched with their own
        picture in the last epoch. Empty if there are fewer than two pictures; then nothing is trained.

    """
    loader = PictureLoader(vision.picture)
    loaded = [(post, image, loader.whole(image)) for post in posts if post.words for image in post.images]
    pairs = [(post, image) for post, image, array in loaded if array is not None]
    if len(pairs) < 2:
        return {}
    pixels = torch.from_numpy(np.stack([array for *_, array in loaded if array is not None]))  # (N, 3, 64, 64)
    batch_size = min(batch_size, len(pairs))
    batches = len(pairs) // batch_size
    epochs = max(1, min(epochs, MOST_STEPS // batches))
    figures: dict[str, float] = {}
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), _trainable(text, vision):
        torch.manual_seed(seed)
        objective = _Objective(_informative_words([image.caption or "" for _, image in pairs]), vision.width)
        parameters = [*text.parameters(), *vision.parameters(), *objective.parameters()]
        optimiser = torch.optim.AdamW(parameters, _RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, _RATE, total_steps=epochs * batches + 1, pct_start=0.15
        )
        for epoch in range(epochs):
            order = permutation(len(pairs), "pretraining", seed, epoch)
            sums = torch.zeros(3)
            for number in range(batches):
                chosen = order[number * batch_size : (number + 1) * batch_size]
                loss, accuracies = objective(text, vision, [pairs[place] for place in chosen], pixels[chosen])
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(parameters, 5.0)
                optimiser.step()
                schedule.step()
                sums += torch.stack([loss.detach(), *accuracies])
            means = (sums / batches).tolist()
            figures = {"loss": means[0], "words": 100 * means[1], "captions": 100 * means[2]}
            if progress is not None:
                progress(epoch, means[0])
    return figures


@contextmanager
def _trainable(*towers: TextTower | VisionTower) -> Iterator[None]:
    """Put towers into training mode with gradients; afterwards restore freezing and mode."""
    saved = [(tower.frozen, tower.training) for tower in towers]
    for tower in towers:
        tower.frozen = False
        tower.requires_grad_(True).train()
    try:
        yield
    finally:
        for tower, (frozen, training) in zip(towers, saved, strict=True):
            tower.requires_grad_(not frozen).train(training)
            tower.frozen = frozen


class _Objective(nn.Module):
    """Losses of a batch of pairs: posts against pictures, and words of captions against pictures.

    Args:
        words: words of captions; each has its own vector here, since posts may not use them.
        width: width of the joint space.

    """

    def __init__(self, words: Sequence[str], width: int) -> None:
        super().__init__()
        self.words = tuple(words)
        self.word_vectors = nn.Parameter(torch.randn(len(self.words), width))
        self.log_scale = nn.Parameter(torch.tensor([3.0, 3.0]))
        self.word_scale = nn.Parameter(torch.full((2,), 10.0))
        self.word_bias = nn.Parameter(torch.full((2,), -5.0))

    def forward(
        self, text: TextTower, vision: TinyVision, pairs: Sequence[tuple[Post, ImageRef]], pixels: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Summed loss; share of posts matched with their picture, and of captions with all words predicted."""
        pixels = flipped_and_shifted(pixels)
        regions = vision.joint(vision.read(pixels)[0])  # (B, R, d)
        glanced = max(len(pairs) // GLANCED, 2)
        cells = vision.glance(grid_cells(pixels[:glanced])).unflatten(0, (glanced, -1))  # (B', 9, d)
        posts = text.reader.collate([post.words for post, _ in pairs])
        states = functional.normalize(text(posts).words, dim=-1)  # (B, W, d)
        vectors = functional.normalize(self.word_vectors, dim=-1)  # (V, d)
        captions = [set((image.caption or "").split()) for _, image in pairs]
        in_caption = torch.tensor([[word in caption for word in self.words] for caption in captions], dtype=torch.bool)
        losses, accuracies = [], []
        for view, parts in enumerate((regions, cells)):
            parts, count = functional.normalize(parts, dim=-1), len(parts)
            similarity = late_interaction(states[:count], posts.word_mask[:count], parts) * self.log_scale[view].exp()
            losses.append(2 * nce(similarity))  # both directions in full
            accuracies.append((similarity.detach().argmax(1) == torch.arange(count)).float().mean())
            best = (parts @ vectors.T).amax(1) * self.word_scale[view] + self.word_bias[view]  # (B, V)
            if self.words:
                loss = functional.binary_cross_entropy_with_logits(best, in_caption[:count].float())
                losses.append(CAPTION_WEIGHT * loss)
            accuracies.append(((best.detach() > 0) == in_caption[:count]).all(1).float().mean())
        return torch.stack(losses).sum(), accuracies[:2]


def grid_cells(pixels: Tensor) -> Tensor:
    """Cells of a 3 x 3 grid, each resized to a glance: (N, 3, H, W) to (9 N, 3, 3/8 H, 3/8 W), row-major."""
    height, width = pixels.shape[-2:]
    size = round(height * TinyVision.GLANCE), round(width * TinyVision.GLANCE)
    rows, columns = ([side * cell // CELLS for cell in range(CELLS + 1)] for side in (height, width))
    cells = [
        functional.interpolate(pixels[:, :, top:bottom, left:right], size, mode="bilinear", align_corners=False)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]
    return torch.stack(cells, 1).flatten(0, 1)


def _informative_words(captions: Sequence[str]) -> list[str]:
    """Words that occur in at least one of a hundred captions, and in at most half of them."""
    counts = Counter(word for caption in captions for word in set(caption.split()))
    least, most = max(2, len(captions) / 100), len(captions) / 2
    return sorted(word for word, count in counts.items() if least <= count <= most and word.isalpha())
