"""The multi-granularity extractor: weights of rows and columns, masks, shapes and readings."""

import pytest
import torch

from mnerkit_plugins.mgips_cl.mge import LengthMap, Mge, interpolation
from mnerkit_plugins.mgips_cl.options import MgipsOptions

D, TEXTS, IMAGES, HEADS = 12, 7, 9, 3
READINGS = [
    {},
    {"length_align": "interpolate"},
    {"length_align": "cross_attn"},
    {"mge_value": "target"},
    {"column_reading": "literal"},
    {"interweave_residual": "eq10"},
    {"mge_ffn": False},
    {"mge_heads": 1},
    {"mge_value_map": "shared"},
    {"mge_value_map": "shared", "mge_value": "target"},
    {"mge_source_norm": "none"},
    {"mge_image_block": "released"},
    {"mge_text_block": "released"},
    {"mge_text_block": "released", "length_align": "cross_attn", "mge_value": "target"},
    {"mge_text_block": "released", "mge_value_map": "shared", "interweave_residual": "eq10"},
    {"column_bias": -0.05, "column_bias_side": "image"},
]


def mge(target="image", seed=0, **options):
    torch.manual_seed(seed)
    o = MgipsOptions(**{"mge_heads": HEADS, "dropout": 0.0, **options})
    return Mge(D, TEXTS, IMAGES, target, o).eval()


def inputs(target="image", texts=5, images=8, rows=2):
    generator = torch.Generator().manual_seed(1)
    text, image = (torch.randn(rows, n, D, generator=generator) for n in (texts, images))
    text_mask = torch.arange(texts) < torch.tensor([texts, 3])[:, None]
    image_mask = torch.arange(images) < torch.tensor([5, images])[:, None]
    if target == "image":
        return image, text, image_mask, text_mask
    return text, image, text_mask, image_mask


@pytest.mark.parametrize("target", ["image", "text"])
@pytest.mark.parametrize("options", READINGS)
def test_the_result_has_the_targets_shape_and_depends_on_both(target, options):
    one, other, one_mask, other_mask = inputs(target)
    one.requires_grad_()
    other.requires_grad_()
    found, _ = mge(target, **options)(one, other, one_mask, other_mask)
    assert found.shape == one.shape
    (found[one_mask] ** 2).sum().backward()
    assert one.grad[one_mask].abs().min(-1).values.max() > 0
    assert other.grad.any()


@pytest.mark.parametrize("target", ["image", "text"])
@pytest.mark.parametrize("options", READINGS)
def test_padding_of_either_side_changes_nothing(target, options):
    block = mge(target, **options)
    one, other, one_mask, other_mask = inputs(target)
    expected, _ = block(one, other, one_mask, other_mask)
    changed = block(
        one.masked_fill(~one_mask[..., None], 5.0),
        other.masked_fill(~other_mask[..., None], -3.0),
        one_mask,
        other_mask,
    )[0]
    torch.testing.assert_close(changed[one_mask], expected[one_mask])
    # and a row alone, without its padding, is what it is in the batch
    row = 1 if target == "text" else 0
    alone = block(
        *(x[row : row + 1, mask[row]] for x, mask in ((one, one_mask), (other, other_mask))),
        *(mask[row : row + 1, mask[row]] for mask in (one_mask, other_mask)),
    )[0]
    torch.testing.assert_close(alone[0], expected[row, one_mask[row]], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("target", ["image", "text"])
def test_row_weights_sum_to_one_over_real_tokens_and_column_weights_over_features(target):
    one, other, one_mask, other_mask = inputs(target)
    weights = mge(target)(one, other, one_mask, other_mask)[1]
    text_mask = other_mask if target == "image" else one_mask
    torch.testing.assert_close(weights["row"].sum(-1), torch.ones(2, HEADS))
    assert not weights["row"][:, :, :][~text_mask[:, None].expand(-1, HEADS, -1)].any()
    torch.testing.assert_close(weights["column"].sum(-1), torch.ones(2, HEADS))
    assert weights["column"].std(-1).min() > 1e-4


def test_the_literal_reading_makes_every_column_weight_one():
    weights = mge(column_reading="literal")(*inputs())[1]
    assert torch.equal(weights["column"], torch.ones_like(weights["column"]))
    biased = mge(column_reading="literal", column_bias=-0.05)(*inputs())[1]
    torch.testing.assert_close(biased["column"], torch.full_like(biased["column"], 0.95))


def extracted(block, target="image"):
    """f3 of Eq. 8, without the block around it."""
    one, other, one_mask, other_mask = inputs(target)
    return block(one, other, one_mask, other_mask)[0] - one


@pytest.mark.parametrize("target", ["image", "text"])
def test_rows_and_columns_add_up(target):
    both, rows, columns, neither = (
        extracted(mge(target, mge_ffn=False, use_row=row, use_col=column), target)
        for row, column in ((True, True), (True, False), (False, True), (False, False))
    )
    torch.testing.assert_close(both - neither, (rows - neither) + (columns - neither), rtol=1e-4, atol=1e-6)
    assert (rows - neither).abs().max() > 1e-4
    assert (columns - neither).abs().max() > 1e-4
    # with neither, f3(0): the same whatever is read
    block = mge(target, mge_ffn=False, use_row=False, use_col=False)
    one, other, one_mask, other_mask = inputs(target)
    torch.testing.assert_close(block(one, 3 * other, one_mask, other_mask)[0] - one, neither)


def test_equation_5_to_8_for_one_head_by_hand():
    block = mge("text", mge_heads=1, mge_ffn=False)
    text, image, text_mask, image_mask = inputs("text")
    found, _ = block(text, image, text_mask, image_mask)
    source = torch.nn.functional.layer_norm(image, (D,))
    for row in range(2):
        n, m = int(text_mask[row].sum()), int(image_mask[row].sum())
        query, key, value = (
            layer(x)
            for layer, x in (
                (block.query, block.norm(text[row, :n])),
                (block.key, source[row, :m]),
                (block.value, source[row, :m]),
            )
        )
        mixed = [
            torch.nn.functional.gelu(block.to_text.weight[:n, :m] @ each + block.to_text.bias[:n, None])
            for each in (key, value)
        ]
        mutual = block.mix_target(query) * block.mix_source(mixed[0])  # (n, d)
        rows = (mutual @ block.row.weight[0]).softmax(0)  # (n,)
        columns = (block.column[:n] @ mutual).softmax(0)  # (d,)
        expected = text[row, :n] + block.out(rows[:, None] * mixed[1] + columns * mixed[1])
        torch.testing.assert_close(found[row, :n], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("target", ["image", "text"])
def test_shared_values_are_those_of_the_sources_first_map(target):
    """Y of Eq. 7 is f1(Linear1(source)), the factor of Eq. 5."""
    own, shared = mge(target), mge(target, mge_value_map="shared")
    with torch.no_grad():
        own.value.weight.copy_(own.key.weight)
        own.value.bias.copy_(own.key.bias)
    shared.load_state_dict({name: each for name, each in own.state_dict().items() if not name.startswith("value.")})
    torch.testing.assert_close(shared(*inputs(target))[0], own(*inputs(target))[0])


@pytest.mark.parametrize("target", ["image", "text"])
def test_as_released_padding_of_the_text_enters_columns_and_in_the_image_guided_one_rows(target):
    one, other, one_mask, other_mask = inputs(target)
    weights = mge(target, mge_pad="released")(one, other, one_mask, other_mask)[1]
    padded = ~(other_mask if target == "image" else one_mask)[:, None].expand(-1, HEADS, -1)
    assert bool(weights["row"][padded].any()) == (target == "image")
    hidden = mge(target)(one, other, one_mask, other_mask)[1]
    assert (weights["column"][1] - hidden["column"][1]).abs().max() > 1e-5
    torch.testing.assert_close(weights["column"][0], hidden["column"][0])  # which has no padding


def test_a_bias_of_columns_may_be_the_image_guided_extractors_alone():
    for target, sums in (("image", D / HEADS * -0.05), ("text", 0.0)):
        options = {"column_bias": -0.05, "column_bias_side": "image"}
        weights = mge(target, **options)(*inputs(target))[1]
        torch.testing.assert_close(weights["column"].sum(-1), torch.full((2, HEADS), 1 + sums))


def test_a_source_of_which_nothing_is_real_gives_finite_states():
    for target in ("image", "text"):
        one, other, one_mask, other_mask = inputs(target)
        for options in READINGS:
            found, _ = mge(target, **options)(one, other, one_mask, torch.zeros_like(other_mask))
            assert found[one_mask].isfinite().all()


@pytest.mark.parametrize("target", ["image", "text"])
@pytest.mark.parametrize("options", [each for each in READINGS if each.get("column_reading") != "literal"])
def test_every_weight_learns(target, options):
    block = mge(target, **options)
    (block(*inputs(target))[0] ** 2).sum().backward()
    assert [name for name, each in block.named_parameters() if each.grad is None or not each.grad.any()] == []


def test_interpolation_stretches_real_positions_over_wanted_ones():
    mask = torch.tensor([[True, True, False, True]])  # values 0, 1, 2 at places 0, 1, 3
    weights = interpolation(mask, torch.tensor([[True] * 6 + [False]]))
    places = weights[0] @ torch.tensor([0.0, 1.0, 9.0, 2.0])
    torch.testing.assert_close(places, torch.tensor([0.0, 0.25, 0.75, 1.25, 1.75, 2.0, 0.0]))
    torch.testing.assert_close(interpolation(mask, mask)[0][:, [0, 1, 3]][[0, 1, 3]], torch.eye(3))
    assert not interpolation(torch.zeros(1, 4, dtype=torch.bool), mask).any()


def test_a_learnt_map_of_positions_refuses_sequences_longer_than_its_maximum():
    block = LengthMap(4, 3, "linear")
    x = torch.randn(1, 1, 5, 2)
    with pytest.raises(ValueError, match="expected lengths up to 4 to 3"):
        block(x, torch.ones(1, 5, dtype=torch.bool), x, torch.ones(1, 3, dtype=torch.bool))


def test_size_at_paper_scale():
    with torch.device("meta"):
        found = sum(each.numel() for each in Mge(768, 40, 49, "image", MgipsOptions()).parameters())
    # four projections, W_a and W_b, w3, w4, two position maps, feed-forward, two layer norms
    assert found == 4 * 590_592 + 2 * 4_160 + 64 + 40 + (40 * 49 + 40) + (49 * 40 + 49) + 4_722_432 + 3_072 == 7_100_305
