"""What the detected spans are worth: their own F1, and tagging where a span was found and where it was missed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import Entity
from mnerkit.data.corpus.tags import entities, tags_of
from mnerkit.methods.prediction import Prediction
from mnerkit.nn.untyped_spans import SpanRepair, spans_of, tags_of_spans
from mnerkit.scoring.counts import entity_scores, prf

TAGS = ("O", "B-span", "I-span")


def untyped(spans: Tensor, batch: Batch) -> list[list[str]]:
    """BIO tags of one type, a word each, from `spans` (B, W)."""
    lengths = batch.text.word_mask.sum(1).tolist()
    rows = tags_of_spans(spans).tolist()
    return [[TAGS[tag] for tag in row[:length]] for row, length in zip(rows, lengths, strict=True)]


def gold_spans(batch: Batch, repair: SpanRepair) -> list[list[str]]:
    """Those of the gold tags, words that the tower did not see included."""
    assert batch.tags is not None
    return untyped(spans_of(batch.tags, batch.text.word_mask, repair), batch)


def detection_figures(predicted: Sequence[Prediction]) -> dict[str, float]:
    """Scores of the detected spans (trace `spans`, one untyped tag number a word), in percent, and what follows them.

    On `hit` and `miss` gold is restricted to entities whose bounds were detected, or were not, and predictions to those
    that overlap one of them.

    Returns:
        `span_f1`, `span_precision`, `span_recall`; `f1_span_hit`, `f1_span_miss` (0 where there is none); and
        `false_entities`, the predicted entities that overlap no gold one. Empty where there are no such traces.
    """
    if not predicted or any("spans" not in each.traces for each in predicted):
        return {}
    gold = [entities(each.gold) for each in predicted]
    said = [entities(each.scored) for each in predicted]
    found = [[TAGS[int(number)] for number in each.traces["spans"]] for each in predicted]
    plain = [
        tags_of((Entity(span.start, span.end, "span") for span in spans), len(each.post.words))
        for each, spans in zip(predicted, gold, strict=True)
    ]
    scores = entity_scores(plain, found)
    counts = {True: [0, 0, 0], False: [0, 0, 0]}  # gold, predicted, right; by whether the span was detected
    false = 0
    for right, given, tags in zip(gold, said, found, strict=True):
        bounds = {(each.start, each.end) for each in entities(tags)}
        for hit, count in counts.items():
            some = [each for each in right if ((each.start, each.end) in bounds) == hit]
            near = [each for each in given if _overlaps(each, some)]
            count[0] += len(some)
            count[1] += len(near)
            count[2] += len(set(some) & set(near))
        false += sum(not _overlaps(each, right) for each in given)
    return {
        "span_f1": scores["f1"],
        "span_precision": scores["precision"],
        "span_recall": scores["recall"],
        "f1_span_hit": prf(*counts[True])[2],
        "f1_span_miss": prf(*counts[False])[2],
        "false_entities": float(false),
    }


def _overlaps(span: Entity, others: Sequence[Entity]) -> bool:
    return any(span.start < other.end and other.start < span.end for other in others)
