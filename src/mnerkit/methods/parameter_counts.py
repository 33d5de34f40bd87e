"""Numbers of parameters: `mnerkit plugins NAME --params`, and a network that is too large for the machine."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnerkit.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from mnerkit.methods.method import Method


@dataclass(frozen=True)
class Part:
    """A tower, a module of the encoder, or the head.

    Attributes:
        part: name of the part.
        about: the spec of a tower, else the class.
        parameters: number of its parameters, without those of earlier parts.
        trainable: number of the trainable ones among them.
    """

    part: str
    about: str
    parameters: int
    trainable: int


def count(config: dict[str, Any]) -> tuple[list[Part], int]:
    """The parts of a configured method, towers first, and the number of types that its head is built for."""
    import torch

    from mnerkit.methods.tagger import make_method

    with tempfile.TemporaryDirectory() as folder:
        method = make_method({**config, "model": _bare(config.get("model") or {}, Path(folder))})
        types = _types(config, method)
        n_way = int((config.get("data") or {}).get("n_way", 2))
        try:
            # the meta device needs no memory and no initialisation
            with torch.device("meta"):
                _build(method, types, n_way)
        except (NotImplementedError, RuntimeError):  # a module reads its weights in its constructor
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
    """The types that the head is built for, from the configuration alone, without the corpus's files."""
    from mnerkit.data.corpus.corpus import TYPES
    from mnerkit.data.episodes.protocol import FewShotProtocol
    from mnerkit.data.options import EpisodeOptions
    from mnerkit.data.probe.generate import types_of

    data = config.get("data") or {}
    types = types_of(data.get("variant") or "default") if data.get("corpus", "probe") == "probe" else TYPES
    few_shot = method.reads_support or data.get("train_types") is not None
    return (
        FewShotProtocol(EpisodeOptions(train_types=data.get("train_types")), types).train_types if few_shot else types
    )


def _parts(method: Method, specs: dict[str, str]) -> list[Part]:
    counted: set[int] = set()

    def part(name: str, about: str, parameters: Iterable[nn.Parameter]) -> Part:
        new = {id(weight): weight for weight in parameters if id(weight) not in counted}
        counted.update(new)
        trainable = sum(weight.numel() for weight in new.values() if weight.requires_grad)
        return Part(name, about, sum(weight.numel() for weight in new.values()), trainable)

    parts = [part(f"tower {name}", specs[name], tower.parameters()) for name, tower in method.towers.items()]
    for name, module in method.encoder.named_children():
        parts.append(part(f"encoder {name}", type(module).__name__, module.parameters()))
    parts.append(part("encoder", "its own", method.encoder.parameters()))
    for name, module in method.named_children():
        parts.append(part(name, getattr(module, "name", type(module).__name__), module.parameters()))
    return [each for each in parts if each.parameters]


@contextmanager
def within_memory() -> Iterator[None]:
    """Refuse a network whose parameters do not fit into the machine's memory, before they are filled.

    Raises:
        UsageError: it does not fit.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook

    memory, needed = memory_of_machine(), 0

    def add(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal needed
        if parameter is not None and parameter.device.type == "cpu":
            needed += parameter.numel() * parameter.element_size()
        if needed > memory:
            raise MemoryError

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch has no type for what it can't allocate on the CPU
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        size = "" if math.isinf(memory) else f" of {memory / (1 << 30):.0f} GiB"
        raise UsageError(
            f"the method's parameters do not fit into this machine's memory{size}: give smaller sizes (--model.X)"
        ) from None
    finally:
        hook.remove()


def memory_of_machine() -> float:
    """Bytes of main memory; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):
        return math.inf
