"""R of images, which is how relevant each is to its post, from the predictions of a discriminator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator
from typing_extensions import Self

from mnerkit.errors import DataError
from mnerkit.strict_json import loads
from mnerkit.validation import Figure, Line

MAX_BYTES = 64 << 20  # of a file
MOST_BINS = 100  # of a histogram
BY_TRUTH = (("relevant/histogram", "relevant images"), ("irrelevant/histogram", "irrelevant images"))


class ScoredImages(Line):
    """A line of the discriminator's predictions: a post, its images and their R; `raw` is None where none was read."""

    id: str
    images: list[str]
    scores: list[Annotated[float, Field(ge=0, le=1)]]
    raw: list[Figure | None]

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if not len(self.raw) <= len(self.scores) == len(self.images):
            raise ValueError("not one R for each image")
        return self

    @property
    def relevance(self) -> list[float | None]:
        """R of the first images; None of one that was not read."""
        return [None if raw is None else score for score, raw in zip(self.scores, self.raw, strict=False)]


def read_scored_images(path: Path) -> list[ScoredImages]:
    """Read the predictions of a discriminator.

    Raises:
        DataError: the file can't be read, is too large, or has a line without the R of images.
    """
    rows = []
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has more than {MAX_BYTES >> 20} MB")
        for line in path.read_bytes().decode("utf-8").removesuffix("\n").split("\n") if path.stat().st_size else ():
            rows.append(ScoredImages.model_validate(loads(line)))
    except OSError as problem:
        raise DataError(f"{path}: {problem.strerror}") from None
    except (ValueError, RecursionError):  # also of pydantic
        raise DataError(f"{path}:{len(rows) + 1}: no line with the R of images") from None
    return rows


def pooled_histograms(scores: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[int]]]:
    """Counts of images in equal bins of R, summed over the scores of several runs.

    Returns:
        Name and counts: of relevant and of irrelevant images where the truth is known, else of all images. Empty where
        a run has no such counts, or where they are damaged.
    """
    names = [(key, name) for key, name in BY_TRUTH if all(_counts(of_run, key) for of_run in scores)]
    series = []
    for key, name in names or [("histogram", "images")]:
        counts = [_counts(of_run, key) for of_run in scores]
        if not counts[0] or len(set(map(len, counts))) > 1:
            return []
        series.append((name, list(map(sum, zip(*counts, strict=True)))))
    return series


def _counts(scores: Mapping[str, Any], key: str) -> list[int]:
    """Counts in bins; empty where there are none, or where they are not sound."""
    counts = scores.get(key)
    if not isinstance(counts, list | tuple) or len(counts) > MOST_BINS:
        return []
    return list(counts) if all(type(count) is int and count >= 0 for count in counts) else []
