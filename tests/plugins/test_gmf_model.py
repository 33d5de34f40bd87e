"""GMF: guidance, cross-scale attention and matching, each by its equations and its limits."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from visual_prefix_cases import (
    LAYERS,
    STAGES,
    TYPES,
    WIDTH,
    VisualPrefixCases,
    assert_read_alike_alone,
    bare,
    batch_of,
    own_parameters,
    paper_towers,
    posts,
    towers,
    without_gradient,
)

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import UsageError
from mnerkit.methods.heads.crf import CRFHead
from mnerkit_plugins.gmf.model import GmfEncoder
from mnerkit_plugins.gmf.options import GmfOptions
from mnerkit_plugins.gmf.tagger import GmfTagger


def encoder(captions=False, frozen=True, **options):
    made = GmfEncoder(*towers(captions, frozen), GmfOptions(**{"prefix_grid": 2, "dropout": 0.0, **options}))
    return made.eval()


class TestGmf(VisualPrefixCases):
    def encoder(self):
        return encoder()


def test_without_guidance_and_matching_it_is_the_text_tower():
    text, _ = towers()
    made = GmfEncoder(text, None, GmfOptions(vcg=False, alpha=1.0, dropout=0.0)).eval()
    batch = batch_of(encoder(), posts())
    assert torch.equal(made(batch).states[0], text(batch.text).words)
    assert own_parameters(made) == {}


@pytest.mark.parametrize(
    "options", [{}, {"vcg": "last_stage_only"}, {"csa": False}, {"standardise": True}, {"captions": True}]
)
def test_a_post_is_read_alike_alone_and_among_longer_ones_and_sees_its_picture(options):
    made = encoder(**options)
    batch = batch_of(made, posts())
    together = made(batch).states[0]
    assert (together - made.text(batch.text).words).abs().amax((1, 2)).min() > 1e-5
    assert_read_alike_alone(made, together)


def test_the_prefix_is_that_of_the_equations():
    """Position 2 of the first picture by hand: CSA, conv1x1 of the pooled stages, gates, W_phi; keys, then values."""
    from mnerkit.towers.fusion.stage_maps import StageMaps

    made = encoder()
    seen = StageMaps.of(made.sight, batch_of(made, posts()[:1]))
    refined = made.refine(seen.maps)
    torch.testing.assert_close(refined[1], seen.maps[1] * (1 + made.csa[1].attention(seen.maps[1])))
    v = torch.stack(
        [
            functional.linear(functional.adaptive_avg_pool2d(each, 2)[0].flatten(1).T, to.weight, to.bias)
            for each, to in zip(refined, made.pyramid.maps, strict=True)
        ]
    )  # (b, P, d)
    gamma = functional.leaky_relu(made.gate.map(v.mean((0, 1)))).view(LAYERS, STAGES).softmax(-1)
    phi = made.to_prefix[1](torch.einsum("i,id->d", gamma[1], v[:, 2]))
    prefix, gates = made.prefix(seen, refined)
    torch.testing.assert_close(gates[0, 0], gamma)
    torch.testing.assert_close(prefix.keys[1][0, 2], phi[:WIDTH], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prefix.values[1][0, 2], phi[WIDTH:], atol=1e-5, rtol=1e-4)


def test_layers_can_go_without_prefix_and_share_its_projection():
    made = encoder(prefix_layers=[1], prefix_share_layers=True)
    made.text.keep_layers = True
    batch = batch_of(made, posts())
    from mnerkit.towers.fusion.stage_maps import StageMaps

    seen = StageMaps.of(made.sight, batch)
    prefix, _ = made.prefix(seen, made.refine(seen.maps))
    assert prefix.keys[0] is None and prefix.keys[1] is not None
    plain, found = made.text(batch.text).layers, made.text(batch.text, prefix=prefix).layers
    assert torch.equal(plain[1], found[1]) and not torch.equal(plain[2], found[2])
    assert len(encoder(prefix_share_layers=True).to_prefix) == 1 and len(encoder().to_prefix) == LAYERS
    with pytest.raises(UsageError, match="the layers 0 to 1"):
        encoder(prefix_layers=[2])


def test_captions_have_no_cross_scale_attention():
    made = encoder(captions=True)
    assert len(made.csa) == 0 and len(encoder().csa) == STAGES
    assert made.pyramid.grid is None


@pytest.mark.parametrize("rows", ["all", "none"])
def test_with_captions_every_weight_has_a_gradient_also_where_no_post_has_one(rows):
    made = encoder(captions=True).train()
    chosen = [bare(each) for each in posts()] if rows == "none" else posts()
    encoded = made(batch_of(made, chosen))
    (encoded.states.square().sum() + encoded.losses["matching"]).backward()
    assert without_gradient(made) == []


# ---------------------------------------------------------------------- consistency matching


def match(made, sentences, images):
    return made.match(sentences, images, torch.ones(len(images), dtype=torch.bool))


def test_the_matching_weighs_image_to_text_by_lambda():
    torch.manual_seed(0)
    made, c, v = encoder(tau=0.5), torch.randn(4, WIDTH), torch.randn(4, WIDTH)
    c_n = functional.normalize(made.match_text(torch.tanh(made.sentence(c))), dim=-1)
    p_n = functional.normalize(made.match_image(v), dim=-1)
    own, scores = torch.arange(4), p_n @ c_n.T / 0.5
    to_text, to_image = functional.cross_entropy(scores, own), functional.cross_entropy(scores.T, own)
    torch.testing.assert_close(match(made, c, v), 0.7 * to_text + 0.3 * to_image)
    for options, expected in (
        ({"cm_lambda": 1.0}, to_text),
        ({"cm_lambda": 1.0, "cm_lambda_on": "t2i"}, to_image),
    ):
        again = encoder(tau=0.5, **options)
        again.load_state_dict(made.state_dict())
        torch.testing.assert_close(match(again, c, v), expected)


def test_the_matching_at_its_limits():
    made = encoder()
    same = torch.ones(5, WIDTH)
    assert match(made, same, same).item() == pytest.approx(math.log(5), abs=1e-5)
    assert match(made, same[:1], same[:1]).item() == 0
    torch.manual_seed(0)
    c, v, order = torch.randn(5, WIDTH), torch.randn(5, WIDTH), torch.randperm(5)
    torch.testing.assert_close(match(made, c, v), match(made, c[order], v[order]))
    valid = torch.tensor([True, True, False, True, False])
    torch.testing.assert_close(made.match(c, v, valid), match(made, c[valid], v[valid]))


@pytest.mark.parametrize(
    ("cm_text", "depends", "taught"), [("plain", False, True), ("fused", True, True), ("detach", False, False)]
)
def test_the_matched_sentence_knows_its_own_image_only_where_fused(cm_text, depends, taught):
    made = encoder(cm_text=cm_text).train()
    for module in made.text.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    made.text.forget = 0.0
    heard = []
    made.match = lambda sentence, images, valid: heard.append(sentence) or sentence.sum()
    batch = batch_of(made, posts())
    taken = made(batch).states[0]
    if cm_text == "plain":  # read in the pass with prefix, and yet as if by itself
        torch.testing.assert_close(heard[0], made.text(batch.text).pooled)
        made.options = replace(made.options, cm_text="fused")
        torch.testing.assert_close(taken, made(batch).states[0])
        made.options = replace(made.options, cm_text="plain")
        heard[1:] = []
    batch.images, batch.crops = batch.images.flip(0), batch.crops.flip(0)
    batch.image_sources = batch.crop_sources = None
    made(batch)
    assert torch.allclose(heard[0], heard[1], atol=1e-6) is not depends
    assert heard[0].requires_grad is taught


def test_the_image_vector_is_the_mean_of_the_last_stage_of_the_whole_image():
    from mnerkit.towers.fusion.stage_maps import StageMaps

    made = encoder()
    batch = batch_of(made, [posts()[0], bare(posts()[1]), posts()[2]])
    seen = StageMaps.of(made.sight, batch)
    refined = made.refine(seen.maps)
    vectors, having = made.image_vectors(seen, refined, made.sight.posts(batch))
    assert having.tolist() == [0, 2] and not vectors[1].any()
    whole = [place for place, row in enumerate(seen.rows.tolist()) if row % seen.mask.shape[1] == 0]
    torch.testing.assert_close(vectors[[0, 2]], refined[-1][whole].mean((2, 3)))
    made.options = replace(made.options, cm_image="raw")
    torch.testing.assert_close(made.image_vectors(seen, refined, having)[0][[0, 2]], seen.maps[-1][whole].mean((2, 3)))
    made.options = replace(made.options, blank_in_cm=True)
    vectors, having = made.image_vectors(seen, refined, having)
    assert having.tolist() == [0, 1, 2] and vectors[1].any()


@pytest.mark.parametrize("frozen", [True, False])
def test_the_grey_picture_of_the_matching_has_no_part_in_the_statistics(frozen):
    """BatchNorm learns from the batch's own pictures, and reads the grey one by what it has learnt."""
    found = []
    for blank_in_cm in (False, True):
        made = encoder(frozen=frozen, blank_in_cm=blank_in_cm).train()
        made(batch_of(made, [posts()[0], bare(posts()[1]), posts()[2]]))
        assert all(part.training for part in made.csa.modules())
        found.append(dict(made.named_buffers()))
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def gradients(alpha):
    """Parts of a tagger, and whether a training step's loss with this alpha teaches them; absent ones are left out."""
    torch.manual_seed(0)
    made = GmfTagger(head=CRFHead(), alpha=alpha, dropout=0.0, prefix_grid=2)
    made.build(CorpusFacts.of(TYPES, posts()))
    losses, weights = made.train().losses(batch_of(made.encoder, posts())), made.loss_weights()
    sum(weights[name] * value for name, value in losses.items()).backward()
    named = ("gate", "csa", "to_prefix", "pyramid", "sentence", "match_text", "match_image")
    parts = {"text": made.encoder.text, "head": made.head}
    parts |= {name: getattr(made.encoder, name) for name in named if hasattr(made.encoder, name)}
    return {
        name: any(each.grad is not None and bool(each.grad.any()) for each in part.parameters())
        for name, part in parts.items()
    }


def test_alpha_says_what_is_learnt_from_tags_and_what_from_matching():
    """Eq. 22: between its ends all learns; with 1 there is no matching, and with 0 no tag is heard of."""
    assert all(gradients(0.7).values()) and len(gradients(0.7)) == 9
    alone = gradients(1.0)
    assert all(alone.values()) and alone.keys() == {"text", "head", "gate", "csa", "to_prefix", "pyramid"}
    matched = gradients(0.0)
    assert {name for name, heard in matched.items() if heard} == {
        "text",
        "csa",
        "sentence",
        "match_text",
        "match_image",
    }


def test_matching_costs_nothing_outside_training():
    made = encoder()
    assert made(batch_of(made, posts())).losses == {}


def test_at_the_papers_size_it_has_the_papers_parameters():
    with torch.device("meta"):
        made = GmfEncoder(*paper_towers(), GmfOptions(prefix_grid=7))
    counts = own_parameters(made)
    csa = 0
    for c in (256, 512, 1024, 2048):
        n = c // 16
        csa += 3 * c * n + 2 * n + c + 2 * (9 * n * n + n) + n + 1  # linear maps and convolutions
        csa += 2 * (n + c) + 2 * (3 * n + 1)  # their norms
    assert counts.pop("csa") == csa == pytest.approx(1.45e6, rel=0.01)
    assert counts == {
        "pyramid": 3840 * 768 + 4 * 768,
        "gate": 12 * (768 * 4 + 4),
        "to_prefix": 12 * 768 * 1536,
        "sentence": 768 * 768 + 768,
        "match_text": 2 * (768 * 768 + 768),
        "match_image": 2048 * 768 + 768 + 768 * 768 + 768,
    }
