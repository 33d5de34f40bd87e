"""What `mnerkit fit`, `validate` and `test` print of a run's figures, and what is kept from being printed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

from mnerkit.atomic_files import is_figure
from mnerkit.printable import Printable, counted, printable
from mnerkit.text_table import table

Report = Callable[[str], None]

# warnings of Lightning about what is meant to be so
QUIET = (
    ".*does not have many workers.*",
    ".*args parameter is intended.*",
    ".*Checkpoint directory.*",
    ".*smaller than the logging interval.*",
    ".*predict returned None.*",
    ".*in eval mode.*",
    ".*LeafSpec.*",
    ".*across ranks is necessary.*",
    ".*dataloader is not resumable.*",
    ".*recommended to use `self.log.*sync_dist.*",
)


def quiet() -> None:
    """Silence what is no user's business: transformers and Lightning say much; the hub gets no telemetry."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for message in QUIET:
        warnings.filterwarnings("ignore", message=message)


def _of_episodes(split: str, figures: dict[str, Any]) -> str:
    """Both F1s of a few-shot split with their intervals, in a line."""

    def figure(name: str) -> str:
        return f"{figures[name]:.2f} [{figures[f'{name}_low']:.2f}, {figures[f'{name}_high']:.2f}]"

    return (
        f"{split}, {figures['episodes']} episodes: F1 {figure('f1')} pooled, as in the paper; {figure('f1_episode')} "
        f"by episode ({figures['episodes_without_entities']} without entities left out); 95 % bootstrap"
    )


def _has_judged_images(key: str, figures: Any) -> bool:
    """Whether these are the figures of a split whose images were judged."""
    return key.partition("@")[0] in ("dev", "test") and isinstance(figures, dict) and "mean_r" in figures


def _of_images(split: str, figures: dict[str, Any]) -> str:
    """How relevant the images of a split were judged to be, and, where the truth is known, how rightly."""
    line = f"{split}, {figures['images']} images: mean R {figures['mean_r']:.3f}"
    line += f", {figures['above_blank']:.1f} % above blank"
    if not all(is_figure(figures.get(name)) for name in ("pair_accuracy", "separated", "auc")):
        return line  # the truth is not known, or all images are of one kind
    kinds = "; ".join(
        f"R of {name} ones {figures[f'{name}/mean_r']:.3f}"
        for name in ("relevant", "irrelevant")
        if f"{name}/mean_r" in figures
    )
    return (
        f"{line}\n  pairs in order {figures['pair_accuracy']:.1f} %, right side of blank {figures['separated']:.1f} %, "
        f"AUC {figures['auc']:.3f}; {kinds}"
    )


def _of_language_model(metrics: dict[str, Any], splits: list[str]) -> str:
    """Which model was asked, what that took, what of its replies could not be used, and a caution."""
    about = metrics["language_model"]
    lines = [f"replies of {about['name']}; {counted(about['requests']['made'], 'request')} made; {about['caution']}"]
    for split in splits:
        counts = {key.partition("/")[2]: value for key, value in metrics[split].items() if key.startswith("replies/")}
        used = ("prompt_tokens", "completion_tokens", "entities", "uncounted")
        faults = [f"{value} {key.replace('_', ' ')}" for key, value in counts.items() if value and key not in used]
        tokens = f"{counts.get('prompt_tokens', 0):,} tokens read, {counts.get('completion_tokens', 0):,} written"
        lines.append(f"{split}: {tokens}; not used: {', '.join(faults) or 'nothing'}")
    return "\n".join(lines)


def summary(metrics: dict[str, Any]) -> Printable:
    """The scores for the terminal."""
    splits = [
        key
        for key in metrics
        if key.partition("@")[0] in ("dev", "test") and isinstance(metrics[key], dict) and "f1" in metrics[key]
    ]
    types = sorted({key.split("/")[1] for split in splits for key in metrics[split] if key.startswith("type/")})
    head = ["split", "F1", "P", "R", "F1 strict", *types]
    body = [
        [
            split,
            *(metrics[split][key] for key in ("f1", "precision", "recall", "f1_strict")),
            *(metrics[split].get(f"type/{kind}/f1") for kind in types),
        ]
        for split in splits
    ]
    texts = [table(head, body) if body else ""]
    texts += [_of_images(key, metrics[key]) for key in metrics if _has_judged_images(key, metrics[key])]
    texts += [_of_episodes(split, metrics[split]) for split in splits if "episodes" in metrics[split]]
    if "language_model" in metrics:
        texts += [_of_language_model(metrics, splits)]
    for split in splits:
        use = metrics.get(f"{split}:image_use")
        if use:
            rows = [
                [which, use[which]["all"], use[which].get("clear"), use[which].get("ambiguous")]
                for which in ("right", "shuffled", "blank", "unseen")
                if which in use
            ]
            texts += ["", f"{split}, by the pictures it was shown (F1)"]
            texts.append(table(["pictures", "all", "clear", "ambiguous"], rows))
            figures = []
            if is_figure(use.get("image_use")):
                figures.append(f"image use (right - shuffled): {use['image_use']:.2f}")
            if is_figure(use.get("pointing")):
                figures.append(f"strongest region lies in the entity's box: {use['pointing']:.1f} %")
            texts += ["; ".join(figures)] if figures else []
    return printable(*texts)
