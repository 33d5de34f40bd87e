"""What a BERT is asked for that its own arguments can't say: its layers' inputs, and another first position."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from mnerkit.errors import UsageError
from mnerkit.towers.text.piece_tower import PieceTower


@contextmanager
def before_layers(text: PieceTower, call: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Have `call` called with the number and the input (B, n, d) of each layer of a tower, before the layer runs.

    Raises:
        UsageError: the tower has no layers like BERT's.
    """
    model: Any = text.model
    inner = getattr(getattr(model, "text_model", model), "encoder", None)
    layers = getattr(inner, "layer", getattr(inner, "layers", None))
    if layers is None:
        raise UsageError(f"--model.router text: tower {text.spec} has no layers like BERT's; give router released")

    def hook(number: int) -> Any:
        return lambda _, args, kwargs: call(number, args[0] if args else kwargs["hidden_states"])

    handles = [each.register_forward_pre_hook(hook(number), with_kwargs=True) for number, each in enumerate(layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def begin_at(text: PieceTower, place: int) -> None:
    """Have a BERT number its pieces from `place` on.

    Raises:
        UsageError: it has no such embeddings.
    """
    embeddings = getattr(text.model, "embeddings", None)
    if embeddings is None or "past_key_values_length" not in inspect.signature(embeddings.forward).parameters:
        raise UsageError(f"--model.positions heads: tower {text.spec} is no BERT; give positions zero")
    text.reader.max_tokens = min(text.reader.max_tokens, text.config.max_position_embeddings - place)
    embeddings.register_forward_pre_hook(
        lambda _, args, kwargs: (args, {**kwargs, "past_key_values_length": place}), with_kwargs=True
    )
