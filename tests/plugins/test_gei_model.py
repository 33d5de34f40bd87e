"""GEI's encoder: which tokens a span covers, which spans are used when, what learns from which loss, and its size."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.probe import generate, types_of
from mnerkit.errors import UsageError
from mnerkit.nn.untyped_spans import bounds_of_spans, spans_of, tags_of_spans
from mnerkit.towers import text_tower, vision_tower
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import TextTower
from mnerkit.towers.text.piece_tower import BertTower, pool_words
from mnerkit.towers.text.tiny import tiny_reader
from mnerkit.towers.vision.pretrained import ResNetTower
from mnerkit_plugins.gei.entity_layer import HeteroEntityLayer
from mnerkit_plugins.gei.model import GeiEncoder
from mnerkit_plugins.gei.options import GeiOptions

TYPES = types_of("default")
POSTS = generate("default", "train", 6)
BARE = [replace(post, images=()) for post in POSTS]
SMALL: dict[str, Any] = {"width": 24, "hidden": 32, "graph_layers": 2, "heads": 4, "transformer_heads": 4}
SMALL |= {"dropout": 0.0, "transformer_dropout": 0.0}


@cache
def facts() -> CorpusFacts:
    return CorpusFacts.of(TYPES, generate("default", "train", 60))


def made(text: str = "tiny", vision: str = "tiny", seed: int = 0, **options: Any) -> GeiEncoder:
    """An encoder with tiny towers, in eval mode."""
    torch.manual_seed(seed)
    tower: TextTower = text_tower(text, facts=facts())
    seen = text_tower(text, facts=facts()) if vision == "captions" else vision_tower(vision)
    return GeiEncoder(tower, Sight(seen), GeiOptions(**{**SMALL, **options})).eval()


def batch_of(encoder: GeiEncoder, posts: list[Post]) -> Batch:
    visual = encoder.visual
    needs = visual.sight.needs(encoder.tokens.tower.reader, visual.views, max_objects=4)
    loader = PictureLoader(visual.sight.picture) if visual.sight.picture is not None else None
    return Collator(needs, loader, TagSet(TYPES))(posts)


def gold_of(batch: Batch) -> Tensor:
    assert batch.tags is not None
    return spans_of(batch.tags, batch.text.read_mask)


def learnt(module: nn.Module) -> bool:
    """Whether a loss reached any of its weights."""
    return any(each.grad is not None and bool(each.grad.any()) for each in module.parameters())


@pytest.mark.parametrize("tokens", ["pieces", "words"])
def test_a_span_covers_all_tokens_of_its_words_and_no_special_piece(tokens: str) -> None:
    encoder = made("tiny-bert", tokens=tokens)
    batch = batch_of(encoder, POSTS)
    read = encoder.tokens(batch.text)
    spans = gold_of(batch)
    owners = encoder.owners(read, spans)
    assert batch.text.piece_word is not None and batch.text.attn_mask is not None
    assert owners.shape == (batch.text.piece_word.shape if tokens == "pieces" else spans.shape)
    several = 0
    for row in range(len(POSTS)):
        for token, owner in enumerate(owners[row].tolist()):
            word = int(read.word[row, token])
            assert owner == (int(spans[row, word]) if word >= 0 else -1)
        several += sum(
            int((read.word[row] == word).sum()) > 1 for word in range(spans.shape[1]) if spans[row, word] >= 0
        )
    if tokens == "pieces":
        assert several, "no word of a span has several pieces: the test says nothing"
        assert (owners[:, 0] == -1).all() and read.mask[:, 0].all()
        assert not read.mask[~batch.text.attn_mask].any()


def test_words_are_pooled_as_the_option_has_it() -> None:
    first, mean = (made("tiny-bert", word_pool=pool) for pool in ("first", "mean"))
    text = batch_of(mean, POSTS).text
    states = mean.tokens(text).states
    assert torch.equal(mean.tokens.words(states, text), pool_words(states, text, "mean"))
    assert not torch.equal(first.tokens.words(states, text), mean.tokens.words(states, text))


def test_entities_are_the_largest_features_of_their_words() -> None:
    encoder = made()
    batch = batch_of(encoder, POSTS)
    pooled: list[Tensor] = []
    encoder.layers[0].register_forward_pre_hook(lambda _, given: pooled.extend(given[0]))
    encoder.train()
    encoder(batch)
    tokens, _, entities = pooled
    bounds, real = bounds_of_spans(gold_of(batch))
    for row, number in real.nonzero().tolist():
        start, end = bounds[row, number].tolist()
        assert torch.equal(entities[row, number], tokens[row, start:end].amax(0))


def used(encoder: GeiEncoder, batch: Batch) -> Tensor:
    """Untyped tags of the spans that a graph was built on."""
    return encoder(batch, trace=True).trace["spans"]


def test_predicted_spans_at_test_and_gold_ones_at_first_in_training() -> None:
    encoder = made(ss_max=1.0)
    batch = batch_of(encoder, POSTS)
    gold = tags_of_spans(gold_of(batch))
    predicted = used(encoder, batch)
    assert encoder.detected is not None and torch.equal(predicted, tags_of_spans(encoder.detected))
    assert not torch.equal(predicted, gold)
    batch.tags, kept = None, batch.tags
    assert torch.equal(used(encoder, batch), predicted), "gold tags are no part of a prediction"
    batch.tags = kept
    encoder.train()
    encoder.tokens.eval()  # no dropout, so that it predicts the same
    for epoch, wanted in ((1, gold), (2, gold), (6, predicted), (9, predicted)):
        encoder.begin_epoch(epoch)
        assert torch.equal(used(encoder, batch), wanted), epoch
    encoder.begin_epoch(4)
    torch.manual_seed(1)
    mixed = [used(encoder, batch) for _ in range(8)]
    rows = torch.stack([(each == gold).all(1) for each in mixed])
    assert rows.any() and not rows.all()
    torch.manual_seed(1)
    assert torch.equal(used(encoder, batch), mixed[0]), "the same state of randomness draws the same sentences"


def test_the_tagging_loss_reaches_graph_and_towers_but_not_the_span_task() -> None:
    encoder = made().train()
    encoder(batch_of(encoder, POSTS)).states.square().sum().backward()
    first = encoder.layers[0]
    assert isinstance(first, HeteroEntityLayer) and encoder.visual.map is not None
    gates = (first.entity_gate, first.token_gate, first.visual_gate)
    for part in (encoder.visual.map, *gates, encoder.tokens.tower, encoder.visual.sight, encoder.reader):
        assert part is not None and learnt(part)
    assert encoder.span_reader is not None and encoder.spans is not None
    assert not learnt(encoder.span_reader) and not learnt(encoder.spans)


def test_the_span_loss_reaches_its_own_path_and_not_the_graph() -> None:
    encoder = made().train()
    encoder(batch_of(encoder, POSTS)).losses["span"].backward()
    assert encoder.span_reader is not None and encoder.spans is not None
    assert learnt(encoder.span_reader) and learnt(encoder.spans) and learnt(encoder.tokens.tower)
    for part in (encoder.layers, encoder.visual, encoder.reader, encoder.token_map):
        assert not learnt(part)


@pytest.mark.parametrize(
    ("text", "options"),
    [("tiny", {}), ("tiny-bert", {}), ("tiny", {"visual": "regions"}), ("tiny", {"entity_nodes": False})],
    ids=str,
)
def test_a_post_is_read_alike_alone_and_among_longer_ones(text: str, options: dict[str, Any]) -> None:
    encoder = made(text, **options)
    together = encoder(batch_of(encoder, POSTS)).states[0]
    for row, post in enumerate(POSTS):
        alone = encoder(batch_of(encoder, [post])).states[0, 0]
        torch.testing.assert_close(together[row, : len(post.words)], alone, atol=1e-5, rtol=1e-4)
        assert not together[row, len(post.words) :].any()


OPTIONS: list[dict[str, Any]] = [
    {},
    {"residual": False},
    {"norm": "pre"},
    {"obj_update": "sequential"},
    {"obj_update": "none"},
    {"gate": "scalar"},
    {"isolate_non_entity": True},
    {"entity_state": "carry"},
    {"span_repair": "strict"},
    {"decode_on": "concat_bert"},
    {"use_global": False},
    {"entity_nodes": False},
    {"entity_nodes": False, "span_task": False},
    {"visual": "regions"},
    {"visual": "regions", "use_global": False},
]


@pytest.mark.parametrize("vision", ["tiny", "captions"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_weight_hears_of_every_batch_also_of_one_without_entity_or_picture(
    options: dict[str, Any], vision: str
) -> None:
    """A weight without a gradient would stop distributed training."""
    plain = [replace(post, tags=("O",) * len(post.words)) for post in POSTS[:2]]
    for posts in (POSTS[:2], plain, BARE[:2], [replace(post, images=()) for post in plain]):
        encoder = made(vision=vision, **options).train()
        encoded = encoder(batch_of(encoder, posts))
        (encoded.states.square().sum() + sum(encoded.losses.values())).backward()
        idle = [name for name, each in encoder.named_parameters() if each.requires_grad and each.grad is None]
        assert idle == [] and encoded.states.isfinite().all()
        assert encoded.states.shape[-1] == encoder.width


@pytest.mark.parametrize("graph", ["dense", "dgl"])
def test_it_trains_in_half_precision_also_beside_a_post_without_words(graph: str) -> None:
    if graph == "dgl":
        pytest.importorskip("dgl")
    encoder = made(graph=graph).train()
    batch = batch_of(encoder, [*POSTS[:2], Post("empty", (), ())])
    with torch.autocast("cpu", torch.bfloat16):
        encoded = encoder(batch)
    loss = encoded.states.float().square().sum() + encoded.losses["span"]
    loss.backward()
    assert loss.isfinite() and not encoded.states[0, 2].any()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in encoder.parameters())


def test_both_graphs_give_the_same_states() -> None:
    pytest.importorskip("dgl")
    dense, along_edges = made(), made(graph="dgl")
    along_edges.load_state_dict(dense.state_dict())
    batch = batch_of(dense, POSTS)
    torch.testing.assert_close(dense(batch).states, along_edges(batch).states, atol=1e-5, rtol=1e-5)


def test_without_span_detection_and_pictures_it_is_a_transformer_over_the_text() -> None:
    encoder = made(entity_nodes=False, span_task=False)
    batch = batch_of(encoder, BARE)
    read = encoder.tokens(batch.text)
    states = encoder.token_map(encoder.reader(read.states, read.mask))
    for layer in encoder.layers:
        assert isinstance(layer, HeteroEntityLayer)
        among = layer.among_tokens
        states = layer.around_tokens(states, lambda x, among=among: among(x, x, mask=read.mask)[0])
        states = layer.think_tokens(states, layer.token_network)
    torch.testing.assert_close(encoder(batch).states[0], states * batch.text.word_mask.unsqueeze(-1))


def test_what_is_drawn_are_attentions_gates_spans_and_boxes() -> None:
    encoder = made().train()
    batch = batch_of(encoder, POSTS)
    drawn = encoder(batch, trace=True).trace
    spans = gold_of(batch)
    (rows, words), count = spans.shape, int(spans.max()) + 1
    assert batch.boxes is not None
    nodes = 1 + batch.boxes.shape[1]
    assert drawn["entity_attention"].shape == (rows, 2, count, nodes)
    assert drawn["entity_gate"].shape == (rows, 2, count) and drawn["token_gate"].shape == (rows, 2, words)
    assert drawn["boxes"].shape == (rows, nodes, 4)
    _, real = bounds_of_spans(spans)
    sums = drawn["entity_attention"].sum(-1).transpose(1, 2)[real]
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert not drawn["token_gate"].transpose(1, 2)[spans < 0].any()
    assert encoder(batch).trace == {}
    looking = made(entity_nodes=False)
    assert looking(batch, trace=True).trace["word_attention"].shape == (rows, 2, words, nodes)


def test_objects_are_the_pooled_vectors_of_their_crops() -> None:
    """As the tower returns them beside regions, which are not computed."""
    encoder = made()
    batch = batch_of(encoder, POSTS)
    sight, tower = encoder.visual.sight, encoder.visual.sight.tower
    whole, objects = sight.whole(batch), sight.objects(batch)
    wanted = torch.relu(encoder.visual.map(torch.cat((whole.pooled, objects.pooled), 1)))  # type: ignore[misc]
    regions: list[Any] = []
    tower.register_forward_hook(lambda *call: regions.append(call))
    nodes, mask = encoder.visual(batch)
    torch.testing.assert_close(nodes, wanted)
    assert torch.equal(mask, torch.cat((whole.mask, objects.mask), 1)) and not regions


def test_captions_are_visual_nodes_word_by_word() -> None:
    encoder = made(vision="captions")
    batch = batch_of(encoder, [*POSTS[:2], BARE[0]])
    nodes, mask = encoder.visual(batch)
    assert batch.captions is not None and batch.caption_mask is not None
    lengths = batch.captions.read_mask.sum(1) * batch.caption_mask[:, 0]
    assert mask.sum(1).tolist() == [(1 + length) if length else 0 for length in lengths.tolist()]
    assert nodes.shape[:2] == mask.shape and mask[0].any() and not mask[2].any()


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match="entity_nodes needs span_task"):
        made(span_task=False)
    with pytest.raises(UsageError, match="transformer_heads 5 does not divide the width 96"):
        made(transformer_heads=5)
    with pytest.raises(UsageError, match=r"--model\.heads 5 does not divide the width 24"):
        made(heads=5)


def test_at_the_papers_size_it_has_the_papers_parameters() -> None:
    """BERT-base and ResNet-152 from their configurations, without weights."""
    from transformers import BertConfig, BertModel

    with torch.device("meta"):
        text = BertTower("bert", BertModel(BertConfig()), tiny_reader(facts(), 128, 24))
        encoder = GeiEncoder(text, Sight(ResNetTower("resnet152", "resnet152")), GeiOptions())

    def count(module: nn.Module) -> int:
        return sum(each.numel() for each in module.parameters())

    towers = count(text) + count(encoder.visual.sight)
    assert [round(count(each) / 1e6, 1) for each in encoder.layers] == [10.0] * 5 + [6.3]
    transformers = 2 * 7_087_872
    maps = (768 * 512 + 512) + (2048 * 512 + 512)
    spans = 768 * 3 + 3 + (9 + 3 + 3)
    assert count(encoder) - towers - count(encoder.layers) == transformers + maps + spans
    assert round(count(text) / 1e6, 1) == 108.9 and round(count(encoder.visual.sight) / 1e6, 1) == 58.1
