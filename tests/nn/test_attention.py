"""Attention: equal to torch's own where both exist, and right where torch's gives NaN or has no such thing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mnerkit.nn.attention import MultiHeadAttention, SubLayer, TransformerLayer, attend

B, N, M, D, HEADS = 3, 5, 4, 8, 2


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys, and which keys are real: all of one row, some of the next, one of the last."""
    torch.manual_seed(seed)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [False, False, True, False]])
    return torch.randn(B, N, D, requires_grad=True), torch.randn(B, M, D, requires_grad=True), mask


def like_torch(own: MultiHeadAttention) -> nn.MultiheadAttention:
    """Torch's attention with the same weights."""
    assert own.out is not None
    other = nn.MultiheadAttention(D, HEADS, batch_first=True)
    maps = (own.query, own.key, own.value)
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([each.weight for each in maps]))
        other.in_proj_bias.copy_(torch.cat([each.bias for each in maps]))
        other.out_proj.weight.copy_(own.out.weight)
        other.out_proj.bias.copy_(own.out.bias)
    return other


def test_it_is_torchs_attention_forward_and_backward() -> None:
    own = MultiHeadAttention(D, HEADS)
    other = like_torch(own)
    queries, keys, mask = inputs()
    seen, weights = own(queries, keys, mask=mask, need_weights=True)
    wanted, wanted_weights = other(queries, keys, keys, key_padding_mask=~mask, average_attn_weights=False)
    torch.testing.assert_close(seen, wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(weights, wanted_weights, atol=1e-6, rtol=1e-5)
    direction = torch.randn_like(seen)
    ours = torch.autograd.grad((seen * direction).sum(), (queries, keys, own.key.weight))
    theirs = torch.autograd.grad((wanted * direction).sum(), (queries, keys, other.in_proj_weight))
    for mine, its in zip(ours, (*theirs[:2], theirs[2][D : 2 * D]), strict=True):
        torch.testing.assert_close(mine, its, atol=1e-5, rtol=1e-4)


def test_pairs_that_may_not_see_each_other_are_told_by_a_mask_of_pairs() -> None:
    own = MultiHeadAttention(D, HEADS)
    queries, keys, _ = inputs()
    pairs = torch.rand(B, N, M) < 0.6
    pairs[..., 0] = True
    seen, _ = own(queries, keys, mask=pairs)
    wanted, _ = like_torch(own)(queries, keys, keys, attn_mask=~pairs.repeat_interleave(HEADS, 0))
    torch.testing.assert_close(seen, wanted, atol=1e-6, rtol=1e-5)


def test_it_is_the_sum_of_its_definition() -> None:
    """Loops over everything, with weights of keys."""
    own = MultiHeadAttention(D, HEADS, bias=False, project=False)
    queries, keys, mask = inputs()
    scale = torch.rand(B, M)
    seen, weights = own(queries, keys, mask=mask, key_weights=scale, need_weights=True)
    q, k, v = (each.detach() for each in own.split(queries, keys))
    for b in range(B):
        real = [m for m in range(M) if mask[b, m]]
        for n in range(N):
            for h in range(HEADS):
                raised = [math.exp(float(q[b, h, n] @ k[b, h, m]) / math.sqrt(D // HEADS)) for m in real]
                shares = [each / sum(raised) * float(scale[b, m]) for each, m in zip(raised, real, strict=True)]
                wanted = torch.stack([share * v[b, h, m] for share, m in zip(shares, real, strict=True)]).sum(0)
                half = seen[b, n, h * (D // HEADS) : (h + 1) * (D // HEADS)]
                torch.testing.assert_close(half, wanted, atol=1e-5, rtol=1e-4)
                torch.testing.assert_close(weights[b, h, n, real], torch.tensor(shares), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wide", [False, True])
def test_who_sees_no_key_gets_zeros_and_passes_no_gradient(wide: bool) -> None:
    """Torch's own gives NaN here."""
    own = MultiHeadAttention(D, HEADS)
    queries, keys, mask = inputs()
    mask[1] = False
    given = mask[:, None].expand(B, N, M) if wide else mask
    seen, weights = own(queries, keys, mask=given, need_weights=True)
    assert weights is not None and not seen[1].any() and not weights[1].any()
    assert seen[0].any()
    seen.square().sum().backward()
    assert queries.grad is not None and keys.grad is not None
    assert not queries.grad[1].any() and not keys.grad[1].any()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in own.parameters())


def test_without_any_key_there_are_zeros() -> None:
    own = MultiHeadAttention(D, HEADS)
    queries, keys, _ = inputs()
    seen, weights = own(queries, keys[:, :0], mask=torch.ones(B, 0, dtype=torch.bool), need_weights=True)
    assert seen.shape == queries.shape and not seen.any()
    assert weights is not None and weights.shape == (B, HEADS, N, 0)


def test_a_masked_key_is_nowhere_seen_whatever_it_holds() -> None:
    own = MultiHeadAttention(D, HEADS)
    queries, keys, mask = inputs()
    other = keys.detach().clone()
    other[~mask] = 1e4
    torch.testing.assert_close(own(queries, keys, mask=mask)[0], own(queries, other, mask=mask)[0], atol=0, rtol=0)


def test_weights_of_keys_scale_and_may_sum_to_one_again() -> None:
    own = MultiHeadAttention(D, HEADS, bias=False, project=False)
    queries, keys, mask = inputs()
    plain, weights = own(queries, keys, mask=mask, need_weights=True)
    ones, _ = own(queries, keys, mask=mask, key_weights=torch.ones(B, M))
    torch.testing.assert_close(plain, ones)
    torch.testing.assert_close(own(queries, keys, mask=mask, key_weights=torch.full((B, M), 0.25))[0], 0.25 * plain)
    assert not own(queries, keys, mask=mask, key_weights=torch.zeros(B, M))[0].any()
    scale = torch.tensor([0.5, 0.0, 1.0, 2.0]).repeat(B, 1)
    _, again = own(queries, keys, mask=mask, key_weights=scale, renorm=True, need_weights=True)
    assert weights is not None and again is not None
    torch.testing.assert_close(again.sum(-1), torch.ones(B, HEADS, N))
    torch.testing.assert_close(again[0], weights[0] * scale[0] / (weights[0] * scale[0]).sum(-1, keepdim=True))
    rows = torch.rand(B, N, M)
    _, each = own(queries, keys, mask=mask, key_weights=rows, need_weights=True)
    torch.testing.assert_close(each, weights * rows[:, None])


def test_values_may_be_others_than_keys_and_of_another_width_than_queries() -> None:
    own = MultiHeadAttention(D, HEADS, key_width=3)
    queries = torch.randn(B, N, D)
    seen, _ = own(queries, torch.randn(B, M, 3), torch.randn(B, M, 3))
    assert seen.shape == (B, N, D)
    with pytest.raises(ValueError, match="3 heads do not divide the width 8"):
        MultiHeadAttention(D, 3)


def test_dropout_of_weights_happens_in_training_alone() -> None:
    own = MultiHeadAttention(D, HEADS, dropout=0.5)
    queries, keys, mask = inputs()
    assert not torch.equal(own(queries, keys, mask=mask)[0], own(queries, keys, mask=mask)[0])
    own.eval()
    assert torch.equal(own(queries, keys, mask=mask)[0], own(queries, keys, mask=mask)[0])


def test_half_precision_has_no_nan_where_nothing_is_seen() -> None:
    query, key = torch.randn(1, 2, 4, dtype=torch.bfloat16), torch.randn(1, 3, 4, dtype=torch.bfloat16)
    seen, weights = attend(query, key, key, torch.tensor([[[True] * 3, [False] * 3]]))
    assert seen.dtype == torch.bfloat16 and seen.isfinite().all() and not seen[0, 1].any()
    torch.testing.assert_close(weights[0, 0].sum().float(), torch.tensor(1.0), atol=0.02, rtol=0)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_a_layer_is_torchs_transformer_layer(norm: str) -> None:
    own = TransformerLayer(D, HEADS, 16, dropout=0.0, norm=norm, eps=1e-5)  # type: ignore[arg-type]
    other = nn.TransformerEncoderLayer(D, HEADS, 16, 0.0, "gelu", batch_first=True, norm_first=norm == "pre")
    other.self_attn = like_torch(own.attention)
    with torch.no_grad():
        for mine, its in (
            (own.feedforward[0], other.linear1),
            (own.feedforward[-1], other.linear2),
            (own.look.norm, other.norm1),
            (own.think.norm, other.norm2),
        ):
            assert isinstance(mine, nn.Module)
            its.load_state_dict(mine.state_dict())
    x, _, _ = inputs()
    mask = torch.arange(N) < torch.tensor([[5], [3], [1]])
    ours, theirs = own(x, mask), other(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-5, rtol=1e-4)


def test_a_layer_of_berts_size_has_berts_parameters() -> None:
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    with torch.device("meta"):
        own, bert = TransformerLayer(768, 12), BertLayer(BertConfig())
    assert sum(each.numel() for each in own.parameters()) == sum(each.numel() for each in bert.parameters())


def test_a_sub_layer_without_residual_is_the_network_alone() -> None:
    x = torch.randn(2, 3, D)
    network = nn.Linear(D, D)
    torch.testing.assert_close(SubLayer(D, residual=False)(x, network), network(x))
    assert not list(SubLayer(D, residual=False).parameters())
