"""Scores of the detected spans: their own F1, and F1 of tagging on detected and on missed spans."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import Entity
from mnerkit.data.corpus.tags import entities, tags_of
from mnerkit.methods.prediction import Prediction
from mnerkit.nn.untyped_spans import SpanRepair, spans_of
from mnerkit.scoring.counts import entity_scores, prf

TAGS = ("O", "B-span", "I-span")


def untyped(rows: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[list[str]]:
    """BIO tags of one type, one for each word, from rows of untyped tag numbers that may be padded."""
    return [[TAGS[tag] for tag in row[:length]] for row, length in zip(rows, lengths, strict=True)]


def gold_spans(batch: Batch, repair: SpanRepair) -> Tensor:
    """Spans (B, W) of the gold tags, also of words that the tower did not read."""
    assert batch.tags is not None
    return spans_of(batch.tags, batch.text.word_mask, repair)


def detection_figures(predicted: Sequence[Prediction]) -> dict[str, float]:
    """Scores of the detected spans (trace `spans`, one untyped tag number for each word) in percent, and of tagging.

    `hit` and `miss` count the gold entities whose bounds were detected, or were not, and the predictions that overlap
    one of them.

    Returns:
        `span_f1`, `span_precision`, `span_recall`; `f1_span_hit`, `f1_span_miss` (0 if there are none); and
        `false_entities`, the number of predicted entities that overlap no gold one. Empty without these traces.
    """
    if not predicted or any("spans" not in each.traces for each in predicted):
        return {}
    gold = [entities(each.gold) for each in predicted]
    tagged = [entities(each.scored) for each in predicted]
    detected = [[TAGS[int(number)] for number in each.traces["spans"]] for each in predicted]
    gold_tags = [
        tags_of((Entity(span.start, span.end, "span") for span in spans), len(each.post.words))
        for each, spans in zip(predicted, gold, strict=True)
    ]
    scores = entity_scores(gold_tags, detected)
    counts = {True: [0, 0, 0], False: [0, 0, 0]}  # gold, predicted, correct; by whether the span was detected
    false = 0
    for gold_entities, tagged_entities, tags in zip(gold, tagged, detected, strict=True):
        bounds = {(span.start, span.end) for span in entities(tags)}
        for hit, count in counts.items():
            subset = [span for span in gold_entities if ((span.start, span.end) in bounds) == hit]
            near = [span for span in tagged_entities if _overlaps(span, subset)]
            count[0] += len(subset)
            count[1] += len(near)
            count[2] += len(set(subset) & set(near))
        false += sum(not _overlaps(span, gold_entities) for span in tagged_entities)
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
