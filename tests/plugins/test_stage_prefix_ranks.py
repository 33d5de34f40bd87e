"""HVPNet and GMF on two ranks, of which one has no pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import torch
from ranks import Losses, assert_ranks_learn_as_one, in_two_ranks, joined
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from visual_prefix_cases import bare, batch_of, posts, towers

from mnerkit_plugins.gmf.model import GmfEncoder
from mnerkit_plugins.gmf.options import GmfOptions
from mnerkit_plugins.hvpnet.model import HvpnetEncoder
from mnerkit_plugins.hvpnet.options import HvpnetOptions

ROWS = ([bare(each) for each in posts()[:2]], posts()[2:])


def encoder(kind: str) -> nn.Module:
    """An encoder without dropout; `gmf` normalises each picture by itself, `gmf-bn` all that its rank has."""
    text, sight = towers()
    torch.manual_seed(1)
    made: nn.Module
    if kind == "hvpnet":
        made = HvpnetEncoder(text, sight, HvpnetOptions(dropout=0.0))
    else:
        norm: Literal["bn", "gn"] = "bn" if kind == "gmf-bn" else "gn"
        made = GmfEncoder(text, sight, GmfOptions(prefix_grid=2, dropout=0.0, csa_norm=norm))
    for module in made.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    text.forget = 0.0
    return made


def _as_one(rank: int, folder: Path) -> None:
    kind = folder.name
    assert_ranks_learn_as_one(rank, folder, partial(encoder, kind), batch_of, ROWS)


@pytest.mark.parametrize("kind", ["hvpnet", "gmf"])
def test_two_ranks_one_without_pictures_learn_what_one_process_learns(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    in_two_ranks(_as_one, folder)


def _step(rank: int, folder: Path) -> None:
    with joined(rank, folder):
        made = encoder("gmf-bn").train()
        total, losses = DistributedDataParallel(Losses(made))(batch_of(made, ROWS[rank]), 1.0)
        total.backward()
        assert torch.isfinite(losses["matching"])
        assert [name for name, each in made.named_parameters() if each.requires_grad and each.grad is None] == []


def test_gmf_as_printed_takes_a_step_where_one_rank_has_no_pictures(tmp_path: Path) -> None:
    in_two_ranks(_step, tmp_path)
