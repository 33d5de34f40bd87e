"""Conversion of towers to plain data for checkpoints, and back."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.errors import CheckpointError, TowerError
from mnerkit.towers.by_name import (
    build_patch_tower,
    build_piece_tower,
    build_word_tower,
    clip_vision_class,
    vision_tower,
)
from mnerkit.towers.frozen.memory import freeze, weight_digest
from mnerkit.towers.hub import Source, config_from_dict, new_model, read_model, source_of
from mnerkit.towers.interface import TextTower, Tower, VisionTower
from mnerkit.towers.lora import adapt
from mnerkit.towers.text.piece_tower import PieceTower
from mnerkit.towers.text.pieces import PieceReader
from mnerkit.towers.text.text_reader import reader_from_state
from mnerkit.towers.vision.pretrained import ClipVisionTower, ResNetTower, VitTower
from mnerkit.towers.vision.resnet_files import read_resnet


def tower_state(tower: Tower) -> dict[str, Any]:
    """Plain data from which `tower_from_state` rebuilds a tower, without weights.

    A pretrained tower that is frozen or has LoRA is stored as its spec and weight digest; LoRA's own weights and those
    of any other tower must be stored separately.
    """
    state: dict[str, Any] = {
        "family": type(tower).__name__,
        "spec": tower.spec,
        "options": dict(tower.options),
        "frozen": tower.frozen,
        "external": tower.external,
        "digest": _digest(tower) if tower.external else None,
    }
    if tower.lora_rank:
        state["lora_rank"] = tower.lora_rank
    if isinstance(tower, TextTower):
        state["reader"] = tower.reader.state()
    if isinstance(tower, VisionTower):
        state["picture"] = tower.picture.state()
    if isinstance(tower, PieceTower | VitTower | ClipVisionTower | ResNetTower):
        state["architecture"] = tower.architecture()
        state["revision"] = getattr(tower, "revision", None)
    return state


def tower_from_state(state: dict[str, Any], tower_dir: str | Path | None = None) -> Any:
    """Rebuild a tower from `tower_state`.

    Args:
        state: state from a checkpoint.
        tower_dir: first place to look for the weights of a tower that is stored by its spec: its own folder (or, for a
            ResNet, its file), or a folder that contains it by name.

    Returns:
        The tower. Weights that the checkpoint stores are not loaded yet.

    Raises:
        TowerError: the weights are unavailable, or differ from those that the checkpoint was trained with.
        CheckpointError: the state is not that of a known tower.

    """
    families: dict[str, Callable[[dict[str, Any], str | Path | None], Tower]] = {
        "TinyText": partial(_saved_words, "tiny"),
        "BiLstmTower": partial(_saved_words, "bilstm"),
        "TinyVision": lambda state, _: vision_tower("tiny", **state["options"]),
        "BertTower": _saved_text,
        "TinyBert": _saved_tiny_bert,
        "ClipTextTower": _saved_text,
        "VitTower": _saved_patches,
        "ClipVisionTower": _saved_patches,
        "ResNetTower": _saved_resnet,
    }
    make = families.get(state.get("family", ""))
    if make is None:
        raise CheckpointError(f"unknown tower {state.get('family')!r} in the checkpoint; known: {', '.join(families)}")
    try:
        tower = make(state, tower_dir)
    except (KeyError, TypeError, AttributeError, ValueError) as problem:
        name = f"tower {state['spec']} ({state['family']})"
        raise CheckpointError(f"the checkpoint does not describe {name} as it should: {problem!r:.200}") from problem
    tower.spec, tower.options = state["spec"], dict(state["options"])
    if isinstance(tower, PieceTower | VitTower):  # a configuration from plain data does not know it
        tower.revision = tower.revision or state.get("revision")
    if state["frozen"]:
        freeze(tower)
    if not has_weights_of(tower, state):
        where = f"{tower_dir} or {state['spec']}" if tower_dir else state["spec"]
        raise TowerError(
            f"tower {state['spec']}: the weights in {where} are not those that the checkpoint was trained with.\n"
            "Give the folder with the same release of the weights as --tower_dir."
        )
    if rank := state.get("lora_rank", 0):
        adapt(tower, rank)
    return tower


def has_weights_of(tower: Tower, state: dict[str, Any]) -> bool:
    """Whether a tower's weights have the digest that `tower_state` stored; True if it stored none."""
    return not state["external"] or _digest(tower) == state["digest"]


def _digest(tower: Tower) -> str:
    return tower.digest_without_lora or weight_digest(tower)


def _saved_source(state: dict[str, Any], tower_dir: str | Path | None) -> Source | None:
    return source_of(state["spec"], tower_dir, state.get("revision")) if state["external"] else None


def _saved_words(spec: str, state: dict[str, Any], _: str | Path | None) -> Tower:
    return build_word_tower(spec, reader_from_state(state["reader"]), state["options"])


def _saved_text(state: dict[str, Any], tower_dir: str | Path | None) -> Tower:
    config, reader = config_from_dict(state["architecture"]), reader_from_state(state["reader"])
    return build_piece_tower(_saved_source(state, tower_dir), config, reader, state["options"], state["spec"])


def _saved_tiny_bert(state: dict[str, Any], _: str | Path | None) -> Tower:
    from mnerkit.towers.text.tiny import TinyBert, tiny_config

    config, reader = config_from_dict(state["architecture"]), reader_from_state(state["reader"])
    if not isinstance(reader, PieceReader):
        raise CheckpointError("tower tiny-bert of the checkpoint does not read pieces")
    # the architecture already contains the sizes
    sizes = inspect.signature(tiny_config).parameters
    pooling = {name: value for name, value in state["options"].items() if name not in sizes}
    return TinyBert(state["spec"], config, reader, **pooling)


def _saved_patches(state: dict[str, Any], tower_dir: str | Path | None) -> Tower:
    config, source = config_from_dict(state["architecture"]), _saved_source(state, tower_dir)
    model_class = clip_vision_class(config.model_type == "clip_vision_model")
    model = read_model(source, config, model_class) if source is not None else new_model(config, model_class)
    return build_patch_tower(state["spec"], model, PictureFormat.from_state(state["picture"]), source is not None)


def _saved_resnet(state: dict[str, Any], tower_dir: str | Path | None) -> Tower:
    tower = ResNetTower(state["spec"], state["architecture"]["name"], PictureFormat.from_state(state["picture"]))
    if state["external"]:
        tower.load_torchvision(read_resnet(state["spec"], tower.name, tower_dir))
        tower.loaded = True
    return tower
