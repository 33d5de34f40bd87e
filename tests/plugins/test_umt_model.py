"""UMT: words and regions, the span task beside them, and the sizes of the paper."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ranks import Losses, in_two_ranks, joined
from torch.nn.parallel import DistributedDataParallel
from visual_prefix_cases import TYPES, assert_read_alike_alone, bare, batch_of, own_parameters, posts, towers
from written_out_steps import three_steps

from mnerkit.data.batches.piece_words import PieceTags, as_pieces
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.data.corpus.tags import TagSet
from mnerkit.errors import UsageError
from mnerkit.methods.heads.crf import CRFHead
from mnerkit.methods.heads.head import add_boundary, words_of
from mnerkit.methods.optimiser import BertAdam
from mnerkit.nn.untyped_spans import without_types
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.text.piece_tower import BertTower
from mnerkit.towers.text.pieces import PieceReader
from mnerkit.towers.text.tiny import tiny_tokenizer
from mnerkit.towers.vision.pretrained import ResNetTower
from mnerkit_plugins.maf.tagger import MafTagger
from mnerkit_plugins.umt.model import UmtEncoder
from mnerkit_plugins.umt.options import UmtOptions
from mnerkit_plugins.umt.tagger import UmtTagger


def encoder(captions=False, frozen=True, others=0, mixes=True, **options):
    text, sight = towers(captions, frozen)
    text.forget = 0.0
    o = UmtOptions(**{"heads": 2, "hidden": 40, "dropout": 0.0, **options})
    torch.manual_seed(1)
    made = UmtEncoder(text, None if o.fuse == "none" else sight, o, others, mixes)
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return made.eval()


def read_as(made, batch, change):
    """What the encoder returns where `change` has changed regions and mask."""
    given = made.regions
    made.regions = lambda each: change(*given(each))
    encoded = made(batch)
    del made.regions
    return encoded


def touched(made):
    """Names of the parts of an encoder that have a gradient other than zero."""
    return {
        name.split(".")[0] for name, each in made.named_parameters() if each.grad is not None and each.grad.any()
    } - {"text"}


def test_regions_have_no_order_and_the_span_task_sees_none():
    made = encoder()
    batch = batch_of(made, posts())
    plain = made(batch)
    turned = read_as(made, batch, lambda x, seen: (x.flip(1), seen.flip(1)))
    torch.testing.assert_close(turned.states, plain.states, atol=1e-5, rtol=1e-4)
    other = read_as(made, batch, lambda x, seen: (x + 1, seen))
    assert not torch.allclose(other.states, plain.states, atol=1e-3)
    assert torch.equal(other.boundary, plain.boundary) and torch.equal(other.losses["span"], plain.losses["span"])


def test_hidden_regions_and_ids_behind_the_words_count_for_nothing():
    made = encoder()
    batch = batch_of(made, posts())

    def hide(x, seen, size=0.0):
        hidden = torch.zeros_like(seen).index_fill(1, torch.tensor([1, 3]), True)
        return x + size * hidden.unsqueeze(-1), seen & ~hidden

    one, other = (read_as(made, batch, lambda x, seen, size=size: hide(x, seen, size)) for size in (0.0, 9.0))
    assert torch.equal(one.states, other.states)
    before = made(batch).states
    batch.text.input_ids = torch.where(batch.text.attn_mask, batch.text.input_ids, 7)
    torch.testing.assert_close(made(batch).states, before, atol=0, rtol=0)


def test_a_post_without_pictures_is_read_without_keys():
    made = encoder()
    batch = batch_of(made, [bare(each) for each in posts()])
    before = made(batch).states
    torch.nn.init.normal_(made.region_map.bias)
    torch.nn.init.normal_(made.region_map_2.bias)
    assert torch.equal(made(batch).states, before) and before.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"captions": True}, {"fuse": "visual"}, {"span_mix": 1.0}])
def test_a_post_is_read_alike_alone_and_among_longer_ones_in_training_too(options):
    made = encoder(**options).train()
    assert_read_alike_alone(made, made(batch_of(made, posts())).states[0])


def test_half_of_the_emissions_are_the_spans_shared_among_the_types():
    made = encoder()
    batch = batch_of(made, posts())
    head = CRFHead()
    head.build(made.width, batch.tagset)

    def emissions():
        encoded = made(batch)
        return head.emissions(words_of(encoded, batch), encoded), head.linear(encoded.states)

    before, typed = emissions()
    u = made.spans.emissions(made.auxiliary(made.text(batch.text).words, batch.text.read_mask))
    expected = 0.5 * typed + 0.5 * torch.cat([u[..., :1], (u[..., 1:] / len(TYPES)).repeat(1, 1, len(TYPES))], -1)
    real = batch.text.read_mask
    torch.testing.assert_close(before[0][real], expected[0][real])
    with torch.no_grad():
        made.spans.linear.bias[1] += 8.0  # B
    change = (emissions()[0] - before)[0][real]
    wanted = torch.tensor([0.0, *(8 / (2 * len(TYPES)), 0.0) * len(TYPES)])
    torch.testing.assert_close(change, wanted.expand_as(change), atol=1e-4, rtol=1e-4)


def test_untyped_tags_and_scores_know_the_tags_of_other_pieces():
    tagset = TagSet(("A", "B"), ("X", "[CLS]"))
    assert without_types(torch.arange(len(tagset)), 2).tolist() == [0, 1, 2, 1, 2, 3, 4]
    made = encoder(others=2)
    batch = as_pieces(batch_of(made, posts()), PieceTags(unused=(), end="X"))
    encoded = made(batch)
    assert encoded.boundary.shape[-1] == 5 and encoded.head_share == 0.5
    count = len(batch.tagset)
    scores = add_boundary(torch.zeros(1, *encoded.boundary.shape[:2], count), encoded, words_of(encoded, batch))[0]
    b, i, o, x, start = encoded.boundary.unbind(-1)
    torch.testing.assert_close(scores, torch.stack([o, *(b, i) * len(TYPES), x, start], -1))


def test_the_losses_train_what_they_are_of():
    made = encoder()
    batch = batch_of(made, posts())
    encoded = made(batch)
    encoded.losses["span"].backward()
    assert touched(made) == {"auxiliary", "spans"}
    embeddings = made.text.model.embeddings.word_embeddings
    assert embeddings.padding_idx is not None and not embeddings.weight.grad[embeddings.padding_idx].any()
    made.zero_grad()
    encoded = made(batch)
    (encoded.boundary[batch.text.read_mask].square().sum() + encoded.states.square().sum()).backward()
    assert "spans" in touched(made)  # by the mix, whatever the weight of its loss
    assert not made.spans.crf.transitions.grad
    assert {"main", "visual", "textual", "region_reader", "gate", "region_map", "region_map_2"} <= touched(made)
    alone = encoder(span_mix=1.0, span_weight=0.0)
    assert alone.spans is None and alone(batch).boundary is None and not alone(batch).losses
    assert encoder(span_mix=1.0)(batch).boundary is None and "span" in encoder(span_mix=1.0)(batch).losses
    assert encoder(mixes=False)(batch).boundary is None
    assert UmtTagger(span_weight=0.3).loss_weights() == {"span": 0.3}


def test_the_regions_of_several_images_are_read_together():
    made = encoder()
    one = batch_of(made, posts())
    twice = [replace(each, images=(*each.images, *each.images)) for each in posts()]
    both = batch_of(made, twice, images=2)
    count = made.regions(one)[0].shape[1]
    assert made.regions(both)[0].shape[1] == 2 * count
    # keys that stand twice change nothing
    torch.testing.assert_close(made(both).states, made(one).states, atol=1e-5, rtol=1e-4)
    assert made(both, trace=True).trace["attention"].shape[-1] == 2 * count


@pytest.mark.parametrize(
    "options", [{"fuse": "visual"}, {"fuse": "none"}, {"gate": False}, {"visual_layers": 2}, {"textual_layers": 2}]
)
def test_every_reading_runs_and_differs(options):
    made, other = encoder(), encoder(**options)
    batch = batch_of(made, posts())
    states = other(batch).states
    assert states.shape[-1] == other.width
    assert states.shape != made(batch).states.shape or not torch.allclose(states, made(batch).states)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(UsageError, match=r"--model\.heads 5 does not divide"):
        encoder(heads=5)


def test_at_the_papers_size_it_has_the_papers_parameters():
    from transformers import BertConfig, BertModel

    with torch.device("meta"):
        model = BertModel(BertConfig(vocab_size=28996))
        whole = sum(each.numel() for each in model.parameters())
        text = BertTower("bert", model, PieceReader(tiny_tokenizer(["a"]), "[UNK]"))
        sight = Sight(freeze(ResNetTower("random:resnet152", "resnet152")))
        made = UmtEncoder(text, sight, UmtOptions(), others=4)
        head = CRFHead()
        head.build(made.width, TagSet(("a", "b", "c", "d"), ("X", "[CLS]", "[SEP]", "PAD")))
    layer = 7_087_872
    parts = {"auxiliary": layer, "main": layer, "visual": layer, "region_reader": layer, "textual": layer}
    parts |= {"region_map": 1_573_632, "region_map_2": 1_573_632, "gate": 1_180_416, "spans": 5_383 + 63}
    assert own_parameters(made) == parts
    assert sum(each.numel() for each in head.parameters()) == 19_981 + 195
    assert whole + sum(parts.values()) + 19_981 + 195 == 148_102_934


def test_the_authors_optimiser_is_an_option(monkeypatch):
    monkeypatch.setattr(UmtTagger, "trainer", SimpleNamespace(estimated_stepping_batches=10))
    for name, kind in (("bert_adam", BertAdam), ("adamw", torch.optim.AdamW)):
        tagger = UmtTagger(optimiser=name, heads=2, warmup=0.2, lr=0.5, weight_decay=0.3)
        tagger.build(CorpusFacts.of(TYPES, posts()))
        made = tagger.configure_optimizers()
        assert type(made["optimizer"]) is kind
        decay = {id(w): g["weight_decay"] for g in made["optimizer"].param_groups for w in g["params"]}
        assert decay[id(tagger.head.crf.start_transitions)] == (0.3 if name == "bert_adam" else 0.0)
        assert decay[id(tagger.encoder.main[0].look.norm.weight)] == 0.0


@pytest.mark.parametrize("kind", [UmtTagger, MafTagger])
def test_three_steps_are_those_of_the_released_optimiser(kind, monkeypatch):
    """MAF's code has UMT's: one rate for every weight, tensors clipped one by one, no correction, written out."""
    lr, decay, steps, warmup = 3e-3, 0.1, 10, 0.2
    drawn = {"draw": "last", "negative_count": 2} if kind is MafTagger else {}
    made = kind(
        text="tiny-bert", heads=2, hidden=40, dropout=0.0, subword="X", freeze_vision=True, optimiser="bert_adam",
        lr=lr, weight_decay=decay, warmup=warmup, **drawn,
    )  # fmt: skip
    torch.manual_seed(0)
    made.build(CorpusFacts.of(TYPES, posts()))
    for module in made.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    made.encoder.text.forget = 0.0
    start = {name: each.detach().clone() for name, each in made.named_parameters()}

    def update(step, name, weight, gradient, mean, square):
        share = step / steps
        rate = lr * (share / warmup if share < warmup else 1 - share)
        gradient = gradient * min(1.0, 1 / (float(gradient.norm()) + 1e-6))
        mean.mul_(0.9).add_(0.1 * gradient)
        square.mul_(0.999).add_(0.001 * gradient.square())
        free = name.endswith("bias") or "norm." in name.lower()
        weight.sub_(rate * (mean / (square.sqrt() + 1e-6) + (0 if free else decay) * weight))

    weights = three_steps(made, batch_of(made.encoder, posts()), steps, update, monkeypatch)
    assert all(not torch.equal(weight, start[name]) for name, weight in weights.items())
    # a bias of all keys moves no softmax, so its gradients are rounding
    for name, weight in weights.items():
        if not name.endswith("key.bias"):
            torch.testing.assert_close(made.get_parameter(name), weight, rtol=1e-4, atol=1e-5, msg=name)


def _step(rank: int, folder: Path) -> None:
    with joined(rank, folder):
        made = encoder().train()
        rows = [bare(each) for each in posts()[:2]] if rank == 0 else posts()[2:]
        total, losses = DistributedDataParallel(Losses(made))(batch_of(made, rows), 1.0)
        total.backward()
        assert torch.isfinite(losses["span"])
        assert [name for name, each in made.named_parameters() if each.requires_grad and each.grad is None] == []


def test_two_ranks_train_where_one_has_no_pictures(tmp_path: Path) -> None:
    in_two_ranks(_step, tmp_path)
