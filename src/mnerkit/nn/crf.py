"""Linear-chain conditional random fields (Lafferty et al., 2001): pure functions, and two thin classes around them.

The functions take emissions (B, W, K), tags (B, W) and a mask (B, W), and compute in float32 also under autocast.
Masks are right-padded: a row's real words come first. A row without real words has log partition and score 0 and
decodes to an empty list; whatever stands in the padding (also NaN) has no influence. Emissions of
real words are finite.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
import torchcrf
from torch import Tensor, nn

# beyond this range (nats) of the transition scores exp() no longer holds them side by side in float32
_MATMUL_RANGE = 60.0

# roles of a transition in `TiedCRF`; the last three are illegal in BIO
TRANSITION_ROLES = (
    "O->O", "O->B", "B->O", "B->I same", "B->B same", "B->B other", "I->O", "I->I same", "I->B same", "I->B other",
    "O->I", "B->I other", "I->I other",
)  # fmt: skip
EDGE_ROLES = ("O", "B", "I")


class Scores(NamedTuple):
    """What a CRF adds to the emissions: `start` (K,), `transitions` (K, K) from row to column, `end` (K,)."""

    start: Tensor
    transitions: Tensor
    end: Tensor

    def permuted(self, order: Tensor) -> Scores:
        """Scores of the tags in another `order` (K,)."""
        return Scores(self.start[order], self.transitions[order][:, order], self.end[order])

    def constrained(self) -> Scores:
        """The same with all that BIO forbids at -inf: `I-x` at the start, after O, and after another type.

        Made for decoding. Gold tags keep orphan `I-`, so a loss with these scores would be infinite.
        """
        tags = torch.arange(len(self.start), device=self.start.device)
        inside = (tags > 0) & (tags % 2 == 0)
        kind = (tags + 1) // 2  # 0 for O, then one number a type
        illegal = inside & (kind.unsqueeze(1) != kind)
        return Scores(
            self.start.masked_fill(inside, -torch.inf), self.transitions.masked_fill(illegal, -torch.inf), self.end
        )


def _single(value: Tensor) -> Tensor:
    """Half precision made single; float32 and float64 as they are."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _last(lengths: Tensor, values: Tensor) -> Tensor:
    """Entries (B, K) of `values` (W, B, K) at each row's last word."""
    return values[(lengths - 1).clamp_min(0), torch.arange(len(lengths), device=values.device)]


def _messages(emissions: Tensor, edge: Tensor, transitions: Tensor, exact: bool) -> Tensor:
    """Forward messages of D chains at once, emissions included: (W, D, B, K).

    Log-space throughout. A step is a product with exp(transitions), which is several times faster than a logsumexp
    over (B, K, K) and loses nothing as long as the transitions span less than `_MATMUL_RANGE`; `exact` takes the
    logsumexp.

    Args:
        emissions: (W, D, B, K).
        edge: (D, 1, K) scores of the first tag.
        transitions: (D, K, K).
        exact: whether steps are logsumexps.
    """
    messages = torch.empty_like(emissions)
    torch.add(emissions[0], edge, out=messages[0])
    if exact:
        spread = transitions.unsqueeze(1)  # (D, 1, K, K)
        for word in range(1, len(emissions)):
            step = torch.logsumexp(messages[word - 1].unsqueeze(-1) + spread, dim=-2)
            torch.add(step, emissions[word], out=messages[word])
        return messages
    highest = transitions.amax(-2, keepdim=True)  # (D, 1, K)
    factors = (transitions - highest).exp_()
    shifted = emissions + highest
    every = messages.unbind(0)
    for before, own, after in zip(every, shifted.unbind(0)[1:], every[1:], strict=False):
        top = before.amax(-1, keepdim=True)
        step = torch.bmm((before - top).exp_(), factors).log_().add_(top)  # (D, B, K)
        torch.add(step, own, out=after)
    return messages


def _steps_exactly(transitions: Tensor) -> bool:
    """Whether to step by logsumexp: off the CPU, where kernels cost and not arithmetic, and for far-apart scores."""
    return transitions.device.type != "cpu" or not bool(transitions.max() - transitions.min() < _MATMUL_RANGE)


class _LogPartition(torch.autograd.Function):
    """Log partition whose gradient, the marginals, comes from one forward-backward sweep instead of autograd's tape.

    The two directions run side by side as one chain of two: the backward messages are the forward messages of each
    row read from its end, over transposed transitions.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor, mask: Tensor) -> Tensor:
        """Log partition (B,) of time-first emissions (W, B, K) and mask (W, B)."""
        lengths = mask.sum(0)
        words = torch.arange(len(mask), device=mask.device).unsqueeze(1)
        turned = torch.where(mask, lengths - 1 - words, words).unsqueeze(-1).expand_as(emissions)
        exact = _steps_exactly(transitions)
        both = _messages(
            torch.stack((emissions, emissions.gather(0, turned)), dim=1),
            torch.stack((start, end)).unsqueeze(1),
            torch.stack((transitions, transitions.t())),
            exact,
        )
        ahead, behind = both[:, 0], both[:, 1].gather(0, turned)
        log_z = torch.logsumexp(_last(lengths, ahead) + end, dim=-1)
        behind = behind - log_z.unsqueeze(-1)
        real = mask.unsqueeze(-1)
        marginals = (ahead + behind - emissions).exp_().masked_fill_(~real, 0.0)  # (W, B, K)
        left, right = ahead[:-1], behind[1:].masked_fill(~real[1:], -torch.inf)
        if exact:
            log_pairs = left.unsqueeze(-1) + transitions + right.unsqueeze(-2)
            pairs = log_pairs.masked_fill_(~real[1:].unsqueeze(-1), -torch.inf).exp_().sum(0)  # (B, K, K)
        else:
            # exp(left + transitions + right) as a product of three factors, none of which overflows
            highest = transitions.max()
            top = left.amax(-1, keepdim=True)
            first = (left - top).exp_().masked_fill_(~real[1:], 0.0).permute(1, 2, 0)
            second = (right + (top + highest)).masked_fill_(~real[1:], -torch.inf).exp_().transpose(0, 1)
            pairs = torch.bmm(first, second) * (transitions - highest).exp_()
        ctx.save_for_backward(marginals, pairs, lengths)
        return log_z.masked_fill(lengths == 0, 0.0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Marginals, weighted by the gradient of each row."""
        marginals, pairs, lengths = ctx.saved_tensors
        by_word = marginals * gradient.unsqueeze(-1)
        by_pair = (pairs * gradient[:, None, None]).sum(0)
        return by_word, by_word[0].sum(0), by_pair, _last(lengths, by_word).sum(0), None


def crf_log_partition(emissions: Tensor, mask: Tensor, scores: Scores) -> Tensor:
    """Log of the summed exponentiated scores of all tag sequences, (B,).

    Differentiable once. The gradient is that of forward-backward: exact, and several times cheaper than autograd's.

    Args:
        emissions: (B, W, K).
        mask: (B, W) bool, right-padded.
        scores: of K tags.
    """
    with torch.autocast(emissions.device.type, enabled=False):
        emissions = _single(emissions).transpose(0, 1).contiguous()
        start, transitions, end = (_single(each) for each in scores)
        mask = mask.bool().t()
        inputs = (emissions, start, transitions, end)
        if torch.is_grad_enabled() and any(each.requires_grad for each in inputs):
            return _LogPartition.apply(*inputs, mask)
        messages = _messages(
            emissions.unsqueeze(1), start.view(1, 1, -1), transitions.unsqueeze(0), _steps_exactly(transitions)
        )
        lengths = mask.sum(0)
        log_z = torch.logsumexp(_last(lengths, messages[:, 0]) + end, dim=-1)
        return log_z.masked_fill(lengths == 0, 0.0)


def crf_score(emissions: Tensor, tags: Tensor, mask: Tensor, scores: Scores) -> Tensor:
    """Score of the tag sequences `tags`, (B,): emissions, transitions, start and end.

    Args:
        emissions: (B, W, K).
        tags: (B, W) long, 0..K-1 also where padded.
        mask: (B, W) bool, right-padded.
        scores: of K tags.
    """
    with torch.autocast(emissions.device.type, enabled=False):
        emissions, mask = _single(emissions), mask.bool()
        start, transitions, end = (_single(each) for each in scores)
        lengths = mask.sum(1, keepdim=True)
        words = emissions.gather(2, tags.unsqueeze(-1)).squeeze(-1).masked_fill(~mask, 0.0)  # (B, W)
        moves = (tags[:, :-1] * len(start) + tags[:, 1:]).flatten()
        steps = transitions.flatten().index_select(0, moves).view(len(tags), -1).masked_fill(~mask[:, 1:], 0.0)
        first, last = tags[:, 0], tags.gather(1, (lengths - 1).clamp_min(0)).squeeze(1)
        edges = (start.index_select(0, first) + end.index_select(0, last)).masked_fill(lengths.squeeze(1) == 0, 0.0)
        return words.sum(1) + steps.sum(1) + edges


def crf_nll(emissions: Tensor, tags: Tensor, mask: Tensor, scores: Scores) -> Tensor:
    """Negative log-likelihood of each row's tags, (B,); arguments as in `crf_score`."""
    return crf_log_partition(emissions, mask, scores) - crf_score(emissions, tags, mask, scores)


@torch.no_grad()
def viterbi(emissions: Tensor, mask: Tensor, scores: Scores) -> list[list[int]]:
    """The highest-scoring tag sequence of each row (Viterbi, 1967), as long as the row has real words.

    Every row is swept from both ends at once until the sweeps meet at its middle word, so there are W/2 steps and not
    W. The scores of the sweeps leave the device in one transfer; the paths are read off them on the host.

    Args:
        emissions: (B, W, K).
        mask: (B, W) bool, right-padded.
        scores: of K tags; -inf forbids.
    """
    with torch.autocast(emissions.device.type, enabled=False):
        emissions = _single(emissions)
        start, transitions, end = (_single(each) for each in scores)
        rows, words, tags = emissions.shape
        lengths = mask.bool().sum(1)
        steps = torch.arange(words // 2 + 1, device=lengths.device)
        # word of each step in the sweep from the left and in that from the right: (2, B, S)
        order = torch.stack((steps.expand(rows, -1).clamp_max(words - 1), lengths.unsqueeze(1) - 1 - steps)).clamp_min(
            0
        )
        swept = emissions.gather(1, order.transpose(0, 1).reshape(rows, -1, 1).expand(-1, -1, tags))
        swept = swept.view(rows, 2, -1, tags).permute(2, 3, 1, 0).contiguous()  # (S, K, 2, B)
        into = torch.stack((transitions, transitions.t()), dim=-1).unsqueeze(-1)  # (K from, K to, 2, 1)
        best = torch.empty_like(swept)
        torch.add(swept[0], torch.stack((start, end), dim=1).unsqueeze(-1), out=best[0])
        moves = swept.unsqueeze(1) + into  # (S, K, K, 2, B), the emission of the word that is moved to
        for before, move, after in zip(
            best.unsqueeze(2).unbind(0), moves.unbind(0)[1:], best.unbind(0)[1:], strict=False
        ):
            torch.amax(before + move, 0, out=after)
        last = (lengths - 1).clamp_min(0)
        ends = torch.stack((last // 2, last - last // 2))  # (2, B) step of each sweep at the middle word
        meeting = best.permute(2, 3, 0, 1)[torch.arange(2).unsqueeze(1), torch.arange(rows), ends]  # (2, B, K)
        own = swept.permute(2, 3, 0, 1)[0, torch.arange(rows), ends[0]]
        tag = (meeting.sum(0) - own).argmax(-1)
        packed = torch.cat([each.flatten().to(best.dtype) for each in (lengths, ends, tag, into, best)]).cpu().numpy()
    return _trace(packed, best.shape)


def _trace(packed: np.ndarray, shape: torch.Size) -> list[list[int]]:
    """Paths from the middle words outwards; `packed` and its `shape` (S, K, 2, B) are as `viterbi` makes them."""
    steps, tags, _, rows = shape
    parts = np.split(packed, np.cumsum([rows, 2 * rows, rows, 2 * tags * tags]))
    lengths, tag = parts[0].astype(int), parts[2].astype(int)
    ends = parts[1].astype(int).reshape(2, rows)
    into = parts[3].reshape(tags, tags, 2).transpose(2, 1, 0).reshape(2 * tags, tags)  # a row for each sweep and tag
    best = np.ascontiguousarray(parts[4].reshape(shape).transpose(0, 2, 3, 1))  # (S, 2, B, K)
    own_rows = np.array([[0], [tags]])
    path = np.empty((steps, 2, rows), dtype=int)
    path[:] = tag
    active = np.arange(steps)[:, None, None] <= ends
    for step in range(steps - 1, 0, -1):
        candidates = into.take(path[step] + own_rows, axis=0)
        candidates += best[step - 1]
        np.copyto(path[step - 1], candidates.argmax(-1), where=active[step])
    words = np.arange(max(lengths.max(initial=0), 1))[:, None]
    right = words > ends[0]
    found = path[np.where(right, lengths - 1 - words, words) % steps, right.astype(int), np.arange(rows)]  # (W, B)
    return [row[:count].tolist() for row, count in zip(found.T, lengths, strict=True)]


class CRF(torchcrf.CRF):
    """`torchcrf.CRF`, several times faster: same arguments, parameters, state dict, loss, gradient and decoding.

    Beside that it accepts half precision and computes in float32, refuses masks that are not right-padded (torchcrf
    returns a negative loss without a word), and takes masks of any integer or boolean type.
    """

    def scores(self, num_types: int | None = None) -> Scores:
        """The parameters, for the functions of this module (`num_types` is there for likeness with `TiedCRF`)."""
        return Scores(self.start_transitions, self.transitions, self.end_transitions)

    def forward(self, emissions: Tensor, tags: Tensor, mask: Tensor | None = None, reduction: str = "sum") -> Tensor:
        """Log-likelihood of `tags`, reduced as in torchcrf: none, sum, mean or token_mean."""
        with torch.autocast(emissions.device.type, enabled=False):
            return super().forward(_single(emissions), tags, mask, reduction)

    def _validate(self, emissions: Tensor, tags: Tensor | None = None, mask: Tensor | None = None) -> None:
        super()._validate(emissions, tags, mask)
        if mask is not None:
            ordered = mask.bool() if self.batch_first else mask.bool().t()
            if bool((ordered[:, 1:] & ~ordered[:, :-1]).any()):
                raise ValueError("mask is not right-padded: a real word follows a padded one")

    def _compute_score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        return crf_score(emissions.transpose(0, 1), tags.t(), mask.t(), self.scores())

    def _compute_normalizer(self, emissions: Tensor, mask: Tensor) -> Tensor:
        return crf_log_partition(emissions.transpose(0, 1), mask.t(), self.scores())

    def _viterbi_decode(self, emissions: Tensor, mask: Tensor) -> list[list[int]]:
        return viterbi(emissions.transpose(0, 1), mask.t(), self.scores())


class TiedCRF(nn.Module):
    """A CRF whose transition scores depend on the role of the two tags and on whether their types agree.

    The same parameters serve any number of types, also types unseen in training, and renaming types renames the
    prediction (MOUSING's CRF over episodes; after Hou et al., 2020, "Few-shot slot tagging", abstract transitions).
    The roles that BIO forbids (`O->I`, `I-y` after type x, `I` at the start) are learnt like the others, since gold
    tags keep orphan `I-`: how rare they are is for the data to say. Forbid them with `Scores.constrained`, at decoding.
    """

    def __init__(self) -> None:
        super().__init__()
        self.start_roles = nn.Parameter(torch.empty(len(EDGE_ROLES)))
        self.transition_roles = nn.Parameter(torch.empty(len(TRANSITION_ROLES)))
        self.end_roles = nn.Parameter(torch.empty(len(EDGE_ROLES)))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)  # as torchcrf does

    def scores(self, num_types: int) -> Scores:
        """Scores of the 2N + 1 tags O, B-0, I-0, B-1, I-1 ... of `num_types` types."""
        device = self.transition_roles.device
        roles, pairs = (each.to(device) for each in _tied_roles(num_types))
        return Scores(self.start_roles[roles], self.transition_roles[pairs], self.end_roles[roles])


@functools.lru_cache(maxsize=64)
def _tied_roles(num_types: int) -> tuple[Tensor, Tensor]:
    """For each tag its place in `EDGE_ROLES`, (K,), and for each pair its place in `TRANSITION_ROLES`, (K, K)."""
    tags = [("O", -1), *((role, kind) for kind in range(num_types) for role in "BI")]

    def pair(before: tuple[str, int], after: tuple[str, int]) -> int:
        name = f"{before[0]}->{after[0]}"
        if "O" not in (before[0], after[0]):
            name += " same" if before[1] == after[1] else " other"
        return TRANSITION_ROLES.index(name)

    edges = torch.tensor([EDGE_ROLES.index(role) for role, _ in tags])
    return edges, torch.tensor([[pair(before, after) for after in tags] for before in tags])
