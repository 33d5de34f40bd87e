"""A method's predictions for a split, and how much the pictures contribute to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import lightning.pytorch as lightning

from mnerkit.data.corpus.tags import counted, entities
from mnerkit.data.datamodule import MnerData
from mnerkit.data.options import Pictures
from mnerkit.methods.method import Method
from mnerkit.methods.prediction import Prediction, gather
from mnerkit.methods.tagger import Tagger
from mnerkit.scoring import probe_measures
from mnerkit.scoring.reliability import reliability
from mnerkit.towers.interface import Encoder


def reads_windows(method: Method, predicting: bool) -> bool:
    """Whether posts that are longer than the text tower reads are read in windows, as the option `long_posts` says.

    Args:
        method: a built method; only an `Encoder` puts the states of windows together.
        predicting: for `predict`; else for scores.
    """
    modes = ("auto", "windows") if predicting else ("windows",)
    if getattr(method.options, "subword", "first") != "first":  # windows are put together word by word
        return False
    return isinstance(method.encoder, Encoder) and getattr(method.options, "long_posts", "cut") in modes


def predictions(
    trainer: lightning.Trainer, method: Method, data: MnerData, split: str, pictures: Pictures | None = None
) -> list[Any]:
    """Predictions for every post (or every query of every episode) of a split, from all ranks, in a fixed order."""
    method.predicted = []
    method.scored_pass = f"{split}, {pictures} pictures" if pictures else split
    trainer.predict(method, dataloaders=data.loader(split, pictures=pictures), return_predictions=False)
    return gather(method.predicted)


def scored(
    trainer: lightning.Trainer, method: Method, data: MnerData, split: str
) -> tuple[dict[str, dict[str, Any]], list[Any]]:
    """Score a split.

    Returns:
        The scores under the empty key; under `:reliability` how right the scores of entities are, where the method
        has scores; for a generated corpus, the scores of clear and ambiguous entities under `:image_use`; and the
        predictions, with traces of the attention if `image_use` needs them.
    """
    # only generated corpora have ground truth about ambiguous entities
    tagger = method if isinstance(method, Tagger) and data.options.corpus == "probe" else None
    uses_pictures = bool(method.needs().views)
    method.tracing = ("attention",) if tagger is not None and uses_pictures else ()
    method.scores_entities = method.can_score_entities
    predicted = predictions(trainer, method, data, split)
    method.tracing, method.scores_entities = (), False
    figures: dict[str, dict[str, Any]] = {"": method.figures(predicted)}
    if isinstance(method, Tagger) and (found := reliability(_scored_entities(predicted))) is not None:
        figures[":reliability"] = {**found, "calibrated": method.head.calibrated}
    if tagger is not None:
        figures[":image_use"] = (
            image_use(trainer, tagger, data, split, predicted) if uses_pictures else {"unseen": clarity(predicted)}
        )
    return figures, predicted


def image_use(
    trainer: lightning.Trainer, tagger: Tagger, data: MnerData, split: str, predicted: Sequence[Prediction]
) -> dict[str, Any]:
    """F1 with right, shuffled and blank pictures on all, clear and ambiguous entities; pointing, if it has attention.

    Image use is the F1 on all entities with right pictures minus that with shuffled ones. Only for generated corpora,
    which have ground truth. `predicted` are the predictions with right pictures, with traces if the method has them.
    """
    figures: dict[str, Any] = {"right": clarity(predicted)}
    for pictures in ("shuffled", "blank"):
        figures[pictures] = clarity(predictions(trainer, tagger, data, split, pictures=pictures))  # type: ignore[arg-type]
    figures["image_use"] = figures["right"]["all"] - figures["shuffled"]["all"]
    attentions = [each.traces.get("attention") for each in predicted]
    if predicted and all(each is not None for each in attentions):
        figures["pointing"] = probe_measures.pointing([each.post for each in predicted], attentions)
    return figures


def _scored_entities(predicted: Sequence[Prediction]) -> Iterator[tuple[float, bool]]:
    """The score of each predicted entity that counts, and whether it is right."""
    for each in predicted:
        if each.probabilities is not None:
            gold, spans = set(entities(each.gold)), entities(each.tags)
            counts = set(counted(spans, each.ignored))
            yield from ((p, span in gold) for span, p in zip(spans, each.probabilities, strict=True) if span in counts)
            each.probabilities = None  # files of predictions hold what is scored


def clarity(predicted: Sequence[Prediction]) -> dict[str, float]:
    """F1 on all, clear and ambiguous entities of the types in play."""
    return probe_measures.f1_by_clarity(
        [each.post for each in predicted], [each.scored for each in predicted], types=[each.types for each in predicted]
    )
