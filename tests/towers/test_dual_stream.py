"""Two towers step side by side: each alone where the other has nothing, and by the formula where it has."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import UsageError
from mnerkit.towers import text_tower, vision_tower
from mnerkit.towers.fusion.dual_stream import CropEmbedding, DualStream, Stream, text_embedding

ROWS = [("the", "cat", "sat"), ("at", "the", "ant", "cat", "mat"), ("cat",)]
CROPS, SIZE = 2, 16  # of 2 x 2 patches


@pytest.fixture(params=["sdpa", "eager"])
def towers(folder_of: Callable[[str], str], request: pytest.FixtureRequest):
    text = text_tower(folder_of("bert"), facts=CorpusFacts(()))
    vision = vision_tower(folder_of("clip"))
    for tower in (text, vision):
        tower.model.set_attn_implementation(request.param)
    return text.eval(), vision.eval()


def pictures(seed: int = 0) -> Tensor:
    return torch.randn(3, CROPS, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


MASK = torch.tensor([[True, True], [True, False], [False, False]])


def streams(towers, crops: Tensor, crop_mask: Tensor, embedding: CropEmbedding) -> tuple[Stream, Stream]:
    text, _ = towers
    batch = text.reader.collate(ROWS)
    seen, given = embedding(crops, crop_mask)
    own = given.clone()
    own[:, 0] = True
    return Stream(text_embedding(text, batch), batch.attn_mask, batch.attn_mask), Stream(seen, own, given)


def embedding_of(towers) -> CropEmbedding:
    torch.manual_seed(1)
    return CropEmbedding(towers[1], CROPS, SIZE)


@pytest.mark.parametrize("name", ["bert", "roberta"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("source", ["previous", "same_layer_vision_first"])
@pytest.mark.parametrize("first_layer", ["raw", "projected", "none"])
def test_with_all_foreign_keys_masked_both_are_what_the_library_computes(
    folder_of, name, attention, source, first_layer
):
    text, vision = text_tower(folder_of(name), facts=CorpusFacts(())).eval(), vision_tower(folder_of("clip")).eval()
    for tower in (text, vision):
        tower.model.set_attn_implementation(attention)
    batch = text.reader.collate(ROWS)
    alone, alone_vision = copy.deepcopy(text.model), copy.deepcopy(vision.model.vision_model)
    options = {"token_type_ids": batch.type_ids} if text.typed else {}
    expected = alone(batch.input_ids, attention_mask=batch.attn_mask, **options).last_hidden_state
    embedding = CropEmbedding(vision, CROPS, SIZE)
    seen, _ = embedding(pictures(), torch.ones(3, CROPS, dtype=torch.bool))
    everything, nothing = torch.ones(seen.shape[:2], dtype=torch.bool), torch.zeros(seen.shape[:2], dtype=torch.bool)
    dual = DualStream(text, vision, source, first_layer)
    one = Stream(text_embedding(text, batch), batch.attn_mask, torch.zeros_like(batch.attn_mask))
    states, patches = dual(one, Stream(seen, everything, nothing))
    assert torch.equal(states[-1], expected)
    assert torch.equal(patches[-1], alone_vision.encoder(inputs_embeds=seen).last_hidden_state)
    assert len(states) == len(patches) == 4
    # maps between the two hang on the result with a gradient of zero
    states[-1].sum().backward()
    assert all(not each.grad.any() for each in dual.parameters())


def test_a_text_layer_attends_to_the_other_streams_keys_of_the_layer_before(towers):
    text, vision = towers
    embedding, dual = embedding_of(towers), DualStream(*towers)
    one, other = streams(towers, pictures(), MASK, embedding)
    states, patches = dual(one, other)
    heads, size = 4, 8

    def split(x: Tensor) -> Tensor:
        return x.unflatten(-1, (heads, size)).transpose(1, 2)

    for number, layer in enumerate(text.model.encoder.layer):
        attention, previous = layer.attention.self, states[number]
        if number == 0:
            keys = values = patches[0]  # Eq. 3
        else:
            # what vision's layer before attended with: its own part alone
            inner = vision.model.vision_model.encoder.layers[number - 1]
            normed = inner.layer_norm1(patches[number - 1])
            keys, values = inner.self_attn.k_proj(normed), inner.self_attn.v_proj(normed)
        keys, values = dual.joints[number][0](keys), dual.joints[number][1](values)
        k = torch.cat([split(keys), split(attention.key(previous))], 2)
        v = torch.cat([split(values), split(attention.value(previous))], 2)
        scores = split(attention.query(previous)) @ k.transpose(-1, -2) / math.sqrt(size)
        mask = torch.cat([other.shared, one.mask], 1)[:, None, None]
        mixed = (scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v).transpose(1, 2).flatten(2)
        expected = layer.feed_forward_chunk(layer.attention.output(mixed, previous))
        real = one.mask
        torch.testing.assert_close(states[number + 1][real], expected[real], rtol=1e-4, atol=1e-5)


def test_neither_masked_crops_nor_padding_change_anything(towers):
    embedding, dual = embedding_of(towers), DualStream(*towers)
    one, other = streams(towers, pictures(), MASK, embedding)
    states, patches = dual(one, other)
    changed = pictures().masked_fill(~MASK[..., None, None, None], 7.0)
    again = dual(*streams(towers, changed, MASK, embedding))
    real = other.shared
    torch.testing.assert_close(again[0][-1], states[-1])
    torch.testing.assert_close(again[1][-1][real], patches[-1][real])
    one.states = torch.where(one.mask[..., None], one.states, torch.full_like(one.states, 3.0))
    padded = dual(one, other)
    torch.testing.assert_close(padded[0][-1][one.mask], states[-1][one.mask])
    torch.testing.assert_close(padded[1][-1][real], patches[-1][real])


def test_a_row_without_pictures_is_read_as_text_alone(towers):
    text, _ = towers
    embedding, dual = embedding_of(towers), DualStream(*towers)
    states, _ = dual(*streams(towers, pictures(), MASK, embedding))
    batch = text.reader.collate(ROWS)
    alone = text(batch).pieces
    real = batch.attn_mask[2]
    torch.testing.assert_close(states[-1][2][real], alone[2][real], rtol=1e-5, atol=1e-6)
    assert (states[-1][0] - alone[0]).abs().max() > 1e-3


def test_without_positions_permuted_patches_permute_their_states_and_leave_words_alone(towers):
    embedding, dual = embedding_of(towers), DualStream(*towers)
    with torch.no_grad():
        embedding.position.zero_()
    everything = torch.ones(3, CROPS, dtype=torch.bool)
    one, other = streams(towers, pictures(), everything, embedding)
    states, patches = dual(one, other)
    order = torch.tensor([0, 8, 3, 5, 1, 2, 7, 4, 6])  # the class token stays
    again = dual(one, Stream(other.states[:, order], other.mask, other.shared))
    torch.testing.assert_close(again[0][-1], states[-1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(again[1][-1], patches[-1][:, order], rtol=1e-4, atol=1e-5)


def test_each_reading_computes_something_else(towers):
    embedding = embedding_of(towers)
    found = []
    for source in ("previous", "same_layer_vision_first"):
        for first_layer in ("raw", "projected", "none"):
            torch.manual_seed(2)
            dual = DualStream(*towers, source, first_layer)  # type: ignore[arg-type]
            found.append(dual(*streams(towers, pictures(), MASK, embedding))[0][-1])
    for place, one in enumerate(found):
        assert all((one - other).abs().max() > 1e-4 for other in found[:place])


@pytest.mark.parametrize("first_layer", ["raw", "projected", "none"])
def test_texts_first_layer_reads_the_same_whoever_runs_first(towers, first_layer):
    embedding, found = embedding_of(towers), []
    for source in ("previous", "same_layer_vision_first"):
        torch.manual_seed(2)
        dual = DualStream(*towers, source, first_layer)  # type: ignore[arg-type]
        found.append(dual(*streams(towers, pictures(), MASK, embedding)))
    (texts, images), (other_texts, other_images) = found
    torch.testing.assert_close(other_texts[1], texts[1])
    torch.testing.assert_close(other_images[1], images[1])
    assert (other_texts[2] - texts[2]).abs().max() > 1e-4


def test_every_weight_of_both_layers_and_maps_learns(towers):
    embedding, dual = embedding_of(towers), DualStream(*towers)
    states, patches = dual(*streams(towers, pictures(), MASK, embedding))
    (states[-1].square().sum() + patches[-1].square().sum()).backward()
    assert all(each.grad.any() for each in [*dual.parameters(), embedding.position])
    assert all(each.grad.any() for each in towers[0].model.encoder.parameters())


def test_two_streams_of_words_need_no_maps(folder_of):
    one, other = (text_tower(folder_of("bert"), facts=CorpusFacts(())).eval() for _ in range(2))
    assert not list(DualStream(one, other).parameters())


def test_towers_that_can_not_step_together_are_refused(folder_of, tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizer

    text = text_tower(folder_of("bert"), facts=CorpusFacts(()))
    with pytest.raises(UsageError, match="can't run beside"):
        DualStream(text, vision_tower("tiny"))  # type: ignore[arg-type]
    BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}).save_pretrained(tmp_path)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    BertModel(BertConfig(vocab_size=5, **sizes)).save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="one depth"):
        DualStream(text, text_tower(str(tmp_path), facts=CorpusFacts(())))
    with pytest.raises(UsageError, match="multiple"):
        CropEmbedding(vision_tower(folder_of("clip")), 3, 20)
