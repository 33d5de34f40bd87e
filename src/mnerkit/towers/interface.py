"""The interface of towers (every pretrained or tiny network) and encoders, and the types that they return."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch, PictureBatch, TextBatch, Windows
from mnerkit.nn.visual_prefix import Pool

if TYPE_CHECKING:
    from typing_extensions import Self

WINDOWS = 32  # of long posts, encoded together
Pooling = tuple[int, Pool]  # of stage maps: rows and columns, and how (`mnerkit.nn.visual_prefix.pooled_maps`)


@dataclass
class TextStates:
    """Output of a text tower for B rows of W words and n pieces.

    Attributes:
        words: (B, W, d), zeros where a word is padding or was cut off.
        pooled: (B, d), the tower's sentence vector (`[CLS]`, end of text), or the masked mean of the words.
        pieces: (B, n, d), last states of the pieces; None for towers that read whole words.
        layers: states of the pieces after each layer, (B, n, d) each, embeddings first; empty unless requested.

    """

    words: Tensor
    pooled: Tensor
    pieces: Tensor | None = None
    layers: tuple[Tensor, ...] = ()


@dataclass
class ImageStates:
    """Output of a vision tower for N pictures.

    Attributes:
        pooled: (N, d_pooled), one vector for each picture, in the joint text-image space if the tower has one.
        regions: (N, R, d), one vector for each patch, row-major.
        grid: rows and columns of the patches, R = rows * columns.
        stages: maps (N, c, h, w) of increasing depth if the tower is a pyramid (ResNet), else empty.
        tokens: (N, 1 + R, d) with the class token, for transformers; else None.

    """

    pooled: Tensor
    regions: Tensor
    grid: tuple[int, int]
    stages: tuple[Tensor, ...] = ()
    tokens: Tensor | None = None


@dataclass
class WordStates:
    """Output of every encoder: one vector for each word in each of E environments (E = 1 for all but MOUSING).

    Attributes:
        states: (E, B, W, d).
        losses: named, unweighted auxiliary losses, scalars.
        boundary: (B, W, 3) B/I/O emissions that a head may add, or None; then one for each of the tag set's others.
        head_share: factor of the head's own emissions where it adds `boundary`.
        trace: named tensors to draw, one row for each post (attention (B, W, R), adjacency (B, E, L, L), gates ...);
            empty unless requested.
        logged: named scalars without gradient that training logs each epoch (edge density ...).

    """

    states: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    boundary: Tensor | None = None
    trace: dict[str, Any] = field(default_factory=dict)
    logged: dict[str, Tensor] = field(default_factory=dict)
    head_share: float = 1.0


class Tower(nn.Module):
    """Base of text and vision towers.

    Attributes:
        spec: the user's name for the tower (`bert-base-uncased`, a folder, `tiny`).
        width: d of the states.
        frozen: whether the weights are fixed (`mnerkit.towers.frozen.memory.freeze`); then it stays in eval mode.
        drifting: whether BatchNorm uses and moves statistics in training although the weights are fixed.
        loaded: whether the weights came from a hub or folder.
        lora_rank: rank of the maps that alone are trained (`mnerkit.towers.lora`); 0: there are none.
        digest_without_lora: with LoRA, digest of the weights of a hub or folder.
        options: options of the factory that made it, as plain data.
        reader: turns words into a text tower's input (`mnerkit.data.batches.needs.Reader`).
        picture: size and normalisation that a vision tower expects (a `PictureFormat`).
        memory: cache of the outputs while it is frozen (`mnerkit.towers.frozen.memory.FeatureMemory`); None: no cache.

    """

    spec: str
    width: int
    frozen: bool = False
    drifting: bool = False
    loaded: bool = False
    lora_rank: int = 0
    digest_without_lora: str | None = None
    options: dict[str, Any]
    reader: Any = None
    picture: Any = None
    memory: Any = None

    @property
    def external(self) -> bool:
        """Whether the weights, but for LoRA's, are those of a hub or folder; then checkpoints leave them out."""
        return (self.frozen or self.lora_rank > 0) and self.loaded and not self.drifting

    @property
    def constant(self) -> bool:
        """Whether its output for an input never changes, so that it can be cached."""
        return self.frozen and not self.drifting

    def train(self, mode: bool = True) -> Self:
        """Set the mode; a frozen tower stays in eval mode (no dropout, fixed BatchNorm statistics)."""
        return super().train(mode and not self.constant)


class TextTower(Tower):
    """Base of text towers: words to states.

    Attributes:
        causal: whether a word attends only to preceding words.

    """

    causal: bool = False

    def forward(self, text: TextBatch) -> TextStates:
        raise NotImplementedError

    @property
    def joint_width(self) -> int:
        """Width of `joint`'s output."""
        return self.width

    def joint(self, states: Tensor) -> Tensor:
        """Map word or piece states (..., width) into the space shared with pictures; the identity if there is none."""
        return states


class VisionTower(Tower):
    """Base of vision towers: pictures to states; `width` is d of the regions.

    Attributes:
        pooled_width: width of the pooled vector.
        stage_widths: channels of each stage; empty for a tower without stages.

    """

    pooled_width: int
    stage_widths: tuple[int, ...] = ()

    def forward(self, pixels: Tensor) -> ImageStates:
        raise NotImplementedError

    def see(self, pictures: PictureBatch) -> ImageStates:
        """The states of a batch's pictures (`Batch.pictures`); those cached by a frozen tower are not decoded.

        A tower may pool crops differently from whole pictures; `forward` and `pool` treat all as whole pictures.
        """
        return self(pictures.pixels())

    def see_stages(self, pictures: PictureBatch, pooling: Pooling | None = None) -> ImageStates:
        """Like `see`, with stages and tokens if the tower has them.

        Args:
            pictures: N of them.
            pooling: a frozen tower caches stages that are pooled so, and returns nothing else but the pooled vectors;
                other towers ignore it. None: whole maps, which a frozen tower computes each time.
        """
        return self(pictures.pixels())

    def see_pooled(self, pictures: PictureBatch) -> Tensor:
        """Like `see`, but only the pooled vectors (N, pooled_width)."""
        return self.pool(pictures.pixels())

    def pool(self, pixels: Tensor) -> Tensor:
        """Only the pooled vectors (N, pooled_width), without computing regions where possible."""
        return self(pixels).pooled

    @property
    def joint_width(self) -> int:
        """Width of `joint`'s output."""
        return self.width

    def joint(self, regions: Tensor) -> Tensor:
        """Map regions (..., width) into the space shared with text; the identity if there is none."""
        return regions


class Encoder(nn.Module):
    """Base of encoders, which map a batch to one state for each word.

    Attributes:
        width: d of `WordStates.states`.
        by_post: whether, in evaluation, a post's states depend only on the post, up to rounding, and only the return
            value is used after a call. Then a post that appears in several episodes is encoded once.
    """

    width: int
    by_post: bool = False

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        raise NotImplementedError

    def __call__(self, batch: Batch, **how: Any) -> WordStates:  # type: ignore[override]
        """The states of a batch; those of posts that are read in windows are put together from the windows'."""
        if batch.windows is None:
            return super().__call__(batch, **how)
        return self._of_windows(batch, batch.windows, how)

    def _of_windows(self, batch: Batch, windows: Windows, how: dict[str, Any]) -> WordStates:
        """The state of each word in its window, and of traces the attention; without losses.

        As many windows are encoded together as the batch has posts, and at least `WINDOWS`.
        """
        window, start = windows.window, windows.start  # (B, W), (N,)
        place = (torch.arange(window.shape[1], device=window.device) - start[window]).clamp_min(0)
        place = place.clamp_max(windows.text.word_mask.shape[1] - 1)
        numbers = torch.arange(len(start), device=window.device)
        parts, tags = [], []
        for part in numbers.split(max(WINDOWS, len(batch))):
            parts.append(super().__call__(batch.of_windows(part), **how))
            tags.append(self.detected_tags())
        mask = batch.text.word_mask.unsqueeze(-1)  # (B, W, 1)

        def words(tensors: Iterable[Tensor]) -> Tensor:
            """(n, W of a window, d) of each part to (B, W, d)."""
            return torch.cat([*tensors])[window, place] * mask

        if detected := [each.unsqueeze(-1) for each in tags if each is not None]:
            self.set_detected_tags(words(detected).squeeze(-1))
        states = torch.stack([words(states) for states in zip(*(part.states for part in parts), strict=True)])
        boundary = [part.boundary for part in parts if part.boundary is not None]
        attention = [part.trace["attention"] for part in parts if "attention" in part.trace]
        return WordStates(
            states,
            boundary=words(boundary) if boundary else None,
            trace={"attention": words(attention)} if attention else {},
            logged=parts[0].logged,
            head_share=parts[0].head_share,
        )

    def detected_tags(self) -> Tensor | None:
        """Untyped tags (B, W) of the last batch that a tagger reads after a call; None if there are none."""
        return None

    def set_detected_tags(self, tags: Tensor) -> None:
        """Replace them by those of whole posts, put together from the tags of windows."""

    def begin_epoch(self, epoch: int) -> None:
        """Called when an epoch of training begins, with its number (from 1), for schedules.

        The random state is already that of the epoch, also in a resumed run.
        """
