"""Weights of torchvision's ResNets: from its site, or from a file."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor

from mnerkit.errors import TowerError, first_line
from mnerkit.torch_archive import read_plain

_SUFFIXES = (".safetensors", ".pth", ".pt")


def read_resnet(spec: str, name: str, tower_dir: str | Path | None = None) -> dict[str, Tensor]:
    """State dict of a ResNet, as torchvision names its tensors.

    Args:
        spec: `resnet50`, or `resnet50:FILE`.
        name: the network (`resnet50`).
        tower_dir: first place to look: a file, or a folder with a file named like the network.

    Raises:
        TowerError: the weights are unavailable.

    """
    _, _, path = spec.partition(":")
    file = _in_folder(name, Path(tower_dir).expanduser()) if tower_dir is not None else None
    if file is None and path:
        file = Path(path).expanduser()
    return _from_file(spec, file) if file is not None else _from_site(spec, name)


def _in_folder(name: str, folder: Path) -> Path | None:
    if folder.is_file():
        return folder if folder.suffix in _SUFFIXES else None
    # torchvision names its files resnet50-11ad3fa6.pth
    files = sorted(file for file in folder.glob(f"{name}[-.]*") if file.suffix in _SUFFIXES)
    return files[-1] if files else None


def _from_file(spec: str, file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise TowerError(f"tower {spec}: no such file {file}")
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = read_plain(file)
    except Exception as error:  # torch and safetensors raise nearly anything for damaged files
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise TowerError(
            f"tower {spec}: {file} contains no plain weights (.pth or .safetensors), or is damaged: {reason}"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TowerError(f"tower {spec}: {file} contains no state dict")
    return state


def _from_site(spec: str, name: str) -> dict[str, Tensor]:
    from torchvision import models

    weights = models.get_model_weights(name).DEFAULT
    try:
        return torch.hub.load_state_dict_from_url(weights.url, check_hash=True, weights_only=True, progress=False)
    except (URLError, OSError, RuntimeError) as error:
        reason = first_line(error)
        raise TowerError(
            f"tower {spec}: the weights can't be had from {weights.url} ({reason}).\n"
            f"Give a local file as {name}:FILE.pth, or random:{name} for new weights."
        ) from None
