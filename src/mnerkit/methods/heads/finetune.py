"""Few-shot tagging by a fresh layer that is tuned on each support."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.random_draws import stream
from mnerkit.methods.heads.head import Head, support_of
from mnerkit.methods.heads.options import FinetuneOptions
from mnerkit.methods.heads.transfer import TransferHead
from mnerkit.methods.post_states import PostStates
from mnerkit.towers.interface import Encoder, WordStates


class FinetuneHead(TransferHead):
    """Trains a layer on the source types; then each episode gets a fresh one, tuned on the episode's support.

    The fresh layer's weights depend on the seed and the episode's number alone, the global random state is untouched,
    and all that was tuned of the encoder is as before when the episode is over.
    """

    name: ClassVar[str] = "finetune"
    options_class = FinetuneOptions
    tunes: ClassVar[bool] = True

    @property
    def layer(self) -> Literal["softmax", "crf"]:  # type: ignore[override]
        """What is trained on the source types and, fresh, tuned on each support."""
        return self.options.layer

    @property
    def tunes_encoder(self) -> bool:  # type: ignore[override]
        """Whether the encoder is tuned, too."""
        return self.options.scope == "all"

    @contextmanager
    def adapted(
        self, encoder: Encoder | PostStates, batch: Batch, *, trace: bool = False, seed: int = 0
    ) -> Iterator[tuple[Head, WordStates]]:
        """A fresh layer tuned on the support, and the states that it decodes.

        Raises:
            DataError: there is no support, or it carries no tags.
        """
        encoded = encoder(batch, trace=trace)
        if isinstance(encoder, PostStates) or not self.tunes_encoder:
            yield self.tuned(encoded, batch, seed), encoded
            return
        with restored(encoder):
            layer = self.tuned(encoded, batch, seed, encoder)
            yield layer, encoder(batch, trace=trace)

    def decode(self, encoded: WordStates, batch: Batch) -> list[list[int]]:
        """Tags by a layer tuned on these states; an encoder can only be tuned in `adapted`."""
        return self.tuned(encoded, batch).decode(encoded, batch)

    def tuned(self, encoded: WordStates, batch: Batch, seed: int = 0, encoder: Encoder | None = None) -> Head:
        """A fresh layer for the types of an episode, tuned on its support; in evaluation mode.

        Args:
            encoded: states of the batch.
            batch: the episode.
            seed: with the episode's number, the only source of randomness.
            encoder: tuned as well, where given; its weights change in place.
        """
        support_of(encoded, batch, self.name)
        device, width = encoded.states.device, encoded.states.shape[-1]
        key = stream("finetune", seed, batch.episode or 0).getrandbits(63)
        # out of inference mode, where a selection of the batch's tensors is made of ordinary ones
        with torch.inference_mode(False), torch.enable_grad(), own_randomness(key, device):
            layer = self.new_layer(width, batch.tagset).to(device)
            rows = torch.nonzero(~batch.query).flatten()
            support = batch.select(rows)
            support.query = torch.ones_like(support.query)
            groups = [{"params": list(layer.parameters()), "lr": self.options.lr}]
            layer.train(self.options.tuning_dropout)
            if encoder is None:
                boundary = None if encoded.boundary is None else encoded.boundary[rows].detach()
                fixed = WordStates(encoded.states[:, rows].detach(), boundary=boundary)
                self._tune(groups, lambda: layer.loss(fixed, support))
            else:
                encoder.train(self.options.tuning_dropout)
                own = [each for each in encoder.parameters() if each.requires_grad]
                groups.append({"params": own, "lr": self.options.encoder_lr})
                self._tune(groups, lambda: layer.loss(encoder(support), support))
                encoder.eval()
        return layer.eval()

    def _tune(self, groups: list[dict[str, Any]], loss: Callable[[], Tensor]) -> None:
        """Take the steps; gradients go past `backward`, so that no hook (of DDP) sees them."""
        groups = [group for group in groups if group["params"]]
        parameters = [parameter for group in groups for parameter in group["params"]]
        optimiser = torch.optim.AdamW(groups, weight_decay=self.options.weight_decay)
        # under autocast it holds low-precision copies of the weights, without a gradient or from the step before
        torch.clear_autocast_cache()
        for _ in range(self.options.steps):
            gradients = torch.autograd.grad(loss(), parameters, allow_unused=True)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimiser.step()
            torch.clear_autocast_cache()


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Put trainable weights, their gradients, buffers and modes back as they were, whatever happens inside."""
    weights = [each for each in module.parameters() if each.requires_grad]
    # buffers of frozen parts never change, and writing to them would have their digest taken anew
    changing = [part for part in module.modules() if part.training or any(p.requires_grad for p in part.parameters())]
    buffers = [each for part in changing for each in part.buffers(recurse=False)]
    kept = [(each, each.detach().clone()) for each in (*weights, *buffers)]
    gradients = [each.grad for each in weights]
    modes = [(each, each.training) for each in module.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for each, value in kept:
                each.copy_(value)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        for part, mode in modes:
            part.training = mode
        torch.clear_autocast_cache()


@contextmanager
def own_randomness(key: int, device: torch.device) -> Iterator[None]:
    """Random draws of torch inside depend on `key` alone, and those after it are as if nothing had been drawn."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        # not torch.manual_seed, which seeds devices that are not restored
        torch.default_generator.manual_seed(key)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(key)
        yield
