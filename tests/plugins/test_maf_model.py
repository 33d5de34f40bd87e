"""MAF: negatives, matching, alignment, and the sizes of the released model."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from ranks import Losses, in_two_ranks, joined
from torch.nn.parallel import DistributedDataParallel
from visual_prefix_cases import assert_read_alike_alone, bare, batch_of, own_parameters, posts, towers

from mnerkit.data.batches.piece_words import PieceTags, as_pieces
from mnerkit.errors import UsageError
from mnerkit.nn.contrast import info_nce
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.text.piece_tower import BertTower
from mnerkit.towers.text.pieces import PieceReader
from mnerkit.towers.text.tiny import tiny_tokenizer
from mnerkit.towers.vision.pretrained import ResNetTower
from mnerkit_plugins.maf.model import MafEncoder
from mnerkit_plugins.maf.options import MafOptions
from mnerkit_plugins.maf.tagger import MafTagger

RELEASED = {"negatives": "states", "draw": "last", "ner_on_negatives": True, "negative_count": 4}


def encoder(captions=False, frozen=True, **options):
    text, sight = towers(captions, frozen)
    text.forget = 0.0
    torch.manual_seed(1)
    made = MafEncoder(text, sight, MafOptions(**{"heads": 2, "hidden": 40, "dropout": 0.0, **options}))
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return made.eval()


def pieces(made):
    return as_pieces(batch_of(made, posts()), PieceTags())


@pytest.mark.parametrize("count", [2, 4])
def test_the_last_posts_of_a_batch_exchange_and_are_negative(count):
    made = encoder(**{**RELEASED, "negative_count": count})
    partner, label, negatives = made.draw(6, torch.arange(6))
    assert negatives.tolist() == torch.nonzero(label == 0).flatten().tolist()
    assert torch.equal(partner[partner], torch.arange(6))
    assert label.tolist() == [1] * (6 - count) + [0] * count
    assert (partner != torch.arange(6)).tolist() == (label == 0).tolist()


def test_of_an_odd_number_the_last_keeps_its_own_and_small_batches_exchange_nothing():
    made = encoder(**{**RELEASED, "negative_count": 3})
    partner, label, negatives = made.draw(5, torch.arange(5))
    assert negatives.tolist() == [2, 3]
    assert partner.tolist() == [0, 1, 3, 2, 4] and label.tolist() == [1, 1, 0, 0, 0]
    partner, label, negatives = made.draw(3, torch.arange(3))
    assert not len(negatives)
    assert partner.tolist() == [0, 1, 2] and label.all()


def test_random_negatives_are_a_derangement_of_posts_with_pictures():
    made = encoder(negative_share=0.5)
    posts = torch.arange(10)
    for seed in range(20):
        torch.manual_seed(seed)
        partner, label, negatives = made.draw(13, posts)
        changed = partner != torch.arange(13)
        assert negatives.tolist() == torch.nonzero(changed).flatten().tolist()
        assert changed.sum() == 5 and torch.equal(changed, label == 0) and not changed[10:].any()
        assert sorted(partner.tolist()) == list(range(13))
    assert made.draw(3, torch.tensor([0, 1]))[1].all()
    assert encoder(negative_share=0.0).draw(13, posts)[1].all()


def test_evaluation_depends_neither_on_negatives_nor_on_batch_mates():
    made, other = encoder(**RELEASED), encoder(**{**RELEASED, "negative_count": 2})
    batch = batch_of(made, posts())
    encoded = made(batch)
    assert torch.equal(encoded.states, other(batch).states) and not encoded.losses
    assert_read_alike_alone(made, encoded.states[0])
    exchanging, exchanged = made.train()(batch), other.train()(batch)
    assert not torch.allclose(exchanging.states[0, 2], exchanged.states[0, 2])
    assert torch.allclose(exchanging.states[0, 0], encoded.states[0, 0], atol=1e-5)
    # the sane reading tags each post by its own pictures
    sane = encoder()
    torch.testing.assert_close(sane.train()(batch).states, sane.eval()(batch).states, atol=1e-5, rtol=1e-4)


def test_a_picture_that_does_not_match_is_not_seen():
    made = encoder()
    batch = batch_of(made, posts())
    with torch.no_grad():
        made.matching.weight.zero_()
        made.matching.bias.copy_(torch.tensor([60.0, -60.0]))
    states, text = made(batch).states[0], made.text(batch.text).words
    width = text.shape[-1]
    torch.testing.assert_close(states[..., :width], text)
    assert float(states[..., width:].detach().abs().max()) < 1e-20


def test_what_tagging_and_the_side_losses_train():
    made = encoder()
    batch = batch_of(made, posts())

    def touched(loss):
        made.zero_grad()
        loss.backward()
        return {n.split(".")[0] for n, p in made.named_parameters() if p.grad is not None and p.grad.any()} - {"text"}

    tagging = touched(made.train()(batch).states.square().sum())
    assert {"matching", "visual", "gate", "region_map"} == tagging  # matching through P, alignment not at all
    assert touched(made(batch).losses["align"]) == {"sentence", "align_text", "align_image"}
    assert "gate" not in touched(made(batch).losses["match"])
    assert MafTagger(alpha=1.0).loss_weights() == {"head": 1.0, "match": 0.0, "align": 0.0}
    assert MafTagger(alpha=0.0).loss_weights() == {"head": 0.0, "match": 1.0, "align": 1.0}


def test_regions_have_no_order():
    made = encoder()
    batch = batch_of(made, posts())
    plain, given = made(batch).states, made.regions

    def turned(each):
        seen = given(each)
        return seen._replace(x=seen.x.flip(1), mask=seen.mask.flip(1))

    made.regions = turned
    torch.testing.assert_close(made(batch).states, plain, atol=1e-5, rtol=1e-4)


def test_only_the_released_matching_reads_the_padding():
    for pool in ("mean", "flat"):
        made = encoder(text="tiny-bert", match_pool=pool, subword="X", max_tokens=40)
        batch = pieces(made)
        before = made(batch).states
        batch.text.input_ids = torch.where(batch.text.attn_mask, batch.text.input_ids, 7)
        after = made(batch).states
        assert torch.equal(before, after) == (pool == "mean")
    # rows are padded to the length that the released head reads
    longest = batch.text.input_ids.shape[1]
    assert longest < 40 and made.matching.in_features == 2 * made.text.width * 40
    with pytest.raises(UsageError, match=r"give --model\.subword X"):
        MafOptions(match_pool="flat")


def test_the_alignment_is_a_contrast_of_directions():
    made = encoder(lambda_c=0.5)
    torch.manual_seed(0)
    t, v, valid = torch.randn(5, 32), torch.randn(5, 32), torch.ones(5, dtype=torch.bool)

    def loss(a, b, weight=0.7):
        return float(info_nce(a, b, 0.179, weight))

    assert loss(3 * t, 0.1 * v) == pytest.approx(loss(t, v), abs=1e-5)
    assert loss(t[:1].expand(5, -1), v[:1].expand(5, -1)) == pytest.approx(math.log(5), abs=1e-5)
    assert loss(t[:1], v[:1]) == pytest.approx(0, abs=1e-6)
    assert loss(t, v, 0.5) == pytest.approx(loss(v, t, 0.5), abs=1e-5)
    one, other = (encoder(lambda_c=0.7, lambda_c_on=on) for on in ("t2i", "i2t"))
    sentence, image = torch.randn(5, 32), torch.randn(5, one.sight.pooled_width)
    first, second = (float(each.aligned(sentence, image, valid)) for each in (one, other))
    middle = float(made.aligned(sentence, image, valid))
    assert first != pytest.approx(second) and (first + second) / 2 == pytest.approx(middle, abs=1e-5)


@pytest.mark.parametrize("negatives", ["image", "states"])
def test_with_one_picture_for_all_a_match_can_be_told_by_the_released_negatives_alone(negatives):
    made = encoder(**{**RELEASED, "negatives": negatives})
    batch = batch_of(made, posts())
    batch.images = batch.images[:1].expand_as(batch.images)
    s, seen = made.text(batch.text).words, made.regions(batch)
    v = made.region_map(seen.x[:1]).expand(len(batch), -1, -1)
    z, mask = made.visual(s, seen.mask, v), batch.text.read_mask
    partner, _, rows = made.draw(len(batch), made.sight.posts(batch))
    other = made.exchanged(s, z, v, seen.mask, partner, rows)
    same = torch.allclose(made.scores(s, other, mask), made.scores(s, z, mask), atol=1e-5)
    assert same == (negatives == "image")


def test_posts_without_pictures_are_in_no_side_loss():
    made = encoder(draw="last", negative_count=99).train()
    rows = [*posts()[:3], *(bare(each) for each in posts()[3:])]
    losses, alone = made(batch_of(made, rows)).losses, made(batch_of(made, posts()[:3])).losses
    for name, loss in losses.items():
        torch.testing.assert_close(loss, alone[name], atol=1e-5, rtol=1e-4)
    nothing = made(batch_of(made, [bare(each) for each in posts()])).losses
    assert {name: float(each) for name, each in nothing.items()} == {"match": 0.0, "align": 0.0}


@pytest.mark.parametrize("options", [{}, {"captions": True}])
def test_pictures_or_captions_of_one_or_several_images_are_read(options):
    made = encoder(**options)
    encoded = made(batch_of(made, posts(), images=2), trace=True)
    assert encoded.states.isfinite().all() and encoded.trace["match"].shape == (len(posts()),)


def test_at_the_papers_size_it_has_the_released_parameters():
    from transformers import BertConfig, BertModel

    def made(**options):
        with torch.device("meta"):
            model = BertModel(BertConfig(vocab_size=28996))
            text = BertTower("bert", model, PieceReader(tiny_tokenizer(["a"]), "[UNK]"))
            sight = Sight(freeze(ResNetTower("random:resnet152", "resnet152")))
            return own_parameters(MafEncoder(text, sight, MafOptions(**options)))

    flat = made(text="bert-base-cased", match_pool="flat", subword="X")
    parts = {"visual": 7_087_872, "region_map": 1_573_632, "gate": 1_181_184, "matching": 393_218}
    align = flat.pop("align_text") + flat.pop("align_image")
    pooler = flat.pop("sentence")
    assert flat == parts and align == 3_345_408 and pooler == 590_592
    assert made()["matching"] == 3_074
    bert, tags = 108_310_272, 19_981 + 195
    assert bert + sum(parts.values()) + align + tags == 121_911_762


def _step(rank: int, folder: Path) -> None:
    with joined(rank, folder):
        made = encoder().train()
        rows = [bare(each) for each in posts()[:2]] if rank == 0 else posts()[2:]
        total, losses = DistributedDataParallel(Losses(made))(batch_of(made, rows), 1.0)
        total.backward()
        assert all(torch.isfinite(each) for each in losses.values()) and len(losses) == 2
        assert [name for name, each in made.named_parameters() if each.requires_grad and each.grad is None] == []


def test_two_ranks_train_where_one_has_no_pictures(tmp_path: Path) -> None:
    in_two_ranks(_step, tmp_path)
