"""Logging of a run to TensorBoard: its configuration, final scores, predictions, pictures and confusions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from mnerkit.atomic_files import is_figure
from mnerkit.errors import UsageError
from mnerkit.methods.logged_posts import confusion_picture, confusions, drawn, pictures_of, table_rows
from mnerkit.methods.prediction import Prediction
from mnerkit.plain_yaml import yaml_text
from mnerkit.text_table import markdown_cell

FOLDER = "tensorboard"  # in the run's
SHOWN = 100  # rows of the predictions table


def check_installed() -> None:
    """Refuse a logger whose package is missing, before a run begins.

    Raises:
        UsageError: with the command that installs it.
    """
    if find_spec("tensorboard") is None:
        raise UsageError("--logger tensorboard needs TensorBoard: pip install 'mnerkit[tensorboard]'")


def logger_of(folder: Path) -> TensorBoardLogger:
    """The logger of a run, which writes into `tensorboard/` of its folder."""
    return TensorBoardLogger(folder, name="", version=FOLDER)


def log_results(
    loggers: Iterable[Logger], config: Mapping[str, Any], metrics: dict[str, Any], answers: Sequence[Any], step: int
) -> None:
    """Log configuration, final scores and, for a tagger, predictions, pictures and confusions of the last split.

    Closes the file.
    """
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            continue
        board = logger.experiment
        board.add_text("configuration", _code(yaml_text({k: v for k, v in config.items() if k != "wandb"})), step)
        for split in ("dev", "test"):
            for name, value in metrics.get(split, {}).items():
                if is_figure(value):
                    board.add_scalar(f"final/{split}/{name}", value, step)
        if predicted := [each for each in answers if isinstance(each, Prediction)]:
            board.add_text("predictions", _table(predicted), step)
            for number, picture in enumerate(pictures_of(predicted)):
                board.add_image(f"pictures/{number}", drawn(picture), step, dataformats="HWC")
            board.add_image("confusion", confusion_picture(*confusions(predicted)), step, dataformats="HWC")
        board.close()


def _table(predicted: Sequence[Prediction]) -> str:
    head = ("id", "words", "gold", "predicted", "right")
    body = [[*texts, "yes" if right else "no"] for *texts, right in table_rows(predicted, SHOWN)]
    lines = [head, ["---"] * len(head), *([markdown_cell(cell) for cell in row] for row in body)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _code(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.split("\n"))
