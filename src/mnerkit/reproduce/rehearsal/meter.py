"""What a step and an evaluated post or episode take: seconds, memory, and how much the towers read in them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import lightning.pytorch as lightning
import torch
from torch import Tensor, nn

# a picture of this many pixels counts as one
PIXELS = 224 * 224


class Meter(lightning.Callback):
    """Watches a training and the scoring after it.

    Attributes:
        steps: seconds of each training step.
        predicted: seconds of scoring, dev and test together.
        kept: bytes of tensors that the last step but one kept for its backward pass, weights apart.
        reads: tower -> phase (`step`: of the last step, `score`, `all`) -> pieces or pictures that it read: without
            gradients, with them, and for its cache, so that they are read once.
    """

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.predicted = 0.0
        self.kept = 0
        self.reads: dict[str, dict[str, list[float]]] = {}
        self._phase, self._since = "all", 0.0
        self._storages: dict[int, int] = {}
        self._watching: Any = None
        self._caching = 0

    def setup(self, trainer: lightning.Trainer, pl_module: Any, stage: str) -> None:
        """Watch the first layer of each tower, once."""
        for name, tower in pl_module.towers.items() if not self.reads else ():
            self.reads[name] = defaultdict(lambda: [0.0, 0.0, 0.0])
            if tower.memory is not None and not tower.memory.off:
                tower.memory.text = self._marked(tower.memory.text)
                tower.memory.pictures = self._marked(tower.memory.pictures)
            for module in tower.modules():
                if isinstance(module, nn.Conv2d) and module.in_channels == 3:
                    module.register_forward_hook(self._reader(name, tower, _pictures))
                elif isinstance(module, nn.Embedding) and module.num_embeddings == _vocabulary(tower):
                    module.register_forward_hook(self._reader(name, tower, _pieces))

    def _reader(self, name: str, tower: nn.Module, count: Callable[[Any, Tensor], float]) -> Callable[..., None]:
        def read(module: nn.Module, inputs: Any, output: Tensor) -> None:
            trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in tower.parameters())
            for phase in {self._phase, "all"}:
                self.reads[name][phase][2 if self._caching else int(trained)] += count(inputs, output)

        return read

    def _marked(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        """The same, so that what is read inside of it counts as read for the cache."""

        def marked(*given: Any, **named: Any) -> Any:
            self._caching += 1
            try:
                return compute(*given, **named)
            finally:
                self._caching -= 1

        return marked

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        """Count what is kept for the backward pass in the first step; a later one is timed."""
        if not self.steps:
            weights = {weight.untyped_storage().data_ptr() for weight in pl_module.parameters()}

            def keep(tensor: Tensor) -> Tensor:
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in weights:
                    self._storages[storage.data_ptr()] = storage.nbytes()
                return tensor

            self._watching = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
            self._watching.__enter__()
        for reads in self.reads.values():
            reads.pop("step", None)
        self._phase, self._since = "step", now()

    def on_before_backward(self, trainer: lightning.Trainer, pl_module: Any, loss: Tensor) -> None:
        """All that the step keeps is known."""
        self._release()

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, *_: Any) -> None:
        """A step is over."""
        self._release()
        self.steps.append(now() - self._since)
        self._phase = "all"

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        """The hooks must not stay for the next run of this process."""
        self._release()

    def on_predict_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Scoring begins."""
        self._phase, self._since = "score", now()

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        """Scoring of a split is over."""
        self.predicted += now() - self._since
        self._phase = "all"

    def _release(self) -> None:
        if self._watching is not None:
            self._watching.__exit__(None, None, None)
            self._watching = None
            self.kept = sum(self._storages.values())
            self._storages = {}


def now() -> float:
    """Seconds, once the device has done its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def device_name() -> str:
    """The device, as a reader of figures wants it named."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    return f"a processor ({threads} thread{'s' * (threads > 1)} a run)"


def _pieces(inputs: Any, output: Tensor) -> float:
    return output.shape[:-1].numel()


def _pictures(inputs: Any, output: Tensor) -> float:
    return len(inputs[0]) * inputs[0].shape[-2] * inputs[0].shape[-1] / PIXELS


def _vocabulary(tower: nn.Module) -> int:
    config = getattr(tower, "config", None)
    return int(getattr(config, "vocab_size", 0) or 0)
