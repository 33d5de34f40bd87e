"""Pretraining of a frozen tiny vision tower against a text tower, so that its features carry information."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress

import torch
from safetensors.torch import load_file, save

from mnerkit import printable
from mnerkit.atomic_files import write_bytes
from mnerkit.data.datamodule import MnerData
from mnerkit.data.features.cache_folder import TOWERS
from mnerkit.methods.method import Method
from mnerkit.towers.text.tiny import TinyText
from mnerkit.towers.tiny_pretraining import BEHAVIOUR, pretrain
from mnerkit.towers.vision.tiny_cnn import TinyVision

_log = logging.getLogger("mnerkit.methods")


def warm_start(method: Method, data: MnerData, show: bool = True) -> None:
    """Train a frozen tiny vision tower and a tiny text tower against each other on the training posts, or load them.

    A `tiny` text tower keeps the trained weights, whether it is frozen or not. If the method has no such tower of the
    vision tower's width, a temporary one is used. Nothing is done if the vision tower is not frozen or pretrained. The
    result is stored in the cache folder of `data`, if there is one, under the digest of the corpus, the seed, the
    towers' shapes and the behaviour number of the training.
    """
    towers = list(method.towers.values())
    vision = next((tower for tower in towers if isinstance(tower, TinyVision) and tower.frozen), None)
    if vision is None:
        return
    # not tiny-bert: on preset default all its states then point in one direction, and training does not recover
    texts = [tower for tower in towers if isinstance(tower, TinyText) and tower.width == vision.width]
    text = texts[0] if texts else TinyText(data.facts, width=vision.width)
    # like pretrained towers, they learn from words and pictures only: no tag and no ranking is read
    posts = data.posts("train" if data.options.train_on == "all_train" else "all_train", pictures="right")
    shapes = [[name, list(value.shape)] for tower in (text, vision) for name, value in tower.state_dict().items()]
    facts = [data.content.digest, len(posts), data.seed, shapes, torch.__version__, BEHAVIOUR]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]
    path = None if data.cache_root is None else data.cache_root / TOWERS / f"{key}.safetensors"
    pair = torch.nn.ModuleDict({"text": text, "vision": vision})
    if path is not None and path.is_file():
        try:
            pair.load_state_dict(load_file(path))
            with suppress(OSError):
                os.utime(path)  # `mnerkit cache clear --older-than` uses the time of the last use
            return
        except Exception:  # a damaged file is computed again
            path.unlink(missing_ok=True)
    if show:
        cached = "" if path is None else " (cached for the next run)"
        printable.show(f"training the tiny towers against each other on the training posts{cached}")
    pretrain(text, vision, posts, seed=data.seed, progress=_print_loss if show else None)
    if path is None:
        return
    try:
        write_bytes(path, save({name: value.contiguous() for name, value in pair.state_dict().items()}))
    except OSError as problem:
        _log.warning("%s: %s; the towers are trained again next time", problem.filename or path, problem.strerror)


def _print_loss(epoch: int, loss: float) -> None:
    printable.show(f"  epoch {epoch + 1}: loss {loss:.3f}")
