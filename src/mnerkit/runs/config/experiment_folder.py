"""Where the files of experiments lie: in the working folder, else in the package `mnerkit_experiments`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


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


def settings_file(name: str | Path) -> Path:
    """A configuration file: as it is named, else the one of this name (`twitter2017-bert`) that comes with mnerkit."""
    given, folder = Path(name), packaged()
    if given.is_file() or given.name != str(name) or folder is None:
        return given
    found = folder / f"{given.name.removesuffix('.yaml')}.yaml"
    return found if found.is_file() else given
