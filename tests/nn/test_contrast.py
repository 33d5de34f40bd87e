"""Late interaction and InfoNCE against their definitions."""

import pytest
import torch

from mnerkit.nn.contrast import info_nce, late_interaction


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


def test_info_nce_is_zero_for_sure_pairs_and_twice_the_entropy_of_chance_without_any():
    assert info_nce(100 * torch.eye(4)) == pytest.approx(0, abs=1e-6)
    assert info_nce(torch.zeros(4, 4)) == pytest.approx(2 * torch.log(torch.tensor(4.0)).item())
