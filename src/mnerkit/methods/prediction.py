"""Predictions of a tagger, their scores, and the records that are written to files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet, entities
from mnerkit.scoring.counts import entity_scores
from mnerkit.scoring.intervals import counts_by_unit, episode_scores

# decimals of a probability in a record: batches of other posts change the ones behind
PLACES = 4


@dataclass
class Prediction:
    """A tagger's prediction for one post.

    Attributes:
        post: the post.
        tags: predicted BIO tags, one for each word.
        types: the types that could be predicted: those of the corpus, or those in play in the episode.
        episode: number of the episode, or None.
        support: ids of the episode's support posts.
        ignored: words of the post whose tags do not count (`--data.out_of_play ignore`).
        probabilities: of each entity of `tags`, if requested.
        traces: arrays of the post to draw or to measure, by the names of the encoder's trace (attention (W, R) ...), if
            requested.
    """

    post: Post
    tags: list[str]
    types: tuple[str, ...]
    episode: int | None = None
    support: tuple[str, ...] = ()
    ignored: tuple[int, ...] = ()
    probabilities: list[float] | None = None
    traces: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def gold(self) -> list[str]:
        """The post's gold tags, with O in place of types that are not in play."""
        tagset = TagSet(self.types)
        return tagset.decode(tagset.encode(self.post.tags or ["O"] * len(self.post.words), out_of_play="O"))

    @property
    def scored(self) -> list[str]:
        """The predicted tags that are scored: O in place of an entity with an ignored word, which does not count."""
        tags = list(self.tags)
        for span in entities(tags) if self.ignored else ():
            if any(span.start <= word < span.end for word in self.ignored):
                tags[span.start : span.end] = ["O"] * (span.end - span.start)
        return tags


def predictions_of(batch: Batch, decoded: Sequence[Sequence[int]]) -> list[Prediction]:
    """Predictions for the query rows of a batch, whose tag numbers are `decoded`."""
    rows = batch.places.queries
    predictions = [
        Prediction(batch.posts[row], batch.tagset.decode(numbers), batch.tagset.types, batch.episode)
        for row, numbers in zip(rows, decoded, strict=True)
    ]
    support = () if batch.episode is None else tuple(post.id for row, post in enumerate(batch.posts) if row not in rows)
    for row, prediction in zip(rows, predictions, strict=True):
        prediction.support = support
        if batch.play_mask is not None:
            counts = batch.play_mask[row, : len(prediction.tags)]
            prediction.ignored = tuple(torch.nonzero(~counts).flatten().tolist())
    return predictions


class Answer(Protocol):
    """A method's answer for a post."""

    post: Post
    episode: int | None


AnyAnswer = TypeVar("AnyAnswer", bound=Answer)


def gather(answers: Sequence[AnyAnswer]) -> list[AnyAnswer]:
    """Gather the answers of all ranks, in an order that does not depend on the number of ranks."""
    gathered = list(answers)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts: list[list[AnyAnswer] | None] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, gathered)
        gathered = [answer for part in parts for answer in part or []]
    return sorted(gathered, key=lambda answer: (-1 if answer.episode is None else answer.episode, answer.post.id))


def scores(predicted: Sequence[Prediction]) -> dict[str, float]:
    """Lenient and strict micro P/R/F1, and per type, in percent; for episodes also `intervals.episode_scores`.

    `f1` is pooled over the entities of all posts and episodes, as in MOUSING's paper.
    """
    gold, tags = [each.gold for each in predicted], [each.scored for each in predicted]
    values = entity_scores(gold, tags)
    if predicted and all(each.episode is not None for each in predicted):
        values |= episode_scores(counts_by_unit([each.episode for each in predicted], gold, tags))
    return values


def rows(predicted: Iterable[Prediction]) -> Iterator[dict[str, Any]]:
    """One plain record for each prediction, as `predictions.<split>.jsonl` and `mnerkit predict` write it.

    `ignored` lists the words that do not count: an entity with one of them is written, but not scored.
    """
    for prediction in predicted:
        row: dict[str, Any] = {"id": prediction.post.id, "words": list(prediction.post.words)}
        if prediction.post.text is not None:
            row["text"] = prediction.post.text
        row["entities"] = list(prediction.post.records(entities(prediction.tags)))
        if prediction.probabilities is not None:
            for entity, probability in zip(row["entities"], prediction.probabilities, strict=True):
                entity["score"] = round(probability, PLACES)
        if prediction.post.tags is not None:
            row["gold"] = [[span.start, span.end, span.type] for span in entities(prediction.gold)]
        if prediction.episode is not None:
            row["episode"] = prediction.episode
            row["types"] = list(prediction.types)
            row["support"] = list(prediction.support)
        if prediction.ignored:
            row["ignored"] = list(prediction.ignored)
        yield row
