"""What an installation has: packages, plugins, devices, data and caches, and what is missing for what."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from mnerkit import registry
from mnerkit.atomic_files import existing_above
from mnerkit.data.corpus.catalogue import CORPORA, find_corpus
from mnerkit.data.corpus.corpus_files import image_folders
from mnerkit.data.features.cache_folder import cache_folder
from mnerkit.errors import MnerkitError, first_line
from mnerkit.release import RELEASE

EXTRAS = {
    "dgl": "--model.graph dgl (mousing); dense computes the same",
    "figures": "`mnerkit draw` of pictures",
    "cluster": "`mnerkit reproduce --executor ray`",
    "lora": "--model.lora_rank",
    "datasets": "corpora of the library `datasets`: folders, Parquet files, names of the hub",
    "tensorboard": "--logger tensorboard",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        part: `packages`, `plugins`, `device`, `data` or `folders`.
        name: of the thing.
        state: `ok`; `absent`, where something optional is not there; `wrong`, where mnerkit can't do its work.
        detail: what there is.
        remedy: what to do about it; empty where nothing has to be done.
    """

    part: str
    name: str
    state: Literal["ok", "absent", "wrong"]
    detail: str
    remedy: str = ""


def findings() -> list[Finding]:
    """All that is looked at, in the order of parts; nothing is changed and nothing is downloaded."""
    return [*_packages(), *_plugins(), *_device(), *_data(), *_folders()]


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    yield Finding(
        "packages", "mnerkit", "ok", f"{RELEASE}, Python {platform.python_version()} on {platform.platform()}"
    )
    extras: dict[str, list[Requirement]] = {name: [] for name in EXTRAS}
    for text in metadata.requires("mnerkit") or ():
        requirement = Requirement(text)
        extra = next((name for name in EXTRAS if _asks_for(requirement, name)), None)
        if extra is not None:
            extras[extra].append(requirement)
        elif requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            version = _version(requirement.name)
            if version is None:
                yield Finding("packages", requirement.name, "wrong", "not installed", f"pip install '{requirement}'")
            elif not requirement.specifier.contains(version, prereleases=True):
                yield Finding("packages", requirement.name, "wrong", version, f"pip install '{requirement}'")
            else:
                yield Finding("packages", requirement.name, "ok", version)
    for extra, requirements in extras.items():
        versions = {each.name: _version(each.name) for each in requirements}
        missing = [name for name, version in versions.items() if version is None]
        if not requirements:
            yield Finding("packages", f"[{extra}]", "absent", f"no wheel for this Python; for {EXTRAS[extra]}")
        elif missing:
            remedy = f"pip install 'mnerkit[{extra}]'"
            yield Finding(
                "packages", f"[{extra}]", "absent", f"without {', '.join(missing)}; for {EXTRAS[extra]}", remedy
            )
        else:
            yield Finding(
                "packages", f"[{extra}]", "ok", ", ".join(f"{name} {each}" for name, each in versions.items())
            )


def _asks_for(requirement: object, extra: str) -> bool:
    marker = getattr(requirement, "marker", None)
    return marker is not None and not marker.evaluate({"extra": ""}) and marker.evaluate({"extra": extra})


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _plugins() -> Iterator[Finding]:
    plugins, problems = registry.plugins(), dict[str, str]()
    for name, plugin in plugins.items():
        try:
            _ = plugin.options_class, plugin.ablations
        except Exception as problem:  # a plugin of others may raise anything
            problems[name] = first_line(problem)
    good = [name for name in plugins if name not in problems]
    yield Finding("plugins", "methods", "ok" if good else "wrong", f"{len(good)}: {', '.join(good)}")
    for name, line in problems.items():
        yield Finding("plugins", name, "wrong", line, f"update or uninstall {plugins[name].distribution}")


def _device() -> Iterator[Finding]:
    try:
        import torch
    except Exception as problem:  # a wheel for another machine raises OSError
        yield Finding("device", "torch", "wrong", first_line(problem), "install torch as https://pytorch.org tells")
        return
    threads = f"{os.cpu_count()} processors, threads of torch: {torch.get_num_threads()}"
    if not torch.cuda.is_available():
        yield Finding("device", "GPU", "absent", f"none that torch {torch.__version__} sees; {threads}")
        return
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        bfloat16 = "" if torch.cuda.is_bf16_supported() else ", no bfloat16"
        yield Finding(
            "device", f"cuda:{number}", "ok", f"{about.name}, {about.total_memory >> 30} GiB{bfloat16}; {threads}"
        )


def _data() -> Iterator[Finding]:
    root = os.environ.get("MNERKIT_DATA")
    base = Path(root or "data")
    if not base.is_dir():
        yield Finding(
            "data",
            "root",
            "absent",
            f"{base} is no folder" if root else "$MNERKIT_DATA is not set, and there is no folder data",
            "export MNERKIT_DATA=DIR, or give --data.root DIR; the probe corpus needs none",
        )
        return
    yield Finding("data", "root", "ok", str(base.resolve()))
    for name in CORPORA:
        if name == "probe":
            continue
        try:
            place = find_corpus(name, base)
        except MnerkitError as problem:
            yield Finding("data", name, "absent", first_line(problem))
            continue
        folders = [
            folder for folder in image_folders(place.name, place.folder, place.root, place.own) if folder.is_dir()
        ]
        captions = place.root / "captions" / f"{name}.txt"
        parts = [
            f"splits {', '.join(place.files)}",
            f"pictures in {folders[0]}" if folders else "no folder of pictures",
        ]
        parts += ["captions"] if captions.is_file() else []
        remedy = "" if folders else f"put them into {place.folder / 'images'}, or read --data.captions"
        yield Finding("data", name, "ok" if folders else "absent", "; ".join(parts), remedy)


def _folders() -> Iterator[Finding]:
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    yield _folder("cache", cache_folder(), "set MNERKIT_CACHE, or give --data.cache none")
    yield _folder("hub", hub, "set HF_HOME", ", offline (HF_HUB_OFFLINE)" if offline else "")
    yield _folder("runs", Path("runs"), "give --runs_dir DIR")


def _folder(name: str, path: Path, remedy: str, more: str = "") -> Finding:
    """A folder that mnerkit writes to, there or not yet."""
    above = existing_above(path)
    free = shutil.disk_usage(above).free
    if not above.is_dir() or not os.access(above, os.W_OK):
        return Finding("folders", name, "wrong", f"{path} can't be written", remedy)
    return Finding("folders", name, "ok", f"{path}, {free / 1e9:.0f} GB free{more}")
