"""Checkpoints: reads and checks them as plain data, and rebuilds the method."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import CheckpointError
from mnerkit.methods.method import Method
from mnerkit.methods.support import support_posts
from mnerkit.methods.tagger import make_method

AnyMethod = TypeVar("AnyMethod", bound=Method)

# keys that `Method.record` writes and `restore` reads
RECORD = {"plugin", "config", "facts", "towers", "support", "trained_on"}


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints atomically: a killed process leaves a complete file or none."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a temporary file in the same folder, then replace the target."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}.{os.getpid()}.part")
        with draft.open("wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, target)


def read(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint with `weights_only=True`.

    Raises:
        CheckpointError: the file is missing, is not a checkpoint of mnerkit, or contains more than plain data.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "best.ckpt"
    if not file.is_file():
        raise CheckpointError(f"no checkpoint {file}; a finished run has best.ckpt in its folder (`mnerkit runs`)")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{file} is not plain tensors and data (a pickle payload?); it is not loaded") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{file} is damaged or not a checkpoint: {str(error).splitlines()[0][:120]}") from None
    record = content.get("mnerkit") if isinstance(content, dict) else None
    if not isinstance(record, dict) or not set(record) >= RECORD or "state_dict" not in content:
        raise CheckpointError(f"{file} was not written by mnerkit")
    return content


def restore(method: AnyMethod, content: dict[str, Any], tower_dir: str | None = None) -> AnyMethod:
    """Build `method` from a checkpoint and load its weights; it is returned in evaluation mode.

    Raises:
        CheckpointError: the checkpoint is of another plugin, or its tensors do not fit.
    """
    record = content["mnerkit"]
    if method.plugin != record["plugin"]:
        raise CheckpointError(f"the checkpoint was written by plugin {record['plugin']!r}, not {method.plugin!r}")
    n_way = (record["config"].get("data") or {}).get("n_way", 2)
    method.build(CorpusFacts.from_state(record["facts"]), n_way=n_way, towers=record["towers"], tower_dir=tower_dir)
    method.load_weights(content["state_dict"])
    method.config, method.seed = record["config"], record["config"].get("seed", 0)
    method.support = support_posts(record["support"])
    # older checkpoints lack it: their support only has tags of the types in play
    method.support_types = tuple(record.get("support_types", ()))
    method.trained_on = record["trained_on"].tolist()
    return method.eval()


def load(path: str | Path, tower_dir: str | None = None) -> Method:
    """Load the method of a checkpoint, ready to predict."""
    content = read(path)
    return restore(make_method(content["mnerkit"]["config"]), content, tower_dir)
