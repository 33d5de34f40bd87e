"""A tiny vision tower that will be frozen is trained against a text tower first, so that it knows something."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from contextlib import suppress

import torch
from safetensors.torch import load_file, save

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

    A `tiny` text tower keeps what it learnt whether it is frozen or goes on learning with the method; where the method
    has none of the vision tower's width, one that is thrown away afterwards takes its place. Does nothing where the
    vision tower learns with the method or comes from outside. The result is kept under the digest of the corpus, the
    seed, the towers' shapes and the behaviour number of the training, in the cache folder of `data` if any.
    """
    towers = list(method.towers.values())
    vision = next((tower for tower in towers if isinstance(tower, TinyVision) and tower.frozen), None)
    if vision is None:
        return
    # tiny-bert is not among them: on preset default this left its states in one direction, whence it did not recover
    texts = [tower for tower in towers if isinstance(tower, TinyText) and tower.width == vision.width]
    text = texts[0] if texts else TinyText(data.facts, width=vision.width)
    # towers are to know words and pictures at large, as pretrained ones do: no tag and no ranking is read
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
                os.utime(path)  # `mnerkit cache clear --older-than` goes by the last use
            return
        except Exception:  # a damaged file is made again
            path.unlink(missing_ok=True)
    if show:
        kept = "" if path is None else " (kept for the next run)"
        print(f"training the tiny towers against each other on the training posts{kept}", flush=True)
    pretrain(text, vision, posts, seed=data.seed, progress=_say if show else None)
    if path is None:
        return
    try:
        write_bytes(path, save({name: value.contiguous() for name, value in pair.state_dict().items()}))
    except OSError as problem:
        _log.warning("%s: %s; the towers are trained again next time", problem.filename or path, problem.strerror)


def _say(epoch: int, loss: float) -> None:
    print(f"  epoch {epoch + 1}: loss {loss:.3f}", flush=True)
