"""Prefix attention: keys and values that precede a text tower's own in each layer (Li and Liang 2021; HVPNet).

The layers of transformers' models look up their attention function by name. This module adds two names to that public
registry, and to the registry of masks. Both call the library's own function; without a prefix they pass the arguments
on unchanged, so that a tower without a prefix computes exactly what the library computes. The prefix is a keyword
argument that the model's `forward` passes to its layers; no state is stored in the model or elsewhere.
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
    """Additional keys and values of P positions for the pieces to attend to.

    Attention of a layer with a prefix is softmax(Q [keys; K]^T / sqrt(d_head)) [values; V] in each head, so the number
    of states does not change.

    Attributes:
        keys: for each layer (B, P, d), head h in columns h * d_head to (h + 1) * d_head; None: no prefix in this layer.
        values: the same for values; None where the keys are None.
        mask: (B, P) bool, positions that are real.
        some: whether a position is real, where that is known; None: it is read from the mask.
        full: whether all are; None likewise.
    """

    keys: tuple[Tensor | None, ...]
    values: tuple[Tensor | None, ...]
    mask: Tensor
    some: bool | None = None
    full: bool | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """All keys and values."""
        return [each for each in (*self.keys, *self.values) if each is not None]


class Joining:
    """Base of objects that prepend keys and values in an attention module; passed to its layer as `ARGUMENT`."""

    def join(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """Keys, values (B, heads, P + n, d_head) and mask to attend with; None: the arguments unchanged.

        Args:
            module: the attention module.
            query: (B, heads, n, d_head).
            key: the module's own keys, (B, heads, n, d_head).
            value: the module's own values, (B, heads, n, d_head).
            mask: mask of its own keys, broadcast to (B, 1, n, n), True or 0 where attention is allowed; None: all.
            causal: whether a position attends only to preceding ones.
        """
        raise NotImplementedError


class Recording(Joining):
    """Keeps each layer's own keys and values in one forward pass, and changes nothing."""

    def __init__(self) -> None:
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Of each layer, in the order of the calls, keys and values (B, heads, n, d_head)."""
        return list(self._layers.values())

    def join(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool
    ) -> None:
        """See `Joining.join`."""
        self._layers.setdefault(id(module), (key, value))  # layers that are recomputed are called twice


class Passing(Joining):
    """A prefix in one forward pass of one model.

    Args:
        model: a transformers model whose layers take their attention function from the registry.
        spec: name of its tower, for error messages.
        prefix: the prefix; if it is None or fully masked, the model computes the same as without one.

    Raises:
        TowerError: the model's attention implementation takes no prefix.
        ValueError: the prefix does not fit the number of layers or the width of the model.
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
        some, full = prefix.some, prefix.full
        if some is None or full is None:
            some, full = torch.stack([prefix.mask.any(), prefix.mask.all()]).tolist()
        self.active, self.full = bool(some and prefix.tensors), bool(full)
        if self.active:
            accept_joining(model, spec)

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments for the model's `forward`."""
        return {ARGUMENT: self} if self.active else {}

    def check_used(self, states: Tensor) -> Tensor:
        """Check after the pass that every layer has used the prefix, and return the states.

        A fully masked prefix gets a gradient of zeros, so that every rank of a distributed run has one.

        Raises:
            TowerError: a layer of the model did not use its part.
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
        """Number of the layer that an attention module belongs to; layers are numbered in the order of their calls."""
        return self._order.setdefault(id(module), len(self._order))

    def join(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, causal: bool
    ) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """See `Joining.join`; prepends the layer's part of the prefix."""
        assert self.prefix is not None
        number = self.layer(module)
        keys, values = self.prefix.keys[number], self.prefix.values[number]
        if keys is None or values is None:
            return None
        return prepend(keys, key), prepend(values, value), self.mask(mask, query, causal)

    def mask(self, own: Tensor | None, query: Tensor, causal: bool) -> Tensor | None:
        """The mask of prefix and own keys, (B, 1, n, P + n), from that of the own keys; cached for all layers."""
        assert self.prefix is not None
        cached = self._masks.get(id(own))
        if cached is None or cached[0] is not own:
            cached = self._masks[id(own)] = own, joined_mask(own, self.prefix.mask, query, causal, self.full)
        return cached[1]

    def _check(self, prefix: Prefix, width: int) -> None:
        if not len(prefix.keys) == len(prefix.values) == self.layers:
            counts = f"{len(prefix.keys)} keys and {len(prefix.values)} values"
            raise ValueError(f"tower {self.spec} has {self.layers} layers, and the prefix {counts}")
        for keys, values in zip(prefix.keys, prefix.values, strict=True):
            if (keys is None) != (values is None):
                raise ValueError("a layer of the prefix has keys without values, or values without keys")
            for part in (keys, values):
                expected = (*prefix.mask.shape, width)
                if part is not None and part.shape != expected:
                    raise ValueError(f"keys and values of a prefix must be {expected}, not {tuple(part.shape)}")


def with_unused(states: Tensor, unused: Iterable[Tensor]) -> Tensor:
    """Return the states unchanged; the unused tensors get gradients of zeros, which DDP waits for."""
    trained = [each for each in unused if each.requires_grad]
    return _Unused.apply(states, *trained) if trained and torch.is_grad_enabled() else states


class _Unused(torch.autograd.Function):
    """Returns the first tensor unchanged; the others get gradients of zeros."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, *unused: Tensor) -> Tensor:
        ctx.like = [(each.shape, each.dtype, each.device) for each in unused]
        return states.view_as(states)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], *(torch.zeros(shape, dtype=kind, device=at) for shape, kind, at in ctx.like)


def joined_mask(own: Tensor | None, prefix: Tensor, query: Tensor, causal: bool, full: bool) -> Tensor | None:
    """The mask (B, 1, n, P + n) of P prefix keys and n own ones; None if nothing is masked.

    Args:
        own: mask of the own keys, as passed to the layer: True or 0 where attention is allowed.
        prefix: (B, P) bool, prefix keys that are real.
        query: (B, heads, n, d_head).
        causal: whether a position attends only to the prefix and to preceding positions.
        full: whether all of `prefix` is true.
    """
    count = query.shape[2]
    if own is None:
        if full and not causal:
            return None
        own = torch.ones(1, 1, count, count, dtype=torch.bool, device=query.device)
        own = own.tril() if causal else own
    prefix = prefix[:, None, None, :].to(own.device)  # (B, 1, 1, P)
    if own.dtype != torch.bool:
        prefix = _additive(prefix, own.dtype)
    rows = len(prefix)
    both = torch.cat([prefix.expand(rows, 1, count, -1), own.expand(rows, 1, count, -1)], -1)
    return _additive(both, query.dtype) if both.dtype == torch.bool else both


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where attention is allowed and -inf elsewhere, which is what torch makes of a mask in each layer anew."""
    return torch.zeros_like(allowed, dtype=dtype).masked_fill_(~allowed, -torch.inf)


def prepend(prefix: Tensor, own: Tensor) -> Tensor:
    """Split a prefix (B, P, d) into heads and prepend it to (B, heads, n, d_head)."""
    rows, heads, _, width = own.shape
    return torch.cat([prefix.to(own.dtype).view(rows, -1, heads, width).transpose(1, 2), own], 2)


def _joining(base: Callable[[nn.Module], Callable[..., Any]]) -> Callable[..., Any]:
    """An attention function that lets a `Joining` add keys and values, and then calls the function of `base`."""

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> Any:
        joining: Joining | None = kwargs.pop(ARGUMENT, None)
        if joining is None:
            return base(module)(module, query, key, value, attention_mask, **kwargs)
        return joined(joining, module, query, key, value, attention_mask, **kwargs)

    # what joins differs from layer to layer and from batch to batch: compiled, it would be compiled anew for each
    @torch.compiler.disable
    def joined(
        joining: Joining,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        **kwargs: Any,
    ) -> Any:
        causal = kwargs.get("is_causal")
        causal = bool(getattr(module, "is_causal", False) if causal is None else causal)
        changed = joining.join(module, query, key, value, attention_mask, causal)
        if changed is not None:
            key, value, attention_mask = changed
            kwargs["is_causal"] = False  # the mask contains it
        return base(module)(module, query, key, value, attention_mask, **kwargs)

    return attend


def uses_sdpa(model: Any) -> bool:
    """Whether a model computes attention by torch's SDPA, and so gains by masks that are converted once."""
    return getattr(model.config, "_attn_implementation", None) == "sdpa"


def accept_joining(model: Any, spec: str) -> None:
    """Make a model's layers use the attention function that accepts a `Joining`; has an effect once for each model."""
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
    # looked up at each call, so that a replaced library function is used here too
    AttentionInterface.register(_NAMES["sdpa"], _joining(lambda _: attention["sdpa"]))
    AttentionInterface.register(_NAMES["eager"], _joining(_eager))
    AttentionMaskInterface.register(_NAMES["sdpa"], _additive_masks(masks["sdpa"]))
    AttentionMaskInterface.register(_NAMES["eager"], masks["eager"])


def _additive_masks(base: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
    """The masks of `base`, converted once for all layers."""

    def mask(*args: Any, dtype: torch.dtype = torch.float32, **kwargs: Any) -> Tensor | None:
        allowed = base(*args, dtype=dtype, **kwargs)
        return None if allowed is None else _additive(allowed, dtype)

    return mask


def _eager(module: nn.Module) -> Callable[..., Any]:
    """The eager attention function in the file of a module's class: each architecture has its own."""
    function = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if function is None:
        raise TowerError(f"{type(module).__name__} has no eager attention function that accepts a prefix")

    def attend(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
    ) -> Any:
        if attention_mask is not None and attention_mask.dtype == torch.bool:  # eager attention adds its mask
            zero = torch.zeros((), dtype=query.dtype, device=query.device)
            attention_mask = torch.where(attention_mask, zero, torch.finfo(query.dtype).min)
        return function(module, query, key, value, attention_mask, **kwargs)

    return attend
