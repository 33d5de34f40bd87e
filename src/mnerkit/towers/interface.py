"""What a tower takes and returns: the one interface behind every pretrained or tiny network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch, PictureBatch, TextBatch

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass
class TextStates:
    """What a text tower returns for B rows of W words and n pieces.

    Attributes:
        words: (B, W, d), zeros where a word is padding or was cut off.
        pooled: (B, d), the tower's sentence vector (`[CLS]`, end of text), or the masked mean of the words.
        pieces: (B, n, d), last states of the pieces; None for towers that read whole words.
        layers: states after each layer, (B, n, d) each (pieces), embeddings first; empty unless asked for.

    """

    words: Tensor
    pooled: Tensor
    pieces: Tensor | None = None
    layers: tuple[Tensor, ...] = ()


@dataclass
class ImageStates:
    """What a vision tower returns for N pictures.

    Attributes:
        pooled: (N, d_pooled), one vector a picture, in the joint text-image space where the tower has one.
        regions: (N, R, d), one vector a patch, row-major.
        grid: rows and columns of the patches, R = rows * columns.
        stages: maps (N, c, h, w) of increasing depth where the tower is a pyramid (ResNet), else empty.
        tokens: (N, 1 + R, d) with the class token, for transformers; else None.

    """

    pooled: Tensor
    regions: Tensor
    grid: tuple[int, int]
    stages: tuple[Tensor, ...] = ()
    tokens: Tensor | None = None


@dataclass
class WordStates:
    """What every encoder returns: one vector a word, in each of E environments (E = 1 for all but MOUSING).

    Attributes:
        states: (E, B, W, d).
        losses: named, unweighted auxiliary losses, scalars.
        boundary: (B, W, 3) B/I/O emissions that a head may add, or None.
        trace: named tensors to draw, one row a post (attention (B, W, R), adjacency (B, E, L, L), gates ...); empty
            unless asked for.
        logged: named scalars without gradient that training logs each epoch (edge density ...).

    """

    states: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    boundary: Tensor | None = None
    trace: dict[str, Any] = field(default_factory=dict)
    logged: dict[str, Tensor] = field(default_factory=dict)


class Tower(nn.Module):
    """What text and vision towers share.

    Attributes:
        spec: how the user named it (`bert-base-uncased`, a folder, `tiny`).
        width: d of the states.
        frozen: whether its weights are fixed (`mnerkit.towers.frozen.memory.freeze`); then it stays in eval mode.
        loaded: whether its weights came from a hub or folder.
        options: options of the factory that made it, as plain data.
        reader: turns words into a text tower's input (`mnerkit.data.batches.needs.Reader`).
        picture: size and normalisation that a vision tower expects (a `PictureFormat`).
        memory: what it returned before, once it is frozen (`mnerkit.towers.frozen.memory.FeatureMemory`); None where
            it remembers nothing.

    """

    spec: str
    width: int
    frozen: bool = False
    loaded: bool = False
    options: dict[str, Any]
    reader: Any = None
    picture: Any = None
    memory: Any = None

    @property
    def external(self) -> bool:
        """Whether its weights lie in a hub or folder and have not changed: a checkpoint leaves them out."""
        return self.frozen and self.loaded

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen tower stays in eval mode (no dropout, fixed BatchNorm statistics)."""
        return super().train(mode and not self.frozen)


class TextTower(Tower):
    """Words to states.

    Attributes:
        causal: whether a word sees only what stands before it.

    """

    causal: bool = False

    def forward(self, text: TextBatch) -> TextStates:
        raise NotImplementedError

    @property
    def joint_width(self) -> int:
        """Width of `joint`'s output."""
        return self.width

    def joint(self, states: Tensor) -> Tensor:
        """Map word or piece states (..., width) into the space shared with pictures; themselves where there is none."""
        return states


class VisionTower(Tower):
    """Pictures to states; `width` is d of the regions.

    Attributes:
        pooled_width: width of the pooled vector.
        stage_widths: channels of each of its stages; empty for a tower without stages.

    """

    pooled_width: int
    stage_widths: tuple[int, ...] = ()

    def forward(self, pixels: Tensor) -> ImageStates:
        raise NotImplementedError

    def see(self, pictures: PictureBatch) -> ImageStates:
        """The states of a batch's pictures (`Batch.pictures`): what a frozen tower knows already is not decoded.

        A tower may pool crops in another way than whole pictures, which `forward` and `pool` take theirs for.
        """
        return self(pictures.pixels())

    def see_stages(self, pictures: PictureBatch) -> ImageStates:
        """As `see`, with stages and tokens where the tower has them; a frozen tower computes them each time."""
        return self(pictures.pixels())

    def see_pooled(self, pictures: PictureBatch) -> Tensor:
        """Their pooled vectors (N, pooled_width) alone."""
        return self.pool(pictures.pixels())

    def pool(self, pixels: Tensor) -> Tensor:
        """The pooled vectors (N, pooled_width) alone, for whom regions would be computed in vain."""
        return self(pixels).pooled

    @property
    def joint_width(self) -> int:
        """Width of `joint`'s output."""
        return self.width

    def joint(self, regions: Tensor) -> Tensor:
        """Map regions (..., width) into the space shared with text; themselves where there is none."""
        return regions


class Encoder(nn.Module):
    """A method without its head: a batch becomes one state per word.

    Attributes:
        width: d of `WordStates.states`.
        by_post: whether, in evaluation, a post's states depend on the post alone, up to rounding, and nothing but what
            is returned is read after a call. Then a post that comes back in other episodes is encoded once.
    """

    width: int
    by_post: bool = False

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        raise NotImplementedError

    def begin_epoch(self, epoch: int) -> None:
        """Hear that an epoch of training begins, for what changes with it; the first one is 1.

        The random state is that of the epoch by then, also in a run that is resumed.
        """
