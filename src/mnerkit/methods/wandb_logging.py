"""Logging of a run to Weights & Biases: the table cells that it fills, and its final scores and predictions."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger

from mnerkit.errors import UsageError
from mnerkit.methods.logged_posts import LoggedPicture, confusions, pictures_of, table_rows
from mnerkit.methods.prediction import Prediction

# rows of the predictions table: enough to look through, small enough to load at once
SHOWN = 500
# W&B refuses longer tags
TAG = 64


def check_login() -> None:
    """Check that Weights & Biases has credentials; a terminal is asked for them. Nothing is sent.

    Raises:
        UsageError: there are none, or they are malformed.
    """
    if os.environ.get("WANDB_MODE", "online") not in ("online", "shared"):
        return
    import wandb

    ways = "run `wandb login` or set WANDB_API_KEY, or write files with --wandb.mode offline (WANDB_MODE=offline)"
    # releases that lack `prompt` ask nothing where no terminal is
    prompt: dict[str, Any] = (
        {"prompt": sys.stdin.isatty()} if "prompt" in inspect.signature(wandb.login).parameters else {}
    )
    try:
        found = wandb.login(verify=False, **prompt)
    except (wandb.errors.Error, ValueError) as problem:
        raise UsageError(f"Weights & Biases: {' '.join(str(problem).split())[:200].rstrip('.')}; {ways}") from None
    if not found:
        raise UsageError(f"Weights & Biases has no API key: {ways}")


def account(config: Mapping[str, Any], corpus: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A configuration whose section `wandb` is ready for W&B, and the table cells that the run fills.

    Args:
        config: the resolved configuration.
        corpus: folder name of the run's corpus; plugin and corpus are the default tags.
    """
    section = dict(config.get("wandb") or {})
    cells = section.pop("cells", None) or {}
    section["tags"] = [str(tag)[:TAG] for tag in section.get("tags") or (config["plugin"], corpus)]
    return {**config, "wandb": section}, dict(cells)


def logger_of(config: Mapping[str, Any], folder: Path) -> WandbLogger:
    """The logger of a run.

    Args:
        config: see `account`.
        folder: the run's; that above it names the corpus.
    """
    options, corpus = config["wandb"], folder.parts[-2]
    return WandbLogger(
        name=folder.name,
        id=re.sub(r"[^\w-]", "-", f"{config['plugin']}-{corpus}-{folder.name}")[:100],
        project=options["project"],
        group=options["group"] or f"{config['plugin']}/{corpus}",
        job_type=options["job_type"] or config.get("ablation") or "full",
        save_dir=str(folder),
        offline=options["mode"] == "offline",
        config={key: value for key, value in config.items() if key != "wandb"},
        entity=options["entity"],
        tags=options["tags"],
    )


def note(loggers: Iterable[Logger], **facts: Any) -> None:
    """Add facts to the configuration that W&B shows for a run."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_hyperparams(facts)


def log_results(loggers: Iterable[Logger], metrics: dict[str, Any], answers: Sequence[Any]) -> None:
    """Log the summary and, for a tagger, predictions, pictures and a confusion matrix of words of the last split.

    Closes the run.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            _log_results(logger.experiment, metrics, answers)


def _log_results(run: Any, metrics: dict[str, Any], answers: Sequence[Any]) -> None:
    for split in ("dev", "test"):
        for name, value in metrics.get(split, {}).items():
            run.summary[f"final/{split}/{name}"] = value
        use = metrics.get(f"{split}:image_use", {})
        if "image_use" in use:
            run.summary[f"final/{split}/image_use"] = use["image_use"]
    run.summary["protocol"] = metrics["protocol"]
    if predicted := [each for each in answers if isinstance(each, Prediction)]:
        _log_predictions(run, predicted)
    # the offline file is complete only after the run is closed
    run.finish()


def _log_predictions(run: Any, predicted: Sequence[Prediction]) -> None:
    import wandb

    table = wandb.Table(columns=["id", "words", "gold", "predicted", "right"])
    for row in table_rows(predicted, SHOWN):
        table.add_data(*row)
    run.log({"predictions": table})
    names, gold, found = confusions(predicted)
    run.log({"confusion": wandb.plot.confusion_matrix(y_true=gold, preds=found, class_names=names)})
    if pictures := pictures_of(predicted):
        run.log({"pictures": [_image(picture) for picture in pictures]})


def _image(picture: LoggedPicture) -> Any:
    """A picture with its boxes, which W&B shows and hides."""
    import wandb

    objects = [each for each in picture.ref.objects if each.box is not None]
    names = {label: number for number, label in enumerate(dict.fromkeys(each.label or "object" for each in objects))}
    boxes = [
        {
            "position": dict(zip(("minX", "minY", "maxX", "maxY"), each.box or (), strict=True)),
            "class_id": names[each.label or "object"],
            "box_caption": f"{each.label or 'object'} {each.score:.2f}",
            "scores": {"score": each.score},
        }
        for each in objects
    ]
    shown = {"objects": {"box_data": boxes, "class_labels": {number: label for label, number in names.items()}}}
    return wandb.Image(picture.pixels, caption=picture.text, boxes=shown if boxes else None)
