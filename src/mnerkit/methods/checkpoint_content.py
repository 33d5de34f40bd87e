"""What a checkpoint must hold: types and limits of every part of its record."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, ConfigDict, Field, InstanceOf, model_validator
from torch import Tensor
from typing_extensions import Self

from mnerkit.data.pictures.boxes import MAX_OBJECTS
from mnerkit.methods.options import LORA_RANK
from mnerkit.validation import Figure, Line, ListOf, Place, RowOf, Text

MAX_TYPES = 1000  # of a corpus: heads have weights for each pair of tags
MAX_WORDS = 2_000_000  # of a corpus
MAX_SUPPORT = 100_000  # posts
MAX_REPEATED = 1 << 30  # bytes of a tensor that repeats its storage; larger ones are stored in full

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Types = Annotated[ListOf[_Name], Field(max_length=MAX_TYPES)]


def _picture(pixels: Tensor) -> Tensor:
    if pixels.dtype != torch.uint8 or pixels.dim() != 3 or pixels.shape[2] != 3 or not pixels.numel():
        raise ValueError(f"a picture is (H, W, 3) uint8, not {tuple(pixels.shape)} {pixels.dtype}")
    return pixels


def _indices(numbers: Tensor) -> Tensor:
    if numbers.dtype != torch.int64 or numbers.dim() != 1:
        raise ValueError(f"expected a list of whole numbers, not {tuple(numbers.shape)} {numbers.dtype}")
    return numbers


def _bytes(state: Tensor) -> Tensor:
    if state.dtype != torch.uint8 or state.dim() != 1:
        raise ValueError(f"expected bytes, not {tuple(state.shape)} {state.dtype}")
    return state


def _generator(state: Tensor) -> Tensor:
    if _bytes(state).shape != torch.Generator().get_state().shape:
        raise ValueError(f"{len(state)} bytes are no state of torch's generator")
    return state


def _twister(numbers: Tensor) -> Tensor:
    if len(_indices(numbers)) != 625 or int(numbers.min()) < 0 or int(numbers.max()) >= 1 << 32 or numbers[-1] > 624:
        raise ValueError("expected the 625 numbers of a Mersenne Twister")
    return numbers


def dense(weights: Tensor) -> Tensor:
    """The tensor itself.

    Raises:
        ValueError: it is sparse or quantised, or large and repeats what little is stored.
    """
    if weights.layout != torch.strided or weights.is_quantized:
        raise ValueError(f"expected a dense tensor, not {weights.layout}")
    size = weights.numel() * weights.element_size()
    if size > max(weights.untyped_storage().nbytes(), MAX_REPEATED):
        raise ValueError(f"a tensor of {size} bytes, of which few are stored")
    return weights


class _Part(Line):
    """A part of a checkpoint; keys that it does not name are those of other releases."""

    model_config = ConfigDict(arbitrary_types_allowed=True)


class _Config(_Part):
    """What `restore` needs of a configuration; its options are checked when the method is made."""

    plugin: _Name
    model: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    trainer: dict[str, Any] | None = None
    seed: Place | None = None


class _Facts(_Part):
    types: _Types
    words: Annotated[ListOf[Text], Field(max_length=MAX_WORDS)]
    characters: bool = False  # absent unless true


class TowerRecord(_Part):
    """A tower as plain data, as `towers.saved_state.tower_state` makes it."""

    family: _Name
    spec: Text
    options: dict[str, Any]
    frozen: bool
    external: bool
    lora_rank: Annotated[int, Field(ge=0, le=LORA_RANK)] = 0
    digest: Text | None = None
    reader: dict[str, Any] | None = None
    picture: dict[str, Any] | None = None
    architecture: dict[str, Any] | None = None
    revision: Text | None = None


class _Object(_Part):
    box: RowOf[tuple[Figure, Figure, Figure, Figure]]
    score: Figure
    label: Text


class _Picture(_Part):
    name: Text
    pixels: Annotated[InstanceOf[Tensor], AfterValidator(_picture)] | None
    caption: Text | None
    relevance: Figure | None = None
    objects: Annotated[ListOf[_Object], Field(max_length=MAX_OBJECTS)] = ()


class _SupportPost(_Part):
    id: Text
    words: ListOf[Text]
    tags: ListOf[Text]
    images: ListOf[_Picture]

    @model_validator(mode="after")
    def _check_tags(self) -> Self:
        if len(self.words) != len(self.tags):
            raise ValueError(f"{len(self.words)} words but {len(self.tags)} tags")
        return self


class _Record(_Part):
    """Plain data beside the weights, as `Method.record` makes it and `checkpoint.restore` reads it."""

    plugin: _Name
    config: _Config
    facts: _Facts
    towers: dict[str, TowerRecord]
    support: Annotated[ListOf[_SupportPost], Field(max_length=MAX_SUPPORT)]
    support_types: _Types = ()
    trained_on: Annotated[InstanceOf[Tensor], AfterValidator(_indices)]
    repeats: Annotated[InstanceOf[Tensor], AfterValidator(_indices)] | None = None  # absent from older checkpoints
    imported: dict[str, Any] | None = None  # of weights that were trained elsewhere


class _Loss(_Part):
    sum: float
    posts: Place
    how: dict[Literal["prog_bar", "logger", "on_step", "on_epoch", "sync_dist"], bool]


class _Rank(_Part):
    """What a rank needs to go on within an epoch: the state of its generators, and sums of its losses."""

    torch: Annotated[InstanceOf[Tensor], AfterValidator(_generator)]
    cuda: Annotated[InstanceOf[Tensor], AfterValidator(_bytes)] | None
    numpy: Annotated[InstanceOf[Tensor], AfterValidator(_twister)]
    numpy_normal: float | None
    python: Annotated[InstanceOf[Tensor], AfterValidator(_twister)]
    python_normal: float | None
    losses: dict[_Name, _Loss]


class _WithinEpoch(_Part):
    batches: Place
    ranks: Annotated[ListOf[_Rank], Field(min_length=1)]


class CheckpointContent(_Part):
    """A checkpoint; what else Lightning keeps in it (optimiser, loops) is Lightning's to read.

    Attributes:
        epoch: number of the epoch, counted from 0.
        global_step: how many steps were taken.
        state_dict: weights by name.
        mnerkit: what is needed to build the method.
        within_epoch: what Lightning does not keep of an epoch that has begun; None at the end of an epoch.
    """

    epoch: Place
    global_step: Place = 0
    state_dict: dict[str, Annotated[InstanceOf[Tensor], AfterValidator(dense)]]
    mnerkit: _Record
    within_epoch: _WithinEpoch | None = None
