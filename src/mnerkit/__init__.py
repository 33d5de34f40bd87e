"""mnerkit: multimodal named entity recognition, every method from one command."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnerkit.import_hooks import find_moved_modules, prepare_torchvision
from mnerkit.release import RELEASE

if TYPE_CHECKING:
    from mnerkit.data.corpus.conversion import convert
    from mnerkit.data.corpus.post import Post
    from mnerkit.methods.predictor import Predictor
    from mnerkit.runs.fit import fit
    from mnerkit.runs.foreign import score_predictions
    from mnerkit.runs.imports.import_run import import_released
    from mnerkit.runs.run import Run, load_run
    from mnerkit.runs.score import score

__version__ = RELEASE

prepare_torchvision()
find_moved_modules()


# the Python face, imported when it is asked for: nothing heavy is imported before
_LAZY = {
    "convert": "mnerkit.data.corpus.conversion",
    "fit": "mnerkit.runs.fit",
    "import_released": "mnerkit.runs.imports.import_run",
    "score": "mnerkit.runs.score",
    "score_predictions": "mnerkit.runs.foreign",
    "load_run": "mnerkit.runs.run",
    "Run": "mnerkit.runs.run",
    "Post": "mnerkit.data.corpus.post",
}
__all__ = ["Post", "Run", "convert", "fit", "import_released", "load", "load_run", "score", "score_predictions"]


def __getattr__(name: str) -> Any:
    """One of `_LAZY`, imported now."""
    if name not in _LAZY:
        raise AttributeError(f"module 'mnerkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)


def load(ckpt: str | Path | Run, tower_dir: str | None = None, revision: str | None = None) -> Predictor:
    """The predictor of a trained method: `mnerkit.load("best.ckpt").predict([{"text": "..."}])`.

    Args:
        ckpt: a checkpoint, a run or its folder, a folder that `save_pretrained` wrote, or the name of a model on the
            Hugging Face hub (`owner/name`).
        tower_dir: folder with the weights of a frozen tower, where its own name can't be reached.
        revision: branch, tag or commit of a model on the hub; default: the newest.

    Raises:
        CheckpointError: it is none of these, or damaged.
        UsageError: a revision of what is not on the hub.
        TowerError: a frozen tower's weights can't be had.

    Examples:
        >>> small = {"data": {"limit": 40}, "trainer": {"max_epochs": 1, "enable_progress_bar": False}}
        >>> run = mnerkit.fit("bilstm", **small, test=True, report=lambda line: None)
        >>> answers = mnerkit.load(run).predict([{"id": "7", "text": "Kevin Durant leaves Oklahoma"}])
        >>> answers[0]["id"], answers[0]["words"]
        ('7', ['Kevin', 'Durant', 'leaves', 'Oklahoma'])
    """
    from mnerkit.errors import UsageError, shown
    from mnerkit.methods.model_hub import is_hub_name
    from mnerkit.methods.predictor import Predictor

    name = str(getattr(ckpt, "path", ckpt))
    if revision is not None and not is_hub_name(name):
        raise UsageError(f"a revision is for a name on the hub, and {shown(name)} is none")
    return Predictor.from_checkpoint(name if revision is None else f"{name}@{revision}", tower_dir)
