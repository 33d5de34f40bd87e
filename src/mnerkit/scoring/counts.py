"""Entity-level scores: exact spans and types, micro-averaged, under the lenient and the strict chunking rule.

Counts are whole numbers (of gold, predicted and correct entities), so the counts of batches and ranks add up to those
of the whole split. All scores are percentages, 0..100. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

import numpy as np

from mnerkit.data.corpus.post import Entity
from mnerkit.data.corpus.tags import Chunking, entities
from mnerkit.errors import DataError

Tags = Sequence[Sequence[str]]
Counts = Mapping[Chunking, Any]
RULES: tuple[Chunking, ...] = get_args(Chunking)


def post_pairs(gold: Tags, predicted: Tags) -> Iterable[tuple[Sequence[str], Sequence[str]]]:
    """Yield the gold and the predicted tags of each post.

    Raises:
        ValueError: the two differ in posts or in words.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold posts, {len(predicted)} predicted")
    for number, (gold_tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True)):
        if len(gold_tags) != len(predicted_tags):
            raise ValueError(f"post {number} has {len(gold_tags)} gold tags, {len(predicted_tags)} predicted")
        yield gold_tags, predicted_tags


def count_entities(gold: Tags, predicted: Tags, chunking: Chunking = "lenient") -> dict[str, np.ndarray]:
    """Count entities by type: an int array (gold, predicted, correct) for each type that occurs, in alphabetical order.

    Raises:
        ValueError: the two differ in posts or in words.
    """
    counts: dict[str, np.ndarray] = {}
    for gold_tags, predicted_tags in post_pairs(gold, predicted):
        gold_set, predicted_set = set(entities(gold_tags, chunking)), set(entities(predicted_tags, chunking))
        for column, group in enumerate((gold_set, predicted_set, gold_set & predicted_set)):
            for entity in group:
                counts.setdefault(entity.type, np.zeros(3, dtype=np.int64))[column] += 1
    return dict(sorted(counts.items()))


def prf(gold: float, predicted: float, correct: float) -> tuple[float, float, float]:
    """Precision, recall and F1 in percent; 0 where undefined, as in seqeval."""
    precision = 100 * correct / predicted if predicted else 0.0
    recall = 100 * correct / gold if gold else 0.0
    f1 = 200 * correct / (gold + predicted) if gold + predicted else 0.0
    return float(precision), float(recall), float(f1)


def named_scores(totals: Counts, by_type: Mapping[str, Counts]) -> dict[str, float]:
    """Precision, recall and F1 under the names of `entity_scores`.

    Args:
        totals: (gold, predicted, correct) counts of all entities under each chunking rule.
        by_type: the same counts for each type.
    """
    scores: dict[str, float] = {}
    for prefix, counts in [("", totals), *((f"type/{kind}/", of_type) for kind, of_type in by_type.items())]:
        for rule in RULES:
            suffix = "" if rule == "lenient" else "_strict"
            precision, recall, f1 = prf(*counts[rule])
            scores |= {
                f"{prefix}f1{suffix}": f1,
                f"{prefix}precision{suffix}": precision,
                f"{prefix}recall{suffix}": recall,
            }
    return scores


def entity_scores(gold: Tags, predicted: Tags) -> dict[str, float]:
    """Compute micro scores and scores by type from two lists of BIO sequences.

    Returns:
        `f1`, `precision`, `recall` (lenient), `f1_strict`, `precision_strict`, `recall_strict`, and the same six under
        `type/X/` for every type that occurs.
    """
    counts = {rule: count_entities(gold, predicted, rule) for rule in RULES}
    zeros = np.zeros(3, dtype=np.int64)
    kinds = sorted({kind for types in counts.values() for kind in types})
    totals: dict[Chunking, Any] = {rule: sum(types.values(), zeros) for rule, types in counts.items()}
    by_type: dict[str, Counts] = {kind: {rule: counts[rule].get(kind, zeros) for rule in RULES} for kind in kinds}
    return named_scores(totals, by_type)


def report(gold: Tags, predicted: Tags, digits: int = 4) -> str:
    """Format seqeval's table of precision, recall, F1 and support by type (lenient)."""
    from seqeval.metrics import classification_report

    if not any(entities(tags) for tags in (*gold, *predicted)):
        return "no entities\n"
    as_lists = [list(tags) for tags in gold], [list(tags) for tags in predicted]
    return classification_report(*as_lists, digits=digits, zero_division=0)


def confusion(gold: Tags, predicted: Tags, types: Sequence[str], chunking: Chunking = "lenient") -> np.ndarray:
    """Confusion matrix of entity types over spans with equal bounds: gold types in rows, predicted ones in columns.

    The last column counts missed entities (no predicted entity has their bounds), the last row spurious ones.

    Returns:
        (T + 1, T + 1) int array.

    Raises:
        DataError: an entity has a type that is not in `types`.
    """
    posts = (tuple(entities(tags, chunking) for tags in pair) for pair in post_pairs(gold, predicted))
    return span_confusion(posts, types)


def span_confusion(posts: Iterable[Sequence[Iterable[Entity]]], types: Sequence[str]) -> np.ndarray:
    """`confusion` from pairs of the gold and the predicted entities of each post."""
    number = {kind: place for place, kind in enumerate(types)}
    matrix = np.zeros((len(types) + 1, len(types) + 1), dtype=np.int64)
    for pair in posts:
        gold_types, predicted_types = ({(span.start, span.end): span.type for span in spans} for spans in pair)
        for bounds in gold_types.keys() | predicted_types.keys():
            cell = []
            for kind in (gold_types.get(bounds), predicted_types.get(bounds)):
                if kind is not None and kind not in number:
                    raise DataError(f"entity type {kind!r} is not among {', '.join(types)}")
                cell.append(len(types) if kind is None else number[kind])
            matrix[cell[0], cell[1]] += 1
    return matrix
