"""A prefix is attended to as the formula says, and whoever has none gets the library's own numbers."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mnerkit.data.batches.batch import TextBatch
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import TowerError
from mnerkit.towers import text_tower
from mnerkit.towers.fusion.prefix import Prefix
from mnerkit.towers.saved_state import tower_state
from mnerkit.towers.text.piece_tower import PieceTower

ROWS = [("the", "cat", "sat"), ("at", "the", "ant", "cat", "mat"), ("cat",)]
SAME = [("the", "cat"), ("cat", "the")]  # no padding: the library then builds no mask at all
LAYERS, WIDTH, POSITIONS = 3, 32, 4


@pytest.fixture(params=["bert", "roberta", "clip"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["sdpa", "eager"])
def attention(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tower(folder_of: Callable[[str], str], name: str, attention: str) -> PieceTower:
    made = text_tower(folder_of(name), facts=CorpusFacts(()))
    assert isinstance(made, PieceTower)
    made.model.set_attn_implementation(attention)
    return made.eval()


def a_prefix(rows: int = 3, seed: int = 0, scale: float = 1.0) -> Prefix:
    generator = torch.Generator().manual_seed(seed)
    draw = [torch.randn(rows, POSITIONS, WIDTH, generator=generator) * scale for _ in range(2 * LAYERS)]
    return Prefix(tuple(draw[:LAYERS]), tuple(draw[LAYERS:]), torch.ones(rows, POSITIONS, dtype=torch.bool))


def library(tower: PieceTower, text: TextBatch) -> Tensor:
    """What transformers alone returns, from a copy that never saw a prefix."""
    model = copy.deepcopy(tower.model)
    if tower.causal:
        return model.text_model(text.input_ids).last_hidden_state
    options = {"token_type_ids": text.type_ids} if "type_vocab_size" in model.config.to_diff_dict() else {}
    return model(text.input_ids, attention_mask=text.attn_mask, **options).last_hidden_state


@pytest.mark.parametrize("rows", [ROWS, SAME], ids=["padded", "full"])
def test_without_prefix_or_with_all_of_it_masked_a_tower_computes_the_librarys_numbers(
    tower: PieceTower, rows: list[tuple[str, ...]]
) -> None:
    text = tower.reader.collate(rows)
    own = library(tower, text)
    prefix = a_prefix(len(rows))
    hidden = Prefix(prefix.keys, prefix.values, torch.zeros_like(prefix.mask))
    assert not torch.equal(tower(text, prefix=prefix).pieces, own)
    assert torch.equal(tower(text).pieces, own)
    assert torch.equal(tower(text, prefix=hidden).pieces, own)
    assert torch.equal(tower(text, prefix=Prefix((None,) * LAYERS, (None,) * LAYERS, prefix.mask)).pieces, own)


def test_in_training_mode_too(tower: PieceTower) -> None:
    text = tower.reader.collate(ROWS)
    prefix = a_prefix()
    hidden = Prefix(prefix.keys, prefix.values, torch.zeros_like(prefix.mask))
    reference = copy.deepcopy(tower.model).train()
    tower(text, prefix=prefix)
    tower.train()
    outputs = []
    for each in (None, hidden):
        torch.manual_seed(3)
        outputs.append(tower(text, prefix=each).pieces)
    torch.manual_seed(3)
    own = reference.text_model(text.input_ids) if tower.causal else reference(text.input_ids, text.attn_mask)
    assert torch.equal(outputs[0], own.last_hidden_state) and torch.equal(outputs[1], own.last_hidden_state)


def test_the_prefix_is_put_before_keys_and_values_of_every_head(folder_of: Callable[[str], str]) -> None:
    """One layer of BERT by hand: softmax(Q [P_k; K]^T / sqrt(d_head)) [P_v; V], head h in columns 8h to 8h + 7."""
    tower = text_tower(folder_of("bert"), facts=CorpusFacts(())).eval()
    assert isinstance(tower, PieceTower)
    tower.keep_layers = True
    text, prefix = tower.reader.collate(ROWS), a_prefix()
    prefix.mask[1, 2:] = False
    assert text.attn_mask is not None
    layer, x = tower.model.encoder.layer[0], tower(text, prefix=prefix).layers[0]
    attention = layer.attention.self
    keys = torch.cat([prefix.keys[0], attention.key(x)], 1)
    values = torch.cat([prefix.values[0], attention.value(x)], 1)
    visible = torch.cat([prefix.mask, text.attn_mask], 1).unsqueeze(1)
    heads = []
    for head in range(4):
        columns = slice(8 * head, 8 * head + 8)
        scores = attention.query(x)[..., columns] @ keys[..., columns].transpose(1, 2) / 8**0.5
        heads.append(scores.masked_fill(~visible, -torch.inf).softmax(-1) @ values[..., columns])
    x = layer.attention.output(torch.cat(heads, -1), x)
    expected = layer.output(layer.intermediate(x), x)
    torch.testing.assert_close(tower(text, prefix=prefix).layers[1], expected)


@pytest.mark.parametrize("rows", [ROWS, SAME], ids=["padded", "full"])
def test_sdpa_and_eager_agree(folder_of: Callable[[str], str], name: str, rows: list[tuple[str, ...]]) -> None:
    tower = text_tower(folder_of(name), facts=CorpusFacts(())).eval()
    text, prefix = tower.reader.collate(rows), a_prefix(len(rows))
    prefix.mask[0, 1:], prefix.mask[-1] = False, False
    found = []
    for attention in ("sdpa", "eager"):
        tower.model.set_attn_implementation(attention)
        found.append(tower(text, prefix=prefix).words)
    torch.testing.assert_close(*found)


def test_masked_positions_padding_and_batch_mates_change_nothing(tower: PieceTower) -> None:
    prefix = a_prefix()
    prefix.mask[:, 2:], prefix.mask[2] = False, False
    together = tower(tower.reader.collate(ROWS), prefix=prefix).words
    for row, words in enumerate(ROWS):
        real = prefix.mask[row]
        cut = [
            tuple(each[row : row + 1, real] for each in side if each is not None)
            for side in (prefix.keys, prefix.values)
        ]
        alone = tower(
            tower.reader.collate([words]),
            prefix=Prefix(cut[0], cut[1], torch.ones(1, int(real.sum()), dtype=torch.bool)),
        ).words
        torch.testing.assert_close(together[row, : len(words)], alone[0], atol=1e-5, rtol=1e-5)


def test_the_order_of_positions_does_not_matter_and_the_number_of_states_stays(tower: PieceTower) -> None:
    text, prefix = tower.reader.collate(ROWS), a_prefix()
    order = torch.tensor([2, 0, 3, 1])
    turned = Prefix(*(tuple(each[:, order] for each in side) for side in (prefix.keys, prefix.values)), prefix.mask)  # type: ignore[union-attr,arg-type]
    found = tower(text, prefix=prefix).pieces
    assert found.shape == tower(text).pieces.shape
    torch.testing.assert_close(found, tower(text, prefix=turned).pieces)


def test_a_causal_tower_stays_causal(folder_of: Callable[[str], str], attention: str) -> None:
    tower = text_tower(folder_of("clip"), facts=CorpusFacts(())).eval()
    tower.model.set_attn_implementation(attention)
    prefix = a_prefix(2)
    prefix = Prefix(
        *(tuple(each[:1].expand(2, -1, -1) for each in side) for side in (prefix.keys, prefix.values)), prefix.mask
    )  # type: ignore[union-attr,arg-type]
    found = tower(tower.reader.collate([("the", "cat"), ("the", "mat")]), prefix=prefix).words
    assert torch.equal(found[0, 0], found[1, 0]) and not torch.equal(found[0, 1], found[1, 1])


def test_single_layers_can_go_without(tower: PieceTower) -> None:
    text, prefix = tower.reader.collate(ROWS), a_prefix()
    tower.keep_layers = True
    last = Prefix((None, None, prefix.keys[2]), (None, None, prefix.values[2]), prefix.mask)
    plain, found = tower(text).layers, tower(text, prefix=last).layers
    assert [torch.equal(a, b) for a, b in zip(plain, found, strict=True)] == [True, True, True, False]


def test_gradients_reach_every_key_and_value_also_of_a_prefix_that_is_masked(tower: PieceTower) -> None:
    text = tower.reader.collate(ROWS)
    for real in (True, False):
        prefix = a_prefix()
        prefix.mask[:] = real
        for each in prefix.tensors:
            each.requires_grad_(True)
        tower(text, prefix=prefix).words.pow(2).sum().backward()
        assert all(each.grad is not None and bool(each.grad.abs().sum() > 0) is real for each in prefix.tensors)


def test_a_frozen_tower_passes_gradients_and_remembers_nothing_of_prefixes(folder_of: Callable[[str], str]) -> None:
    tower = text_tower(folder_of("bert"), facts=CorpusFacts(()), freeze=True)
    text, prefix = tower.reader.collate(ROWS), a_prefix()
    before = tower(text).words
    prefix.tensors[0].requires_grad_(True)
    seen = tower(text, prefix=prefix).words
    seen.sum().backward()
    assert prefix.tensors[0].grad is not None and not torch.equal(seen, before)
    assert torch.equal(tower(text).words, before)


def test_under_autocast_the_prefix_takes_the_states_type(tower: PieceTower) -> None:
    text, prefix = tower.reader.collate(ROWS), a_prefix()
    with torch.autocast("cpu", torch.bfloat16):
        rough, without = tower(text, prefix=prefix).words, tower(text).words
    exact = tower(text, prefix=prefix).words
    assert (rough - exact).abs().mean() < 0.3 * (rough - without).abs().mean()


def test_with_gradient_checkpointing_the_gradients_are_the_same(folder_of: Callable[[str], str]) -> None:
    tower = text_tower(folder_of("bert"), facts=CorpusFacts(()))
    for module in tower.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    tower.model.config.attention_probs_dropout_prob = 0.0
    tower.train()
    text, found = tower.reader.collate(ROWS), []
    for checkpointing in (False, True):
        if checkpointing:
            tower.model.gradient_checkpointing_enable({"use_reentrant": False})
        prefix = a_prefix()
        for each in prefix.tensors:
            each.requires_grad_(True)
        tower(text, prefix=prefix).words.pow(2).sum().backward()
        found.append([each.grad for each in prefix.tensors])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again)


def test_threads_do_not_see_each_others_prefixes(folder_of: Callable[[str], str]) -> None:
    tower = text_tower(folder_of("bert"), facts=CorpusFacts(())).eval()
    text = tower.reader.collate(ROWS)
    prefixes = [None, *(a_prefix(seed=seed) for seed in range(3))]
    alone = [tower(text, prefix=each).words for each in prefixes]
    wrong: list[int] = []

    def ask(number: int) -> None:
        with torch.no_grad():
            for _ in range(20):
                if not torch.equal(tower(text, prefix=prefixes[number]).words, alone[number]):
                    wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(prefixes))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wrong


def test_the_registries_carry_a_name_of_ours_and_its_arguments_to_every_layer(
    folder_of: Callable[[str], str], name: str
) -> None:
    """What `prefix` builds on: a registered attention function and mask function are called, with our own argument."""
    import transformers

    calls: list[object] = []
    masks: list[object] = []
    base, base_mask = transformers.AttentionInterface()["sdpa"], transformers.AttentionMaskInterface()["sdpa"]

    def attend(module: torch.nn.Module, *states: Tensor | None, **kwargs: object) -> object:
        calls.append(kwargs.pop("something_of_ours"))
        return base(module, *states, **kwargs)

    def mask(*args: object, **kwargs: object) -> object:
        masks.append(args)
        return base_mask(*args, **kwargs)

    transformers.AttentionInterface.register("a_name_of_ours", attend)
    transformers.AttentionMaskInterface.register("a_name_of_ours", mask)
    tower = text_tower(folder_of(name), facts=CorpusFacts(())).eval()
    text = tower.reader.collate(ROWS)
    own = library(tower, text)
    tower.model.set_attn_implementation("a_name_of_ours")
    marker = object()
    states, _ = tower._read(text, False, something_of_ours=marker)
    assert calls == [marker] * LAYERS and masks
    assert torch.equal(states, own)


def test_a_tower_that_met_a_prefix_is_stored_as_any_other(folder_of: Callable[[str], str]) -> None:
    tower = text_tower(folder_of("bert"), facts=CorpusFacts(())).eval()
    before = tower_state(tower)
    tower(tower.reader.collate(ROWS), prefix=a_prefix())
    assert tower_state(tower) == before


def test_layers_that_never_ask_for_the_prefix_are_an_error(folder_of: Callable[[str], str]) -> None:
    tower = text_tower(folder_of("bert"), facts=CorpusFacts(())).eval()
    text = tower.reader.collate(ROWS)
    read = tower._read
    tower._read = lambda text, want, **options: read(text, want)  # an upgrade that drops unknown arguments
    with pytest.raises(TowerError, match="0 of its 3 layers take a prefix"):
        tower(text, prefix=a_prefix())


def test_a_prefix_of_another_shape_is_refused(tower: PieceTower) -> None:
    text, prefix = tower.reader.collate(ROWS), a_prefix()
    with pytest.raises(ValueError, match="3 layers, and the prefix 2 keys"):
        tower(text, prefix=Prefix(prefix.keys[:2], prefix.values[:2], prefix.mask))
    with pytest.raises(ValueError, match="not \\(3, 4, 32\\)"):
        tower(text, prefix=Prefix(prefix.keys, prefix.values, prefix.mask[:, :3]))
    with pytest.raises(ValueError, match="keys without values"):
        tower(text, prefix=Prefix(prefix.keys, (None, *prefix.values[1:]), prefix.mask))
