"""The figures of finished runs, computed anew from their kept predictions. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mnerkit.atomic_files import is_figure
from mnerkit.errors import DataError
from mnerkit.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from mnerkit.scoring.comparison import Answer

TOLERANCE = 1e-6  # percent; only rounding may differ


class Rescored(NamedTuple):
    """The figures of one split of a run.

    Attributes:
        split: key of the figures in `metrics.json`, such as `test`, or `test@...` of another corpus.
        recorded: those of `metrics.json` that predictions decide.
        recomputed: the same figures from the predictions.
    """

    split: str
    recorded: dict[str, float]
    recomputed: dict[str, float]

    @property
    def differing(self) -> list[str]:
        """Names of the figures that differ by more than rounding."""
        return [name for name, value in self.recorded.items() if abs(value - self.recomputed[name]) > TOLERANCE]


def figures(answers: Sequence[Answer]) -> dict[str, float]:
    """Lenient precision, recall and F1, the same under `type/X/`, and for episodes `intervals.episode_scores`.

    Strict figures need the tags, of which predictions keep the entities alone.
    """
    import numpy as np

    from mnerkit.scoring.counts import prf
    from mnerkit.scoring.intervals import episode_scores

    totals, by_type, units = np.zeros(3, dtype=int), dict[str, np.ndarray](), dict[int | None, np.ndarray]()
    for answer in answers:
        counts = np.zeros(3, dtype=int)
        for column, spans in enumerate((answer.gold, answer.predicted, answer.gold & answer.predicted)):
            counts[column] = len(spans)
            for span in spans:
                by_type.setdefault(span.type, np.zeros(3, dtype=int))[column] += 1
        totals += counts
        units[answer.episode] = units.get(answer.episode, 0) + counts
    values: dict[str, float] = {}
    for prefix, counts in [("", totals), *((f"type/{kind}/", own) for kind, own in by_type.items())]:
        values |= zip((f"{prefix}{name}" for name in ("precision", "recall", "f1")), prf(*counts), strict=True)
    if None not in units:
        values |= episode_scores(np.array(list(units.values())))
    return values


def rescored(run: RunFolder) -> Iterator[Rescored]:
    """Compute the figures of each split of which a finished run keeps predictions.

    Raises:
        DataError: a file is damaged, or a split has predictions with gold entities, and no figures.
    """
    from mnerkit.scoring.comparison import read_answers

    metrics = run.metrics()
    for path in sorted(run.path.glob("predictions.*.jsonl")):
        split = path.name.removeprefix("predictions.").removesuffix(".jsonl")
        recorded = metrics.get(split)
        if not isinstance(recorded, Mapping):
            raise DataError(f"{path}: {run.metrics_file} has no figures of {split!r}")
        if "f1" not in recorded:  # of a method that judges images
            continue
        recomputed = figures(read_answers(path))
        common = {name: recorded[name] for name in recomputed if is_figure(recorded.get(name))}
        yield Rescored(split, common, recomputed)
