"""GIFR and its parent TPM-MI: what the images change, what they cannot change, and the limits that are text alone."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mnerkit import registry
from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.options import DataOptions
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.probe import generate, types_of
from mnerkit.errors import DataError, UsageError
from mnerkit.methods.heads.crf import CRFHead
from mnerkit.methods.tagger import Tagger
from mnerkit.nn.prompts import LayerPrompts, MlpPrompts
from mnerkit.options import declared
from mnerkit.towers.fusion.image_prefix import ImagePrefixEncoder, key_value_maps
from mnerkit_plugins.bert.tagger import BertTagger
from mnerkit_plugins.gifr.model import GifrEncoder
from mnerkit_plugins.gifr.options import GifrOptions
from mnerkit_plugins.gifr.tagger import GifrTagger
from mnerkit_plugins.relevance.options import RelevanceOptions
from mnerkit_plugins.tpm_mi.tagger import TpmMiTagger

TYPES = types_of("multi")
ALL = generate("multi", "train", 60)
FACTS = CorpusFacts.of(TYPES, ALL)
POSTS = [post for post in ALL if len(post.images) > 1][:6] + [post for post in ALL if len(post.images) == 1][:2]
KINDS = {"gifr": GifrTagger, "tpm_mi": TpmMiTagger}


def tagger(kind: str = "gifr", **options: Any) -> Tagger:
    torch.manual_seed(0)
    made = KINDS[kind](**{"head": CRFHead(), "text": "tiny-bert", "vision": "tiny", **options})
    made.build(FACTS)
    return made.eval()


def judged(posts: list[Post], *scores: float) -> list[Post]:
    """The posts with relevance scores: those given, over and over."""
    given = scores or (0.9, 0.2, 0.6, 0.4)
    images = [
        tuple(replace(image, relevance=given[place % len(given)]) for place, image in enumerate(post.images))
        for post in posts
    ]
    return [replace(post, images=each) for post, each in zip(posts, images, strict=True)]


def batch_of(made: Tagger, posts: list[Post]) -> Batch:
    needs = made.needs()
    loader = PictureLoader(needs.picture) if needs.picture is not None else None
    return Collator(needs, loader, TagSet(TYPES))(posts)


def states(made: Tagger, posts: list[Post]) -> Tensor:
    with torch.no_grad():
        return made.encoder(batch_of(made, posts)).states[0]


def repainted(posts: list[Post], place: int) -> list[Post]:
    """The posts with other pixels in one of their pictures."""
    changed = []
    for post in posts:
        images = list(post.images)
        if place < len(images):
            images[place] = replace(images[place], pixels=np.ascontiguousarray(255 - images[place].pixels))
        changed.append(replace(post, images=tuple(images)))
    return changed


def text_only(made: Tagger, posts: list[Post]) -> Tensor:
    """What `bert` makes of the posts with the same text tower."""
    bert = BertTagger(head=CRFHead(), text="tiny-bert", max_tokens=64)
    bert.build(FACTS)
    bert.towers["text"].load_state_dict(made.towers["text"].state_dict())
    return states(bert.eval(), posts)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("block", ["full", "attn_only"])
def test_posts_without_images_are_read_as_bert_reads_them(kind, block) -> None:
    if kind == "tpm_mi" and block == "attn_only":
        pytest.skip("an option of gifr")
    made = tagger(kind, **({"gt_block": block} if kind == "gifr" else {}))
    bare = [replace(post, images=()) for post in POSTS]
    assert torch.equal(states(made, bare), text_only(made, bare))
    assert not torch.allclose(states(made, judged(POSTS)), text_only(made, POSTS), atol=1e-3)


def test_dropped_images_leave_bert_itself_whatever_their_pixels() -> None:
    low = judged(POSTS, 0.5, 0.2, 0.1, 0.4)
    made = tagger(irrelevant="drop")
    wanted = text_only(made, low)
    assert torch.equal(states(made, low), wanted)
    assert torch.equal(states(made, repainted(low, 0)), wanted)
    # in weight mode they do not: keys of zero still draw attention
    weighted = tagger(irrelevant="weight", gt_block="attn_only")
    assert not torch.allclose(states(weighted, judged(POSTS, 0.0)), text_only(weighted, low), atol=1e-4)


def test_only_dropping_an_image_removes_it_altogether() -> None:
    posts = judged(POSTS[:6], 0.9, 0.0, 0.8, 0.7)
    for irrelevant, same in (("drop", True), ("weight", False)):
        made = tagger(irrelevant=irrelevant, gt_block="attn_only")
        assert torch.allclose(states(made, posts), states(made, repainted(posts, 1)), atol=1e-6) == same
        without = [replace(post, images=(post.images[0], *post.images[2:])) for post in posts]
        assert torch.allclose(states(made, posts), states(made, without), atol=1e-5) == same


@pytest.mark.parametrize(
    ("kind", "pos", "follows"),
    [
        ("gifr", "degree", True),
        ("gifr", "none", True),
        ("gifr", "order", False),
        ("tpm_mi", "order", False),
        ("tpm_mi", "none", True),
    ],
)
def test_the_order_of_the_images_counts_only_where_it_is_told(kind, pos, follows) -> None:
    made = tagger(kind, pos=pos)
    posts = judged(POSTS[:6])
    turned = [replace(post, images=post.images[::-1]) for post in posts]
    assert torch.allclose(states(made, posts), states(made, turned), atol=1e-5) == follows


def test_states_are_as_many_as_words_and_traces_tell_of_the_images() -> None:
    made = tagger()
    batch = batch_of(made, judged(POSTS))
    encoded = made.encoder(batch, trace=True)
    assert encoded.states.shape == (1, *batch.text.word_mask.shape, made.encoder.width)
    r, attention, mask = (encoded.trace[name] for name in ("relevance", "image_attention", "image_mask"))
    torch.testing.assert_close(r, batch.relevance * mask)
    # columns carry R
    assert attention.shape == (*mask.shape, mask.shape[1]) and not attention[~mask].any()
    plain = tagger(relevance="ones").encoder(batch, trace=True).trace["image_attention"]
    torch.testing.assert_close(plain.sum(-1), mask.float())
    torch.testing.assert_close(attention, plain * r.unsqueeze(1))
    assert made.encoder(batch).trace == {}
    made.tracing = ("relevance",)
    predicted = made.tag(batch)
    assert predicted[0].traces["relevance"].shape == (mask.shape[1],)


def test_relevance_is_judged_elsewhere_and_not_trained_here() -> None:
    made = tagger().train()
    batch = batch_of(made, judged(POSTS))
    batch.relevance.requires_grad_(True)
    sum(made.losses(batch).values()).backward()
    assert batch.relevance.grad is None


def test_without_scores_of_the_images_nothing_is_guessed() -> None:
    with pytest.raises(DataError, match="no relevance score"):
        batch_of(tagger(), POSTS)
    assert batch_of(tagger(relevance="ones"), POSTS).relevance is None


READINGS: list[dict[str, Any]] = [
    *({"kind": "gifr", **each["model"]} for each in registry.get("gifr").ablations.values()),
    *({"kind": "tpm_mi", **each["model"]} for each in registry.get("tpm_mi").ablations.values()),
    {"irrelevant": "drop"},
    {"gt_block": "attn_only"},
    {"residual_scale_r": False},
    {"r_axis": "target"},
    {"renorm": True},
    {"pos": "none"},
    {"prompt_kv": "shared_bert"},
    {"graph_layers": 2},
]


@pytest.mark.parametrize("reading", READINGS, ids=str)
def test_every_reading_differs_from_the_default_and_trains_all_its_weights(reading) -> None:
    options = dict(reading)
    kind = options.pop("kind", "gifr")
    made, posts = tagger(kind, **options), judged(POSTS)
    if options.keys() & {"pos", "prompt_kv", "graph_layers", "graph"}:  # another network
        assert made.trainable_parameters() != tagger(kind).trainable_parameters() or options.get("pos") == "order"
    same = torch.allclose(states(made, posts), states(tagger(kind), posts), atol=1e-6)
    assert not same
    for given in (posts, [replace(post, images=()) for post in posts]):
        made.train().zero_grad()
        sum(made.losses(batch_of(made, given)).values()).backward()
        idle = [name for name, each in made.named_parameters() if each.requires_grad and each.grad is None]
        assert idle == []


@pytest.mark.parametrize("kind", list(KINDS))
def test_captions_stand_in_for_pictures(kind) -> None:
    made = tagger(kind, vision="captions")
    posts = judged(POSTS)
    assert made.needs().views == {"captions"}
    other = [
        replace(post, images=tuple(replace(image, caption="a red house") for image in post.images)) for post in posts
    ]
    assert not torch.allclose(states(made, posts), states(made, other), atol=1e-4)
    torch.testing.assert_close(states(made, posts), states(made, repainted(posts, 0)))
    sum(made.train().losses(batch_of(made, posts)).values()).backward()


def test_the_first_image_alone_is_one_option() -> None:
    made = tagger("tpm_mi", max_images=1)
    torch.testing.assert_close(states(made, POSTS), states(made, repainted(POSTS, 1)))
    assert not torch.allclose(states(made, POSTS), states(made, repainted(POSTS, 0)), atol=1e-4)


def test_prompts_can_pass_through_the_text_towers_own_maps() -> None:
    made = tagger(prompt_kv="shared_bert")
    assert isinstance(made.encoder, GifrEncoder)
    u = torch.randn(2, 3, made.encoder.sight.pooled_width)
    keys, values = made.encoder.prefix(u)
    (first, *_), prompt = key_value_maps(made.encoder.text), made.encoder.prompts.prompts[0]
    torch.testing.assert_close(keys[0], first[0](prompt(u)))
    torch.testing.assert_close(values[0], first[1](prompt(u)))


def test_the_prompts_have_the_parameters_of_the_papers() -> None:
    def count(module: torch.nn.Module) -> int:
        return sum(each.numel() for each in module.parameters())

    with torch.device("meta"):
        assert count(LayerPrompts(768, 768, 12)) == 21_233_664  # 21.2 M
        assert count(LayerPrompts(768, 768, 12, own_maps=False)) == 21_233_664 - 14_155_776
        assert count(MlpPrompts(768, 768, 12)) == 19_680_256


def test_a_network_of_prompts_gives_each_layer_its_own_keys_and_values() -> None:
    torch.manual_seed(0)
    made, u = MlpPrompts(6, 8, layers=3, hidden=5), torch.randn(2, 4, 6)
    keys, values = made(u)
    flat = made.mlp(u)
    for layer in range(3):
        torch.testing.assert_close(keys[layer], flat[..., layer * 16 : layer * 16 + 8])
        torch.testing.assert_close(values[layer], flat[..., layer * 16 + 8 : layer * 16 + 16])


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_tower_that_takes_no_prefix_and_heads_that_do_not_fit_are_refused(kind) -> None:
    with pytest.raises(UsageError, match="takes no prefix"):
        tagger(kind, text="tiny")
    with pytest.raises(UsageError, match=r"--model\.heads 7"):
        tagger(kind, heads=7)


def test_the_ablations_are_the_rows_of_table_3() -> None:
    assert list(registry.get("gifr").ablations) == ["no_d", "no_p", "no_g"]


def test_the_readme_names_every_reading_of_the_paper_as_an_option_with_its_default() -> None:
    text = (registry.get("gifr").folder / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Where the paper leaves a choice")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[1]) for row in rows] == list(range(1, 23)), "the rows of the paper's ambiguities"
    known: dict[str, Any] = {
        "": declared(GifrOptions),
        "relevance": declared(RelevanceOptions),
        "data": declared(DataOptions),
    }
    for row in rows:
        for name, default in re.findall(r"`((?:relevance\.|data\.)?\w+): ([\w.]+)`", row[3]):
            section, _, option = name.rpartition(".")
            assert str(known[section][option].default).lower() == default.lower(), name


def test_the_encoder_is_the_same_class_for_both() -> None:
    for kind in KINDS:
        assert isinstance(tagger(kind).encoder, ImagePrefixEncoder)


def test_an_image_just_above_the_threshold_is_kept_in_mixed_precision() -> None:
    kept = judged(POSTS, 0.501)
    made = tagger(irrelevant="drop")
    seen = made.encoder.sight.whole(batch_of(made, kept), regions=False)
    seen.states.pooled = (
        seen.states.pooled.bfloat16()
    )  # as a tower that trains returns it under autocast; 0.501 is 0.5 there
    r, taking = made.encoder.weights(batch_of(made, kept), seen)
    assert torch.equal(taking, seen.mask)
    assert taking.any()
    assert r.dtype == torch.bfloat16


def test_weights_of_rows_that_sum_to_one_again_are_refused() -> None:
    with pytest.raises(UsageError, match="r_axis"):
        GifrTagger(head=CRFHead(), r_axis="target", renorm=True)


@pytest.mark.parametrize("kind", list(KINDS))
def test_new_towers_learn_to_read_captions_and_pictures_keep_theirs(kind) -> None:
    reads = tagger(kind, vision="captions", freeze_vision=True)
    assert not reads.towers["vision"].frozen
    assert tagger(kind, freeze_vision=True).towers["vision"].frozen
