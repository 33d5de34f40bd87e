"""GIFR's discriminator: a text and an image tower, and a score of relevance for each pair of post and image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch, PictureBatch
from mnerkit.nn.eval_mode import evaluating
from mnerkit.towers.fusion.sight import Seen, Sight
from mnerkit.towers.interface import ImageStates, TextTower, VisionTower
from mnerkit.towers.vision.pretrained import ClipVisionTower
from mnerkit_plugins.relevance.options import Blank, RelevanceOptions
from mnerkit_plugins.relevance.ranking import RelevanceScorer, relevance


@dataclass
class Scores:
    """Raw scores of B posts with m images each.

    Attributes:
        images: (B, m), r(I_i); arbitrary where masked.
        blank: (B,), r(I_blank) with the same text.
        mask: (B, m) bool, real images.
    """

    images: Tensor
    blank: Tensor
    mask: Tensor

    @property
    def relevance(self) -> Tensor:
        """R (Eq. 2), (B, m); 0 where masked."""
        return relevance(self.images, self.blank) * self.mask

    def with_blank(self) -> tuple[Tensor, Tensor]:
        """Scores and mask with the blank image as the last one, (B, m + 1) each."""
        real = torch.ones_like(self.mask[:, :1])
        return torch.cat([self.images, self.blank.unsqueeze(1)], 1), torch.cat([self.mask, real], 1)


class RelevanceEncoder(nn.Module):
    """r = MLP([W_t T_e; W_v V_e]) (4.1); T_e the text's vector, V_e the image's.

    T_e is the pooled vector (CLIP: the state of the end of text). V_e is CLIP's class state after its last norm if the
    tower is an unfrozen CLIP; else the pooled vector, in a frozen CLIP a linear map of that class state.

    Args:
        text: the text tower.
        sight: reads the images.
        o: the options. With captions the blank image has no words.
    """

    def __init__(self, text: TextTower, sight: Sight, o: RelevanceOptions) -> None:
        super().__init__()
        self.text, self.sight, self.options = text, sight, o
        self._class_state = isinstance(sight.tower, ClipVisionTower) and not sight.tower.frozen
        width = sight.width if self._class_state else sight.pooled_width
        self.scorer = RelevanceScorer(text.width, width, o.joint, o.hidden, o.dropout)

    def forward(self, batch: Batch) -> Scores:
        """Score the images of each post, and the blank one."""
        text = self.text(batch.text).pooled  # (B, d_t)
        pictures = self.sight.whole(batch, regions=self._class_state)
        images = self._vectors(pictures)  # (B, m, d_v)
        blank = self.blank_vector(images).expand(len(images), 1, -1)
        # float32 even under autocast: R depends on small differences of scores
        with torch.autocast(text.device.type, enabled=False):
            scores = self.scorer(text.float(), torch.cat([images, blank], 1).float())  # (B, m + 1)
        return Scores(scores[:, :-1], scores[:, -1], pictures.mask)

    def _vectors(self, pictures: Seen) -> Tensor:
        if not self._class_state or pictures.states.tokens is None:
            return pictures.pooled
        return self._normed(pictures.states.tokens[:, 0]).unflatten(0, pictures.mask.shape)

    def _normed(self, states: Tensor) -> Tensor:
        tower = self.sight.tower
        assert isinstance(tower, ClipVisionTower)
        return tower.model.vision_model.post_layernorm(states)

    def blank_vector(self, like: Tensor) -> Tensor:
        """V_e of the blank image, (1, d_v)."""
        states = blank_states(self.sight, self.options.blank, like)
        return self._normed(states.tokens[:, 0]) if self._class_state and states.tokens is not None else states.pooled


def blank_states(sight: Sight, blank: Blank, like: Tensor) -> ImageStates:
    """The states of the blank image, one row; in evaluation mode, so that they depend only on the weights.

    With captions, the blank image is a caption without words, whose vector is zeros.
    """
    tower = sight.tower
    if not isinstance(tower, VisionTower):
        zeros = like.new_zeros(1, sight.pooled_width)
        return ImageStates(zeros, zeros.unsqueeze(1), (1, 1))
    with evaluating(tower):
        return tower.see(PictureBatch(blank_pixels(tower, blank).to(like.device)))


def blank_pixels(tower: VisionTower, blank: Blank) -> Tensor:
    """The pixels of the blank image for a tower, (1, 3, side, side)."""
    picture = tower.picture
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (picture.mean, picture.std))
    channels = {"zeros": torch.zeros_like(mean), "white": (1 - mean) / std, "black": -mean / std}[blank]
    return channels.expand(1, 3, picture.size, picture.size).contiguous()
