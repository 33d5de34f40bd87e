"""Configuration files: the packaged ones, and their sections with interpolations unresolved."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError, UsageError, did_you_mean, first_line, shown
from mnerkit.methods.heads import HEADS
from mnerkit.plain_yaml import checked_text, one_line
from mnerkit.runs.config.options import SECTIONS
from mnerkit.runs.config.plain_data import plain


def packaged() -> Path | None:
    """The folder of the installed experiments; None where they are not installed."""
    spec = find_spec("mnerkit_experiments")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def default() -> Path:
    """`experiments` of the working folder, where it has profiles; else the installed ones."""
    here = Path("experiments")
    return here if (here / "profiles").is_dir() else packaged() or here


def settings_names() -> list[str]:
    """Names of the settings that come with mnerkit."""
    folder = packaged()
    return sorted(path.stem for path in folder.glob("*.yaml")) if folder is not None else []


def read_file(name: str | Path) -> dict[str, Any]:
    """The content of a configuration file, interpolations unresolved.

    Args:
        name: of the file, or of one that comes with mnerkit (`twitter2017-bert`).

    Raises:
        UsageError: no such file, or not sections of options.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    path, folder = Path(name), packaged()
    if not _is_file(path) and path.name == str(name) and folder is not None:
        path = folder / f"{path.name.removesuffix('.yaml')}.yaml"
    if not _is_file(path):
        near = did_you_mean(name, settings_names())
        raise UsageError(
            f"--config {shown(name)}: no such file, and no settings of this name come with mnerkit{near and '.'}{near}"
        )
    try:
        text = checked_text(path)
        with one_line(path):  # most of what OmegaConf raises are ValueErrors, too
            content = OmegaConf.to_container(OmegaConf.load(io.StringIO(text)), resolve=False)
    except OSError as error:
        raise UsageError(f"--config {shown(path, 200)}: {error.strerror}") from None
    except DataError as error:
        raise UsageError(f"--config {error}") from None
    except OmegaConfBaseException as error:  # an interpolation that is none
        raise UsageError(f"--config {shown(path, 200)}: {shown(first_line(error), 200)}") from None
    if not isinstance(content, dict):
        raise UsageError(f"--config {shown(path, 200)}: expected sections model, data, trainer")
    # a section whose options are all commented out says nothing
    given = {key: value for key, value in content.items() if value is not None}
    return checked(given, f"--config {shown(path, 200)}: ")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a NUL
        return False


def checked(content: Mapping[Any, Any], where: str = "") -> dict[str, Any]:
    """A layer of a configuration, if its sections are mappings, and names are texts.

    Args:
        content: of a file, or from Python.
        where: what messages begin with.

    Raises:
        UsageError: they are not.
    """
    read = plain(content)
    for section in SECTIONS:
        if not isinstance(read.get(section, {}), dict):
            raise UsageError(f"{where}section {section!r} is not a mapping of options")
    head = read.get("model", {}).get("head", "")
    name = head.get("name", "") if isinstance(head, dict) else head
    if not isinstance(name, str) and (where or name is not None):  # from Python None is as good as nothing
        raise UsageError(f"{where}model.head must be a name, or a mapping with a name: {', '.join(HEADS)}")
    for key in ("plugin", "ablation", "name"):
        if not isinstance(read.get(key, ""), str):
            raise UsageError(f"{where}{key} must be a name, got {shown(read[key])}")
    return dict(read)
