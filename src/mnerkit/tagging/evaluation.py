"""Predictions of a split, their scores, and what the pictures contribute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import lightning.pytorch as lightning

from mnerkit.data.datamodule import MnerData
from mnerkit.data.spans import entities
from mnerkit.tagging import probe_measures
from mnerkit.tagging.counts import entity_scores
from mnerkit.tagging.intervals import counts_by_unit, episode_scores
from mnerkit.tagging.tagger import Prediction, Tagger, gather

Pictures = Literal["right", "shuffled", "blank"]


def predictions(
    trainer: lightning.Trainer, tagger: Tagger, data: MnerData, split: str, pictures: Pictures | None = None
) -> list[Prediction]:
    """Predictions for every post (or every query of every episode) of a split, of all ranks, in a fixed order."""
    tagger.predicted = []
    trainer.predict(tagger, dataloaders=data.loader(split, pictures=pictures), return_predictions=False)
    return gather(tagger.predicted)


def scores(predicted: Sequence[Prediction]) -> dict[str, float]:
    """Lenient and strict micro P/R/F1, and per type, in percent; for episodes `intervals.episode_scores`, too.

    `f1` is pooled over all posts: of the entities of all episodes together, as MOUSING's paper reports it.
    """
    gold, said = [each.gold for each in predicted], [each.scored for each in predicted]
    found = entity_scores(gold, said)
    if predicted and all(each.episode is not None for each in predicted):
        found |= episode_scores(counts_by_unit([each.episode for each in predicted], gold, said))
    return found


def image_use(
    trainer: lightning.Trainer, tagger: Tagger, data: MnerData, split: str, right: Sequence[Prediction]
) -> dict[str, Any]:
    """F1 with right, shuffled and blank pictures, on all, clear and ambiguous entities; pointing where it attends.

    Image use is right minus shuffled, on all entities. Only for generated corpora, whose truth is known. `right` holds
    the predictions with right pictures, with traces where the method has them.
    """
    figures: dict[str, Any] = {"right": clarity(right)}
    for pictures in ("shuffled", "blank"):
        figures[pictures] = clarity(predictions(trainer, tagger, data, split, pictures=pictures))  # type: ignore[arg-type]
    figures["image_use"] = figures["right"]["all"] - figures["shuffled"]["all"]
    attentions = [each.traces.get("attention") for each in right]
    if right and all(each is not None for each in attentions):
        figures["pointing"] = probe_measures.pointing([each.post for each in right], attentions)
    return figures


def clarity(predicted: Sequence[Prediction]) -> dict[str, float]:
    """F1 on all, clear and ambiguous entities of the types in play."""
    return probe_measures.f1_by_clarity(
        [each.post for each in predicted], [each.scored for each in predicted], types=[each.types for each in predicted]
    )


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
