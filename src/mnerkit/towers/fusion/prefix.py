"""Prefix attention: keys and values that stand before a text tower's own in each layer (Li and Liang 2021; HVPNet).

The layers of transformers' models look their attention function up by name. Two names are added to that public
registry, and to the one of masks, each of which hands on to the library's own function: with nothing to add it is
called with what came, so that a tower without a prefix computes the library's own numbers. The prefix travels as a
keyword argument through the model's `forward` to its layers: nothing is kept in the model or anywhere else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mnerkit.errors import TowerError

ARGUMENT = "mnerkit_prefix"
_NAMES = {"sdpa": "mnerkit_prefix_sdpa", "eager": "mnerkit_prefix_eager"}


@dataclass
class Prefix:
    """What pieces attend to besides each other: P positions, keys and values only.

    Attention of a layer with a prefix is softmax(Q [keys; K]^T / sqrt(d_head)) [values; V] in each head, so the number
    of states stays what it is.

    Attributes:
        keys: for each layer (B, P, d), head h in columns h * d_head to (h + 1) * d_head; None: no prefix there.
        values: likewise; None where the keys are None.
        mask: (B, P) bool, positions that are real.
    """

    keys: tuple[Tensor | None, ...]
    values: tuple[Tensor | None, ...]
    mask: Tensor

    @property
    def tensors(self) -> list[Tensor]:
        """All keys and values."""
        return [each for each in (*self.keys, *self.values) if each is not None]


class Joining:
    """What may put keys and values before those of an attention module, given to its layer as `ARGUMENT`."""

    def join(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Keys, values (B, heads, P + n, d_head) and mask to attend with; None: as they came.

        Args:
            module: the attention module.
            query: (B, heads, n, d_head).
            key: the module's own, likewise.
            value: likewise.
            mask: of its own keys, broadcast to (B, 1, n, n), True or 0 where one may look; None: everywhere.
            causal: whether a position sees only what stands before it.
        """
        raise NotImplementedError


class Passing(Joining):
    """A prefix on its way through one forward pass of one model.

    Args:
        model: a transformers model whose layers look their attention up in the registry.
        spec: its tower's name, for errors.
        prefix: None or all masked: the model computes what it computes without one.

    Raises:
        TowerError: the model's attention is not one that takes a prefix.
        ValueError: a prefix of another number of layers, or of another shape than the model's states.
    """

    def __init__(self, model: Any, spec: str, prefix: Prefix | None) -> None:
        self.spec, self.prefix = spec, prefix
        self.active = self.full = False
        self.layers: int = model.config.num_hidden_layers
        self._order: dict[int, int] = {}
        self._masks: dict[int, tuple[Tensor | None, Tensor | None]] = {}
        if prefix is None:
            return
        self._check(prefix, model.config.hidden_size)
        self.active, self.full = torch.stack([prefix.mask.any(), prefix.mask.all()]).tolist()
        self.active = self.active and bool(prefix.tensors)
        if self.active:
            let_in(model, spec)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments for the model's `forward`."""
        return {ARGUMENT: self} if self.active else {}

    def arrived(self, states: Tensor) -> Tensor:
        """The states that the pass returned, once every layer has met the prefix.

        A prefix that was masked altogether gets a gradient of zeros, so that no process of several lacks one.

        Raises:
            TowerError: a layer of the model never asked for its part.
        """
        if self.active and len(self._order) != self.layers:
            raise TowerError(
                f"tower {self.spec}: {len(self._order)} of its {self.layers} layers take a prefix; "
                "give a tower like BERT, RoBERTa or CLIP, or another release of transformers"
            )
        if self.prefix is not None and not self.active:
            return with_unused(states, self.prefix.tensors)
        return states

    def layer(self, module: nn.Module) -> int:
        """Number of the layer that an attention module belongs to: layers are met in their order."""
        return self._order.setdefault(id(module), len(self._order))

    def join(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """As the base; the layer's own part of the prefix."""
        assert self.prefix is not None
        number = self.layer(module)
        keys, values = self.prefix.keys[number], self.prefix.values[number]
        if keys is None or values is None:
            return None
        return put_before(keys, key), put_before(values, value), self.mask(mask, query, causal)

    def mask(self, own: Tensor | None, query: Tensor, causal: bool) -> Tensor | None:
        """The mask of prefix and own keys, (B, 1, n, P + n), from that of the own keys; made once for all layers."""
        assert self.prefix is not None
        known = self._masks.get(id(own))
        if known is None or known[0] is not own:
            known = self._masks[id(own)] = own, joined_mask(own, self.prefix.mask, query, causal, self.full)
        return known[1]

    def _check(self, prefix: Prefix, width: int) -> None:
        if not len(prefix.keys) == len(prefix.values) == self.layers:
            found = f"{len(prefix.keys)} keys and {len(prefix.values)} values"
            raise ValueError(f"tower {self.spec} has {self.layers} layers, and the prefix {found}")
        for keys, values in zip(prefix.keys, prefix.values, strict=True):
            if (keys is None) != (values is None):
                raise ValueError("a layer of the prefix has keys without values, or values without keys")
            for each in (keys, values):
                if each is not None and each.shape != (*prefix.mask.shape, width):
                    wanted = (*prefix.mask.shape, width)
                    raise ValueError(f"keys and values of a prefix are {wanted} here, not {tuple(each.shape)}")


def with_unused(states: Tensor, unused: Iterable[Tensor]) -> Tensor:
    """The states as they are; what was not used in them gets a gradient of zeros, which DDP waits for."""
    trained = [each for each in unused if each.requires_grad]
    return _Unused.apply(states, *trained) if trained and torch.is_grad_enabled() else states


class _Unused(torch.autograd.Function):
    """The first tensor as it is; the others take part with gradients of zeros."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, *unused: Tensor) -> Tensor:
        ctx.like = [(each.shape, each.dtype, each.device) for each in unused]
        return states.view_as(states)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], *(torch.zeros(shape, dtype=kind, device=at) for shape, kind, at in ctx.like)


def joined_mask(own: Tensor | None, ahead: Tensor, query: Tensor, causal: bool, full: bool) -> Tensor | None:
    """The mask (B, 1, n, P + n) of P keys before n own ones; None where all may be looked at.

    Args:
        own: of the own keys, as a layer got it.
        ahead: (B, P) bool, keys before them that are real.
        query: (B, heads, n, d_head).
        causal: whether a position sees only what stands before it, keys ahead apart.
        full: whether all of `ahead` is true.
    """
    count = query.shape[2]
    if own is None:
        if full and not causal:
            return None
        own = torch.ones(1, 1, count, count, dtype=torch.bool, device=query.device)
        own = own.tril() if causal else own
    ahead = ahead[:, None, None, :].to(own.device)  # (B, 1, 1, P)
    if own.dtype != torch.bool:
        nothing = torch.zeros((), dtype=own.dtype, device=own.device)
        ahead = torch.where(ahead, nothing, torch.finfo(own.dtype).min)
    rows = len(ahead)
    return torch.cat([ahead.expand(rows, 1, count, -1), own.expand(rows, 1, count, -1)], -1)


def put_before(ahead: Tensor, own: Tensor) -> Tensor:
    """(B, P, d) split into heads and put before (B, heads, n, d_head)."""
    rows, heads, _, width = own.shape
    return torch.cat([ahead.to(own.dtype).view(rows, -1, heads, width).transpose(1, 2), own], 2)


def _joining(base: Callable[[nn.Module], Callable[..., Any]]) -> Callable[..., Any]:
    """The attention function that lets a `Joining` add keys and values, and then calls `base`'s."""

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> Any:
        given: Joining | None = kwargs.pop(ARGUMENT, None)
        if given is not None:
            causal = kwargs.get("is_causal")
            causal = bool(getattr(module, "is_causal", False) if causal is None else causal)
            joined = given.join(module, query, key, value, attention_mask, causal)
            if joined is not None:
                key, value, attention_mask = joined
                kwargs["is_causal"] = False  # it is in the mask
        return base(module)(module, query, key, value, attention_mask, **kwargs)

    return attend


def let_in(model: Any, spec: str) -> None:
    """Let a model's layers look up the function that knows of prefixes; done once a model."""
    current = model.config._attn_implementation
    if current in _NAMES.values():
        return
    if current not in _NAMES:
        raise TowerError(f"tower {spec}: its attention is {current!r}; a prefix needs one of {', '.join(_NAMES)}")
    _register()
    model.set_attn_implementation(_NAMES[current])


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    attention, masks = AttentionInterface(), AttentionMaskInterface()
    if _NAMES["sdpa"] in attention:
        return
    # looked up at each call: whoever replaces the library's function replaces it here too
    AttentionInterface.register(_NAMES["sdpa"], _joining(lambda _: attention["sdpa"]))
    AttentionInterface.register(_NAMES["eager"], _joining(_eager))
    for base, name in _NAMES.items():
        AttentionMaskInterface.register(name, masks[base])


def _eager(module: nn.Module) -> Callable[..., Any]:
    """The plain attention function of the file that a module's class stands in: each architecture has its own."""
    found = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if found is None:
        raise TowerError(f"{type(module).__name__} has no plain attention function that a prefix could be given to")
    return found
