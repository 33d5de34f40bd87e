"""Checkpoints: reads and checks them as plain data, and rebuilds the method.

A checkpoint holds a digest of its content, since torch does not check the sums that its archives have: with one bit
flipped it would load with other weights. What is read is checked against it; files of earlier releases, which have
none, are checked by the sums.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from torch import Tensor

from mnerkit import torch_archive
from mnerkit.atomic_files import draft
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import CheckpointError, DataError
from mnerkit.methods import model_folder, model_hub
from mnerkit.methods.checkpoint_content import CheckpointContent
from mnerkit.methods.method import Method
from mnerkit.methods.support import support_posts
from mnerkit.methods.tagger import make_method
from mnerkit.validation import validated

AnyMethod = TypeVar("AnyMethod", bound=Method)

DIGEST = "mnerkit_digest"  # the key of the digest of all others
MAX_RECORD = 256 << 20  # bytes of what is not tensors: a hundred times what a large vocabulary needs
MAX_VALUES = 5_000_000  # texts, numbers, tensors ... of a checkpoint, lists within lists counted as often as they occur

_log = logging.getLogger("mnerkit.methods")


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints atomically, with a digest: a killed process leaves a complete file or none."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write to a temporary file in the same folder, then replace the target."""
        with draft(Path(path)) as stream:
            torch_archive.write({**checkpoint, DIGEST: content_digest(checkpoint)}, stream)


def content_digest(content: Mapping[str, Any]) -> str:
    """SHA-256 over all keys and values but the digest itself; of tensors over dtypes, shapes and bytes.

    Raises:
        ValueError: more than `MAX_VALUES` values.
    """
    whole, left = hashlib.sha256(), MAX_VALUES

    def add(value: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise ValueError(f"more than {MAX_VALUES} values")
        if isinstance(value, Tensor):
            whole.update(f"tensor {value.dtype} {tuple(value.shape)}\n".encode())
            data = value.detach().cpu().contiguous().reshape(-1)
            whole.update(data.view(torch.uint8).numpy().data if data.numel() else b"")
        elif isinstance(value, Mapping):
            whole.update(f"mapping {len(value)}\n".encode())
            for key, part in value.items():
                add(key)
                add(part)
        elif isinstance(value, list | tuple):
            whole.update(f"list {len(value)}\n".encode())
            for part in value:
                add(part)
        else:
            whole.update(f"{type(value).__name__} {value!r}\n".encode("utf-8", "surrogatepass"))

    add({key: value for key, value in content.items() if key != DIGEST})
    return whole.hexdigest()


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint with `weights_only=True`, or a saved model, and check that it is what was written.

    Args:
        path: a checkpoint, the folder of a run, that of a saved model, or the name of one on the hub (`owner/name`,
            `owner/name@revision`), which is fetched.

    Raises:
        CheckpointError: the file is missing, damaged, not a checkpoint of mnerkit, has weights that are no finite
            numbers, or contains more than plain data.
    """
    file = model_hub.fetched(str(path)) if model_hub.is_hub_name(path) else Path(path)
    if model_folder.is_model_folder(file):
        content = model_folder.read(file)
        _check_content(file, content)
        return content
    if file.is_dir():
        file = file / "best.ckpt"
    if not file.is_file():
        raise CheckpointError(f"no checkpoint {file}; a finished run has best.ckpt in its folder (`mnerkit runs`)")
    try:
        _check_archive(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
        if not isinstance(content, dict) or "mnerkit" not in content:
            raise CheckpointError(f"{file} was not written by mnerkit")
        _check_content(file, content)
        _check_digest(file, content)
    except pickle.UnpicklingError:
        raise CheckpointError(f"{file} is not plain tensors and data (a pickle payload?); it is not loaded") from None
    except CheckpointError:
        raise
    except Exception as error:  # torch and zipfile raise nearly anything for damaged files
        problem = " ".join(str(error).split())[:120] or type(error).__name__
        raise CheckpointError(f"{file} is damaged or not a checkpoint: {problem}") from None
    if DIGEST not in content:
        _remark_older(file)
    return content


def _check_content(file: Path, content: dict[str, Any]) -> None:
    """Refuse values of a wrong type, and weights that are no finite numbers.

    Raises:
        CheckpointError: naming the first.
    """
    try:
        validated(CheckpointContent, content, file)
    except DataError as wrong:
        raise CheckpointError(f"{' '.join(str(wrong).split())}; is the checkpoint damaged?") from None
    for name, value in content["state_dict"].items():
        if value.is_floating_point() and value.numel() and not all(map(torch.isfinite, torch.aminmax(value))):
            raise CheckpointError(
                f"{file}: the weights {name} are not finite numbers, so it can't predict; train again (--model.lr?)"
            )


def _check_archive(file: Path) -> None:
    """Refuse what is no archive as `torch.save` writes it, or has too large a record, before anything is unpacked.

    Raises:
        ValueError: with the reason.
    """
    parts = torch_archive.check_archive(file)
    records = [part.file_size for part in parts if part.filename.endswith("data.pkl")]
    if not records:
        raise ValueError("it has no record")
    if max(records) > MAX_RECORD:
        raise ValueError(f"its record has more than {MAX_RECORD} bytes")


def _check_digest(file: Path, content: Mapping[str, Any]) -> None:
    """Refuse content that is not what was written; of a file without a digest the checksums of its parts count.

    Raises:
        ValueError: with the reason.
    """
    if DIGEST in content:
        if content_digest(content) != content[DIGEST]:
            raise ValueError("its content does not have the digest that was noted when it was written")
        return
    torch_archive.check_sums(file)


@functools.cache
def _remark_older(file: Path) -> None:
    _log.warning("%s was written by an earlier release, without a digest; its checksums are right", file)


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
    repeats = record.get("repeats")  # older checkpoints lack them, and need none: their keys are of ids alone
    method.repeats = [] if repeats is None else repeats.tolist()
    return method.eval()


def load(path: str | Path, tower_dir: str | None = None) -> Method:
    """Load the method of a checkpoint, ready to predict."""
    content = read(path)
    return restore(make_method(content["mnerkit"]["config"]), content, tower_dir)
