"""The curve of a run that goes on. Lightning's logger of CSV begins anew and deletes what a former process wrote."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger, Logger

FILE = "metrics.csv"


def carry_on(loggers: Iterable[Logger], done: int) -> None:
    """Give the loggers of a run that goes on the rows of the epochs that are done; later ones come again.

    Call it on the first rank, before anything is logged.

    Args:
        loggers: of the trainer; those of CSV are meant.
        done: how many epochs the checkpoint holds from which the run goes on.
    """
    for logger in loggers:
        if not isinstance(logger, CSVLogger):
            continue
        path = Path(logger.log_dir) / FILE
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if _number(row.get("epoch")) < done]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it deletes the file, and does
            writer = logger.experiment
        writer.metrics = rows
        writer.save()


def _number(epoch: str | None) -> float:
    """The epoch of a row; one that was cut off belongs to none that is done."""
    try:
        return int(epoch or "")
    except ValueError:
        return float("inf")
