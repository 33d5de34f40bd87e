"""Preference `utility`: the worth of an image is its gain in the log-likelihood of the gold tags."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import Post
from mnerkit.data.random_draws import permutation, stream
from mnerkit.nn.linear_chain import CRF, crf_nll
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import TextTower
from mnerkit_plugins.relevance.model import blank_states
from mnerkit_plugins.relevance.options import Blank
from mnerkit_plugins.relevance.preference import Ranked, first_images

_BATCH = 32
_RATE, _TOWER_RATE = 2e-3, 2e-5


class OneImageTagger(nn.Module):
    """h' = h + MLP([h; v]), then emissions and a CRF: a small tagger that reads one image of a post.

    Args:
        text: the text tower; shared if it is frozen, else copied and tuned.
        sight: reads the images; shared if it is frozen, else copied and tuned.
        tags: number of tags.
        blank: the blank image.
        dropout: dropout of word states and in the MLP.
    """

    def __init__(self, text: TextTower, sight: Sight, tags: int, blank: Blank, dropout: float = 0.1) -> None:
        super().__init__()
        self.text = text if text.frozen else copy.deepcopy(text)
        self.sight = sight if sight.tower.frozen else copy.deepcopy(sight)
        self.blank, width = blank, text.width
        self.fuse = nn.Sequential(
            nn.Linear(width + sight.pooled_width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width)
        )
        self.dropout = nn.Dropout(dropout)
        self.emissions, self.crf = nn.Linear(width, tags), CRF(tags, batch_first=True)

    def states(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Words (B, W, d), vectors of the images and the blank one (B, m + 1, d_v), and their mask (B, m + 1)."""
        images = self.sight.whole(batch, regions=False)
        blank = blank_states(self.sight, self.blank, images.pooled).pooled.expand(len(batch), 1, -1)
        real = torch.cat([images.mask, torch.ones_like(images.mask[:, :1])], 1)
        return self.dropout(self.text(batch.text).words), torch.cat([images.pooled, blank], 1), real

    def nll(self, words: Tensor, vector: Tensor, batch: Batch) -> Tensor:
        """Negative log-likelihood (B,) of each post's gold tags with one image (B, d_v)."""
        assert batch.tags is not None
        image = vector.unsqueeze(1).expand(-1, words.shape[1], -1)
        states = words + self.fuse(torch.cat([words, image], -1))
        return crf_nll(self.emissions(states), batch.tags, batch.text.read_mask, self.crf.scores())


@dataclass(frozen=True)
class Trial:
    """Setup for training the taggers.

    Attributes:
        text: their initial text tower.
        sight: their initial reader of images.
        collator: makes their batches.
        blank: the blank image.
        epochs: passes over their half of the posts.
        seed: seed of all random draws.
        device: device of the training.
    """

    text: TextTower
    sight: Sight
    collator: Collator
    blank: Blank = "zeros"
    epochs: int = 8
    seed: int = 0
    device: torch.device | str = "cpu"

    def batches(self, posts: Sequence[Post]) -> Iterator[Batch]:
        """Batches of `posts`, in their order."""
        for begin in range(0, len(posts), _BATCH):
            yield self.collator(posts[begin : begin + _BATCH]).to(self.device)

    def trained(self, posts: Sequence[Post], *key: int) -> OneImageTagger:
        """A trained tagger; in each epoch it reads each post with one of its images, or with the blank one."""
        torch.manual_seed(stream("utility", self.seed, *key).getrandbits(31))
        tagger = OneImageTagger(self.text, self.sight, len(self.collator.tagset), self.blank).to(self.device).train()
        towers = {id(weight) for part in (tagger.text, tagger.sight) for weight in part.parameters()}
        tuned = [weight for weight in tagger.parameters() if weight.requires_grad and id(weight) in towers]
        new = [weight for weight in tagger.parameters() if weight.requires_grad and id(weight) not in towers]
        groups = [{"params": weights, "lr": rate} for weights, rate in ((tuned, _TOWER_RATE), (new, _RATE)) if weights]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
        for epoch in range(self.epochs):
            order = permutation(len(posts), "utility epoch", self.seed, *key, epoch)
            for batch in self.batches([posts[place] for place in order]):
                words, images, real = tagger.states(batch)
                chosen = torch.multinomial(real.float(), 1)  # (B, 1)
                vector = images.gather(1, chosen.unsqueeze(-1).expand(-1, 1, images.shape[-1])).squeeze(1)
                loss = tagger.nll(words, vector, batch).mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_([*tuned, *new], 5.0)
                optimiser.step()
        return tagger.eval()

    @torch.no_grad()
    def gains(self, tagger: OneImageTagger, posts: Sequence[Post]) -> Iterator[tuple[str, Tensor]]:
        """Id of each post, and NLL(blank) - NLL(image) for each of its images, (m,) on the CPU."""
        for batch in self.batches(posts):
            words, images, _ = tagger.states(batch)
            costs = torch.stack([tagger.nll(words, image, batch) for image in images.unbind(1)], 1).cpu()  # (B, m + 1)
            for post, row in zip(batch.posts, costs, strict=True):
                yield post.id, (row[-1] - row[:-1])[: len(post.images)]


def utility(posts: Sequence[Post], trial: Trial, max_images: int, seeds: int) -> tuple[list[Ranked], float]:
    """Rank the images of each post by their gain, computed by taggers that were not trained on the post.

    The posts are split in two halves; a tagger trained on one half scores the other. The gains are averaged over
    several seeds.

    Args:
        posts: training posts with tags; those without entities or images are left out.
        trial: setup for training the taggers.
        max_images: maximum number of images of a post.
        seeds: number of taggers for each half.

    Returns:
        The ranked posts, and the dead zone: the standard error of a gain, pooled over all images (0 for one seed).
    """
    usable = [first_images(post, max_images) for post in posts]
    usable = [post for post in usable if post.images and any(tag != "O" for tag in post.tags or ())]
    if len(usable) < 2:
        return [], 0.0
    gains: dict[str, list[Tensor]] = {post.id: [] for post in usable}
    with torch.random.fork_rng(), torch.enable_grad():
        for number in range(seeds):
            order = permutation(len(usable), "utility halves", trial.seed, number)
            halves = [[usable[place] for place in order[side::2]] for side in (0, 1)]
            for side in (0, 1):
                for name, gain in trial.gains(trial.trained(halves[side], number, side), halves[1 - side]):
                    gains[name].append(gain)
    stacked = {name: torch.stack(by_seed) for name, by_seed in gains.items()}  # (seeds, m)
    error = 0.0
    if seeds > 1:
        error = float((torch.cat([gain.var(0) for gain in stacked.values()]).mean() / seeds).sqrt())
    return [Ranked(post, tuple(stacked[post.id].mean(0).tolist())) for post in usable], error
