"""Files of pretrained towers: from a folder, from the hub, or only the architecture.

Code of a model is never executed (`trust_remote_code` is off), and weights load as safetensors or weights only.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from mnerkit.errors import TowerError, first_line

REACH_SECONDS = 4.0
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "spm.model")


@dataclass(frozen=True)
class Source:
    """Location of a tower's files.

    Attributes:
        spec: the user's name for the tower.
        kind: `folder`, `hub`, or `random` (an architecture without weights, from a folder).
        place: the folder or the name on the hub.
        revision: the commit on the hub, if known.

    """

    spec: str
    kind: Literal["folder", "hub", "random"]
    place: str
    revision: str | None = None


def source_of(spec: str, tower_dir: str | Path | None = None, revision: str | None = None) -> Source:
    """Locate a tower's files.

    Args:
        spec: a folder, a hub name, or `random:` with a folder or a config.json.
        tower_dir: a folder to look in first: the tower's own folder, or one with a subfolder named like the tower
            (`bert-base-uncased`, `openai--clip-vit-large-patch14` or `clip-vit-large-patch14`).
        revision: the commit on the hub.

    Raises:
        TowerError: a folder is missing or has no config.json.

    """
    if spec.startswith("random:"):
        place = Path(spec.removeprefix("random:")).expanduser()
        if place.name == "config.json":
            place = place.parent
        _check_folder(spec, place)
        return Source(spec, "random", str(place))
    if tower_dir is not None:
        folder = _in_folder(spec, Path(tower_dir).expanduser())
        if folder is not None:
            return Source(spec, "folder", str(folder))
    place = Path(spec).expanduser()
    if place.is_dir():
        _check_folder(spec, place)
        return Source(spec, "folder", str(place))
    if place.is_absolute() or spec.startswith(("~", ".")) or spec.count("/") > 1 or place.exists():
        raise TowerError(f"tower {spec}: no such folder.\nGive a folder with config.json and weights, or a hub name.")
    return Source(spec, "hub", spec, revision)


def _in_folder(spec: str, folder: Path) -> Path | None:
    if not folder.is_dir():
        raise TowerError(f"tower_dir {folder}: no such folder")
    name = spec.rstrip("/")
    for candidate in (folder / name.replace("/", "--"), folder / name.split("/")[-1], folder):
        if (candidate / "config.json").is_file():
            return candidate
    return None


def _check_folder(spec: str, folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise TowerError(f"tower {spec}: {folder} has no config.json.\nGive a folder written by save_pretrained.")


def read_config(source: Source) -> Any:
    """Read the architecture (`transformers.PretrainedConfig`).

    Raises:
        TowerError: the file is unavailable or invalid.

    """
    from transformers import AutoConfig

    with explained(source, "config.json"):
        return AutoConfig.from_pretrained(source.place, **source_options(source))


def config_from_dict(architecture: dict[str, Any]) -> Any:
    """Rebuild the architecture from plain data (`architecture_of`).

    Raises:
        TowerError: the installed transformers has no such architecture.

    """
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(**architecture)
    except Exception as error:  # transformers checks values with classes of its own
        raise TowerError(f"architecture {architecture.get('model_type')!r}: {_first_line(error)}") from None


def architecture_of(config: Any) -> dict[str, Any]:
    """A transformers configuration as plain data, with all defaults."""
    plain = json.loads(config.to_json_string(use_diff=False))
    plain.pop("_name_or_path", None)  # a path of this machine
    return plain


def read_tokenizer(source: Source) -> Any:
    """Read the fast tokenizer.

    Raises:
        TowerError: it is unavailable.

    """
    if source.kind != "hub" and not any((Path(source.place) / name).is_file() for name in _TOKENIZERS):
        # transformers would create an empty one
        raise TowerError(f"tower {source.spec}: {source.place} has no tokenizer ({' or '.join(_TOKENIZERS[:2])})")
    from transformers import AutoTokenizer

    with explained(source, "a tokenizer (tokenizer.json or vocab.txt)"):
        return AutoTokenizer.from_pretrained(source.place, **source_options(source))


def read_json(source: Source, name: str) -> dict[str, Any]:
    """Read a JSON file beside the weights; empty if there is none."""
    from transformers.utils import cached_file

    with explained(source, name):
        path = cached_file(source.place, name, _raise_exceptions_for_missing_entries=False, **source_options(source))
        content = json.loads(Path(path).read_text(encoding="utf-8")) if path is not None else {}
    if not isinstance(content, dict):
        raise TowerError(f"tower {source.spec}: {name} contains no settings")
    return content


def read_model(source: Source, config: Any, model_class: Any = None) -> nn.Module:
    """Load a model with its weights in float32, or with new ones if the source is `random`.

    Args:
        source: location of the files.
        config: the architecture.
        model_class: a class of transformers; default: the class of the architecture.

    Raises:
        TowerError: the weights are unavailable, or lack tensors of the architecture.

    """
    if source.kind == "random":
        return new_model(config, model_class)
    if source.kind == "folder" and not any((Path(source.place) / name).is_file() for name in _WEIGHTS):
        raise TowerError(
            f"tower {source.spec}: {source.place} has no weights ({_WEIGHTS[0]}).\n"
            f"For its architecture with new weights give random:{source.place}"
        )
    from transformers import AutoModel

    with explained(source, "weights"):
        model, report = (model_class or AutoModel).from_pretrained(
            source.place, config=config, dtype=torch.float32, output_loading_info=True, **source_options(source)
        )
    missing = sorted(name for name in report["missing_keys"] if "pooler" not in name)
    if missing or report["mismatched_keys"]:
        names = missing or sorted(str(each[0]) for each in report["mismatched_keys"])
        raise TowerError(
            f"tower {source.spec}: the weights lack {len(names)} tensors of the architecture, first {names[0]}.\n"
            "They belong to another config.json, or to a part of the model."
        )
    return model


def new_model(config: Any, model_class: Any = None) -> nn.Module:
    """Create a model with new weights."""
    from transformers import AutoModel

    return model_class._from_config(config) if model_class is not None else AutoModel.from_config(config)


def source_options(source: Source) -> dict[str, Any]:
    """Arguments of transformers' `from_pretrained` for a source."""
    options: dict[str, Any] = {"trust_remote_code": False}
    if source.kind == "hub":
        options["local_files_only"] = not hub_reachable()
        if source.revision:
            options["revision"] = source.revision
    return options


@lru_cache(maxsize=1)
def hub_reachable() -> bool:
    """Whether the model hub answers within a few seconds; checked once, so that an offline machine waits only once."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS)
    except Exception:  # any error of the HTTP library means that the hub can't be reached
        return False
    return True


@contextmanager
def explained(source: Source, part: str) -> Iterator[None]:
    """Turn errors of transformers into one line that says what is unavailable, and how to go on."""
    from safetensors import SafetensorError
    from transformers.utils import logging as hub_logging

    level, bars = hub_logging.get_verbosity(), hub_logging.is_progress_bar_enabled()
    hub_logging.set_verbosity(logging.CRITICAL)
    hub_logging.disable_progress_bar()
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        if source.kind == "hub" and not hub_reachable():
            raise TowerError(
                f"tower {source.spec}: the model hub can't be reached and {part} is not in its cache.\n"
                "Give a local folder with config.json, tokenizer and weights instead of the name."
            ) from None
        if source.kind == "hub" and isinstance(error, OSError):
            raise TowerError(
                f"tower {source.spec}: {part} can't be had from the model hub; is the name right?\n{_first_line(error)}"
            ) from None
        raise TowerError(f"tower {source.spec}: can't read {part}: {_first_line(error)}") from None
    finally:
        hub_logging.set_verbosity(level)
        if bars:
            hub_logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return first_line(error)[:300]
