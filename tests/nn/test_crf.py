"""The CRF against brute force over all tag sequences, and against torchcrf; by sweeps, and by the tree of a GPU."""

from contextlib import nullcontext
from itertools import pairwise, product

import pytest
import torch
import torchcrf
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from mnerkit.data.corpus.tags import TagSet
from mnerkit.nn import chain_sweeps as sweeps
from mnerkit.nn import chain_tree as tree
from mnerkit.nn.linear_chain import (
    CRF,
    TRANSITION_ROLES,
    Scores,
    TiedCRF,
    crf_divergence,
    crf_log_partition,
    crf_nll,
    crf_score,
    viterbi,
    viterbi_tags,
)


@pytest.fixture(scope="module", autouse=True, params=["sweeps", "tree"])
def path(request):
    """Every test of this file runs by sweeps, and by trees."""
    with tree.forced() if request.param == "tree" else nullcontext():
        yield request.param


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5))


class Operations(TorchDispatchMode):
    """Names of the operations that ran, without views."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        if not any(returned.alias_info for returned in operation._schema.returns):
            self.names.append(str(operation))
        return operation(*arguments, **(named or {}))


def example(rows, words, tags, seed=0, scale=1.0, dtype=torch.float32):
    """Emissions, gold tags, right-padded mask and scores; row 0 is full, a row may be empty."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return scale * torch.randn(*shape, generator=draw, dtype=dtype)

    lengths = torch.randint(0, words + 1, (rows,), generator=draw)
    lengths[0] = words
    mask = torch.arange(words) < lengths.unsqueeze(1)
    gold = torch.randint(0, tags, (rows, words), generator=draw)
    return normal(rows, words, tags), gold, mask, Scores(normal(tags), normal(tags, tags), normal(tags))


def path_scores(emissions, paths, scores):
    """Scores (P,) of tag sequences `paths` (P, L) of a row's `emissions` (W, K), as the definition reads."""
    if not paths.shape[1]:
        return emissions.new_zeros(len(paths))
    words = emissions[torch.arange(paths.shape[1]), paths].sum(1)
    return (
        scores.start[paths[:, 0]]
        + words
        + scores.transitions[paths[:, :-1], paths[:, 1:]].sum(1)
        + scores.end[paths[:, -1]]
    )


def every_path(emissions, length, scores):
    """All tag sequences (P, L) of a row, and their scores."""
    paths = torch.tensor(list(product(range(emissions.shape[-1]), repeat=length)), dtype=torch.long)
    return paths, path_scores(emissions, paths, scores)


@settings(max_examples=30)
@given(SHAPES, st.integers(0, 999), st.sampled_from([0.1, 1.0, 10.0]))
def test_log_partition_score_and_viterbi_equal_brute_force(shape, seed, scale):
    emissions, gold, mask, scores = example(*shape, seed=seed, scale=scale)
    partition, score = crf_log_partition(emissions, mask, scores), crf_score(emissions, gold, mask, scores)
    decoded, tags = viterbi(emissions, mask, scores), viterbi_tags(emissions, mask, scores)
    assert tags.tolist() == [path + [0] * (mask.shape[1] - len(path)) for path in decoded]
    for row, length in enumerate(mask.sum(1).tolist()):
        _, all_scores = every_path(emissions[row], length, scores)
        assert partition[row].item() == pytest.approx(all_scores.logsumexp(0).item(), rel=1e-5, abs=1e-5)
        expected = path_scores(emissions[row], gold[row : row + 1, :length], scores)
        assert score[row].item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-5)
        assert len(decoded[row]) == length
        best = path_scores(emissions[row], torch.tensor([decoded[row]], dtype=torch.long), scores)
        assert best.item() == pytest.approx(all_scores.max().item(), rel=1e-5, abs=1e-5)


@settings(max_examples=30)
@given(SHAPES, st.integers(0, 999), st.booleans())
def test_gradient_of_the_log_partition_equals_autograd_over_all_paths(shape, seed, far_apart):
    emissions, gold, mask, scores = example(*shape, seed=seed, dtype=torch.float64)
    if far_apart:  # beyond the range of the quick sweep
        scores = scores._replace(transitions=40 * scores.transitions)
    weights = torch.arange(1.0, shape[0] + 1, dtype=torch.float64)
    inputs = [each.clone().requires_grad_() for each in (emissions, *scores)]
    (crf_nll(inputs[0], gold, mask, Scores(*inputs[1:])) * weights).sum().backward()
    slow = [each.clone().requires_grad_() for each in (emissions, *scores)]
    total = torch.zeros((), dtype=torch.float64)
    for row, length in enumerate(mask.sum(1).tolist()):
        of_row = Scores(*slow[1:])
        _, all_scores = every_path(slow[0][row], length, of_row)
        total = total + weights[row] * all_scores.logsumexp(0)
        total = total - (weights[row] * path_scores(slow[0][row], gold[row : row + 1, :length], of_row)).sum()
    total.backward()
    for fast, reference in zip(inputs, slow, strict=True):
        torch.testing.assert_close(fast.grad, reference.grad, rtol=1e-6, atol=1e-6)


@settings(max_examples=20)
@given(SHAPES, st.integers(0, 999))
def test_divergence_and_its_gradient_equal_those_over_all_tag_sequences(shape, seed):
    teacher, _, mask, scores = example(*shape, seed=seed, dtype=torch.float64)
    student, *_ = example(*shape, seed=seed + 1, dtype=torch.float64)
    learnt = [each.requires_grad_() for each in (student, *scores)]
    expected = student.sum() * 0
    for row, length in enumerate(mask.sum(1).tolist()):
        given_log_p = every_path(teacher[row], length, scores)[1].log_softmax(0).detach()
        log_p = every_path(student[row], length, scores)[1].log_softmax(0)
        expected = expected + (given_log_p.exp() * (given_log_p - log_p)).sum()
    teacher.requires_grad_()
    found = crf_divergence(teacher, student, mask, scores)
    torch.testing.assert_close(found.sum(), expected)
    assert (found > -1e-9).all()
    torch.testing.assert_close(torch.autograd.grad(found.sum(), learnt), torch.autograd.grad(expected, learnt))
    [stopped] = torch.autograd.grad(crf_divergence(teacher, student, mask, scores).sum(), teacher, allow_unused=True)
    assert stopped is None


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "token_mean"])
def test_loss_gradient_and_tags_equal_torchcrf(batch_first, reduction):
    emissions, gold, mask, _ = example(6, 40, 9, seed=1, scale=2.0)
    mask[:, 0] = True
    theirs, ours = torchcrf.CRF(9, batch_first=batch_first), CRF(9, batch_first=batch_first)
    ours.load_state_dict(theirs.state_dict())
    if not batch_first:
        emissions, gold, mask = emissions.transpose(0, 1), gold.t(), mask.t()
    results = []
    for crf in (theirs, ours):
        leaf = emissions.clone().requires_grad_()
        likelihood = crf(leaf, gold, mask, reduction)
        likelihood.sum().backward()
        results.append([likelihood.detach(), leaf.grad, *(each.grad for each in crf.parameters())])
    for their_value, our_value in zip(*results, strict=True):
        torch.testing.assert_close(our_value, their_value, rtol=1e-4, atol=1e-4)
    assert ours.decode(emissions, mask) == theirs.decode(emissions, mask)


def test_state_dict_goes_both_ways_with_torchcrf():
    theirs, ours = torchcrf.CRF(5), CRF(5)
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(theirs.transitions, ours.transitions)


@pytest.mark.filterwarnings("ignore:where received a uint8")  # torchcrf's own default mask
def test_works_without_a_mask():
    emissions, gold, _, _ = example(3, 7, 4)
    theirs, ours = torchcrf.CRF(4, batch_first=True), CRF(4, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(emissions, gold), theirs(emissions, gold))
    assert [len(row) for row in ours.decode(emissions)] == [7, 7, 7]


@pytest.mark.parametrize("mask", [[[1, 0, 1]], [[0, 1, 1]]])
def test_a_mask_that_is_not_right_padded_is_refused(mask):
    with pytest.raises(ValueError, match="mask"):
        CRF(2, batch_first=True)(torch.zeros(1, 3, 2), torch.zeros(1, 3, dtype=torch.long), torch.tensor(mask).bool())


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0, 1000.0])
def test_both_kinds_of_sweeps_agree_at_any_scale_of_the_emissions(scale, monkeypatch):
    emissions, gold, mask, scores = example(6, 30, 5, seed=4)
    scores = Scores(*(4 * each.clamp(-2, 2) for each in scores))
    results = []
    # the reference in double: at large scales logsumexp in single precision is the one that rounds
    for limit, dtype in ((0.0, torch.float64), (sweeps.QUICK_RANGE, torch.float32)):
        monkeypatch.setattr(sweeps, "QUICK_RANGE", limit)
        leaves = [each.to(dtype).requires_grad_() for each in (scale * emissions, *scores)]
        losses = crf_nll(leaves[0], gold, mask, Scores(*leaves[1:]))
        losses.sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(crf_nll(leaves[0], gold, mask, Scores(*leaves[1:])), losses)
        results.append([losses.detach().float(), *(leaf.grad.float() for leaf in leaves)])
    for exact, quick in zip(*results, strict=True):
        torch.testing.assert_close(quick, exact, rtol=1e-4, atol=1e-4)


def test_half_precision_and_autocast_compute_in_single_precision():
    emissions, gold, mask, _ = example(4, 20, 5, scale=3.0)
    mask[:, 0] = True
    crf = CRF(5, batch_first=True)
    half = emissions.bfloat16()
    expected = crf(half.float(), gold, mask, "none")
    leaf = half.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = crf(leaf, gold, mask, "none")
        decoded = crf.decode(half, mask)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected)
    got.sum().backward()
    assert leaf.grad.dtype == torch.bfloat16 and leaf.grad.isfinite().all()
    assert decoded == crf.decode(half.float(), mask)


def test_a_constant_added_to_all_emissions_of_a_word_changes_nothing():
    emissions, gold, mask, scores = example(3, 8, 5)
    shifted = emissions + 7 * torch.randn(3, 8, 1)
    torch.testing.assert_close(
        crf_nll(shifted, gold, mask, scores), crf_nll(emissions, gold, mask, scores), rtol=1e-4, atol=1e-4
    )
    assert viterbi(shifted, mask, scores) == viterbi(emissions, mask, scores)


def test_what_stands_in_the_padding_has_no_influence():
    emissions, gold, mask, scores = example(4, 9, 5, seed=3)
    assert not mask.all()
    dirty = emissions.masked_fill(~mask.unsqueeze(-1), torch.nan)
    results = []
    for value in (emissions, dirty):
        leaves = [each.clone().requires_grad_() for each in (value, *scores)]
        losses = crf_nll(leaves[0], gold, mask, Scores(*leaves[1:]))
        losses.sum().backward()
        results.append([losses.detach(), *(leaf.grad for leaf in leaves)])
        assert viterbi(value, mask, scores) == viterbi(emissions, mask, scores)
    for clean, other in zip(*results, strict=True):
        torch.testing.assert_close(clean, other, rtol=0, atol=0)


@pytest.mark.parametrize(("words", "most"), [(32, 120), (512, 200)])
def test_a_tree_takes_few_operations(words, most):
    """Loss and gradient: a sweep takes some ten operations a word."""
    emissions, gold, mask, scores = example(16, words, 9)
    leaves = [each.requires_grad_() for each in (emissions, *scores)]
    with Operations() as operations, tree.forced():
        crf_nll(leaves[0], gold, mask, Scores(*leaves[1:])).sum().backward()
    assert 0 < len(operations.names) <= most


def test_a_row_without_words_costs_nothing_and_decodes_to_nothing():
    emissions, gold, mask, scores = example(2, 4, 3)
    mask[1] = False
    assert crf_nll(emissions, gold, mask, scores)[1] == 0
    assert viterbi(emissions, mask, scores)[1] == []


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 999))
def test_constrained_decoding_never_gives_an_illegal_sequence(num_types, words, seed):
    tagset = TagSet(tuple("ABCD"[:num_types]))
    # emissions that outweigh any finite penalty
    emissions, _, mask, scores = example(3, words, len(tagset), seed=seed, scale=1e5)
    for row in viterbi(emissions, mask, scores.constrained()):
        before = "O"
        for tag in tagset.decode(row):
            assert not tag.startswith("I-") or before[2:] == tag[2:]
            before = tag


def test_constrained_decoding_is_the_best_of_the_legal_sequences():
    emissions, _, mask, scores = example(1, 4, 5, seed=5)
    tags = TagSet(("A", "B")).tags
    paths, values = every_path(emissions[0], 4, scores)

    def legal(path):
        names = ["O", *(tags[tag] for tag in path)]
        return all(not b.startswith("I") or a[2:] == b[2:] for a, b in pairwise(names))

    best = max((value.item(), path) for path, value in zip(paths.tolist(), values, strict=True) if legal(path))[1]
    assert viterbi(emissions, mask, scores.constrained()) == [best]


def tied(seed=0):
    torch.manual_seed(seed)
    crf = TiedCRF()
    for parameter in crf.parameters():
        torch.nn.init.normal_(parameter)
    return crf


def test_tied_scores_do_not_depend_on_the_names_of_the_types():
    emissions, gold, mask, _ = example(3, 10, 7, seed=2)
    order = torch.tensor([0, 5, 6, 1, 2, 3, 4])  # types 2, 0, 1
    scores = tied().scores(3)
    torch.testing.assert_close(scores.permuted(order), scores)
    place = order.argsort()
    renamed = emissions[..., order]
    torch.testing.assert_close(crf_nll(renamed, place[gold], mask, scores), crf_nll(emissions, gold, mask, scores))
    assert [[order[tag].item() for tag in row] for row in viterbi(renamed, mask, scores)] == viterbi(
        emissions, mask, scores
    )


def test_tied_scores_of_fewer_types_are_part_of_those_of_more():
    few, many = tied().scores(2), tied().scores(5)
    torch.testing.assert_close(few.transitions, many.transitions[:5, :5])
    torch.testing.assert_close(few.start, many.start[:5])


def test_tied_roles_tell_apart_what_the_paper_ties():
    transitions = tied().scores(2).transitions  # O, B-a, I-a, B-b, I-b
    same = [((1, 2), (3, 4)), ((1, 4), (3, 2)), ((1, 1), (3, 3)), ((1, 3), (3, 1)), ((0, 1), (0, 3)), ((2, 0), (4, 0))]
    for one, other in same:
        assert transitions[one] == transitions[other]
    apart = [(0, 0), (0, 1), (1, 0), (1, 2), (1, 1), (1, 3), (2, 0), (2, 2), (2, 1), (2, 3), (0, 2), (1, 4), (2, 4)]
    assert len({transitions[pair].item() for pair in apart}) == len(apart) == len(TRANSITION_ROLES)


def test_orphan_tags_in_the_gold_cost_a_learnt_amount():
    crf = tied()
    orphan = torch.tensor([[0, 2, 0]])  # O I-a O
    losses = crf_nll(torch.zeros(1, 3, 5), orphan, torch.ones(1, 3, dtype=torch.bool), crf.scores(2))
    assert losses.item() < 50
    losses.sum().backward()
    assert crf.transition_roles.grad[TRANSITION_ROLES.index("O->I")] != 0


def test_tied_scores_first_asked_for_in_inference_mode_can_be_trained_afterwards():
    """A process that predicts first and trains later sees each number of types first in inference mode."""
    crf = TiedCRF()
    with torch.inference_mode():
        crf.scores(11)
    start, transitions, end = crf.scores(11)
    (start.sum() + transitions.sum() + end.sum()).backward()
    assert all(parameter.grad is not None for parameter in crf.parameters())
