"""Plugin `mousing`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.methods.heads.head import Head
from mnerkit.methods.tagger import Tagger
from mnerkit_plugins.mousing.gradient_share import gradient_share
from mnerkit_plugins.mousing.model import MousingEncoder
from mnerkit_plugins.mousing.options import MousingOptions

VIEWS = {"grid_crop": "grid", "pooled_tokens": "whole", "all_tokens": "whole", "captions": "captions"}


class MousingTagger(Tagger):
    """MOUSING: few-shot tagging over a graph of words and patches in two environments (LREC-COLING 2024)."""

    plugin = "mousing"
    options_class = MousingOptions
    encoder: MousingEncoder
    _step = 0

    def __init__(self, options: MousingOptions | None = None, head: Head | None = None, **values: Any) -> None:
        super().__init__(options, head, **values)
        self._shares: list[Tensor] = []

    def make_encoder(self) -> MousingEncoder:
        o = self.options
        text = self.text_tower(
            "text",
            o.text,
            freeze=o.freeze,
            max_tokens=o.max_tokens,
            word_pool=o.word_pool,
            pos_interp=o.pos_interp,
        )
        pixels = o.use_image and o.image_nodes != "captions"
        return MousingEncoder(text, self.vision_tower("vision", o.vision, freeze=o.freeze) if pixels else None, o)

    def reading(self) -> str | None:
        """Extend `Tagger`: the literal reading needs no remark."""
        if not (self.options.residual and self.options.balance == "gradients"):
            return None
        return (
            "MOUSING (ours): residual networks, and the divergence (Eq. 13) by its share of the gradient; "
            "--ablation as_printed is the paper's reading"
        )

    def needs(self) -> Needs:
        o, reader = self.options, self.towers["text"].reader
        if not o.use_image:
            return Needs(reader=reader)
        return Needs(
            reader=reader,
            views=frozenset({VIEWS[o.image_nodes]}),
            picture=self.towers["vision"].picture if "vision" in self.towers else None,
            grid=o.grid,
            caption_reader=reader if o.image_nodes == "captions" else None,
        )

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Extend `Tagger`: measure the share of Eq. 13 in every `log_gradients`-th step."""
        losses, every = super().losses(batch), self.options.log_gradients
        if every and "kl" in losses and self.training and torch.is_grad_enabled():
            if self._step % every == 0:
                weights = self.loss_weights()
                head, divergence = (weights[name] * losses[name] for name in ("head", "kl"))
                self._shares.append(gradient_share(head, divergence, self.encoder.generate))
            self._step += 1
        return losses

    def on_train_epoch_start(self) -> None:
        """Extend `Tagger`: forget the shares of the former epoch."""
        super().on_train_epoch_start()
        self._step, self._shares = 0, []

    def on_train_epoch_end(self) -> None:
        """Extend `Tagger`: log the epoch's median share, and keep it for the run's metrics."""
        super().on_train_epoch_end()
        if self._shares:
            median = torch.stack(self._shares).median()
            self._shares = []  # the hook also ends passes that only score
            self.log("train/gradient_share", median, sync_dist=True)
            self.notes.setdefault("gradient_share", {})[str(self.current_epoch + 1)] = round(float(median), 4)

    def loss_weights(self) -> dict[str, float]:
        """Eq. 14."""
        return {"head": self.options.trade_off, "kl": 1 - self.options.trade_off}
