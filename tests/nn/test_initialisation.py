"""How new weights begin."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mnerkit.nn.prompts import MlpPrompts
from mnerkit.nn.visual_prefix import BERT_SCALE, init_small


def test_linear_maps_begin_at_berts_scale_without_biases() -> None:
    torch.manual_seed(0)
    maps = nn.Linear(64, 200), nn.Linear(64, 200, bias=False)
    init_small(*maps)
    for each in maps:
        assert each.weight.std().item() == pytest.approx(BERT_SCALE, rel=0.05)
    assert not maps[0].bias.any()


def test_the_prompts_of_an_mlp_start_smaller_than_its_images() -> None:
    torch.manual_seed(0)
    images = torch.randn(8, 3, 96)
    keys, values = MlpPrompts(96, 32, layers=2, hidden=256)(images)
    # tanh of unit-variance vectors through W_1, then 256 products at BERT's scale
    assert all(each.std() < 0.3 for each in (*keys, *values))
