"""Two towers whose layers step side by side and hand each other keys and values (MGIPS-CL, Eq. 2-4; MKGFormer)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import TextBatch
from mnerkit.errors import UsageError
from mnerkit.towers.fusion.prefix import ARGUMENT, Joining, joined_mask, let_in, put_before, with_unused
from mnerkit.towers.interface import Tower
from mnerkit.towers.text.piece_tower import BertTower
from mnerkit.towers.vision.pretrained import ClipVisionTower

Source = Literal["previous", "same_layer_vision_first"]
FirstLayer = Literal["raw", "projected", "none"]


@dataclass
class Stream:
    """States on their way through the layers of one tower.

    Attributes:
        states: (B, n, d), embeddings before the first layer.
        mask: (B, n) bool, positions that the stream's own queries attend to.
        given: (B, n) bool, positions that the other stream's queries attend to.
    """

    states: Tensor
    mask: Tensor
    given: Tensor


class DualStream(nn.Module):
    """Layer l of each stream attends to its own keys and values, and to those of the other stream before them.

    K = [K_foreign; H W^k], V = [V_foreign; H W^v], where the foreign part is what layer l - 1 of the other stream
    attended with (its own part alone, so that sequences do not grow). The layers are the towers' own, called as they
    are; the rest of each is the pretrained one. A stream of whose partner nothing is real is computed exactly as its
    tower alone computes it.

    Args:
        text: a BERT-like tower.
        vision: CLIP's vision tower; or a BERT-like one, for a stream of words in place of patches.
        source: the foreign part of layer l is from layer l - 1 of the other stream, both ways (`previous`); or vision
            steps first, and text gets what vision's layer l attended with (`same_layer_vision_first`).
        first_layer: the foreign part of the first layer, which has no layer before it: the other stream's embedding as
            keys and values alike (`raw`, Eq. 3), those that its first layer makes of it (`projected`), or `none`.

    Raises:
        UsageError: towers of other kinds, or of different depth.
    """

    def __init__(
        self,
        text: BertTower,
        vision: BertTower | ClipVisionTower,
        source: Source = "previous",
        first_layer: FirstLayer = "raw",
    ) -> None:
        super().__init__()
        self.source, self.first_layer = source, first_layer
        # kept out of this module's parameters: the towers belong to whoever made them
        self._stacks = (_Stack(text), _Stack(vision))
        one, other = self._stacks
        if len(one.layers) != len(other.layers):
            raise UsageError(
                f"tower {text.spec} has {len(one.layers)} layers and {vision.spec} {len(other.layers)}: "
                "two streams step layer by layer; give towers of one depth"
            )
        same = (one.width, one.heads) == (other.width, other.heads)
        # a linear map where heads do not fit: keys and values of each layer, each way
        self.joints = nn.ModuleList(
            nn.ModuleList(nn.Identity() if same else nn.Linear(giver.width, taker.width, bias=False) for _ in range(2))
            for giver, taker in ((other, one), (one, other))
            for _ in one.layers
        )

    def forward(self, text: Stream, vision: Stream) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Step both streams.

        Args:
            text: n pieces.
            vision: m' patches (or words), the class token first.

        Returns:
            States of the text after each layer, embeddings first, (B, n, d_t) each, and those of the vision stream,
            (B, m', d_v).
        """
        streams = (text, vision)
        for stack in self._stacks:
            stack.prepare()
        masks = [stack.own_mask(stream) for stack, stream in zip(self._stacks, streams, strict=True)]
        told = torch.stack([each for stream in streams for each in (stream.given.any(), stream.given.all())]).tolist()
        active, full = told[::2], told[1::2]
        history: tuple[list[Tensor], list[Tensor]] = ([text.states], [vision.states])
        last: list[tuple[Tensor, Tensor] | None] = list(self._first(streams, masks))

        for number in range(len(self._stacks[0].layers)):
            given = list(last)
            for side in (1, 0):  # vision, text
                foreign = given[1 - side] if active[1 - side] else None
                if foreign is not None:
                    foreign = self._joined(side, number, *foreign)
                crossing = _Crossing(foreign, streams[1 - side].given, full[1 - side])
                states = self._stacks[side].layers[number](history[side][-1], masks[side], **{ARGUMENT: crossing})
                history[side].append(states)
                last[side] = crossing.own()
                if self.source == "same_layer_vision_first" and side == 1:
                    given[1] = last[1]
        # maps that no layer used on this rank
        unused = [] if all(active) and self.first_layer != "none" else list(self.joints.parameters())
        history[0][-1] = with_unused(history[0][-1], unused)
        return tuple(history[0]), tuple(history[1])

    def _first(self, streams: Sequence[Stream], masks: Sequence[Any]) -> list[tuple[Tensor, Tensor] | None]:
        """What each stream gives before its first layer (Eq. 3)."""
        if self.first_layer == "raw":
            return [(stream.states, stream.states) for stream in streams]
        if self.first_layer == "none":
            return [None, None]
        found: list[tuple[Tensor, Tensor] | None] = []
        for stack, stream, mask in zip(self._stacks, streams, masks, strict=True):
            probe = _Crossing(None, stream.given, False)
            stack.layers[0](stream.states, mask, **{ARGUMENT: probe})  # for its keys and values alone
            found.append(probe.own())
        return found

    def _joined(self, side: int, number: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        joint: Any = self.joints[side * len(self._stacks[0].layers) + number]
        return joint[0](keys), joint[1](values)


class _Stack:
    """The layers of one tower."""

    def __init__(self, tower: Tower) -> None:
        if isinstance(tower, ClipVisionTower):
            self.model: Any = tower.model.vision_model
            self.layers: Any = self.model.encoder.layers
        elif isinstance(tower, BertTower) and hasattr(getattr(tower.model, "encoder", None), "layer"):
            self.model = tower.model
            self.layers = self.model.encoder.layer
        else:
            raise UsageError(
                f"tower {tower.spec}: its layers can't step beside another tower's; give a tower like BERT or RoBERTa "
                "for text, and a CLIP for pictures"
            )
        self.spec = tower.spec
        self.width, self.heads = self.model.config.hidden_size, self.model.config.num_attention_heads
        # `let_in` asks the model that has the switch
        self._switch = tower.model

    def prepare(self) -> None:
        let_in(self._switch, self.spec)

    def own_mask(self, stream: Stream) -> Any:
        """The mask as the library makes it of (B, n): None where nothing is padding."""
        from transformers.masking_utils import create_bidirectional_mask

        return create_bidirectional_mask(
            config=self.model.config, inputs_embeds=stream.states, attention_mask=stream.mask
        )


class _Crossing(Joining):
    """What one layer takes from the other stream, and keeps of its own for it.

    Args:
        foreign: keys and values (B, P, d); None: nothing.
        mask: (B, P) bool, which are real.
        full: whether all are.
    """

    def __init__(self, foreign: tuple[Tensor, Tensor] | None, mask: Tensor, full: bool) -> None:
        self.foreign, self.mask, self.full = foreign, mask, full
        self._own: tuple[Tensor, Tensor] | None = None

    def own(self) -> tuple[Tensor, Tensor]:
        """The layer's own keys and values, (B, n, d) each, head h in columns h * d_head to (h + 1) * d_head."""
        if self._own is None:
            raise UsageError(
                "a layer did not look its attention up where it can be joined; give another release of transformers"
            )
        keys, values = (each.transpose(1, 2).flatten(2) for each in self._own)
        return keys, values

    def join(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """As the base."""
        self._own = key, value
        if self.foreign is None:
            return None
        keys, values = self.foreign
        return put_before(keys, key), put_before(values, value), joined_mask(mask, self.mask, query, causal, self.full)


def text_embedding(tower: BertTower, text: TextBatch) -> Tensor:
    """Piece, position and segment embeddings with their LayerNorm and dropout (Eq. 1), (B, n, d)."""
    text = tower.heard(text)
    options = {"token_type_ids": text.type_ids} if tower.typed else {}
    return tower.model.embeddings(input_ids=text.input_ids, **options)


class CropEmbedding(nn.Module):
    """Patches of o crops as one sequence: CLIP's patches, a position for each place, the class token before them.

    The whole picture is no part of it. The patches' positions are new, for CLIP's are those of one whole picture; those
    are fixed, since nothing reads them here.

    Args:
        tower: CLIP's.
        crops: o, most crops of a post.
        size: height and width of a crop in pixels, a multiple of the tower's patch.

    Raises:
        UsageError: a size that the patches do not fill.
    """

    def __init__(self, tower: ClipVisionTower, crops: int, size: int) -> None:
        super().__init__()
        config: Any = tower.model.vision_model.config
        if size % config.patch_size:
            raise UsageError(
                f"--model.crop_size {size}: tower {tower.spec} has patches of {config.patch_size} pixels; "
                "give a multiple of that"
            )
        self._model = (tower.model.vision_model,)  # the tower's, not a part of this module
        self.patches = (size // config.patch_size) ** 2  # of a crop
        self.position = nn.Parameter(torch.randn(crops * self.patches, config.hidden_size) * config.initializer_range)
        tower.model.vision_model.embeddings.position_embedding.requires_grad_(False)

    @property
    def length(self) -> int:
        """m', the class token and all patches."""
        return 1 + len(self.position)

    def forward(self, crops: Tensor, crop_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Embed crops (Eq. 2.2 of the paper's section on visual embedding).

        Args:
            crops: (B, o, 3, size, size), o may be less than what was promised.
            crop_mask: (B, o) bool.

        Returns:
            (B, 1 + o * patches, d) and its mask; the class token is real where a crop is.
        """
        model: Any = self._model[0]
        rows, count = crop_mask.shape
        patches = model.embeddings.patch_embedding(crops.flatten(0, 1)).flatten(2).transpose(1, 2)  # (B o, p, d)
        patches = patches.unflatten(0, (rows, count)).flatten(1, 2) + self.position[: count * self.patches]
        first = model.embeddings.class_embedding.expand(rows, 1, -1)
        states = model.pre_layrnorm(torch.cat([first, patches], 1))
        mask = torch.cat([crop_mask.any(1, keepdim=True), crop_mask.repeat_interleave(self.patches, 1)], 1)
        return states, mask
