"""Linear-chain conditional random fields (Lafferty et al., 2001): pure functions, and two thin classes around them.

The functions take emissions (B, W, K), tags (B, W) and a mask (B, W), and compute in float32 even under autocast.
Masks are right-padded: a row's real words come first. A row without real words has log partition and score 0 and
decodes to an empty list. Values in the padding (even NaN) have no influence. Emissions of real words must be finite.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
import torchcrf
from torch import Tensor, nn

from mnerkit.nn import chain_sweeps as sweeps
from mnerkit.nn import chain_tree as tree

# roles of a transition in `TiedCRF`; the last three are illegal in BIO
TRANSITION_ROLES = (
    "O->O", "O->B", "B->O", "B->I same", "B->B same", "B->B other", "I->O", "I->I same", "I->B same", "I->B other",
    "O->I", "B->I other", "I->I other",
)  # fmt: skip
EDGE_ROLES = ("O", "B", "I")


class Scores(NamedTuple):
    """The scores of a CRF: `start` (K,), `transitions` (K, K) from row to column, `end` (K,)."""

    start: Tensor
    transitions: Tensor
    end: Tensor

    def permuted(self, order: Tensor) -> Scores:
        """Scores of the tags in another `order` (K,)."""
        return Scores(self.start[order], self.transitions[order][:, order], self.end[order])

    def constrained(self) -> Scores:
        """The same scores with -inf for what BIO forbids: `I-x` at the start, after O, and after another type.

        For decoding only: gold tags may contain an orphan `I-`, and a loss with these scores would be infinite.
        """
        tags = torch.arange(len(self.start), device=self.start.device)
        inside = (tags > 0) & (tags % 2 == 0)
        kind = (tags + 1) // 2  # 0 for O, then one number a type
        illegal = inside & (kind.unsqueeze(1) != kind)
        return Scores(
            self.start.masked_fill(inside, -torch.inf), self.transitions.masked_fill(illegal, -torch.inf), self.end
        )


def _single(value: Tensor) -> Tensor:
    """Convert half precision to float32; leave float32 and float64 unchanged."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def crf_log_partition(emissions: Tensor, mask: Tensor, scores: Scores) -> Tensor:
    """Log of the summed exponentiated scores of all tag sequences, (B,).

    Differentiable once. The gradient comes from forward-backward: exact, and several times cheaper than autograd's.

    Args:
        emissions: (B, W, K).
        mask: (B, W) bool, right-padded.
        scores: of K tags.
    """
    with torch.autocast(emissions.device.type, enabled=False):
        emissions, mask = _single(emissions), mask.bool()
        start, transitions, end = (_single(each) for each in scores)
        if tree.used_on(emissions.device):
            return tree.LogPartition.apply(emissions, start, transitions, end, mask, None)
        emissions, mask = emissions.permute(1, 2, 0).contiguous(), mask.t()
        differentiable = any(each.requires_grad for each in (emissions, start, transitions, end))
        if differentiable and torch.is_grad_enabled():
            return sweeps.LogPartition.apply(emissions, start, transitions, end, mask)
        return sweeps.log_partition(emissions, start, transitions, end, mask)


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


# emissions of the other tags of an observed word are set this far (nats) below that of its tag
RULED_OUT = 1e4


def crf_nll(emissions: Tensor, tags: Tensor, mask: Tensor, scores: Scores, observed: Tensor | None = None) -> Tensor:
    """Negative log-likelihood of each row's tags, (B,).

    Args:
        emissions: (B, W, K).
        tags: (B, W) long, 0..K-1 also where padded.
        mask: (B, W) bool, right-padded.
        scores: of K tags.
        observed: (B, W) bool, words whose tag is known; the tags of the others are summed over (Tsuboi et al., 2008,
            "Training conditional random fields using incomplete annotations"). Default: all tags are known.
    """
    if observed is None and tree.used_on(emissions.device):
        with torch.autocast(emissions.device.type, enabled=False):
            parts = (_single(each) for each in (emissions, *scores))
            return tree.LogPartition.apply(*parts, mask.bool(), tags)
    log_z = crf_log_partition(emissions, mask, scores)
    if observed is None:
        return log_z - crf_score(emissions, tags, mask, scores)
    emissions = _single(emissions)
    other_tags = nn.functional.one_hot(tags, emissions.shape[-1]) == 0
    lowest = emissions.detach().gather(2, tags.unsqueeze(-1)) - RULED_OUT
    constrained = torch.where(other_tags & observed.unsqueeze(-1), lowest, emissions)
    return log_z - crf_log_partition(constrained, mask, scores)


def crf_divergence(teacher: Tensor, student: Tensor, mask: Tensor, scores: Scores) -> Tensor:
    """KL divergence of the student's distribution over tag sequences from the teacher's, (B,), in nats.

    Exact over whole sequences, since the two differ only in their emissions: with the teacher's marginals p,
    KL = sum_wk p[w, k] (teacher[w, k] - student[w, k]) + log Z(student) - log Z(teacher). The teacher is constant: its
    emissions get no gradient, and `scores` get the gradient of the student's expected log-likelihood under the teacher.

    Args:
        teacher: (B, W, K).
        student: (B, W, K).
        mask: (B, W) bool, right-padded.
        scores: of K tags, the same for both.
    """
    teacher, student = _single(teacher).detach(), _single(student)
    with torch.enable_grad():
        leaf = teacher.clone().requires_grad_()
        log_z = crf_log_partition(leaf, mask, scores)
        (marginals,) = torch.autograd.grad(log_z.sum(), leaf, retain_graph=True)
    gap = (teacher - student).masked_fill(~mask.bool().unsqueeze(-1), 0.0)
    return (marginals * gap).sum((1, 2)) + crf_log_partition(student, mask, scores) - log_z


def crf_log_marginals(emissions: Tensor, mask: Tensor, scores: Scores) -> Tensor:
    """Log-probability of each tag of each word, (B, W, K), from forward-backward; differentiable, also in `scores`.

    What it returns of padding means nothing.

    Args:
        emissions: (B, W, K).
        mask: (B, W) bool, right-padded.
        scores: of K tags.
    """
    with torch.autocast(emissions.device.type, enabled=False):
        real = mask.bool().unsqueeze(-1)  # (B, W, 1)
        words = _single(emissions).masked_fill(~real, 0.0).unbind(1)
        start, transitions, end = (_single(each) for each in scores)
        ahead, behind = [start + words[0]], [end.expand_as(words[0])]
        for word in range(1, len(words)):
            ahead.append(words[word] + (ahead[-1].unsqueeze(2) + transitions).logsumexp(1))
            place = len(words) - word  # of the word behind
            step = (transitions + (words[place] + behind[-1]).unsqueeze(1)).logsumexp(2)
            behind.append(torch.where(real[:, place], step, end))
        return (torch.stack(ahead, 1) + torch.stack(behind[::-1], 1)).log_softmax(-1)


def tempered_divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """`T^2 KL(softmax(teacher / T) || softmax(student / T))` over the last axis, in nats; the teacher is constant.

    The factor keeps the scale of the gradient as T grows (Hinton et al., 2015, "Distilling the Knowledge in a Neural
    Network", section 2).

    Args:
        teacher: (..., K) log-probabilities or scores.
        student: (..., K).
        temperature: T.
    """
    first, second = ((each / temperature).log_softmax(-1) for each in (teacher.detach(), student))
    return temperature**2 * (first.exp() * (first - second)).sum(-1)


@torch.no_grad()
def viterbi(emissions: Tensor, mask: Tensor, scores: Scores) -> list[list[int]]:
    """The highest-scoring tag sequence of each row (Viterbi, 1967), one tag for each real word.

    Args:
        emissions: (B, W, K).
        mask: (B, W) bool, right-padded.
        scores: of K tags; -inf forbids.
    """
    start, transitions, end = (_single(each) for each in scores)
    best_paths = (tree if tree.used_on(emissions.device) else sweeps).best_paths
    return best_paths(_single(emissions), mask, start, transitions, end)


@torch.no_grad()
def viterbi_tags(emissions: Tensor, mask: Tensor, scores: Scores) -> Tensor:
    """`viterbi` as a tensor (B, W) on the device of the emissions, for which nobody waits; 0 where padded."""
    if tree.used_on(emissions.device):
        mask = mask.bool()
        best = tree.best_tags(_single(emissions), mask, *(_single(each) for each in scores))
        return best.masked_fill(~mask, 0)
    rows = [torch.tensor(path, dtype=torch.long) for path in viterbi(emissions, mask, scores)]
    tags = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return nn.functional.pad(tags, (0, mask.shape[1] - tags.shape[1]))


class Segment(NamedTuple):
    """Adjacent words of a row with their tags.

    `longer` is the tag that must not follow them, and `also_before` says that it must not precede them either: it would
    make the segment longer.
    """

    row: int
    start: int
    tags: tuple[int, ...]
    longer: int
    also_before: bool = False


@torch.no_grad()
def segment_probabilities(emissions: Tensor, mask: Tensor, scores: Scores, segments: Sequence[Segment]) -> list[float]:
    """The probability of each segment under the distribution over tag sequences.

    The tags are a Markov chain: the probability is the first tag's marginal times that of each next tag given the one
    before it, times those that the neighbours differ from `longer`. One forward-backward sweep gives them all.

    Args:
        emissions: (B, W, K).
        mask: (B, W) bool, right-padded.
        scores: of K tags; -inf forbids.
        segments: of real words.
    """
    if not segments:
        return []
    used = sorted({segment.row for segment in segments})
    place = {row: number for number, row in enumerate(used)}
    scores = Scores(*(_single(each).detach().cpu() for each in scores))
    mask_of, emissions_of = mask.bool().cpu().numpy()[used], _single(emissions).detach().cpu().numpy()[used]
    lengths = mask_of.sum(1).tolist()
    ahead, behind, marginals = sweeps.messages(emissions_of, scores.start, scores.transitions, scores.end, mask_of)
    # segment, its tag, the neighbouring word, its tag and row, and whether the neighbour must not have that tag
    factors: tuple[list[tuple[int, ...]], list[tuple[int, ...]]] = ([], [])
    for number, (row, begin, tags, longer, also_before) in enumerate(segments):
        row = place[row]
        if len(tags) > 1:
            pairs = enumerate(pairwise(tags), start=begin + 1)
            factors[0].extend((number, tag, word, following, row, 0) for word, (tag, following) in pairs)
        stop = begin + len(tags)
        if stop < lengths[row]:
            factors[0].append((number, tags[-1], stop, longer, row, 1))
        if also_before and begin:
            factors[1].append((number, tags[0], begin - 1, longer, row, 1))
    words, first_tags, rows = np.array([(start, tags[0], place[row]) for row, start, tags, *_ in segments]).T
    probabilities = marginals[words, first_tags, rows]
    moves = scores.transitions.numpy()
    for factor, log_messages, log_p in ((factors[0], behind, moves), (factors[1], ahead, moves.T)):
        if not factor:
            continue
        numbers, tag, word, neighbour, at, excluded = np.array(factor).T
        following = log_p[tag] + log_messages[word, :, at]
        following = np.exp(following - following.max(1, keepdims=True))
        values = following[np.arange(len(factor)), neighbour] / following.sum(1)
        np.multiply.at(probabilities, numbers, np.where(excluded, 1.0 - values, values))
    return probabilities.tolist()


class CRF(torchcrf.CRF):
    """A `torchcrf.CRF` that is several times faster, with the same arguments, state dict, loss, gradient and decoding.

    In addition it accepts half precision and computes in float32, refuses masks that are not right-padded (torchcrf
    silently returns a negative loss), and takes masks of any integer or boolean type.
    """

    def scores(self, num_types: int | None = None) -> Scores:
        """The parameters, for the functions of this module (`num_types` is ignored; `TiedCRF` needs it)."""
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

    The same parameters serve any number of types, including types unseen in training, and renaming the types renames
    the prediction (MOUSING's CRF over episodes; after Hou et al., 2020, "Few-shot slot tagging", abstract transitions).
    The roles that BIO forbids (`O->I`, `I-y` after type x, `I` at the start) are learnt like the others, since gold
    tags may contain an orphan `I-`. Forbid them at decoding with `Scores.constrained`.
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
        roles, pairs = (torch.tensor(each, device=device) for each in _tied_roles(num_types))
        return Scores(self.start_roles[roles], self.transition_roles[pairs], self.end_roles[roles])


# plain numbers, not tensors: a cached tensor created in inference mode could not be used in training afterwards
@functools.lru_cache(maxsize=64)
def _tied_roles(num_types: int) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The index in `EDGE_ROLES` of each of the K tags, and the index in `TRANSITION_ROLES` of each pair of tags."""
    tags = [("O", -1), *((role, kind) for kind in range(num_types) for role in "BI")]

    def pair(previous: tuple[str, int], current: tuple[str, int]) -> int:
        name = f"{previous[0]}->{current[0]}"
        if "O" not in (previous[0], current[0]):
            name += " same" if previous[1] == current[1] else " other"
        return TRANSITION_ROLES.index(name)

    edges = tuple(EDGE_ROLES.index(role) for role, _ in tags)
    return edges, tuple(tuple(pair(previous, current) for current in tags) for previous in tags)
