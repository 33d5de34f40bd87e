"""What a tagger says of posts, its scores, and its records."""

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


@dataclass
class Prediction:
    """What a tagger says of one post.

    Attributes:
        post: the post.
        tags: predicted BIO tags, one a word.
        types: the types that could be predicted: the corpus's, or those in play in the episode.
        episode: number of the episode, or None.
        support: ids of the episode's support posts.
        ignored: words of the post whose tags do not count (`--data.out_of_play ignore`).
        traces: per-post arrays to draw or to measure, by the names of the encoder's trace (attention (W, R) ...), when
            asked for.
    """

    post: Post
    tags: list[str]
    types: tuple[str, ...]
    episode: int | None = None
    support: tuple[str, ...] = ()
    ignored: tuple[int, ...] = ()
    traces: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def gold(self) -> list[str]:
        """The post's own tags, types that are not in play made O."""
        tagset = TagSet(self.types)
        return tagset.decode(tagset.encode(self.post.tags or ["O"] * len(self.post.words), out_of_play="O"))

    @property
    def scored(self) -> list[str]:
        """The predicted tags that are scored: an entity with an ignored word is neither right nor wrong, so O."""
        tags = list(self.tags)
        for span in entities(tags) if self.ignored else ():
            if any(span.start <= word < span.end for word in self.ignored):
                tags[span.start : span.end] = ["O"] * (span.end - span.start)
        return tags


def predictions_of(batch: Batch, decoded: Sequence[Sequence[int]]) -> list[Prediction]:
    """Predictions for the query rows of a batch, whose tag numbers are `decoded`."""
    rows = torch.nonzero(batch.query).flatten().tolist()
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
    """What a method says of a post."""

    post: Post
    episode: int | None


AnyAnswer = TypeVar("AnyAnswer", bound=Answer)


def gather(answers: Sequence[AnyAnswer]) -> list[AnyAnswer]:
    """Answers of all ranks, in an order that does not depend on the number of ranks."""
    mine = list(answers)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts: list[list[AnyAnswer] | None] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, mine)
        mine = [answer for part in parts for answer in part or []]
    return sorted(mine, key=lambda each: (each.episode if each.episode is not None else -1, each.post.id))


def scores(predicted: Sequence[Prediction]) -> dict[str, float]:
    """Lenient and strict micro P/R/F1, and per type, in percent; for episodes `intervals.episode_scores`, too.

    `f1` is pooled over all posts: of the entities of all episodes together, as MOUSING's paper reports it.
    """
    gold, said = [each.gold for each in predicted], [each.scored for each in predicted]
    found = entity_scores(gold, said)
    if predicted and all(each.episode is not None for each in predicted):
        found |= episode_scores(counts_by_unit([each.episode for each in predicted], gold, said))
    return found


def rows(predicted: Iterable[Prediction]) -> Iterator[dict[str, Any]]:
    """One plain record a prediction, as `predictions.<split>.jsonl` and `mnerkit predict` write it.

    `ignored` holds the words that do not count: an entity that holds one of them is shown, and neither right nor wrong.
    """
    for each in predicted:
        row: dict[str, Any] = {"id": each.post.id, "words": list(each.post.words)}
        if each.post.text is not None:
            row["text"] = each.post.text
        row["entities"] = list(_entities(each))
        if each.post.tags is not None:
            row["gold"] = [[span.start, span.end, span.type] for span in entities(each.gold)]
        if each.episode is not None:
            row["episode"] = each.episode
            row["types"] = list(each.types)
            row["support"] = list(each.support)
        if each.ignored:
            row["ignored"] = list(each.ignored)
        yield row


def _entities(each: Prediction) -> Iterator[dict[str, Any]]:
    """Entities with word offsets, and character offsets into the text (or the words joined by blanks)."""
    offsets, text = each.post.offsets, each.post.text
    if offsets is None or text is None:
        text, places, position = " ".join(each.post.words), [], 0
        for word in each.post.words:
            places.append((position, position + len(word)))
            position += len(word) + 1
        offsets = tuple(places)
    for span in entities(each.tags):
        first, last = offsets[span.start][0], offsets[span.end - 1][1]
        yield {
            "type": span.type,
            "start": span.start,
            "end": span.end,
            "char_start": first,
            "char_end": last,
            "text": text[first:last],
        }
