"""R of images, which is how relevant each is to its post, from the predictions of a discriminator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from mnerkit.errors import DataError

MAX_BYTES = 64 << 20  # of a file


class ScoredImages(BaseModel):
    """A line of the discriminator's predictions: a post, its images and their R; `raw` is None where none was read."""

    id: str
    images: list[str]
    scores: list[Annotated[float, Field(ge=0, le=1)]]
    raw: list[float | None]

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
        for line in path.read_text(encoding="utf-8").splitlines():
            rows.append(ScoredImages.model_validate_json(line))
    except ValidationError:
        raise DataError(f"{path}:{len(rows) + 1}: no line with the R of images") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: {str(problem).splitlines()[0]}") from None
    return rows
