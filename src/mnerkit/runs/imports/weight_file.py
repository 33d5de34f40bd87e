"""Files of weights that others' code has saved: a state dict, whatever it is wrapped in, as tensors by name."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnerkit import torch_archive
from mnerkit.errors import CheckpointError, shown
from mnerkit.methods.checkpoint_content import dense

SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")
MAX_BYTES = 16 << 30  # of a file: ten times what the largest of the released models needs with its optimiser
MAX_TENSORS = 20_000
MAX_NAME = 200  # letters
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
# numbers from 0 on that old releases of transformers saved
_NUMBERS = ("position_ids", "token_type_ids")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file by name; numbers with a fraction are float32.

    `DataParallel`'s and others' common prefixes stay (`without_prefix`), optimisers and other content is left out.

    Raises:
        CheckpointError: the file is missing, damaged or too large, holds more than tensors and plain data, or no state
            dict, or weights that are no finite numbers.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(f"no file {file}")
    if file.suffix not in SUFFIXES:
        raise CheckpointError(f"{file}: weights come from files {', '.join(SUFFIXES)}")
    if (size := file.stat().st_size) > MAX_BYTES:
        raise CheckpointError(f"{file} has {size >> 20} MiB, more than the {MAX_BYTES >> 20} MiB that are read")
    try:
        content = _content(file)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{file} holds more than tensors and plain data (a whole pickled model, or its arguments?), so it is not "
            "loaded: give a file of model.state_dict(), saved where the authors' code runs"
        ) from None
    except Exception as error:  # torch, safetensors and zipfile raise nearly anything for damaged files
        raise CheckpointError(f"{file} is damaged or holds no weights: {shown(error, 120)}") from None
    try:
        return _checked(_state_dict(content))
    except ValueError as problem:
        raise CheckpointError(f"{file}: {problem}") from None


def _content(file: Path) -> Any:
    if file.suffix != ".safetensors":
        return torch_archive.read_plain(file)
    from safetensors.torch import load_file

    return load_file(file)


def _state_dict(content: Any) -> Mapping[Any, Any]:
    """The state dict in what a file holds.

    Raises:
        ValueError: there is none.
    """
    for _ in range(3):  # {"state_dict": {"model": ...}} is the deepest that was seen
        if not isinstance(content, Mapping):
            break
        inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"it holds no state dict, neither by itself nor as one of {', '.join(WRAPPERS)}")
    return content


def _checked(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict.

    Raises:
        ValueError: with the name of what is no dense tensor of finite numbers, or too much.
    """
    if len(content) > MAX_TENSORS:
        raise ValueError(f"it has {len(content)} tensors, more than {MAX_TENSORS}")
    weights, size = dict[str, Tensor](), 0
    for name, value in content.items():
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
            raise ValueError(f"{shown(name)} is no name of a weight")
        if not isinstance(value, Tensor):
            raise ValueError(f"{shown(name)} is no tensor")
        if name.endswith(_NUMBERS) and not value.is_floating_point():
            continue
        try:
            dense(value)
        except ValueError as problem:
            raise ValueError(f"{shown(name)}: {problem}") from None
        if value.is_complex() or value.is_meta:
            raise ValueError(f"{shown(name)} is no tensor of plain numbers")
        size += value.numel() * 4
        if size > MAX_BYTES:
            raise ValueError(f"its tensors have more than {MAX_BYTES >> 20} MiB")
        if value.is_floating_point():
            value = value.detach().float()
            if value.numel() and not all(map(torch.isfinite, torch.aminmax(value))):
                raise ValueError(f"{shown(name)} holds numbers that are not finite")
        weights[name] = value
    return weights


def without_prefix(
    weights: Mapping[str, Tensor], unknown: Callable[[Iterable[str]], Sequence[str]]
) -> dict[str, Tensor]:
    """The weights without first parts of the name that all have, where most names are known without them.

    So `DataParallel`'s `module.` goes, and the name of an attribute in which a wrapper kept the model.

    Args:
        weights: tensors by name.
        unknown: returns those of some names that nobody knows.
    """
    forms = [dict(weights)]
    while len({name.partition(".")[0] for name in forms[-1]}) == 1 and all("." in name for name in forms[-1]):
        forms.append({name.partition(".")[2]: value for name, value in forms[-1].items()})
    return min(forms, key=lambda form: len(unknown(form)))  # the longest of equals
