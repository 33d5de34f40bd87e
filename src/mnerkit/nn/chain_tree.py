"""Linear chains as a product of matrices over tags, taken two by two: a tree of depth log2(W) in place of W steps.

For devices on which starting an operation costs more than the operation. A word is the matrix (K from, K to) of the
scores of coming to each of its tags, and padding is the unit matrix. The log partition is the product of a row's
matrices in the log semiring, the best path their product in the max-plus semiring. `chain_sweeps` holds the sweeps that
are faster on a CPU; the public functions are in `linear_chain`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# zero of the two semirings; finite, so that no difference of two of them is a NaN
NEVER = -1e30
_forced = False


def used_on(device: torch.device) -> bool:
    """Whether chains on a device are computed by trees."""
    return _forced or device.type != "cpu"


@contextmanager
def forced() -> Iterator[None]:
    """Compute chains by trees on the CPU, too: to test and count what another device would do."""
    global _forced
    before, _forced = _forced, True
    try:
        yield
    finally:
        _forced = before


def _matrices(emissions: Tensor, mask: Tensor, start: Tensor, transitions: Tensor) -> Tensor:
    """The matrix of each word, (B, W, K, K). All rows of a first word's matrix are the same."""
    tags = len(start)
    into = torch.cat((start.expand(1, tags, tags), transitions.expand(mask.shape[1] - 1, tags, tags)))
    unit = torch.full_like(transitions, NEVER).fill_diagonal_(0.0)
    return torch.where(mask[..., None, None], emissions.unsqueeze(2) + into, unit)


def _pairs(level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The left and the right matrices (B, n, K, K) of the pairs, and what is left over: one matrix or none."""
    even = level.shape[1] // 2 * 2
    return level[:, 0:even:2], level[:, 1:even:2], level[:, even:]


def _through(left: Tensor, right: Tensor) -> Tensor:
    """Scores of the ways from a tag through another to a third, (B, n, K, K, K)."""
    return left.unsqueeze(-1) + right.unsqueeze(-3)


def _interleaved(left: Tensor, right: Tensor, rest: Tensor) -> Tensor:
    """The values of a level (B, n, ...) from those of its pairs and of what was left over."""
    both = torch.stack((left, right), dim=2).flatten(1, 2)
    return torch.cat((both, rest), dim=1) if rest.shape[1] else both


def _paths(tags: Tensor, count: int) -> Tensor:
    """The entry of each word's matrix, row by row, on the path of `tags` (B, W) among `count` tags: (B, W)."""
    return torch.add(tags, nn.functional.pad(tags[:, :-1], (1, 0)), alpha=count)


class LogPartition(torch.autograd.Function):
    """Log partition (B,) of emissions (B, W, K) and a right-padded mask (B, W); 0 for a row without words.

    With `tags` (B, W), less the score of their path: the negative log-likelihood. The gradient goes down the same tree:
    the probability of each matrix's entries becomes that of its two factors'.
    """

    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor, tags: Tensor | None
    ) -> Tensor:
        """Multiply matrices two by two."""
        levels = [_matrices(emissions, mask, start, transitions)]
        while levels[-1].shape[1] > 1:
            left, right, rest = _pairs(levels[-1])
            product = torch.logsumexp(_through(left, right), dim=-2)
            levels.append(torch.cat((product, rest), dim=1) if rest.shape[1] else product)
        last = levels[-1][:, 0, 0] + end  # (B, K)
        value = torch.logsumexp(last, dim=1)
        path = final = None
        if tags is not None:
            path = _paths(tags, len(start)).unsqueeze(-1)
            final = tags.gather(1, (mask.sum(1, keepdim=True) - 1).clamp_min_(0))  # (B, 1)
            scores = (levels[0].flatten(2).gather(2, path).squeeze(-1) * mask).sum(1)
            value = value - scores - end.index_select(0, final.squeeze(1))
        ctx.save_for_backward(mask, last, path, final, *levels[:-1])
        return value * mask[:, 0]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Probabilities of tags and of pairs of tags, less those on the path, weighted by the gradient of each row."""
        mask, last, path, final, *levels = ctx.saved_tensors
        gradient = (gradient * mask[:, 0]).unsqueeze(1)  # (B, 1)
        ends = torch.softmax(last, 1) * gradient  # (B, K)
        tags = ends.shape[1]
        weights = nn.functional.pad(ends[:, None, None], (0, 0, 0, tags - 1))  # (B, 1, K, K)
        sizes = [level.shape[1] for level in levels]
        buffers = weights.new_empty(len(mask), sum(sizes), tags, tags).split(sizes, 1) if sizes else ()
        for factors, buffer in zip(reversed(levels), reversed(buffers), strict=True):
            left, right, _ = _pairs(factors)
            count = left.shape[1]
            shares = torch.softmax(_through(left, right), -2)  # (B, n, K, K, K)
            shares *= weights[:, :count].unsqueeze(-2)
            for side, dim in enumerate((-1, -3)):
                torch.sum(shares, dim, out=buffer[:, side : 2 * count : 2])
            if buffer.shape[1] > 2 * count:
                buffer[:, 2 * count :] = weights[:, count:]
            weights = buffer
        if path is not None:
            taken = -gradient
            weights.flatten(2).scatter_add_(2, path, taken.unsqueeze(1).expand_as(path))
            ends.scatter_add_(1, final, taken)
        weights = weights * mask[..., None, None]  # (B, W, K, K)
        by_word = weights.sum(2)
        return by_word, by_word[:, 0].sum(0), weights[:, 1:].sum((0, 1)), ends.sum(0), None, None


def best_tags(emissions: Tensor, mask: Tensor, start: Tensor, transitions: Tensor, end: Tensor) -> Tensor:
    """Best tag sequences (B, W) of emissions (B, W, K) and mask (B, W), on their device; any tag where padded."""
    tags = len(start)
    level = _matrices(emissions, mask, start, transitions)
    choices = []
    while level.shape[1] > 1:
        left, right, rest = _pairs(level)
        product, through = _through(left, right).max(dim=-2)
        choices.append(through.flatten(-2))
        level = torch.cat((product, rest), dim=1) if rest.shape[1] else product
    to = (level[:, 0, 0] + end).argmax(-1, keepdim=True)  # (B, n): the tag to which a matrix leads
    source = torch.zeros_like(to)
    for through in reversed(choices):
        count = through.shape[1]
        pair = torch.add(to[:, :count], source[:, :count], alpha=tags).unsqueeze(-1)
        between = through.gather(-1, pair).squeeze(-1)
        source = _interleaved(source[:, :count], between, source[:, count:])
        to = _interleaved(between, to[:, :count], to[:, count:])
    return to


def best_paths(emissions: Tensor, mask: Tensor, start: Tensor, transitions: Tensor, end: Tensor) -> list[list[int]]:
    """Best tag sequences of emissions (B, W, K) and mask (B, W); the device is waited for once."""
    mask = mask.bool()
    to = best_tags(emissions, mask, start, transitions, end)
    *columns, lengths = torch.cat((to, mask.sum(1, keepdim=True)), dim=1).t().tolist()
    return [list(row[:length]) for row, length in zip(zip(*columns, strict=True), lengths, strict=True)]
