"""Untyped spans: tags to spans and back, their CRF against brute force, and when predicted ones take over."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnerkit.data.corpus.tags import TagSet, entities
from mnerkit.nn.untyped_spans import ScheduledSampling, SpanTask, bounds_of_spans, spans_of, tags_of_spans

TAGS = TagSet(("PER", "LOC"))
rows = st.lists(st.lists(st.sampled_from(TAGS.tags), min_size=0, max_size=9), min_size=1, max_size=4)


def padded(tags: list[list[str]]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(1, *map(len, tags)) if len(tags) > 1 else max(1, len(tags[0]))
    # what stands in the padding must not matter
    numbers = torch.full((len(tags), width), 3)
    mask = torch.zeros(len(tags), width, dtype=torch.bool)
    for row, each in enumerate(tags):
        numbers[row, : len(each)] = torch.tensor(TAGS.encode(each), dtype=torch.long)
        mask[row, : len(each)] = True
    return numbers, mask


@pytest.mark.parametrize("repair", ["lenient", "strict"])
@given(rows)
@settings(max_examples=60)
def test_spans_are_the_bounds_of_the_entities_under_the_same_rule(repair: str, tags: list[list[str]]) -> None:
    numbers, mask = padded(tags)
    spans = spans_of(numbers, mask, repair)  # type: ignore[arg-type]
    bounds, real = bounds_of_spans(spans)
    for row, each in enumerate(tags):
        wanted = [[span.start, span.end] for span in entities(each, repair)]  # type: ignore[arg-type]
        assert bounds[row][real[row]].tolist() == wanted
        found = spans[row].tolist()
        for number, (start, end) in enumerate(wanted):
            assert set(found[start:end]) == {number}
        assert sum(place >= 0 for place in found) == sum(end - start for start, end in wanted)


@given(rows)
@settings(max_examples=40)
def test_spans_to_tags_to_spans_is_a_round_trip(tags: list[list[str]]) -> None:
    numbers, mask = padded(tags)
    spans = spans_of(numbers, mask)
    untyped = tags_of_spans(spans)
    assert set(untyped.flatten().tolist()) <= {0, 1, 2}
    for repair in ("lenient", "strict"):
        assert torch.equal(spans_of(untyped, mask, repair), spans)  # type: ignore[arg-type]


def test_an_orphan_starts_a_span_or_belongs_to_none() -> None:
    numbers, mask = padded([["O", "I-PER", "I-PER", "B-LOC", "I-PER", "O", "B-PER"]])
    assert spans_of(numbers, mask).tolist() == [[-1, 0, 0, 1, 2, -1, 3]]
    assert spans_of(numbers, mask, "strict").tolist() == [[-1, -1, -1, 0, -1, -1, 1]]
    assert tags_of_spans(spans_of(numbers, mask)).tolist() == [[0, 1, 2, 1, 1, 0, 1]]


@torch.no_grad()
def brute(task: SpanTask, emissions: torch.Tensor) -> dict[tuple[int, ...], float]:
    """The score of every sequence of three tags."""
    crf = task.crf
    scores = {}
    for path in itertools.product(range(3), repeat=len(emissions)):
        score = crf.start_transitions[path[0]] + crf.end_transitions[path[-1]]
        score = score + sum(emissions[place, tag] for place, tag in enumerate(path))
        score = score + sum(crf.transitions[a, b] for a, b in itertools.pairwise(path))
        scores[path] = float(score)
    return scores


def test_its_loss_and_its_spans_are_those_of_all_sequences() -> None:
    torch.manual_seed(0)
    task = SpanTask(5)
    states, mask = torch.randn(3, 4, 5), torch.tensor([[True] * 4, [True] * 3 + [False], [False] * 4])
    tags = torch.tensor([[0, 1, 2, 0], [1, 1, 0, 2], [0, 0, 0, 0]])
    emissions = task.emissions(states)
    losses, best = [], []
    for row, length in enumerate((4, 3)):
        scores = brute(task, emissions[row, :length].detach())
        total = torch.tensor(list(scores.values())).logsumexp(0)
        losses.append(float(total) - scores[tuple(tags[row, :length].tolist())])
        best.append(max(scores, key=lambda path: scores[path]))
    # the row without words does not count
    torch.testing.assert_close(task.loss(emissions, tags, mask), torch.tensor(sum(losses) / 2))
    decoded = task.decode(emissions, mask)
    assert tuple(decoded[0].tolist()) == best[0] and tuple(decoded[1, :3].tolist()) == best[1]
    assert not decoded[~mask].any()


def test_the_share_of_predicted_spans_grows_from_epoch_2_to_6() -> None:
    shares = [ScheduledSampling().share(epoch) for epoch in (1, 2, 3, 4, 5, 6, 20)]
    assert shares == pytest.approx([0, 0, 0.225, 0.45, 0.675, 0.9, 0.9])
    assert [ScheduledSampling(start=3, end=3, most=1.0).share(epoch) for epoch in (3, 4)] == [0, 1]


def test_the_coin_is_tossed_for_each_sentence_or_once() -> None:
    gold, predicted = torch.zeros(4000, 2).long(), torch.ones(4000, 2).long()
    torch.manual_seed(0)
    chosen = ScheduledSampling().choose(gold, predicted, 4)
    assert torch.equal(chosen[:, 0], chosen[:, 1])
    assert abs(float(chosen.float().mean()) - 0.45) < 0.03
    once = ScheduledSampling("batch", most=0.5)
    batches = [once.choose(gold, predicted, 9).float().mean().item() for _ in range(200)]
    assert set(batches) == {0.0, 1.0} and 60 < sum(batches) < 140
    assert torch.equal(ScheduledSampling().choose(gold, predicted, 2), gold)


def test_the_same_random_state_draws_the_same() -> None:
    gold, predicted = torch.zeros(50, 2).long(), torch.ones(50, 2).long()
    drawn = []
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(ScheduledSampling().choose(gold, predicted, 5))
    assert torch.equal(*drawn)
