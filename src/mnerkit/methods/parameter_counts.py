"""`mnerkit plugins NAME --params`: how many numbers a method has and learns, at the size that its paper trains."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from mnerkit.methods.method import Method


@dataclass(frozen=True)
class Part:
    """A tower, a module of the encoder, or the head.

    Attributes:
        part: its name.
        about: a tower's spec, else the class.
        parameters: how many numbers it has that stand in no part before it.
        trainable: how many of them are learnt.
    """

    part: str
    about: str
    parameters: int
    trainable: int


def count(config: dict[str, Any]) -> tuple[list[Part], int]:
    """The parts of a configured method, towers first, and the number of types that its head is built for."""
    import torch

    from mnerkit.methods import checkpoint

    with tempfile.TemporaryDirectory() as folder:
        method = checkpoint.make({**config, "model": _bare(config.get("model") or {}, Path(folder))})
        types = _types(config, method)
        n_way = int((config.get("data") or {}).get("n_way", 2))
        try:
            # no memory is taken and nothing is drawn
            with torch.device("meta"):
                _build(method, types, n_way)
        except (NotImplementedError, RuntimeError):  # a module that looks at its weights when it is made
            _build(method, types, n_way)
    specs = {name: str((config.get("model") or {}).get(name, tower.spec)) for name, tower in method.towers.items()}
    return _parts(method, specs), n_way if method.train_mode == "episodic" else len(types)


def _build(method: Method, types: tuple[str, ...], n_way: int) -> None:
    from mnerkit.data.corpus.post import CorpusFacts

    method.build(CorpusFacts(types), n_way=n_way)


def _bare(model: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The options with each tower's name replaced by its architecture without weights."""
    from mnerkit.towers.architectures import without_weights

    return {
        name: (without_weights(value, folder) or value) if isinstance(value, str) else value
        for name, value in model.items()
    }


def _types(config: dict[str, Any], method: Method) -> tuple[str, ...]:
    """The types that the head is built for, as far as they are known without the corpus's files."""
    from mnerkit.data.corpus.corpus import TYPES
    from mnerkit.data.episodes.protocol import FewShotProtocol
    from mnerkit.data.options import EpisodeOptions
    from mnerkit.data.probe.generate import types_of

    data = config.get("data") or {}
    known = types_of(data.get("variant") or "default") if data.get("corpus", "probe") == "probe" else TYPES
    few_shot = method.reads_support or data.get("train_types") is not None
    return (
        FewShotProtocol(EpisodeOptions(train_types=data.get("train_types")), known).train_types if few_shot else known
    )


def _parts(method: Method, specs: dict[str, str]) -> list[Part]:
    seen: set[int] = set()

    def part(name: str, about: str, parameters: Iterable[nn.Parameter]) -> Part:
        new = {id(each): each for each in parameters if id(each) not in seen}
        seen.update(new)
        learnt = sum(each.numel() for each in new.values() if each.requires_grad)
        return Part(name, about, sum(each.numel() for each in new.values()), learnt)

    found = [part(f"tower {name}", specs[name], tower.parameters()) for name, tower in method.towers.items()]
    for name, module in method.encoder.named_children():
        found.append(part(f"encoder {name}", type(module).__name__, module.parameters()))
    found.append(part("encoder", "its own", method.encoder.parameters()))
    for name, module in method.named_children():
        found.append(part(name, getattr(module, "name", type(module).__name__), module.parameters()))
    return [each for each in found if each.parameters]
