"""A linear layer and a softmax over the tags of each word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.tags import TagSet
from mnerkit.methods.heads.chain import Chain
from mnerkit.methods.heads.head import Head, Words, add_boundary, cross_entropy, summed_over_words, words_of
from mnerkit.methods.heads.options import SoftmaxOptions
from mnerkit.nn.linear_chain import tempered_divergence
from mnerkit.towers.interface import WordStates


class SoftmaxHead(Head):
    """A linear layer and a softmax over the tags of each word; the loss is the cross-entropy, averaged over words."""

    name: ClassVar[str] = "softmax"
    options_class = SoftmaxOptions
    has_divergence: ClassVar[bool] = True

    def __init__(self, options: SoftmaxOptions | None = None, **values: Any) -> None:
        super().__init__(options, **values)
        self.dropout = nn.Dropout(self.options.dropout)

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the linear layer."""
        self.linear = nn.Linear(width, len(tagset))

    def _log_p(self, words: Words, encoded: WordStates) -> Tensor:
        with torch.autocast(words.states.device.type, enabled=False):
            emissions = add_boundary(self.linear(self.dropout(words.states)), encoded, words)
            return emissions.log_softmax(-1)  # (E, R, W, K)

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Cross-entropy: mean over the words of all query rows, summed over environments."""
        words = words_of(encoded, batch)
        return cross_entropy(self._log_p(words, encoded), words.tags(batch), words.play)

    def gradients_of(self, encoded: WordStates, batch: Batch) -> Callable[[], list[Tensor]] | None:
        """A function that computes the loss's gradients of weight and bias, without autograd, for states that stay.

        None where the layer is not the softmax alone: where it drops features, or adds boundary emissions.
        """
        if encoded.boundary is not None or (self.training and self.dropout.p):
            return None
        words = words_of(encoded, batch)
        weight, bias = self.linear.weight, self.linear.bias
        states = words.states.flatten(0, 2)  # (E * R * W, d)
        gold = words.tags(batch).flatten().unsqueeze(-1) == torch.arange(len(bias), device=bias.device)
        share = words.play.flatten().unsqueeze(-1) / words.play.sum().clamp_min(1)
        gold, share = (each.to(states.dtype).repeat(len(words.states), 1) for each in (gold, share))

        def gradients() -> list[Tensor]:
            with torch.no_grad(), torch.autocast(states.device.type, enabled=False):
                errors = (torch.addmm(bias, states, weight.t()).softmax(-1) - gold) * share
                return [errors.t() @ states, errors.sum(0)]

        return gradients

    def divergence(self, encoded: WordStates, batch: Batch, rows: Tensor) -> Tensor:
        """KL between the two environments' distributions over the tags of a word: mean over the words of `rows`."""
        words = words_of(encoded, batch)
        mask = words.mask & rows[words.rows].unsqueeze(1)
        first, second = self._log_p(words, encoded)
        losses = kl_div(second, first.detach(), reduction="none", log_target=True).sum(-1)  # (R, W)
        return losses.masked_fill(~mask, 0.0).sum() / mask.sum().clamp_min(1)

    def word_divergence(self, encoded: WordStates, batch: Batch, rows: Tensor, temperature: float) -> Tensor:
        """KL between the two environments' distributions over the tags of each word."""
        words = words_of(encoded, batch)
        first, second = self._log_p(words, encoded)
        return summed_over_words(tempered_divergence(first, second, temperature), words, rows)

    def chain(self, encoded: WordStates, batch: Batch) -> Chain:
        """The mean of the environments' log-probabilities of each word's tags."""
        words = words_of(encoded, batch)
        return Chain(self._log_p(words, encoded).mean(0), words.mask)
