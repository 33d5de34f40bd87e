"""Sweeps over linear chains: log partition, marginals and best paths, on time-first tensors with the batch last.

Emissions are (W, K, B) and a right-padded mask is (W, B). The public functions are in `linear_chain`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

# Largest range (nats) of start, transition and end scores at which a sweep may run on probabilities in float32. A tag
# whose message underflows there is at least 67 nats below the best emission of its word. Replacing it by the best tag
# changes two scores by at most 20 nats each, so all sequences through it weigh less than exp(-27) of the others.
QUICK_RANGE = 20.0


def _last(values: Tensor, lengths: Tensor) -> Tensor:
    """Entries (K, B) of `values` (W, K, B) at each row's last word."""
    rows = torch.arange(len(lengths), device=values.device)
    return values.permute(1, 2, 0)[:, rows, (lengths - 1).clamp_min(0)]


def _quick_sweep(emissions: Tensor, edge: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Forward messages of D chains at once, as probabilities that are scaled to a maximum of 1 at every word.

    Args:
        emissions: (W, K, D, B).
        edge: (K, D, 1) scores of the first tag.
        transitions: (K from, K to, D, 1).

    Returns:
        Messages with the word's own emission (W, K, D, B), messages without it (up to a factor), and the log of the
        scale by which the messages of each word were divided (W, D, B).
    """
    top = emissions.amax(1)  # (W, D, B)
    likelihoods = (emissions - top.unsqueeze(1)).exp_()
    highest = transitions.amax((0, 1))  # (D, 1)
    # a broadcast last axis would double the time of a step
    factors = (transitions - highest).exp_().expand(-1, -1, -1, likelihoods.shape[3]).contiguous()
    with_own, without = torch.empty_like(likelihoods), torch.empty_like(likelihoods)
    scale = torch.empty_like(top)
    first = edge + emissions[0]
    torch.amax(first, 0, out=scale[0])
    torch.exp(first - scale[0], out=with_own[0])
    without[0] = (edge - edge.amax(0)).exp_()
    chain = (with_own.unsqueeze(2), likelihoods, with_own, without, scale)
    previous_words, *next_words = (tensor.unbind(0) for tensor in chain)
    moves = torch.empty_like(factors)  # (K, K, D, B)
    steps = zip(previous_words, *(words[1:] for words in next_words), strict=False)
    for previous, likelihood, message, moved, factor in steps:
        torch.mul(previous, factors, out=moves)
        torch.sum(moves, 0, out=moved)
        torch.mul(moved, likelihood, out=message)
        torch.amax(message, 0, out=factor)
        message.div_(factor)
    scale[1:] = scale[1:].log_() + top[1:] + highest
    return with_own, without, scale


def _exact_sweep(emissions: Tensor, edge: Tensor, transitions: Tensor) -> tuple[Tensor, Tensor]:
    """The same sweep by logsumexp: log messages with and without the word's own emission, both (W, K, D, B)."""
    with_own, without = torch.empty_like(emissions), torch.empty_like(emissions)
    without[0] = edge
    torch.add(emissions[0], edge, out=with_own[0])
    for word in range(1, len(emissions)):
        without[word] = torch.logsumexp(with_own[word - 1].unsqueeze(1) + transitions, dim=0)
        torch.add(without[word], emissions[word], out=with_own[word])
    return with_own, without


def runs_quick(start: Tensor, transitions: Tensor, end: Tensor) -> bool:
    """Whether sweeps may run on probabilities. Off the CPU they never do: the check would wait for the device."""
    if transitions.device.type != "cpu":
        return False
    return all(bool(each.max() - each.min() < QUICK_RANGE) for each in (start, transitions, end))


def log_partition(emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> Tensor:
    """Log partition (B,), without a gradient."""
    lengths = mask.sum(0)
    chain = emissions.unsqueeze(2), start.view(-1, 1, 1), transitions[..., None, None]
    if runs_quick(start, transitions, end):
        messages, _, scale = _quick_sweep(*chain)
        return _total(messages[:, :, 0].log(), scale[:, 0], end, mask, lengths)
    return _total(_exact_sweep(*chain)[0][:, :, 0], None, end, mask, lengths)


def _total(log_messages: Tensor, scale: Tensor | None, end: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """Log partition (B,) from the messages of the last words and the scales of all words; 0 for a row without words."""
    log_z = torch.logsumexp(_last(log_messages, lengths) + end.unsqueeze(-1), dim=0)
    if scale is not None:
        log_z = log_z + scale.masked_fill(~mask, 0.0).sum(0)
    return log_z.masked_fill(lengths == 0, 0.0)


def messages(
    emissions: np.ndarray, start: Tensor, transitions: Tensor, end: Tensor, mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the words before and after a word say of its tags.

    Args:
        emissions: (B, W, K).
        start: (K,), on the CPU as the other scores.
        transitions: (K, K).
        end: (K,).
        mask: (B, W) bool.

    Returns:
        Log messages from the left and from the right, each with the word's own emission and up to a constant for each
        word and row, and the marginal probabilities of the tags; all (W, K, B), of no meaning in the padding.
    """
    with np.errstate(all="ignore"):  # padding may hold anything, and a message may underflow
        if runs_quick(start, transitions, end):
            return _quick_messages(emissions, start.numpy(), transitions.numpy(), end.numpy(), mask.sum(1))
        by_word = torch.from_numpy(np.ascontiguousarray(emissions.transpose(1, 2, 0)))
        reverse, chains = _both_ways(by_word, start, transitions, end, torch.from_numpy(mask.T.copy()))
        with_own, without = _exact_sweep(*chains)
        ahead, behind = with_own[:, :, 0], with_own[:, :, 1].gather(0, reverse)
        marginals = (ahead + without[:, :, 1].gather(0, reverse)).softmax(1)
        return ahead.numpy(), behind.numpy(), marginals.numpy()


def _quick_messages(
    emissions: np.ndarray, start: np.ndarray, transitions: np.ndarray, end: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`messages` by a sweep on probabilities, as `_quick_sweep`; NumPy starts small products sooner than torch."""
    words, rows = np.arange(emissions.shape[1])[:, None], np.arange(len(emissions))
    mirrored = np.where(words < lengths, lengths - 1 - words, words)  # (W, B)
    likelihoods = np.stack((emissions.transpose(1, 2, 0), emissions[rows, mirrored].swapaxes(1, 2)), 1)  # (W, 2, K, B)
    likelihoods -= likelihoods.max(2, keepdims=True)
    np.exp(likelihoods, out=likelihoods)
    factors = np.exp(np.stack((transitions.T, transitions)) - transitions.max())  # (2, K to, K from)
    edges = np.stack((start, end))[..., None]  # (2, K, 1)
    with_own, without = np.empty_like(likelihoods), np.empty_like(likelihoods)
    without[0] = np.exp(edges - edges.max(1, keepdims=True))
    np.multiply(without[0], likelihoods[0], out=with_own[0])
    for previous, likelihood, moved, message in zip(with_own, likelihoods[1:], without[1:], with_own[1:], strict=False):
        np.matmul(factors, previous, out=moved)
        np.multiply(moved, likelihood, out=message)
        message /= np.maximum.reduce(message, axis=1, keepdims=True)
    places = mirrored[:, None], 1, np.arange(emissions.shape[2])[:, None], rows
    marginals = with_own[:, 0] * without[places]
    marginals /= marginals.sum(1, keepdims=True)
    return np.log(with_own[:, 0]), np.log(with_own[places]), marginals


def _both_ways(
    emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """For each word the place of its mirror image in its row, (W, K, B); and the arguments of a sweep both ways."""
    words = torch.arange(len(mask), device=mask.device).unsqueeze(1)
    reverse = torch.where(mask, mask.sum(0) - 1 - words, words).unsqueeze(1).expand_as(emissions)
    return reverse, (
        torch.stack((emissions, emissions.gather(0, reverse)), dim=2),
        torch.stack((start, end), dim=1).unsqueeze(-1),
        torch.stack((transitions, transitions.t()), dim=2).unsqueeze(-1),
    )


class LogPartition(torch.autograd.Function):
    """Log partition whose gradient, the marginals, comes from one forward-backward sweep instead of autograd's tape.

    The two directions run side by side as two chains: the backward messages are the forward messages of each reversed
    row, over transposed transitions.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> Tensor:
        """Log partition (B,) of emissions (W, K, B) and mask (W, B)."""
        lengths = mask.sum(0)
        reverse, chains = _both_ways(emissions, start, transitions, end, mask)
        padded = ~mask.unsqueeze(1)
        quick = runs_quick(start, transitions, end)
        if quick:
            with_own, without, scale = _quick_sweep(*chains)
            ahead, behind = with_own[:, :, 0], with_own[:, :, 1].gather(0, reverse)
            marginals = ahead * without[:, :, 1].gather(0, reverse)
            weight = marginals.sum(1, keepdim=True)
            marginals = (marginals / weight).masked_fill_(padded, 0.0)
            # the sum over all pairs of tags at words w, w + 1 is the sum over all tags at w
            ahead = (ahead / weight)[:-1].masked_fill_(padded[1:], 0.0)
            behind = behind[1:].masked_fill_(padded[1:], 0.0)
            log_z = _total(with_own[:, :, 0].log(), scale[:, 0], end, mask, lengths)
        else:
            with_own, without = _exact_sweep(*chains)
            ahead, behind = with_own[:, :, 0], with_own[:, :, 1].gather(0, reverse)
            marginals = (ahead + without[:, :, 1].gather(0, reverse)).softmax(1).masked_fill_(padded, 0.0)
            log_z = _total(ahead, None, end, mask, lengths)
            ahead, behind = ahead[:-1], behind[1:]
        ctx.quick = quick
        ctx.save_for_backward(marginals, ahead, behind, transitions, mask, lengths)
        return log_z

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Marginals of tags and of pairs of tags, weighted by the gradient of each row."""
        marginals, ahead, behind, transitions, mask, lengths = ctx.saved_tensors
        by_word = marginals * gradient
        with torch.autocast(marginals.device.type, enabled=False):
            if ctx.quick:
                weighted = (ahead * gradient).transpose(0, 1).flatten(1)  # (K, (W - 1) B)
                factors = (transitions - transitions.max()).exp_()
                # `ahead` was divided by the sum of the messages without their own emission, which contain `factors`
                by_pair = weighted @ behind.transpose(0, 1).flatten(1).t() * factors
            else:
                pairs = ahead.unsqueeze(2) + transitions.unsqueeze(-1) + behind.unsqueeze(1)  # (W - 1, K, K, B)
                shares = pairs.flatten(1, 2).softmax(1).masked_fill_(~mask[1:].unsqueeze(1), 0.0)
                by_pair = (shares * gradient).sum((0, 2)).view_as(transitions)
        return by_word, by_word[0].sum(-1), by_pair, _last(by_word, lengths).sum(-1), None


def best_paths(emissions: Tensor, mask: Tensor, start: Tensor, transitions: Tensor, end: Tensor) -> list[list[int]]:
    """Best tag sequences of emissions (B, W, K) and mask (B, W).

    Every row is swept from both ends at once until the sweeps meet at its middle word, so there are W / 2 steps instead
    of W. The work is done on the host, with NumPy: a step is a few thousand additions, and starting them in NumPy takes
    half as long as in torch, and less than launching them on a device.
    """
    *scores, lengths = _on_host(emissions, start, transitions, end, mask.bool().sum(1))
    with np.errstate(all="ignore"):  # padding may hold anything
        return _trace(*_meet(lengths.astype(int), *scores))


def _on_host(*values: Tensor) -> list[np.ndarray]:
    """Convert tensors to arrays; from another device in one transfer, with the type of the first tensor."""
    if all(each.device.type == "cpu" for each in values):
        return [each.detach().numpy() for each in values]
    packed = torch.cat([each.detach().flatten().to(values[0].dtype) for each in values]).cpu().numpy()
    parts = np.split(packed, np.cumsum([each.numel() for each in values])[:-1])
    return [part.reshape(each.shape) for part, each in zip(parts, values, strict=True)]


class _Sweeps(NamedTuple):
    """Two sweeps, from the left and from the right: `best` (S, 2, B, K) is the score of the best path up to a tag.

    The sweeps meet at a row's middle word, at their steps `ends` (2, B), in the best path's tag `middle` (B,).
    `into` (2, K to, K from) are the transitions of each.
    """

    best: np.ndarray
    into: np.ndarray
    ends: np.ndarray
    middle: np.ndarray
    lengths: np.ndarray


def _meet(
    lengths: np.ndarray, emissions: np.ndarray, start: np.ndarray, transitions: np.ndarray, end: np.ndarray
) -> _Sweeps:
    """Sweep from both ends of each row to its middle."""
    rows = len(emissions)
    number, longest = np.arange(rows), max(int(lengths.max(initial=1)), 1)
    step = np.arange(longest // 2 + 1)[:, None]
    order = np.empty((len(step), 2, rows), dtype=int)  # the word of each step
    order[:, 0] = np.minimum(step, longest - 1)
    np.maximum(lengths - 1 - step, 0, out=order[:, 1])
    ordered = emissions[number, order]  # (S, 2, B, K)
    by_tag = np.ascontiguousarray(ordered.transpose(0, 3, 1, 2))  # (S, K, 2, B): a step reads contiguous memory
    moves = np.stack((transitions, transitions.T), axis=-1)  # (K from, K to, 2)
    spread = np.repeat(moves[..., None], rows, axis=-1)
    best, moved = np.empty_like(by_tag), np.empty(spread.shape, np.result_type(by_tag, spread))
    best[0] = by_tag[0] + np.stack((start, end), axis=-1)[..., None]
    for previous, emission, current in zip(best[:, :, None], by_tag[1:], best[1:], strict=False):
        np.add(previous, spread, out=moved)
        np.maximum.reduce(moved, axis=0, out=current)
        np.add(current, emission, out=current)
    paths = np.ascontiguousarray(best.transpose(0, 2, 3, 1))  # (S, 2, B, K)
    last = np.maximum(lengths - 1, 0)
    ends = np.stack((last // 2, last - last // 2))
    # both sweeps contain the emission of the middle word: subtract it once
    middle = paths[ends[0], 0, number] + paths[ends[1], 1, number] - ordered[ends[0], 0, number]  # (B, K)
    return _Sweeps(paths, moves.transpose(2, 1, 0), ends, middle.argmax(-1), lengths)


def _trace(
    best: np.ndarray, into: np.ndarray, ends: np.ndarray, middle: np.ndarray, lengths: np.ndarray
) -> list[list[int]]:
    """Paths from the middle words outwards; arguments as in `_Sweeps`."""
    steps, _, rows, tags = best.shape
    scores = into.reshape(2 * tags, tags)  # a row for each sweep and tag
    first_rows = np.array([[0], [tags]])  # of each sweep
    path = np.empty((steps, 2, rows), dtype=int)
    path[:] = middle
    active = np.arange(steps)[:, None, None] <= ends
    for step in range(steps - 1, 0, -1):
        candidates = scores.take(path[step] + first_rows, axis=0)
        candidates += best[step - 1]
        np.copyto(path[step - 1], candidates.argmax(-1), where=active[step])
    words = np.arange(max(lengths.max(initial=0), 1))[:, None]
    right = words > ends[0]
    paths = path[np.where(right, lengths - 1 - words, words) % steps, right.astype(int), np.arange(rows)]  # (W, B)
    return [row[:count].tolist() for row, count in zip(paths.T, lengths, strict=True)]
