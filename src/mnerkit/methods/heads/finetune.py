"""Few-shot tagging by a new layer that is fine-tuned on each support."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.random_draws import stream
from mnerkit.methods.heads.chain import Chain
from mnerkit.methods.heads.head import Head, support_of
from mnerkit.methods.heads.options import FinetuneOptions
from mnerkit.methods.heads.softmax import SoftmaxHead
from mnerkit.methods.heads.transfer import TransferHead
from mnerkit.methods.post_states import PostStates
from mnerkit.towers.interface import Encoder, WordStates


class FinetuneHead(TransferHead):
    """Trains a layer on the source types; then fine-tunes a new one on the support of each episode.

    The new layer's weights depend only on the seed and the episode's number. The global random state does not change,
    and weights of the encoder that were tuned are restored after the episode.
    """

    name: ClassVar[str] = "finetune"
    options_class = FinetuneOptions
    tunes: ClassVar[bool] = True

    @property
    def layer(self) -> Literal["softmax", "crf"]:  # type: ignore[override]
        """The layer that is trained on the source types and, newly initialised, tuned on each support."""
        return self.options.layer

    @property
    def tunes_encoder(self) -> bool:  # type: ignore[override]
        """Whether the encoder is tuned as well."""
        return self.options.scope == "all"

    @contextmanager
    def adapted(
        self, encoder: Encoder | PostStates, batch: Batch, *, trace: bool = False, seed: int = 0
    ) -> Iterator[tuple[Head, WordStates]]:
        """A new layer tuned on the support, and the states for it to decode.

        Raises:
            DataError: there is no support, or it has no tags.
        """
        encoded = encoder(batch, trace=trace)
        if isinstance(encoder, PostStates) or not self.tunes_encoder:
            yield self.tuned(encoded, batch, seed), encoded
            return
        with restored(encoder):
            layer = self.tuned(encoded, batch, seed, encoder)
            yield layer, encoder(batch, trace=trace)

    def chain(self, encoded: WordStates, batch: Batch) -> Chain:
        """The scores of a layer tuned on these states; only `adapted` can tune the encoder."""
        return self.tuned(encoded, batch).chain(encoded, batch)

    def tuned(self, encoded: WordStates, batch: Batch, seed: int = 0, encoder: Encoder | None = None) -> Head:
        """A new layer for the types of an episode, tuned on its support; in evaluation mode.

        Args:
            encoded: states of the batch.
            batch: the episode.
            seed: with the episode's number, the only source of randomness.
            encoder: an encoder to tune as well; its weights change in place.
        """
        support_of(encoded, batch, self.name)
        device, width = encoded.states.device, encoded.states.shape[-1]
        key = stream("finetune", seed, batch.episode or 0).getrandbits(63)
        # outside inference mode, so that the selected rows are ordinary tensors
        with torch.inference_mode(False), torch.enable_grad(), own_randomness(key, device):
            layer = self.new_layer(width, batch.tagset).to(device)
            rows = batch.places.support
            support = batch.select(rows)
            support.query = torch.ones_like(support.query)
            groups = [{"params": list(layer.parameters()), "lr": self.options.lr}]
            layer.train(self.options.tuning_dropout)
            if encoder is None:
                boundary = None if encoded.boundary is None else encoded.boundary[rows].detach()
                states, share = encoded.states[:, rows].detach(), encoded.head_share
                fixed = WordStates(states, boundary=boundary, head_share=share)
                known = layer.gradients_of(fixed, support) if isinstance(layer, SoftmaxHead) else None
                self._tune(groups, lambda: layer.loss(fixed, support), known)
            else:
                encoder.train(self.options.tuning_dropout)
                weights = [weight for weight in encoder.parameters() if weight.requires_grad]
                groups.append({"params": weights, "lr": self.options.encoder_lr})
                self._tune(groups, lambda: layer.loss(encoder(support), support))
                encoder.eval()
        return layer.eval()

    def _tune(
        self,
        groups: list[dict[str, Any]],
        loss: Callable[[], Tensor],
        known: Callable[[], Sequence[Tensor]] | None = None,
    ) -> None:
        """Run the optimiser steps; gradients bypass `backward`, so that DDP's hooks do not fire.

        `known` computes the gradients of all parameters without the loss.
        """
        groups = [group for group in groups if group["params"]]
        parameters = [parameter for group in groups for parameter in group["params"]]
        # a few small tensors: most of a step's time is not arithmetic
        fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
        optimiser = torch.optim.AdamW(groups, weight_decay=self.options.weight_decay, fused=fused)
        # the cache of autocast may contain low-precision copies of old weights, or copies without a gradient
        torch.clear_autocast_cache()
        for _ in range(self.options.steps):
            gradients = torch.autograd.grad(loss(), parameters, allow_unused=True) if known is None else known()
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimiser.step()
            torch.clear_autocast_cache()


@contextmanager
def restored(module: nn.Module) -> Iterator[None]:
    """Restore trainable weights, their gradients, buffers and modes at the end, even after an error."""
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    # buffers of frozen parts never change, and writing to them would recompute their digest
    changing = [part for part in module.modules() if part.training or any(p.requires_grad for p in part.parameters())]
    buffers = [buffer for part in changing for buffer in part.buffers(recurse=False)]
    copies = [(tensor, tensor.detach().clone()) for tensor in (*weights, *buffers)]
    gradients = [weight.grad for weight in weights]
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in copies:
                tensor.copy_(value)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        for part, mode in modes:
            part.training = mode
        torch.clear_autocast_cache()


@contextmanager
def own_randomness(key: int, device: torch.device) -> Iterator[None]:
    """Seed torch's random draws inside by `key`, and restore the random state afterwards."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        # torch.manual_seed would also seed devices whose state is not restored
        torch.default_generator.manual_seed(key)
        if on_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(key)
        yield
