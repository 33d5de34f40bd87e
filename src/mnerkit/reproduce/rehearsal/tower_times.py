"""What one tower takes for a piece of text or a picture on this device, whole and shrunk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_json
from mnerkit.reproduce.rehearsal.meter import now
from mnerkit.reproduce.rehearsal.stand_in_towers import DIVISOR, Size, config_of, network_of, shrunk
from mnerkit.strict_json import read_json

# of what is timed on a GPU; on a processor, where a large tower takes seconds for one picture, there is less of it
ROWS, PIECES, PICTURES = 8, 32, 16


@dataclass(frozen=True)
class TowerTime:
    """A tower's costs for a piece (text) or a picture of 224 x 224 pixels (vision).

    Attributes:
        forward: seconds without gradients.
        training: seconds forward and backward.
        kept: bytes that are kept for the backward pass.
    """

    forward: float = 0.0
    training: float = 0.0
    kept: float = 0.0


@dataclass(frozen=True)
class Timing:
    """A tower that is timed once; plain data that a process is sent.

    Attributes:
        kind: `text` or `vision`.
        spec: its name.
        size: `shrunk` or `full`.
        folder: of the rehearsals.
    """

    kind: str
    spec: str
    size: Size
    folder: Path

    @property
    def name(self) -> str:
        """What distinguishes it from others."""
        return f"{self.kind}-{self.spec.strip('/').replace('/', '-').replace(':', '-')}-{self.size}"

    @property
    def file(self) -> Path:
        """Where its times are kept."""
        return self.folder / "towers" / "times" / f"{self.name}.json"

    def do(self) -> None:
        """Measure and write the times."""
        write_json(self.file, asdict(_measured(self.kind, self.spec, self.size)))

    def time(self) -> TowerTime | None:
        """The times; None where they were not measured."""
        return TowerTime(**read_json(self.file)) if self.file.is_file() else None


def _measured(kind: str, spec: str, size: Size) -> TowerTime:
    import torch

    gpu = torch.cuda.is_available()
    device, (rows, pictures) = torch.device("cuda" if gpu else "cpu"), (ROWS, PICTURES) if gpu else (2, 1)
    with torch.random.fork_rng():
        model, read = _model(kind, spec, size)
        model.to(device)
        if kind == "text":
            inputs, units = torch.randint(5, 1000, (rows, PIECES), device=device), rows * PIECES
        else:
            inputs, units = torch.randn(pictures, 3, 224, 224, device=device), pictures
        storages: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        def evaluate() -> None:
            model.eval()
            with torch.no_grad():
                read(inputs)

        def train() -> None:
            model.train()
            storages.clear()
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                result = read(inputs).float().mean()
            result.backward()

        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        seconds = []
        for work in (evaluate, train):
            work()  # the first time reserves memory, and on a GPU chooses kernels
            started = now()
            work()
            seconds.append((now() - started) / units)
        kept = sum(size for place, size in storages.items() if place not in weights)
        return TowerTime(seconds[0], seconds[1], kept / units)


def _model(kind: str, spec: str, size: Size) -> tuple[Any, Callable[[Any], Any]]:
    """A tower's network with new weights, and what runs it."""
    from mnerkit.towers.hub import new_model
    from mnerkit.towers.vision.pretrained import ResNetTower

    if network := network_of(spec):
        tower = ResNetTower(spec, f"{network}/{DIVISOR}" if size == "shrunk" else network)
        return tower, lambda pixels: tower._states(pixels).regions
    config = config_of(spec) if size == "full" else shrunk(config_of(spec))
    half = getattr(config, f"{kind}_config", None)
    model = new_model(half if half is not None else config)
    return model, lambda inputs: model(inputs).last_hidden_state
