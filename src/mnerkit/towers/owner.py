"""What a method does with its towers: makes them or restores them, and prepares them for training."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import nn

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import CheckpointError, UsageError
from mnerkit.towers.by_name import text_tower, vision_tower
from mnerkit.towers.fusion.sight import CAPTIONS, Sight
from mnerkit.towers.interface import TextTower, VisionTower
from mnerkit.towers.layers import channels_last, compile_layers, recompute, trained_layers
from mnerkit.towers.lora import adapt, original_weights
from mnerkit.towers.saved_state import tower_from_state
from mnerkit.towers.text.piece_tower import PieceTower


class TowerOwner(nn.Module):
    """Base of methods: the towers by name, which the encoder holds as modules.

    Attributes:
        options: of the method; those that are about towers are read.
        facts: facts about the corpus, for towers with a vocabulary.
        towers: the towers by name; their states go into checkpoints.
        new_towers: names of towers that are made without reading their weights, which the caller then loads.
    """

    options: Any
    facts: CorpusFacts
    _training: Any  # options of all methods

    def __init__(self) -> None:
        super().__init__()
        self.towers: dict[str, TextTower | VisionTower] = {}
        self.new_towers: tuple[str, ...] = ()
        self._saved_towers: dict[str, Any] | None = None
        self._tower_dir: str | None = None

    def text_tower(self, name: str, spec: str, **options: Any) -> TextTower:
        """Create the text tower called `name` from `spec`, or restore it from the checkpoint."""
        options |= {"facts": self.facts, "word_pieces": self._training.word_pieces}
        return self._tower(name, text_tower, spec, options)

    def vision_tower(self, name: str, spec: str, **options: Any) -> VisionTower:
        """Create the vision tower called `name` from `spec`, or restore it from the checkpoint.

        Raises:
            UsageError: the pictures are to be read as captions, which `sight` does and not every method.
        """
        if spec == CAPTIONS:
            what = "this method's vision tower reads pixels"
            raise UsageError(f"--model.{name} captions: {what}; give tiny, a hub name or a folder")
        return self._tower(name, vision_tower, spec, options)

    def _tower(self, name: str, make_tower: Callable[..., Any], spec: str, options: dict[str, Any]) -> Any:
        new = {"weights": False} if name in self.new_towers else {}
        saved = None if self._saved_towers is None else self._saved(name)
        if saved is not None:
            tower = tower_from_state(saved, tower_dir=self._tower_dir)
        else:
            tower = make_tower(spec, **options, **new)
            rank = getattr(self.options, "lora_rank", 0)
            if rank and not tower.frozen:
                adapt(tower, rank)
        self.towers[name] = tower
        return tower

    def sight(
        self, name: str, spec: str, text: TextTower, freeze: bool = False, augment: bool = False, **options: Any
    ) -> Sight:
        """Create the sight of the pictures: the vision tower called `name`, or a copy of `text` that reads captions.

        Args:
            name: name of the tower.
            spec: spec of a vision tower, or `captions`.
            text: the method's text tower. A copy of a pretrained one is frozen; a copy with new weights is trained,
                since frozen it would carry no information.
            freeze: freeze the vision tower.
            augment: mirror and shift pictures in training, unless the tower is frozen.
            options: options of the vision tower.
        """
        if spec != CAPTIONS:
            return Sight(self.vision_tower(name, spec, freeze=freeze, **options), augment)
        limits = {"max_tokens": text.reader.max_tokens} if isinstance(text, PieceTower) else {}
        return Sight(self.text_tower(name, text.spec, freeze=text.loaded, **{**text.options, **limits}))

    def _saved(self, name: str) -> Any:
        if name not in (self._saved_towers or {}):
            raise CheckpointError(f"the checkpoint contains no tower {name!r}; was it written by another plugin?")
        return self._saved_towers[name]  # type: ignore[index]

    def prepare_layers(self, options: Any) -> None:
        """Let the layers of transformers be recomputed where that is asked for.

        Raises:
            UsageError: an option is about transformers that are trained, and there are none.
        """
        names = ("checkpointing", "compile", "lora_rank")
        asked = {name: value for name in names if (value := getattr(options, name, False))}
        layers = trained_layers(self.towers.values(), asked)
        if asked.get("checkpointing"):
            recompute(layers)

    def fit_layers(self, device: torch.device, compiled: bool) -> None:
        """Let CNNs suit a device, and compile the layers of transformers that are trained, if `compiled`."""
        if device.type == "cuda":
            channels_last(self.towers.values())
        if compiled:
            compile_layers(trained_layers(self.towers.values()), device.type)

    def stored_elsewhere(self, names: Collection[str] | None = None) -> tuple[str, ...]:
        """Prefixes of the state dict that a checkpoint leaves out: weights that a hub or folder has as they are.

        Args:
            names: of the towers that count; default: all.
        """
        towers = [tower for name, tower in self.towers.items() if names is None or name in names]
        parts = {id(tower): original_weights(tower) for tower in towers if tower.external}
        places = [(name, parts[id(module)]) for name, module in self.named_modules() if id(module) in parts]
        return tuple(f"{name}.{part}" for name, inside in places for part in inside)
