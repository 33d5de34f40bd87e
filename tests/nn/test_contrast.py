"""Late interaction and InfoNCE against their definitions."""

import math

import pytest
import torch
from ranks import in_two_ranks, joined
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from mnerkit.nn.contrast import TopK, cosines, info_nce, late_interaction, nce, pair_cosines


def test_late_interaction_is_the_mean_over_words_of_the_best_region():
    torch.manual_seed(0)
    words, seen = torch.randn(3, 5, 4), torch.randn(2, 6, 4)
    mask = torch.arange(5) < torch.tensor([5, 2, 1])[:, None]
    similarity = late_interaction(words, mask, seen)
    for a in range(3):
        for b in range(2):
            best = [max(float(word @ region) for region in seen[b]) for word in words[a][mask[a]]]
            assert similarity[a, b].item() == pytest.approx(sum(best) / len(best), abs=1e-5)


def test_masked_regions_are_never_the_best_ones():
    torch.manual_seed(0)
    words, seen = torch.randn(3, 5, 4), torch.randn(2, 6, 4)
    mask = torch.ones(3, 5, dtype=torch.bool)
    seen_mask = torch.arange(6) < torch.tensor([6, 3])[:, None]
    similarity = late_interaction(words * 0.1, mask, seen * 0.1, seen_mask)
    torch.testing.assert_close(similarity[:, 1:], late_interaction(words * 0.1, mask, seen[1:, :3] * 0.1))


def test_nce_is_zero_for_sure_pairs_and_the_entropy_of_chance_without_any():
    assert nce(100 * torch.eye(4)) == pytest.approx(0, abs=1e-6)
    assert nce(torch.zeros(4, 4)) == pytest.approx(math.log(4))


def vectors(count, seed=0, width=6):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, width, generator=generator, dtype=torch.double) for _ in range(2)]


def by_definition(logits, k):
    """Eq. 16, one row after the other."""
    losses = []
    for row in logits.tolist():
        best = sorted(row, reverse=True)[:k]
        losses.append(-math.log(sum(map(math.exp, best)) / sum(map(math.exp, row))))
    return sum(losses) / len(losses)


def test_direction_weight_chooses_who_ranks_whom():
    a, b = vectors(5)
    forward, backward = info_nce(a, b, 0.3, weight=1.0), info_nce(a, b, 0.3, weight=0.0)
    assert forward.item() != pytest.approx(backward.item(), abs=1e-3)
    torch.testing.assert_close(forward, info_nce(b, a, 0.3, weight=0.0))
    torch.testing.assert_close(info_nce(a, b, 0.3, weight=0.7), 0.7 * forward + 0.3 * backward)
    own = functional.cosine_similarity(a, b)
    logits = pair_cosines(a, b) / 0.3
    torch.testing.assert_close(
        forward.double(), (logits.logsumexp(1) - own / 0.3).mean().double(), rtol=1e-5, atol=1e-5
    )


def test_both_directions_are_equal_for_symmetric_similarities():
    a, b = vectors(4)
    symmetric = pair_cosines(a, b) + pair_cosines(a, b).T
    torch.testing.assert_close(nce(symmetric, 1.0), nce(symmetric, 0.0))


@pytest.mark.parametrize("positives", [None, TopK(2), TopK(2, exclude_own=True), TopK(2, add_own=True)])
def test_neither_the_scale_of_vectors_nor_the_order_of_pairs_matters(positives):
    a, b = vectors(6)
    expected = info_nce(a, b, 0.5, 1.0, positives=positives)
    torch.testing.assert_close(info_nce(7 * a, b / 3, 0.5, 1.0, positives=positives), expected)
    order = torch.randperm(6)
    torch.testing.assert_close(info_nce(a[order], b[order], 0.5, 1.0, positives=positives), expected)


def test_equal_vectors_give_log_n_and_a_pair_alone_nothing():
    a = torch.ones(5, 3)
    assert info_nce(a, a, 0.2).item() == pytest.approx(math.log(5))
    for positives in (None, TopK(3), TopK(3, exclude_own=True), TopK(3, exclude_own=True, detach_index=False)):
        one = torch.randn(1, 3, requires_grad=True)
        loss = info_nce(one, torch.randn(1, 3), 0.2, positives=positives)
        loss.backward()
        assert loss.item() == pytest.approx(0, abs=1e-6)
        assert torch.equal(one.grad, torch.zeros(1, 3))


def test_pairs_that_do_not_take_part_are_as_if_absent():
    a, b = vectors(5)
    valid = torch.tensor([True, False, True, True, False])
    torch.testing.assert_close(info_nce(a, b, 0.5, valid=valid), info_nce(a[valid], b[valid], 0.5))
    a.requires_grad_()
    nothing = info_nce(a, b, 0.5, valid=torch.zeros(5, dtype=torch.bool))
    nothing.backward()
    assert nothing.item() == 0
    assert torch.equal(a.grad, torch.zeros_like(a))


@pytest.mark.parametrize("k", range(1, 6))
def test_top_k_is_equation_16(k):
    logits = 3 * torch.randn(6, 6, generator=torch.Generator().manual_seed(k))
    assert nce(logits, 1.0, TopK(k)).item() == pytest.approx(by_definition(logits, k), abs=1e-5)


def test_top_k_never_rises_with_k_and_is_zero_with_all():
    logits = 3 * torch.randn(6, 6)
    losses = [nce(logits, 1.0, TopK(k, clamp=False)).item() for k in range(1, 9)]
    assert losses == sorted(losses, reverse=True)
    assert losses[4] > 0
    assert losses[5] == losses[7] == pytest.approx(0, abs=1e-5)
    # clamped to N - 1, K = N and beyond still say something
    assert nce(logits, 1.0, TopK(8)).item() == losses[4]


def test_top_one_is_the_own_pair_where_that_is_the_most_similar():
    logits = torch.randn(6, 6) + 9 * torch.eye(6)
    torch.testing.assert_close(nce(logits, 1.0, TopK(1)), nce(logits, 1.0))
    assert nce(logits, 1.0, TopK(1, exclude_own=True)) > nce(logits, 1.0) + 1


def test_a_high_temperature_gives_log_n_over_k():
    a, b = vectors(6)
    assert info_nce(a, b, 1e6, 1.0, positives=TopK(2)).item() == pytest.approx(math.log(6 / 2), abs=1e-4)


def test_an_unselected_similarity_counts_in_the_denominator_alone():
    logits = torch.tensor([[3.0, 2.0, 1.0], [0.0, 4.0, 1.0], [1.0, 0.0, 2.0]], requires_grad=True)
    nce(logits, 1.0, TopK(2)).backward()
    probabilities = logits.detach().softmax(1)
    torch.testing.assert_close(logits.grad[0, 2], probabilities[0, 2] / 3)
    lower = logits.detach().clone()
    lower[0, 2] -= 1e-2
    change = (nce(lower, 1.0, TopK(2)) - nce(logits.detach(), 1.0, TopK(2))).item()
    assert change == pytest.approx(-1e-2 * logits.grad[0, 2].item(), rel=2e-2)
    # with the gradient of the choice, a higher similarity would also have been chosen sooner
    soft = logits.detach().clone().requires_grad_()
    loss = nce(soft, 1.0, TopK(2, detach_index=False))
    loss.backward()
    torch.testing.assert_close(loss, nce(logits, 1.0, TopK(2)))
    assert soft.grad[0, 2] < logits.grad[0, 2]


def test_an_own_pair_added_to_the_top_k_counts_twice():
    logits = torch.randn(4, 4) + 9 * torch.eye(4)
    chosen = logits.topk(2).values
    expected = logits.logsumexp(1) - torch.cat([chosen, logits.diagonal()[:, None]], 1).logsumexp(1)
    torch.testing.assert_close(nce(logits, 1.0, TopK(2, add_own=True)), expected.mean())
    assert expected.mean() < 0


def _model():
    torch.manual_seed(0)
    return nn.ModuleList([nn.Linear(6, 4), nn.Linear(6, 4)]).double()


READINGS = (None, TopK(2), TopK(3, exclude_own=True), TopK(1, add_own=True, detach_index=False))


def _one_rank(rank, folder):
    with joined(rank, folder):
        a, b = vectors(7)
        valid = torch.tensor([True] * 3 + [False] + [True] * 3)
        mine = slice(0, 2) if rank == 0 else slice(2, 7)  # ragged
        nobody = valid & (torch.arange(7) >= 2)  # the first rank has none
        for mask in (None, valid, nobody):
            for positives in READINGS:
                alone = _model()
                rows = slice(None) if mask is None else mask
                logits = pair_cosines_alone(alone, a[rows], b[rows]) / 0.3
                expected = nce(logits, 0.7, positives)
                expected.backward()
                together = DistributedDataParallel(_Whole(_model(), positives))
                loss = together(a[mine], b[mine], None if mask is None else mask[mine])
                loss.backward()
                torch.testing.assert_close(loss, expected)
                for ours, theirs in zip(together.parameters(), alone.parameters(), strict=True):
                    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)  # cosines are float32


def pair_cosines_alone(model, a, b):
    return functional.cosine_similarity(model[0](a).float()[:, None], model[1](b).float()[None], dim=-1)


class _Whole(nn.Module):
    def __init__(self, model, positives):
        super().__init__()
        self.model, self.positives = model, positives

    def forward(self, a, b, valid):
        return info_nce(self.model[0](a), self.model[1](b), 0.3, 0.7, valid, self.positives)


def test_two_ranks_equal_one_process_of_all_rows_in_loss_and_averaged_gradients(tmp_path):
    in_two_ranks(_one_rank, tmp_path)


def test_close_vectors_are_told_apart_in_mixed_precision():
    torch.manual_seed(0)
    a = torch.randn(1, 8)
    b = a + 0.1 * torch.randn(12, 8)
    known = cosines(a, b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(cosines(a, b), known)
        assert info_nce(b, b.flip(0), 0.1).dtype == torch.float32
    # what eight bits would make of them
    assert len(set(known[0].bfloat16().tolist())) < 12
