"""mnerkit: multimodal named entity recognition, every method from one command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnerkit import torchvision_ops

if TYPE_CHECKING:
    from mnerkit.methods.predictor import Predictor

__version__ = "0.1.0"

torchvision_ops.install()


def load(ckpt: str, tower_dir: str | None = None) -> Predictor:
    """The predictor of a checkpoint: `mnerkit.load("best.ckpt").predict([{"text": "..."}])`.

    Args:
        ckpt: a checkpoint, or the folder of a run.
        tower_dir: folder with the weights of a frozen tower, where its own name can't be reached.
    """
    from mnerkit.methods.predictor import Predictor

    return Predictor.from_checkpoint(ckpt, tower_dir)
