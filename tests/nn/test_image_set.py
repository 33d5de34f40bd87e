"""The image-set encoder, against loops and by its properties."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from mnerkit.errors import UsageError
from mnerkit.nn.image_set import ImageSetEncoder

MASK = torch.tensor([[True] * 4, [True, True, True, False], [True, False, False, False]])


def encoder(**options: Any) -> ImageSetEncoder:
    torch.manual_seed(0)
    return ImageSetEncoder(8, **{"heads": 2, **options}).eval()


def images() -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(3, 4, 8)


def relevance() -> torch.Tensor:
    torch.manual_seed(2)
    return torch.rand(3, 4)


def test_eq_4_by_loops() -> None:
    made = encoder(block="attn_only", position="none", heads=1)
    (layer,) = made.layers
    vectors, r = images(), relevance()
    query, key, value = (each[:, 0].detach() for each in layer.attention.split(vectors, vectors))
    u, attention = made(vectors, MASK, r)
    for b in range(3):
        real = [j for j in range(4) if MASK[b, j]]
        for i in real:
            raw = [math.exp(float(query[b, i] @ key[b, j]) / math.sqrt(8)) for j in real]
            shares = [float(r[b, j]) * each / sum(raw) for j, each in zip(real, raw, strict=True)]
            wanted = sum(share * value[b, j] for share, j in zip(shares, real, strict=True))
            torch.testing.assert_close(u[b, i].detach(), wanted, atol=1e-6, rtol=1e-4)
            torch.testing.assert_close(attention[b, i, real].detach(), torch.tensor(shares), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("block", ["full", "attn_only"])
@pytest.mark.parametrize("axis", ["source", "target"])
def test_relevance_of_ones_is_attention_without_weights(block, axis) -> None:
    made = encoder(block=block, r_axis=axis, layers=2)
    for got, wanted in zip(made(images(), MASK, torch.ones(3, 4)), made(images(), MASK), strict=True):
        torch.testing.assert_close(got, wanted)


def test_the_full_block_is_the_librarys_transformer_layer() -> None:
    made = encoder(position="none", feedforward=16, dropout=0.0)
    library = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=True).eval()
    (own,) = made.layers
    attention, mine = library.self_attn, own.attention
    maps = (mine.query, mine.key, mine.value)
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([each.weight for each in maps]))
        attention.in_proj_bias.copy_(torch.cat([each.bias for each in maps]))
    attention.out_proj, (library.norm1, library.norm2) = mine.out, own.norms
    library.linear1, library.linear2 = own.feedforward[0], own.feedforward[3]
    wanted = library(images(), src_key_padding_mask=~MASK) * MASK.unsqueeze(-1)
    torch.testing.assert_close(made(images(), MASK)[0], wanted)


def test_without_relevance_attention_alone_lets_nothing_through() -> None:
    u, attention = encoder(block="attn_only", layers=2)(images(), MASK, torch.zeros(3, 4))
    assert not u.any() and not attention.any()


def test_the_residual_lets_an_irrelevant_images_own_vector_through_only_if_it_is_not_scaled() -> None:
    vectors, moved = images(), images()
    moved[:, 0] += 1.0
    r = torch.zeros(3, 4)
    for scaled in (True, False):
        made = encoder(position="none", residual_scale_r=scaled)
        same = torch.allclose(made(vectors, MASK, r)[0], made(moved, MASK, r)[0])
        assert same == scaled


def test_what_an_image_alone_gives_is_in_proportion_to_its_relevance() -> None:
    vectors, alone = images()[:, :1], torch.ones(3, 1, dtype=torch.bool)
    made = encoder(position="none")
    with torch.no_grad():  # a network that has learnt says more than a new one
        made.layers[0].feedforward[-1].weight *= 10
    nothing, whole = (made(vectors, alone, torch.full((3, 1), r))[0] for r in (0.0, 1.0))
    few = made(vectors, alone, torch.full((3, 1), 0.05))[0]
    share = (few - nothing).norm(dim=-1) / (whole - nothing).norm(dim=-1)
    assert (share < 0.1).all() and (share > 0.02).all()


def test_relevance_of_zero_hides_an_images_value_but_not_its_key() -> None:
    made = encoder(block="attn_only", position="none")
    attention = made.layers[0].attention
    vectors, r = images(), relevance()
    r[:, 1] = 0
    moved = images()
    moved[:, 1] += 3.0

    def seen(keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return attention(vectors, keys, values, mask=MASK, key_weights=r)[0]

    torch.testing.assert_close(seen(vectors, moved), seen(vectors, vectors))
    assert not torch.allclose(seen(moved, vectors)[:2], seen(vectors, vectors)[:2])


@pytest.mark.parametrize("position", ["degree", "order", "none"])
@pytest.mark.parametrize("block", ["full", "attn_only"])
def test_masked_images_change_nothing(block, position) -> None:
    made = encoder(block=block, position=position, layers=2)
    vectors, r = images(), relevance()
    u, attention = made(vectors, MASK, r)
    for row, count in enumerate(MASK.sum(1).tolist()):
        alone = made(vectors[row : row + 1, :count], MASK[row : row + 1, :count], r[row : row + 1, :count])
        torch.testing.assert_close(u[row, :count], alone[0][0])
        torch.testing.assert_close(attention[row, :count, :count], alone[1][0])
        assert not u[row, count:].any() and not attention[row, count:].any() and not attention[row, :, count:].any()


@pytest.mark.parametrize(("position", "follows"), [("degree", True), ("none", True), ("order", False)])
def test_permuted_images_give_permuted_vectors_unless_their_order_is_told(position, follows) -> None:
    made = encoder(position=position)
    order = torch.tensor([2, 0, 3, 1])
    vectors, r, mask = images(), relevance(), MASK[:, :]
    u, attention = made(vectors, mask, r)
    moved, moved_attention = made(vectors[:, order], mask[:, order], r[:, order])
    assert torch.allclose(moved, u[:, order], atol=1e-6) == follows
    assert torch.allclose(moved_attention, attention[:, order][:, :, order], atol=1e-6) == follows


def test_a_single_image_is_its_value_times_its_relevance() -> None:
    made = encoder(block="attn_only", position="none", heads=1)
    vector, r = images()[:, :1], torch.tensor([[0.3], [0.9], [0.0]])
    (layer,) = made.layers
    u = made(vector, torch.ones(3, 1, dtype=torch.bool), r)[0]
    torch.testing.assert_close(u, r.unsqueeze(-1) * (vector @ layer.attention.value.weight.T))


def test_the_degree_is_the_number_of_other_images_up_to_its_largest() -> None:
    assert encoder(max_degree=3).positions(MASK)[:, 0].tolist() == [3, 2, 0]
    assert encoder(max_degree=2).positions(MASK)[:, 0].tolist() == [2, 2, 0]
    assert encoder(position="order", max_images=3).positions(MASK)[0].tolist() == [0, 1, 2, 2]


def test_relevance_weighs_columns_or_rows() -> None:
    vectors, r = images(), relevance()
    plain = encoder(block="attn_only")(vectors, MASK)[1]
    columns = encoder(block="attn_only", r_axis="source")(vectors, MASK, r)[1]
    rows = encoder(block="attn_only", r_axis="target")(vectors, MASK, r)[1]
    torch.testing.assert_close(columns, plain * r.unsqueeze(1))
    torch.testing.assert_close(rows, plain * r.unsqueeze(2))


def test_renormalised_rows_sum_to_one_and_a_row_of_zeros_stays_zero() -> None:
    r = relevance()
    r[1] = 0
    attention = encoder(renorm=True)(images(), MASK, r)[1]
    wanted = MASK.float()
    wanted[1] = 0
    torch.testing.assert_close(attention.sum(-1), wanted)


def test_a_post_without_images_gives_zeros_and_finite_gradients() -> None:
    for block in ("full", "attn_only"):
        made = encoder(block=block, renorm=True).train()
        u, attention = made(images(), torch.zeros(3, 4, dtype=torch.bool), relevance())
        assert not u.any() and not attention.any()
        u.sum().backward()
        grads = [each.grad for each in made.parameters()]
        assert all(each is not None and each.isfinite().all() for each in grads)


def test_sizes_are_those_of_the_paper() -> None:
    made = ImageSetEncoder(768)
    norms, attention, feedforward = 4 * 768, 4 * (768 * 768 + 768), 2 * 768 * 3072 + 768 + 3072
    assert sum(each.numel() for each in made.parameters()) == norms + attention + feedforward + 4 * 768
    bare = ImageSetEncoder(768, block="attn_only", position="none")
    assert sum(each.numel() for each in bare.parameters()) == 3 * 768 * 768


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(UsageError, match="heads 5"):
        ImageSetEncoder(8, heads=5)
