"""Modes in training: what is trained drops out, what is frozen does not, whatever mode libraries hand them over in."""

from __future__ import annotations

from collections.abc import Callable

import lightning.pytorch as lightning
import pytest
from torch import nn

from mnerkit import registry
from mnerkit.data.batches.batch import Batch
from mnerkit.data.datamodule import MnerData
from mnerkit.methods.heads.softmax import SoftmaxHead


class Modes(lightning.Callback):
    """Notes which dropouts of the text tower are on when a training batch comes, before and after a validation."""

    def __init__(self) -> None:
        self.seen: list[set[bool]] = []

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        tower = pl_module.towers["text"]
        self.seen.append({each.training for each in tower.modules() if isinstance(each, nn.Dropout)})


@pytest.mark.parametrize("frozen", [False, True])
def test_a_pretrained_tower_drops_out_exactly_when_it_is_trained(folder_of: Callable[[str], str], frozen: bool) -> None:
    tagger = registry.get("bert").load()(head=SoftmaxHead(), text=folder_of("bert"), freeze=frozen)
    data = MnerData(corpus="probe", limit=8, batch_size=4)
    tagger.build(data.facts)
    data.connect(tagger.needs())
    modes = Modes()
    lightning.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        callbacks=[modes],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    ).fit(tagger, data)
    assert modes.seen == [{not frozen}] * 4
