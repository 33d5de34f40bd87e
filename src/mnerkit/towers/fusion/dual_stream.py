"""Two towers that run layer by layer and exchange keys and values (MGIPS-CL, Eq. 2-4; MKGFormer)."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.batches.batch import TextBatch
from mnerkit.errors import UsageError
from mnerkit.towers.fusion.prefix import ARGUMENT, Joining, accept_joining, joined_mask, prepend, with_unused
from mnerkit.towers.interface import Tower
from mnerkit.towers.layers import joint_products
from mnerkit.towers.text.piece_tower import BertTower
from mnerkit.towers.vision.pretrained import ClipVisionTower

Source = Literal["previous", "same_layer_vision_first"]
FirstLayer = Literal["raw", "projected", "none"]
# runs a text layer in place of the layer itself: its number, the layer, its input, the attention mask, the image states
# after the layer of the same number, and keyword arguments for the layer's attention -> its output
TextLayer = Callable[..., Tensor]
Hand = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Change = Callable[[Tensor], Tensor]


@dataclass
class Stream:
    """Input of one of the two streams.

    Attributes:
        states: (B, n, d), embeddings before the first layer.
        mask: (B, n) bool, positions that the stream's own queries attend to.
        shared: (B, n) bool, positions that the other stream's queries attend to.
        some: whether one of `shared` is true, where that is known; None: it is read from `shared`.
        full: whether all are; None likewise.
    """

    states: Tensor
    mask: Tensor
    shared: Tensor
    some: bool | None = None
    full: bool | None = None

    def flags(self) -> tuple[bool, bool]:
        """`some` and `full`; a device is waited for where they are not known."""
        if self.some is None or self.full is None:
            self.some, self.full = torch.stack((self.shared.any(), self.shared.all())).tolist()
        return bool(self.some), bool(self.full)


class DualStream(nn.Module):
    """Two streams in which layer l attends to its own keys and values, preceded by those of the other stream.

    K = [K_foreign; H W^k], V = [V_foreign; H W^v], where the foreign part are the keys and values of layer l - 1 of the
    other stream (without its own foreign part, so that sequences do not grow). The layers are those of the towers,
    unchanged. A stream whose partner is fully masked is computed exactly as by its tower alone.

    Args:
        text: a BERT-like tower.
        vision: CLIP's vision tower; or a BERT-like one, for a stream of words instead of patches.
        source: `previous`: the foreign part of layer l comes from layer l - 1 of the other stream, in both directions;
            `same_layer_vision_first`: vision runs first, and text gets the keys and values of vision's layer l, from
            the second layer on.
        first_layer: the foreign part of the first layer: `raw` (the other stream's embeddings as keys and values,
            Eq. 3), `projected` (the keys and values of its first layer), or `none`.
        last: only this many last layers have a foreign part; None: all.
        receivers: the streams that get a foreign part.
        alone: numbers of layers that attend to the foreign part alone; where all of it is masked, to their own.
        hand: changes the keys and values (B, m', d) that vision hands over; gets them and which are real (B, m').

    Raises:
        UsageError: the towers are of other kinds, or of different depth.
    """

    def __init__(
        self,
        text: BertTower,
        vision: BertTower | ClipVisionTower,
        source: Source = "previous",
        first_layer: FirstLayer = "raw",
        last: int | None = None,
        receivers: Literal["both", "vision", "none"] = "both",
        alone: Container[int] = (),
        hand: Hand | None = None,
    ) -> None:
        super().__init__()
        self.source, self.first_layer, self._alone, self._hand = source, first_layer, alone, hand
        # a tuple, so that the towers' parameters are not registered here: the encoder owns the towers
        self._stacks = (_Stack(text), _Stack(vision))
        first, second = self._stacks
        if len(first.layers) != len(second.layers):
            raise UsageError(
                f"tower {text.spec} has {len(first.layers)} layers and {vision.spec} {len(second.layers)}: "
                "two streams step layer by layer; give towers of one depth"
            )
        self.begin = max(0, len(first.layers) - last) if last is not None else 0
        self._receives = (receivers == "both", receivers != "none")
        equal = (first.width, first.heads) == (second.width, second.heads)
        # linear maps if the heads do not fit: for keys and values of each layer, in both directions
        self.joints = nn.ModuleList(
            nn.ModuleList(
                nn.Linear(source.width, target.width, bias=False)
                if not equal and self._gets(side, number)
                else nn.Identity()
                for _ in range(2)
            )
            for side, (source, target) in enumerate(((second, first), (first, second)))
            for number in range(len(first.layers))
        )

    def _gets(self, side: int, number: int) -> bool:
        """Whether a layer of the text (0) or the vision stream (1) has a foreign part."""
        return number >= self.begin and self._receives[side]

    def forward(
        self, text: Stream, vision: Stream, text_layer: TextLayer | None = None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Run both streams.

        Args:
            text: n pieces.
            vision: m' patches (or words), the class token first.
            text_layer: runs the text layers that exchange, which may then read the image states.

        Returns:
            States of the text after each layer, embeddings first, (B, n, d_t) each, and those of the vision stream,
            (B, m', d_v).
        """
        for stack in self._stacks:
            stack.prepare()
        with ExitStack() as products:
            for stack in self._stacks:
                products.enter_context(joint_products(stack.layers))
            return self._run(text, vision, text_layer)

    def _run(
        self, text: Stream, vision: Stream, text_layer: TextLayer | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        streams = (text, vision)
        masks = [stack.own_mask(stream) for stack, stream in zip(self._stacks, streams, strict=True)]
        active, full = zip(*(stream.flags() for stream in streams), strict=True)
        history: tuple[list[Tensor], list[Tensor]] = ([text.states], [vision.states])
        last: list[tuple[Tensor, Tensor] | None] = list(self._first(streams, masks))
        joined = [_JoinedMask(streams[1 - side].shared, full[1 - side]) for side in (0, 1)]

        for number in range(len(self._stacks[0].layers)):
            exchanged = list(last)
            for side in (1, 0):  # vision, text
                foreign = exchanged[1 - side] if active[1 - side] and self._gets(side, number) else None
                if foreign is not None:
                    foreign = self._joined(side, number, *foreign)
                crossing = _Crossing(foreign, joined[side], number in self._alone)
                run = self._stacks[side].layers[number]
                if side == 0 and text_layer is not None and number >= self.begin:
                    run = partial(text_layer, number, run, vision=history[1][-1])
                states = run(history[side][-1], masks[side], **{ARGUMENT: crossing})
                history[side].append(states)
                last[side] = crossing.keys_values()
                if side == 1 and self._hand is not None and active[1]:
                    last[side] = self._hand(*crossing.keys_values(), vision.shared)
                # the first layer has what `first_layer` says, whoever runs first
                if self.source == "same_layer_vision_first" and side == 1 and number:
                    exchanged[1] = last[1]
        # maps that no layer used on this rank
        unused = [] if all(active) and self.first_layer != "none" else list(self.joints.parameters())
        history[0][-1] = with_unused(history[0][-1], unused)
        return tuple(history[0]), tuple(history[1])

    def _first(self, streams: Sequence[Stream], masks: Sequence[Any]) -> list[tuple[Tensor, Tensor] | None]:
        """Keys and values of each stream for the other one's first layer (Eq. 3)."""
        if self.first_layer == "raw":
            return [(stream.states, stream.states) for stream in streams]
        if self.first_layer == "none":
            return [None, None]
        pairs: list[tuple[Tensor, Tensor] | None] = []
        for stack, stream, mask in zip(self._stacks, streams, masks, strict=True):
            probe = _Crossing(None, None)
            stack.layers[0](stream.states, mask, **{ARGUMENT: probe})  # only its keys and values are used
            pairs.append(probe.keys_values())
        return pairs

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
                f"tower {tower.spec}: its layers can't run beside another tower's; give a tower like BERT or RoBERTa "
                "for text, and a CLIP for pictures"
            )
        self.spec = tower.spec
        self.width, self.heads = self.model.config.hidden_size, self.model.config.num_attention_heads
        # the attention implementation is set on the outer model
        self._outer = tower.model

    def prepare(self) -> None:
        accept_joining(self._outer, self.spec)

    def own_mask(self, stream: Stream) -> Any:
        """The library's attention mask for (B, n): None without padding."""
        from transformers.masking_utils import create_bidirectional_mask

        return create_bidirectional_mask(
            config=self.model.config, inputs_embeds=stream.states, attention_mask=stream.mask
        )


class _JoinedMask:
    """The mask of foreign and own keys, which is the same in all layers of a stream.

    Args:
        foreign: (B, P) bool, which foreign keys are real.
        full: whether all are.
    """

    def __init__(self, foreign: Tensor, full: bool) -> None:
        self.foreign, self.full = foreign, full
        self._made: tuple[Tensor | None, Tensor | None] | None = None

    def __call__(self, own: Tensor | None, query: Tensor, causal: bool) -> Tensor | None:
        """As `joined_mask`."""
        if self._made is None or self._made[0] is not own:
            self._made = own, joined_mask(own, self.foreign, query, causal, self.full)
        return self._made[1]

    def alone(self, own: Tensor | None, query: Tensor, causal: bool) -> Tensor:
        """The same without own keys, but for rows that have no foreign one."""
        both, size = self(own, query, causal), self.foreign.shape[1]
        if both is None:
            both = query.new_zeros(len(query), 1, 1, size + query.shape[2])
        hidden = self.foreign.any(1).view(-1, 1, 1, 1)
        return torch.cat([both[..., :size], both[..., size:].masked_fill(hidden, -torch.inf)], -1)


class _Crossing(Joining):
    """Joins the other stream's keys and values to those of one layer, and records the layer's own.

    Args:
        foreign: keys and values (B, P, d); None: nothing.
        mask: of both; None if nothing is joined.
        alone: whether the layer's own are left out where there are others.
    """

    def __init__(self, foreign: tuple[Tensor, Tensor] | None, mask: _JoinedMask | None, alone: bool = False) -> None:
        self.foreign, self.mask, self.alone = foreign, mask, alone
        self._own: tuple[Tensor, Tensor] | None = None

    def keys_values(self) -> tuple[Tensor, Tensor]:
        """The layer's own keys and values, (B, n, d) each, head h in columns h * d_head to (h + 1) * d_head."""
        if self._own is None:
            raise UsageError(
                "a layer does not take its attention from the registry; install another release of transformers"
            )
        keys, values = (part.transpose(1, 2).flatten(2) for part in self._own)
        return keys, values

    def join(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """See `Joining.join`."""
        self._own = key, value
        if self.foreign is None or self.mask is None:
            return None
        keys, values = self.foreign
        joined = self.mask.alone if self.alone else self.mask
        return prepend(keys, key), prepend(values, value), joined(mask, query, causal)


def text_embedding(tower: BertTower, text: TextBatch, before_norm: Change | None = None) -> Tensor:
    """Piece, position and segment embeddings with their LayerNorm and dropout (Eq. 1), (B, n, d).

    Args:
        tower: a BERT-like tower.
        text: the pieces.
        before_norm: changes the sum of the embeddings before the LayerNorm.
    """
    text = tower.with_unknown_words(text)
    options = {"token_type_ids": text.type_ids} if tower.typed else {}
    embeddings: Any = tower.model.embeddings
    if before_norm is None:
        return embeddings(input_ids=text.input_ids, **options)
    with embeddings.LayerNorm.register_forward_pre_hook(lambda _, given: (before_norm(given[0]),)):
        return embeddings(input_ids=text.input_ids, **options)


class CropEmbedding(nn.Module):
    """Patches of o crops as one sequence: the class token, then CLIP's patches with new position embeddings.

    The whole picture is not part of it. The position embeddings are new, because CLIP's are for one whole picture;
    CLIP's own are frozen, since nothing reads them here.

    Args:
        tower: CLIP's vision tower.
        crops: o, maximum number of crops of a post.
        size: height and width of a crop in pixels, a multiple of the tower's patch.
        small: number of further crops, and their height and width; they are given at `size`, and shrunk.
        deviation: of the position embeddings' first values; default: the tower's own.

    Raises:
        UsageError: a size is not a multiple of the tower's patch.
    """

    def __init__(
        self,
        tower: ClipVisionTower,
        crops: int,
        size: int,
        small: tuple[int, int] = (0, 0),
        deviation: float | None = None,
    ) -> None:
        super().__init__()
        config: Any = tower.model.vision_model.config
        self._model = (tower.model.vision_model,)  # a tuple, so that it is not registered as a submodule
        deviation = config.initializer_range if deviation is None else deviation

        def positions(count: int, side: int, option: str) -> nn.Parameter:
            if side % config.patch_size:
                raise UsageError(
                    f"--model.{option} {side}: tower {tower.spec} has patches of {config.patch_size} pixels; "
                    "give a multiple of that"
                )
            return nn.Parameter(torch.randn(count * (side // config.patch_size) ** 2, config.hidden_size) * deviation)

        self.crops, self.small = crops, small
        self.position = positions(crops, size, "crop_size")
        self.small_position = positions(*small, "small_size") if small[0] else None
        self.patches = len(self.position) // crops  # of a crop that is not small
        tower.model.vision_model.embeddings.position_embedding.requires_grad_(False)

    @property
    def length(self) -> int:
        """m', the class token and all patches."""
        return 1 + len(self.position) + (0 if self.small_position is None else len(self.small_position))

    def forward(self, crops: Tensor, crop_mask: Tensor, before_norm: Change | None = None) -> tuple[Tensor, Tensor]:
        """Embed crops (Eq. 2.2 of the paper's section on visual embedding).

        Args:
            crops: (B, o, 3, size, size), o may be smaller than the maximum; small ones behind the others.
            crop_mask: (B, o) bool.
            before_norm: changes the embeddings before CLIP's first LayerNorm.

        Returns:
            (B, 1 + o * patches, d) and its mask; the class token is real if a crop is.
        """
        sets = [(crops[:, : self.crops], crop_mask[:, : self.crops], self.position)]
        if self.small_position is not None:
            chosen = slice(self.crops, self.crops + self.small[0])
            sets.append((shrunk(crops[:, chosen], self.small[1]), crop_mask[:, chosen], self.small_position))
        return patch_sequence(self._model[0], sets, crop_mask.any(1, keepdim=True), before_norm)


def shrunk(crops: Tensor, size: int) -> Tensor:
    """Crops (B, o, 3, s, s) at a smaller size, since a batch holds crops of one: means of the pixels beneath."""
    if crops.shape[-1] == size or not crops.shape[1]:
        return crops
    small = functional.interpolate(crops.flatten(0, 1), (size, size), mode="area")
    return small.unflatten(0, crops.shape[:2])


def patch_sequence(
    model: Any, sets: Sequence[tuple[Tensor, Tensor, Tensor]], real: Tensor, before_norm: Change | None = None
) -> tuple[Tensor, Tensor]:
    """The class token, then CLIP's patches of sets of pictures, each with its position embeddings.

    Args:
        model: CLIP's vision model.
        sets: pictures (B, o, 3, s, s), which are real (B, o), and positions (o' * patches, d), o' >= o.
        real: (B, 1) bool, whether the class token is.
        before_norm: changes the embeddings before CLIP's first LayerNorm.

    Returns:
        (B, 1 + sum of o * patches, d) and its mask.
    """
    parts, masks = [model.embeddings.class_embedding.expand(len(real), 1, -1)], [real]
    for pixels, mask, position in sets:
        if not mask.shape[1]:  # no post of the batch has as many
            parts.append(position[:0].expand(len(real), 0, -1))
            continue
        patches = model.embeddings.patch_embedding(pixels.flatten(0, 1)).flatten(2).transpose(1, 2)  # (B o, p, d)
        masks.append(mask.repeat_interleave(patches.shape[1], 1))
        patches = patches.unflatten(0, mask.shape).flatten(1, 2)
        parts.append(patches + position[: patches.shape[1]])
    states = torch.cat(parts, 1)
    return model.pre_layrnorm(states if before_norm is None else before_norm(states)), torch.cat(masks, 1)


def noised(states: Tensor, alpha: float) -> Tensor:
    """Embeddings (B, n, d) with uniform noise of magnitude alpha / sqrt(n d) (NEFTune, Jain et al. 2023)."""
    bound = alpha / (states.shape[1] * states.shape[2]) ** 0.5
    return states + torch.empty_like(states).uniform_(-bound, bound)
