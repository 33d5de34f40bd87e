"""How new weights begin."""

from __future__ import annotations

from torch import nn

BERT_SCALE = 0.02


def begin_quiet(*layers: nn.Module) -> None:
    """Draw the weights of linear maps at BERT's scale, N(0, 0.02^2), without biases.

    For maps to keys and values that stand before the words: at PyTorch's own scale they disturb a text tower with new
    weights, which then learns the words badly.
    """
    for layer in layers:
        assert isinstance(layer, nn.Linear)
        nn.init.normal_(layer.weight, std=BERT_SCALE)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
