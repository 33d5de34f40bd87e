"""Heads that tag from a support: against the paper's words written out as loops, and what tuning must leave alone."""

from __future__ import annotations

import copy
import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch, TextBatch
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.errors import DataError, UsageError
from mnerkit.methods.heads import load_head_class
from mnerkit.methods.heads.chain import from_io
from mnerkit.methods.heads.finetune import own_randomness, restored
from mnerkit.methods.heads.struct import TAUS
from mnerkit.methods.tagger import Tagger
from mnerkit.nn.abstract_transitions import spread
from mnerkit.nn.linear_chain import Scores, crf_nll
from mnerkit.nn.recurrent import run_lstm
from mnerkit.towers.interface import Encoder, WordStates

TYPES = TagSet(("PER", "LOC"))
SOURCE = TagSet(("ORG", "MISC", "VEH"))
SUPPORT = [["O", "B-PER", "I-PER", "O"], ["B-LOC", "O"], ["O", "B-LOC", "I-LOC", "O", "B-PER"]]
QUERY = [["O", "B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "I-LOC", "O"]]
TRANSFER = ["nearest", "struct", "finetune"]


def batch_of(rows: list[list[str]], supports: int, tagset: TagSet = TYPES, episode: int | None = None) -> Batch:
    """An episode whose first rows are its support."""
    lengths = torch.tensor([len(row) for row in rows])
    width = max(1, int(lengths.max()))
    tags = torch.tensor([tagset.encode(row) + [0] * (width - len(row)) for row in rows]).view(len(rows), width)
    posts = [Post(str(number), tuple("w" * len(row)), tuple(row)) for number, row in enumerate(rows)]
    text = TextBatch([post.words for post in posts], torch.arange(width) < lengths.unsqueeze(1))
    return Batch(posts, text, tagset, torch.arange(len(rows)) >= supports, tags, episode=episode)


def states_for(batch: Batch, worlds: int = 1, seed: int = 0, spread_by: float = 2.0, width: int = 6) -> WordStates:
    draw = torch.Generator().manual_seed(seed)
    assert batch.tags is not None
    centres = spread_by * torch.randn(len(batch.tagset), width, generator=draw)
    return WordStates(centres[batch.tags] + torch.randn(worlds, *batch.tags.shape, width, generator=draw))


def built(name: str, tagset: TagSet = SOURCE, width: int = 6, **options: Any) -> Any:
    torch.manual_seed(0)
    head = load_head_class(name)(**options)
    head.build(width, tagset)
    return head.eval()


@st.composite
def episodes(draw: st.DrawFn) -> tuple[Batch, WordStates]:
    """Small random episodes, also with types or O missing from the support and query posts without words."""
    types = TagSet(tuple("ABC"[: draw(st.integers(1, 3))]))
    tag = st.sampled_from(types.tags)
    support = draw(st.lists(st.lists(tag, min_size=1, max_size=4), min_size=1, max_size=3))
    query = draw(st.lists(st.lists(tag, max_size=4), min_size=1, max_size=2))
    batch = batch_of([*support, *query], len(support), types)
    return batch, states_for(batch, draw(st.integers(1, 2)), draw(st.integers(0, 999)), 1.0, width=3)


def support_words(batch: Batch, encoded: WordStates, world: int) -> list[tuple[Tensor, int]]:
    """Each support word's state and IO class, whose tag counts."""
    found = []
    for row in torch.nonzero(~batch.query).flatten().tolist():
        for place, tag in enumerate(batch.tagset.encode(batch.posts[row].tags or ())):
            if batch.play_mask is None or batch.play_mask[row, place]:
                found.append((encoded.states[world, row, place], (tag + 1) // 2))
    return found


def closest(batch: Batch, encoded: WordStates, world: int, row: int, place: int, normalise: bool) -> list[float]:
    """Squared distance of a word to the nearest support word of each class."""
    word = encoded.states[world, row, place].double()
    best = [math.inf] * (1 + len(batch.tagset.types))
    for state, kind in support_words(batch, encoded, world):
        other = state.double()
        left, right = (word / word.norm(), other / other.norm()) if normalise else (word, other)
        best[kind] = min(best[kind], float(((left - right) ** 2).sum()))
    return best


def query_rows(batch: Batch) -> list[tuple[int, int]]:
    return [(row, len(batch.posts[row].words)) for row in torch.nonzero(batch.query).flatten().tolist()]


def as_bio(classes: list[int]) -> list[int]:
    return [
        0 if kind == 0 else 2 * kind if place and classes[place - 1] == kind else 2 * kind - 1
        for place, kind in enumerate(classes)
    ]


# ---------------------------------------------------------------------- nearest


@settings(max_examples=60)
@given(episodes(), st.booleans())
def test_nearest_equals_a_loop_over_all_support_words(episode: tuple[Batch, WordStates], normalise: bool) -> None:
    batch, encoded = episode
    expected = []
    for row, length in query_rows(batch):
        classes = []
        for place in range(length):
            worlds = [closest(batch, encoded, e, row, place, normalise) for e in range(len(encoded.states))]
            mean = [sum(each) for each in zip(*worlds, strict=True)]
            classes.append(mean.index(min(mean)))
        expected.append(as_bio(classes))
    assert built("nearest", normalise=normalise).decode(encoded, batch) == expected


def test_io_classes_become_bio_spans() -> None:
    assert from_io([[0, 1, 1, 2, 2, 0, 1], [], [1]]) == [[0, 1, 2, 3, 4, 0, 1], [], [1]]


def similarity(batch: Batch, encoded: WordStates, **options: Any) -> Tensor:
    return built("nearest", **options).similarity(encoded, batch)


def test_a_support_that_is_tagged_by_itself_gets_its_own_tags_unless_zero_distances_are_dropped() -> None:
    batch = batch_of([*SUPPORT, *SUPPORT], len(SUPPORT))
    encoded = states_for(batch)
    encoded.states[:, len(SUPPORT) :] = encoded.states[:, : len(SUPPORT)]
    own = [TYPES.encode(row) for row in SUPPORT]
    assert built("nearest").decode(encoded, batch) == own
    assert built("nearest", zero_distance="drop").decode(encoded, batch) != own
    # each word ignores itself, so it is as if its support word was not there
    scores = similarity(batch, encoded, zero_distance="drop")
    assert (scores[0, 0, :4] < 0).all() and similarity(batch, encoded)[0, 0, :4].amax(-1).eq(0).all()


def test_zero_distances_that_leave_nothing_are_tagged_without_nan() -> None:
    batch = batch_of([["O"], ["O"]], 1)
    encoded = WordStates(torch.ones(1, 2, 1, 6))
    assert torch.isneginf(similarity(batch, encoded, zero_distance="drop")).all()
    for name in ("nearest", "struct"):
        assert built(name, zero_distance="drop").decode(encoded, batch) == [[0]]


def test_lengths_of_states_do_not_count_where_they_are_normalised() -> None:
    batch = batch_of([*SUPPORT, *QUERY], len(SUPPORT))
    encoded = states_for(batch)
    factors = torch.rand(*encoded.states.shape[:3], 1) + 0.5
    scaled = WordStates(encoded.states * factors)
    torch.testing.assert_close(similarity(batch, scaled), similarity(batch, encoded))
    assert not torch.allclose(similarity(batch, scaled, normalise=False), similarity(batch, encoded, normalise=False))


def test_a_further_support_word_raises_the_score_of_its_own_tag_alone() -> None:
    rows = [*SUPPORT, ["B-LOC"], *QUERY]
    batch = batch_of(rows, len(SUPPORT) + 1)
    encoded = states_for(batch, spread_by=0.5)
    without = torch.arange(len(rows)) != len(SUPPORT)
    fewer = batch.select(torch.nonzero(without).flatten())
    before, after = similarity(fewer, WordStates(encoded.states[:, without])), similarity(batch, encoded)
    assert torch.equal(before[..., :2], after[..., :2]) and (after[..., 2] >= before[..., 2]).all()
    assert (after[..., 2] > before[..., 2]).any()


def test_support_rows_have_no_order_and_types_no_names() -> None:
    batch = batch_of([*SUPPORT, *QUERY], len(SUPPORT))
    encoded = states_for(batch, spread_by=0.5)
    turned = torch.tensor([2, 0, 1, 3, 4])
    other = similarity(batch.select(turned), WordStates(encoded.states[:, turned]))
    torch.testing.assert_close(other, similarity(batch, encoded))
    renamed = batch_of([*SUPPORT, *QUERY], len(SUPPORT), TagSet(("LOC", "PER")))
    torch.testing.assert_close(similarity(renamed, encoded), similarity(batch, encoded)[..., [0, 2, 1]])
    head = built("struct")
    head.counts.copy_(torch.tensor([5, 3, 4, 2, 2, 3, 1]))
    exchanged = [[{0: 0, 1: 3, 2: 4, 3: 1, 4: 2}[tag] for tag in row] for row in head.decode(encoded, batch)]
    assert head.decode(encoded, renamed) == exchanged


# ---------------------------------------------------------------------- struct


def best_path(emissions: list[list[float]], scores: Scores) -> tuple[int, ...]:
    """By enumeration."""

    def value(path: tuple[int, ...]) -> float:
        total = float(scores.start[path[0]]) + sum(row[tag] for row, tag in zip(emissions, path, strict=True))
        return total + sum(float(scores.transitions[a, b]) for a, b in itertools.pairwise(path))

    return max(itertools.product(range(len(scores.start)), repeat=len(emissions)), key=value, default=())


@settings(max_examples=60)
@given(episodes(), st.lists(st.integers(0, 30), min_size=7, max_size=7), st.sampled_from(TAUS), st.booleans())
def test_struct_equals_enumeration_of_all_paths(
    episode: tuple[Batch, WordStates], counts: list[int], tau: float, normalise: bool
) -> None:
    batch, encoded = episode
    head = built("struct", tau=tau, normalise=normalise)
    head.counts.copy_(torch.tensor(counts))
    scores = spread(torch.tensor(counts), len(batch.tagset.types), tau)
    expected = []
    for row, length in query_rows(batch):
        emissions = []
        for place in range(length):
            mean = [0.0] * (1 + len(batch.tagset.types))
            for world in range(len(encoded.states)):
                apart = closest(batch, encoded, world, row, place, normalise)
                total = sum(math.exp(-each) for each in apart)
                for kind, each in enumerate(apart):
                    mean[kind] += (-each - math.log(total)) / len(encoded.states) if each < math.inf else -1e4
            emissions.append(mean)
        expected.append(as_bio(list(best_path(emissions, scores) if emissions else ())))
    assert head.decode(encoded, batch) == expected


def test_struct_counts_the_source_types_of_the_training_posts() -> None:
    head = built("struct")
    rows = [["O", "B-ORG", "I-ORG", "B-MISC", "O"], ["B-PER", "O"], ["B-VEH", "B-VEH"]]
    posts = [Post(str(number), tuple("w" * len(row)), tuple(row)) for number, row in enumerate(rows)]
    head.prepare(posts, SOURCE)  # PER is not in play: O
    assert head.counts.tolist() == [2, 1, 1, 1, 1, 2, 1]
    head.prepare(posts, SOURCE, ignore=True)
    assert head.counts.tolist() == [1, 1, 0, 1, 1, 2, 1]
    other = built("struct")
    other.load_state_dict(head.state_dict())
    assert other.counts.tolist() == head.counts.tolist()


def counted(rows: list[list[str]], **options: Any) -> list[int]:
    head = built("struct", **options)
    head.prepare([Post(str(number), tuple("w" * len(row)), tuple(row)) for number, row in enumerate(rows)], SOURCE)
    return head.counts.tolist()


def test_counting_bio_tags_moves_steps_from_b_to_i_to_other_types() -> None:
    rows = [["O", "B-ORG", "I-ORG", "I-ORG", "B-MISC", "O"], ["B-VEH", "B-VEH"], ["I-ORG", "O"]]
    io, bio = counted(rows), counted(rows, counting="bio")
    assert io == [1, 2, 0, 1, 2, 3, 1] and bio == [1, 2, 0, 1, 2, 2, 2]
    assert io[:5] == bio[:5] and sum(io[5:]) == sum(bio[5:])


def test_an_orphan_i_is_inside_and_adjacent_entities_of_a_type_are_one_run() -> None:
    assert counted([["I-ORG"], ["O", "I-ORG"]], counting="bio") == counted([["I-ORG"], ["O", "I-ORG"]])
    assert counted([["B-ORG", "B-ORG"]]) == [0, 1, 0, 0, 0, 1, 0]


def test_a_constant_on_all_scores_of_a_word_changes_no_path() -> None:
    batch = batch_of([*SUPPORT, *QUERY], len(SUPPORT))
    encoded = states_for(batch, spread_by=0.5)
    head = built("struct")
    head.counts.copy_(torch.tensor([5, 3, 4, 2, 2, 3, 1]))
    emissions = head._emissions(encoded, batch)
    shifted = emissions + torch.randn(*emissions.shape[:2], 1)
    for tau in TAUS:
        first, second = (head._chain(scores, batch, encoded, tau).decode() for scores in (shifted, emissions))
        assert first == second


def test_the_power_of_struct_is_a_number_from_zero_on() -> None:
    with pytest.raises(UsageError, match="tau"):
        built("struct", tau=-1.0)


class Fixed(Encoder):
    """States by the batch's own words, and a map that can be tuned."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Embedding(200, width)
        self.recurrent = nn.LSTM(width, width, batch_first=True)
        self.project = nn.Linear(width, width)
        nn.init.eye_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        self.norm = nn.BatchNorm1d(width)
        self.dropout = nn.Dropout(0.3)

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        """(1, B, W, d)."""
        ids = torch.tensor([[hash_of(word) for word in words] for words in padded(batch)])
        whole = torch.full((len(ids),), ids.shape[1])
        states = self.dropout(self.project(run_lstm(self.recurrent, self.embed(ids), whole))).float()
        return WordStates(self.norm(states.flatten(0, 1)).view_as(states).unsqueeze(0))


def padded(batch: Batch) -> list[list[str]]:
    width = batch.text.word_mask.shape[1]
    return [[*words, *[""] * (width - len(words))] for words in batch.text.words]


def hash_of(word: str) -> int:
    return sum(map(ord, word)) % 200


class FixedTagger(Tagger):
    """A tagger whose encoder is `Fixed`."""

    plugin = "fixed"

    def make_encoder(self) -> Encoder:
        return Fixed()


def tagger_with(name: str, **options: Any) -> FixedTagger:
    torch.manual_seed(1)
    made = FixedTagger(head=load_head_class(name)(**options))
    made.encoder = Fixed()
    made.head.build(6, SOURCE)
    return made.eval()


def worded(number: int, draw: random.Random) -> Batch:
    """An episode whose words tell their tags."""
    rows, texts = [], []
    for _ in range(6):
        tags = [draw.choice(["O", "B-PER", "B-LOC"]) for _ in range(draw.randint(2, 5))]
        rows.append(tags)
        texts.append(tuple(f"{tag}{draw.randint(0, 2)}" for tag in tags))
    batch = batch_of(rows, 5, episode=number)
    batch.posts = [Post(post.id, words, post.tags) for post, words in zip(batch.posts, texts, strict=True)]
    batch.text.words = texts
    return batch


def test_dev_chooses_the_power_with_the_highest_f1_and_the_state_dict_carries_it() -> None:
    chosen = set()
    for seed in range(6):
        draw = random.Random(seed)
        batches = [worded(number, draw) for number in range(8)]
        tagger = tagger_with("struct")
        torch.manual_seed(seed)
        nn.init.normal_(tagger.encoder.embed.weight)
        # few entities ever start: strong transitions say O
        tagger.head.counts.copy_(torch.tensor([50, 1, 50, 1, 9, 1, 1] if seed % 2 else [1, 50, 1, 50, 1, 9, 50]))
        logged: dict[str, float] = {}
        tagger.log_dict = lambda values, into=logged, **_: into.update(values)  # type: ignore[method-assign,assignment]
        tagger.log = lambda *_, **__: None  # type: ignore[method-assign,assignment]
        tagger.on_validation_epoch_start()
        for number, batch in enumerate(batches):
            tagger.validation_step(batch, number)
        tagger.on_validation_epoch_end()

        f1 = []
        from mnerkit.scoring.counts import entity_scores

        for tau in TAUS:
            fixed = tagger_with("struct", tau=tau)
            fixed.load_state_dict(tagger.state_dict())
            said = [each for batch in batches for each in fixed.tag(batch)]
            f1.append(entity_scores([each.gold for each in said], [each.tags for each in said])["f1"])
        assert logged["dev/f1"] == pytest.approx(max(f1))
        assert tagger.head.tau == TAUS[f1.index(max(f1))]
        again = tagger_with("struct")
        again.load_state_dict(tagger.state_dict())
        assert again.head.tau == tagger.head.tau
        said = [each for batch in batches for each in again.tag(batch)]
        assert entity_scores([each.gold for each in said], [each.tags for each in said])["f1"] == pytest.approx(max(f1))
        chosen.add(tagger.head.tau)
    assert len(chosen) > 1


# ---------------------------------------------------------------------- prototype


@settings(max_examples=60)
@given(episodes())
def test_prototype_equals_means_and_distances_written_out(episode: tuple[Batch, WordStates]) -> None:
    batch, encoded = episode
    num_tags, width = len(batch.tagset), encoded.states.shape[-1]
    rows = torch.nonzero(~batch.query).flatten().tolist()
    log_p: dict[tuple[int, int], Tensor] = {}
    for world in range(len(encoded.states)):
        members: dict[int, list[Tensor]] = {}
        for row in rows:
            for place, tag in enumerate(batch.tagset.encode(batch.posts[row].tags or ())):
                members.setdefault(tag, []).append(encoded.states[world, row, place].double())
        means = {tag: torch.stack(each).mean(0) for tag, each in members.items()}
        every = torch.stack([state for each in members.values() for state in each]).mean(0)
        centres = {0: means.get(0, every)}
        for begin in range(1, num_tags, 2):
            if begin in means or begin + 1 in means:
                centres[begin] = means.get(begin, means.get(begin + 1))
                centres[begin + 1] = means.get(begin + 1, means.get(begin))
        for row, length in query_rows(batch):
            for place in range(length):
                word = encoded.states[world, row, place].double()
                logits = torch.full((num_tags,), -math.inf, dtype=torch.double)
                for tag, centre in centres.items():
                    logits[tag] = -((word - centre) ** 2).sum() / width**0.5
                log_p[world, row, place] = logits.log_softmax(-1)
    head, worlds = built("prototype", batch.tagset, 3), len(encoded.states)
    losses = []
    for row, length in query_rows(batch):
        gold = batch.tagset.encode(batch.posts[row].tags or ())
        for place in range(length):
            for world in range(worlds):
                at = log_p[world, row, place]
                losses.append(-at[gold[place] if at[gold[place]] > -math.inf else 0])
    expected = torch.stack(losses).sum() / (len(losses) / worlds) if losses else torch.zeros(())
    torch.testing.assert_close(head.loss(encoded, batch).double(), expected.double(), rtol=1e-4, atol=1e-4)
    decoded = head.decode(encoded, batch)
    for numbers, (row, length) in zip(decoded, query_rows(batch), strict=True):
        assert len(numbers) == length
        for place, tag in enumerate(numbers):
            mean = sum(log_p[world, row, place] for world in range(worlds))
            assert isinstance(mean, Tensor)
            assert mean[tag] >= mean.max() - 1e-4


def test_prototypes_that_b_and_i_share_give_whole_entities() -> None:
    batch = batch_of([["B-PER", "I-PER", "O"], ["B-PER", "I-PER", "O", "B-LOC"]], 1)
    encoded = states_for(batch)
    encoded.states[0, :, :2], encoded.states[0, :, 2:] = 1.0, -1.0
    assert built("prototype", TYPES, proto_classes="io").decode(encoded, batch) == [[1, 2, 0, 0]]


def test_boundary_emissions_are_added_to_those_of_prototypes() -> None:
    batch = batch_of(SUPPORT + QUERY, 3)
    encoded = states_for(batch)
    for name in ("prototype", "prototype_crf"):
        head = built(name, TYPES)
        for role, numbers in ((0, {1, 3}), (2, {0})):
            encoded.boundary = torch.zeros(*batch.text.word_mask.shape, 3)
            encoded.boundary[..., role] = 1e3
            assert {tag for row in head.decode(encoded, batch) for tag in row} <= numbers
            assert head.loss(encoded, batch) > 100


# ---------------------------------------------------------------------- mistakes, and words whose tag does not count


@pytest.mark.parametrize("name", TRANSFER)
def test_a_batch_without_support_or_with_an_untagged_one_is_refused_in_one_line(name: str) -> None:
    batch = batch_of(QUERY, 0)
    with pytest.raises(DataError, match=f"{name} learns the types from support posts"):
        built(name).decode(states_for(batch), batch)
    batch = batch_of(SUPPORT + QUERY, 3)
    encoded, batch.tags = states_for(batch), None
    with pytest.raises(DataError, match="has no tags"):
        built(name).decode(encoded, batch)


@pytest.mark.parametrize("name", ["prototype", "prototype_crf", *TRANSFER])
def test_a_support_word_whose_tag_does_not_count_is_as_if_it_were_not_there(name: str) -> None:
    rows = [["O", "B-PER", "I-PER"], ["B-LOC", "O"], ["B-LOC", "O", "B-PER", "I-PER"]]
    batch = batch_of(rows, 2)
    encoded = states_for(batch, spread_by=0.5)
    batch.play_mask = batch.text.word_mask.clone()
    batch.play_mask[0, 0] = False
    shorter = batch_of([["B-PER", "I-PER"], *rows[1:]], 2)
    less = WordStates(encoded.states.clone())
    less.states[:, 0, :2] = encoded.states[:, 0, 1:3]
    head = built(name, TYPES, **({"missing_I": "absent"} if name.startswith("proto") else {}))
    assert head.decode(encoded, batch) == head.decode(less, shorter)
    before = head.decode(encoded, batch)
    encoded.states[:, 0, 0] = 50.0
    assert head.decode(encoded, batch) == before
    if name.startswith("proto"):
        torch.testing.assert_close(head.loss(encoded, batch), head.loss(less, shorter))
    batch.play_mask[:2] = False
    with pytest.raises(DataError, match="support"):
        head.decode(encoded, batch)


@pytest.mark.parametrize("name", ["softmax", "crf", "prototype", "prototype_crf", *TRANSFER])
def test_a_word_whose_tag_does_not_count_is_not_in_the_loss_but_is_decoded(name: str) -> None:
    episodic = name.startswith("proto")
    batch = batch_of([*SUPPORT, *QUERY] if episodic else QUERY, 3 if episodic else 0)
    encoded = states_for(batch)
    head = built(name, TYPES)
    whole = head.loss(encoded, batch)
    batch.play_mask = batch.text.word_mask.clone()
    torch.testing.assert_close(head.loss(encoded, batch), whole)
    batch.play_mask[-2, 1] = False
    encoded.states.requires_grad_()
    losses = []
    for tag in range(len(TYPES)):
        assert batch.tags is not None
        batch.tags[-2, 1] = tag
        losses.append(head.loss(encoded, batch))
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0])
    assert not torch.isclose(losses[0], whole)
    gradient = torch.autograd.grad(losses[0], encoded.states)[0]
    assert gradient.isfinite().all()
    if "crf" not in name:
        assert not gradient[:, -2, 1].any()
    if episodic or name in ("softmax", "crf"):
        assert [len(row) for row in head.decode(encoded, batch)] == [5, 3]
    batch.play_mask[:] = False
    if not episodic:
        assert head.loss(encoded, batch).item() == pytest.approx(0, abs=1e-5)


@settings(max_examples=40)
@given(st.integers(0, 999), st.lists(st.booleans(), min_size=4, max_size=4))
def test_the_crf_sums_over_the_tags_of_words_that_are_not_given(seed: int, played: list[bool]) -> None:
    draw = torch.Generator().manual_seed(seed)
    emissions = 3 * torch.randn(1, 4, 3, generator=draw)
    scores = Scores(*(torch.randn(*shape, generator=draw) for shape in ((3,), (3, 3), (3,))))
    tags = torch.randint(3, (1, 4), generator=draw)
    mask = torch.tensor([[True, True, True, bool(seed % 2)]])
    length = int(mask.sum())

    def value(path: tuple[int, ...]) -> float:
        total = float(scores.start[path[0]] + scores.end[path[-1]])
        total += sum(float(emissions[0, place, tag]) for place, tag in enumerate(path))
        return total + sum(float(scores.transitions[a, b]) for a, b in itertools.pairwise(path))

    every = list(itertools.product(range(3), repeat=length))
    agreeing = [
        path for path in every if all(not played[place] or tag == tags[0, place] for place, tag in enumerate(path))
    ]
    weight = [sum(math.exp(value(path)) for path in paths) for paths in (every, agreeing)]
    given_mask = torch.tensor([played])
    found = crf_nll(emissions, tags, mask, scores, observed=given_mask)
    assert found.item() == pytest.approx(math.log(weight[0] / weight[1]), abs=1e-4)


def test_rows_of_a_batch_keep_their_tensors_and_captions() -> None:
    batch = batch_of(SUPPORT, 1, episode=4)
    batch.images = torch.arange(3.0).view(3, 1, 1, 1, 1).expand(3, 2, 3, 2, 2)
    batch.captions = TextBatch([(str(row),) for row in range(6)], torch.ones(6, 1, dtype=torch.bool))
    batch.caption_mask = torch.ones(3, 2, dtype=torch.bool)
    part = batch.select(torch.tensor([2, 0]))
    assert [post.id for post in part.posts] == ["2", "0"] and part.episode == 4
    assert part.text.words == [batch.text.words[2], batch.text.words[0]]
    assert part.captions is not None and part.captions.words == [("4",), ("5",), ("0",), ("1",)]
    assert part.images is not None and part.images[:, 0, 0, 0, 0].tolist() == [2, 0]
    assert part.tags is not None and batch.tags is not None and part.tags.tolist() == batch.tags[[2, 0]].tolist()
    assert part.query.tolist() == [True, False] and len(batch) == 3


# ---------------------------------------------------------------------- finetune

TUNING = [{"scope": scope, "layer": layer} for scope in ("head", "all") for layer in ("softmax", "crf")]
tuning = pytest.mark.parametrize(
    "options", [*TUNING, {"scope": "all", "tuning_dropout": True, "dropout": 0.2}], ids=str
)


def snapshot(module: nn.Module) -> dict[str, bytes]:
    return {name: value.detach().numpy().tobytes() for name, value in module.state_dict().items()}


def randomness() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state())


@tuning
def test_tuning_leaves_weights_gradients_modes_and_random_state_as_they_were(options: dict[str, Any]) -> None:
    tagger = tagger_with("finetune", steps=5, encoder_lr=0.1, **options)
    tagger.encoder.dropout.train()  # a mode of its own
    for weight in tagger.encoder.parameters():
        weight.grad = torch.ones_like(weight)
    before, state, gradients = snapshot(tagger), randomness(), [id(each.grad) for each in tagger.encoder.parameters()]
    tagger.encoder.dropout.eval()
    with torch.no_grad():
        tagger.tag(worded(3, random.Random(0)))
    assert snapshot(tagger) == before and randomness() == state
    assert [id(each.grad) for each in tagger.encoder.parameters()] == gradients
    assert all((each.grad == 1).all() for each in tagger.encoder.parameters())
    assert not any(each.training for each in tagger.modules())


def test_tuning_the_encoder_does_change_it_until_the_context_ends() -> None:
    tagger = tagger_with("finetune", scope="all", steps=3, encoder_lr=0.1)
    before = snapshot(tagger)
    with tagger.head.adapted(tagger.encoder, worded(3, random.Random(0))):
        assert snapshot(tagger) != before
    assert snapshot(tagger) == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_restores_the_weights_too(error: type[BaseException]) -> None:
    tagger = tagger_with("finetune", scope="all", steps=3, encoder_lr=0.1)
    batch, before = worded(3, random.Random(0)), snapshot(tagger)
    with pytest.raises(error), tagger.head.adapted(tagger.encoder, batch):
        raise error
    assert snapshot(tagger) == before
    calls = itertools.count()
    forward = tagger.encoder.forward

    def fails(batch: Batch, trace: bool = False) -> WordStates:
        if next(calls) == 2:
            raise error
        return forward(batch, trace)

    tagger.encoder.forward = fails  # type: ignore[method-assign]
    state = randomness()
    with pytest.raises(error):
        tagger.tag(batch)
    assert snapshot(tagger) == before and randomness() == state
    assert not any(each.training for each in tagger.modules())


@tuning
def test_predictions_depend_on_seed_and_number_alone(options: dict[str, Any]) -> None:
    draw = random.Random(0)
    batches = [worded(number, draw) for number in range(6)]

    def said(order: list[int], mess: int) -> dict[int, Any]:
        tagger = tagger_with("finetune", steps=4, **options)
        torch.manual_seed(mess)
        return {place: [each.tags for each in tagger.tag(copy.deepcopy(batches[place]))] for place in order}

    whole = said([0, 1, 2, 3, 4, 5], 0)
    assert {**said([5, 1, 3], 1), **said([4, 2, 0], 2)} == whole


def test_the_fresh_layer_is_another_for_another_seed_or_number() -> None:
    batch = worded(0, random.Random(0))
    tagger = tagger_with("finetune", steps=0)
    encoded = tagger.encoder(batch)

    def weight(seed: int, number: int) -> list[float]:
        batch.episode = number
        return tagger.head.tuned(encoded, batch, seed).linear.weight.flatten().tolist()

    assert weight(0, 0) == weight(0, 0)
    assert weight(0, 0) != weight(0, 1) and weight(0, 0) != weight(1, 0)


@pytest.mark.parametrize("options", TUNING, ids=str)
def test_a_separable_support_is_learnt_to_the_last_word(options: dict[str, Any]) -> None:
    tagger = tagger_with("finetune", steps=300, lr=0.2, **options)
    batch = worded(0, random.Random(4))
    # the support is asked for again
    rows = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    again = batch.select(rows)
    again.query = torch.arange(10) >= 5
    for prediction in tagger.tag(again):
        assert prediction.tags == prediction.gold


def test_tuning_works_in_inference_mode_too() -> None:
    for options in TUNING:
        tagger = tagger_with("finetune", steps=4, **options)
        with torch.inference_mode():
            inside = [each.tags for each in tagger.tag(worded(0, random.Random(0)))]
        assert inside == [each.tags for each in tagger.tag(worded(0, random.Random(0)))]


def test_the_encoder_is_tuned_under_autocast_too() -> None:
    tagger = tagger_with("finetune", scope="all", steps=20, encoder_lr=0.1)
    batch, encoder = worded(0, random.Random(4)), tagger.encoder
    before, linear = snapshot(tagger), encoder.project.weight.detach().clone()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        untuned = encoder(batch).states
        with tagger.head.adapted(encoder, batch) as (_, encoded):
            assert (encoder.project.weight - linear).abs().mean() > 0.1
            # of each of these, autocast may remember low-precision weights of another moment
            torch.clear_autocast_cache()
            torch.testing.assert_close(encoder(batch).states, encoded.states, rtol=0, atol=0)
        torch.testing.assert_close(encoder(batch).states, untuned, rtol=0, atol=0)
    assert snapshot(tagger) == before


def test_own_randomness_and_restoring_by_themselves() -> None:
    with own_randomness(7, torch.device("cpu")):
        first = torch.rand(3)
    torch.rand(5)
    with own_randomness(7, torch.device("cpu")):
        assert torch.equal(torch.rand(3), first)
    norm = nn.BatchNorm1d(2)
    before = snapshot(norm)
    with restored(norm):
        norm(torch.randn(4, 2))
        assert snapshot(norm) != before
    assert snapshot(norm) == before


def test_steps_below_zero_are_refused() -> None:
    with pytest.raises(UsageError, match="steps"):
        built("finetune", steps=-1)


@pytest.mark.parametrize("name", TRANSFER)
def test_training_is_the_layers_own_loss_on_the_source_types(name: str) -> None:
    rows = [["O", "B-ORG", "I-ORG"], ["B-VEH", "O"]]
    batch = batch_of(rows, 0, SOURCE)
    encoded = states_for(batch, worlds=2)
    head, plain = built(name), built("softmax")
    plain.load_state_dict({key.removeprefix("source."): value for key, value in head.source.state_dict().items()})
    torch.testing.assert_close(head.loss(encoded, batch), plain.loss(encoded, batch))
