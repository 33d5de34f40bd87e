"""What holds of all methods with images: each ablation and reading differs, and without pictures they are `bert`."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from mnerkit import registry
from mnerkit.cli.method_verbs import configuration_of
from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.probe import generate, types_of
from mnerkit.methods.heads.crf import CRFHead
from mnerkit.methods.tagger import Tagger
from mnerkit.options import declared
from mnerkit.towers.saved_state import tower_from_state, tower_state
from mnerkit.towers.text.piece_tower import PieceTower
from mnerkit_plugins.bert.tagger import BertTagger

METHODS = ("hvpnet", "gmf", "mgips_cl", "gei", "tpm_mi", "gifr")
MULTI = ("tpm_mi", "gifr")
SCORES = (0.9, 0.2, 0.6, 0.4)
# other readings of the papers' ambiguities, beside the ablations; what one batch can't show is tested apart
READINGS: dict[str, list[dict[str, Any]]] = {
    "hvpnet": [],
    "gmf": [
        {"cm_lambda": 0.4},
        {"cm_lambda_on": "t2i"},
        {"tau": 0.5},
        {"alpha": 0.5},
        {"max_objects": 1},
        {"cm_text": "detach"},
        {"prefix_layers": [2]},
        {"csa_relu": False},
        {"csa_r": 4},
        {"csa_dilation": 2},
        {"csa_norm": "gn"},
        {"blank_in_cm": True},
    ],
    "mgips_cl": [
        {"kv_source": "same_layer_vision_first"},
        {"first_layer": "projected"},
        {"first_layer": "none"},
        {"mask_missing_crops": False},
        {"length_align": "interpolate"},
        {"length_align": "cross_attn"},
        {"mge_value": "target"},
        {"column_reading": "literal"},
        {"mge_heads": 1},
        {"column_bias": -0.05},
        {"mge_ffn": False},
        {"interweave_residual": "eq10"},
        {"final_image_mge": False},
        {"gate": "token"},
        {"cl_pool": "length_linear"},
        {"cl_pool": "cls"},
        {"cl_features": "gated"},
        {"cl_features": "encoder"},
        {"cl_features": "unimodal"},
        {"cl_direction": "v2t"},
        {"cl_direction": "both"},
        {"ips_exclude_own": True},
        {"detach_topk_index": False},
        {"ips_variant": "merged"},
    ],
    "gei": [
        {"residual": False},
        {"norm": "pre"},
        {"obj_update": "sequential"},
        {"obj_update": "none"},
        {"gate": "scalar"},
        {"isolate_non_entity": True},
        {"entity_state": "carry"},
        {"decode_on": "concat_bert"},
        {"use_global": False},
    ],
    "tpm_mi": [
        {"pooled": "pooler"},
        {"norm": "post"},
        {"feedforward": 24},
        {"prefix_positions": "shift"},
        {"subword": "X"},
    ],
    "gifr": [
        {"irrelevant": "drop"},
        {"gt_block": "attn_only"},
        {"residual_scale_r": False},
        {"r_axis": "target"},
        {"renorm": True},
        {"pos": "none"},
        {"prompt_kv": "shared_bert"},
    ],
}


@cache
def posts(method: str) -> list[Post]:
    """Eight posts, one of them without a picture; where several pictures are read, each is judged."""
    preset = "multi" if method in MULTI else "default"
    made = generate(preset, "train", 40)
    several = [post for post in made if len(post.images) > 1 or preset == "default"][:7]
    judged = [
        replace(
            post,
            images=tuple(replace(each, relevance=SCORES[place % 4]) for place, each in enumerate(post.images)),
        )
        for post in several
    ]
    return [*judged, replace(made[-1], images=(), truth=None)]


def configured(method: str, ablation: str | None = None) -> dict[str, Any]:
    """The options of the method, as `mnerkit fit --plugin METHOD --ablation NAME` has them."""
    argv = ["--plugin", method, *(["--ablation", ablation] if ablation else [])]
    return dict(configuration_of(["fit", *argv]).content["model"])


def tagger(method: str, given: dict[str, Any], start: dict[str, Tensor] | None = None) -> Tagger:
    """The method with new weights, where `start` has none of their names and shapes; nothing is left to chance."""
    torch.manual_seed(0)
    made: Tagger = registry.get(method).load()(**{**given, "head": CRFHead()})  # type: ignore[assignment]
    preset = "multi" if method in MULTI else "default"
    made.build(CorpusFacts.of(types_of(preset), posts(method)))
    for module in made.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "forget"):
            module.forget = 0.0
    own = made.state_dict()
    fits = {name: value for name, value in (start or {}).items() if name in own and own[name].shape == value.shape}
    made.load_state_dict(fits, strict=False)
    return made


def batch_of(made: Tagger, rows: list[Post]) -> Batch:
    needs = made.needs()
    loader = PictureLoader(needs.picture) if needs.picture is not None else None
    return Collator(needs, loader, TagSet(made.facts.types))(rows)


def learnt(made: Tagger, rows: list[Post]) -> tuple[Tensor, Tensor]:
    """The weighted loss of a training step, and its gradients of all weights of the text tower."""
    losses, weights = made.train().losses(batch_of(made, rows)), made.loss_weights()
    total = torch.stack([weights.get(name, 1.0) * value for name, value in losses.items()]).sum()
    total.backward()
    tower = [each.grad for each in made.towers["text"].parameters() if each.grad is not None]
    return total.detach(), torch.cat([each.flatten() for each in tower])


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    """Whether two steps differ by no more than the order of sums."""
    scale = float(one[1].abs().max())
    return torch.allclose(one[0], other[0], rtol=1e-5) and float((one[1] - other[1]).abs().max()) < 1e-4 * scale


@pytest.mark.parametrize("method", METHODS)
def test_every_ablation_and_reading_is_another_method_from_the_same_weights(method: str) -> None:
    """By loss or gradients of one training step; those of the same options are the same."""
    full = tagger(method, configured(method))
    start = {name: value.clone() for name, value in full.state_dict().items()}
    ablations = [name for name, each in registry.get(method).ablations.items() if "model" in each]
    variants = {name: configured(method, name) for name in ablations}
    variants |= {str(each): {**configured(method), **each} for each in READINGS[method]}
    found = {"full": learnt(full, posts(method))}
    assert same(learnt(tagger(method, configured(method), start), posts(method)), found["full"])
    for name, given in variants.items():
        found[name] = learnt(tagger(method, given, start), posts(method))
    names = list(found)
    alike = [(a, b) for place, b in enumerate(names) for a in names[:place] if same(found[a], found[b])]
    assert alike == []


@pytest.mark.parametrize("method", [each for each in METHODS if each != "gei"])
def test_posts_without_pictures_cost_and_are_tagged_what_bert_says_with_the_same_weights(method: str) -> None:
    """GEI's own limit, a transformer over the text, is tested in its place."""
    made = tagger(method, configured(method)).eval()
    text: Any = made.towers["text"]
    sizes = {"max_tokens": text.reader.max_tokens, "word_pool": text.word_pool}
    bert = BertTagger(head=CRFHead(), text="tiny-bert", **sizes)
    bert.build(made.facts)
    bert.towers["text"] = bert.encoder.tower = text  # of as many heads
    bert.head.load_state_dict(made.head.state_dict())
    bare = [replace(post, images=(), truth=None) for post in posts(method)]
    batch, plain = batch_of(made, bare), batch_of(bert.eval(), bare)
    assert torch.equal(made.losses(batch)["head"], bert.losses(plain)["head"])
    assert [each.tags for each in made.tag(batch)] == [each.tags for each in bert.tag(plain)]
    seen = batch_of(made, posts(method))
    assert not torch.allclose(made.losses(seen)["head"], bert.losses(plain)["head"], atol=1e-6)


@pytest.mark.parametrize(("method", "rows"), [("gmf", 19), ("mgips_cl", 26)])
def test_the_readme_names_every_reading_of_the_paper_as_an_option_with_its_default_first(
    method: str, rows: int
) -> None:
    """The pages of gei and gifr are tested beside their models."""
    plugin = registry.get(method)
    text = (plugin.folder / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Where the paper leaves a choice")[2].partition("\n## ")[0]
    lines = [line.split("|") for line in table.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(line[1]) for line in lines] == list(range(1, rows + 1)), "the rows of the paper's ambiguities"
    own = declared(plugin.load().options_class)
    named = [found for line in lines for found in re.findall(r"`(\w+): ([\w.]+)`((?:, `[\w.]+`)*)", line[3])]
    assert len(named) > rows // 2
    for name, first, others in named:
        assert yaml.safe_load(first) == own[name].default, name
        choices = str(own[name].type)
        if "Literal" in choices:
            rest = set(re.findall(r"`([\w.]+)`", others)) - {"true", "false"}
            assert rest <= set(re.findall(r"['\"](\w+)['\"]", choices)), name


# ---------------------------------------------------------------- what holds of their towers


@pytest.mark.parametrize("method", METHODS)
def test_the_text_tower_reads_so_many_pieces_of_a_word_and_a_checkpoint_knows(method: str) -> None:
    given = {**configured(method), "text": "tiny-bert"}
    made = tagger(method, {**given, "word_pieces": 1})
    towers = [each for each in made.towers.values() if isinstance(each, PieceTower)]
    assert towers
    words = ["Blorpin", "went", "TO", "http://t.co/a1"]
    for tower in towers:
        for read in (tower, tower_from_state(tower_state(tower))):
            assert (read.reader.collate([words]).piece_word[0] >= 0).sum() == len(words)
            assert read.reader.length(words) == len(words) + 2
    whole = tagger(method, given).towers
    assert all(each.reader.length(words) > len(words) + 2 for each in whole.values() if isinstance(each, PieceTower))
