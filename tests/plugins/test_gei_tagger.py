"""Plugin gei: options, objective, epochs, figures of detected spans, ablations, two ranks, and what its page says."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from ranks import in_two_ranks, joined
from torch import Tensor

from mnerkit import registry
from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import Post
from mnerkit.data.datamodule import MnerData
from mnerkit.errors import UsageError
from mnerkit.methods.heads.crf import CRFHead
from mnerkit.methods.heads.head import Head
from mnerkit.methods.heads.prototype import PrototypeHead
from mnerkit.methods.heads.softmax import SoftmaxHead
from mnerkit.methods.prediction import Prediction
from mnerkit.options import declared
from mnerkit_plugins.gei.detection import detection_figures
from mnerkit_plugins.gei.options import GeiOptions
from mnerkit_plugins.gei.tagger import GeiTagger

PLUGIN = registry.get("gei")
SMALL: dict[str, Any] = {"width": 24, "hidden": 32, "graph_layers": 2, "heads": 4, "transformer_heads": 4}
SMALL |= {"dropout": 0.0, "transformer_dropout": 0.0, "freeze_vision": False, "max_objects": 3}


@cache
def probe() -> MnerData:
    return MnerData(corpus="probe", limit=24, batch_size=8)


def tagger(head: Head | None = None, data: MnerData | None = None, **options: Any) -> tuple[GeiTagger, Batch]:
    """A tagger and a dev batch of the probe as it wants to see it."""
    torch.manual_seed(0)
    made = GeiTagger(head=head or CRFHead(), **{**SMALL, **options})
    data = data or probe()
    made.build(data.facts, n_way=data.options.n_way)
    data.connect(made.needs(), made.head.train_mode)
    return made, next(iter(data.loader("dev")))


def total(made: GeiTagger, batch: Batch) -> Tensor:
    """Weighted sum of the losses, as `training_step` forms it."""
    weights = made.loss_weights()
    return torch.stack([weights[name] * value for name, value in made.losses(batch).items()]).sum()


def test_the_objective_weighs_both_losses() -> None:
    made, batch = tagger(lambda_span=0.25, lambda_mner=2.0)
    made.eval()  # no dropout, so that both are of the same states
    losses = made.losses(batch)
    torch.testing.assert_close(total(made, batch), 2 * losses["head"] + 0.25 * losses["span"])
    made, batch = tagger(lambda_span=0.0)
    total(made, batch).backward()
    spans = made.encoder.spans
    assert spans is not None and not any(each.grad.any() for each in spans.parameters() if each.grad is not None)
    for wrong in ({"lambda_span": -1.0}, {"ss_max": 1.5}, {"dropout": 1.0}, {"graph_layers": 0}):
        with pytest.raises(UsageError, match=rf"--model\.{next(iter(wrong))}"):
            tagger(**wrong)


@pytest.mark.parametrize("head", [SoftmaxHead, CRFHead])
def test_any_head_tags_its_states(head: type[Head]) -> None:
    made, batch = tagger(head())
    total(made, batch).backward()
    predicted = made.eval().tag(batch)
    assert [len(each.tags) for each in predicted] == [len(post.words) for post in batch.posts]
    assert all(len(each.traces["spans"]) == len(each.tags) for each in predicted)


def test_a_head_of_episodes_tags_its_states() -> None:
    data = MnerData(corpus="probe", variant="fewshot", train_types="PER+LOC+ORG+MISC", dev_episodes=2, limit=60)
    made, batch = tagger(PrototypeHead(), data)
    total(made, batch).backward()
    (predicted,) = made.eval().tag(batch)
    assert len(predicted.traces["spans"]) == len(predicted.tags) == len(batch.posts[-1].words)


class Epochs(Callback):
    """Keeps the epoch that the encoder knows at each step."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(pl_module, GeiTagger)
        self.seen.append(pl_module.encoder.epoch)


@pytest.mark.filterwarnings("ignore")
def test_the_encoder_hears_the_epoch_and_the_f1_of_spans_is_logged(tmp_path: Path) -> None:
    made, _ = tagger()
    kept = Epochs()
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[kept],
        limit_train_batches=2,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        use_distributed_sampler=False,
        logger=False,
    )
    trainer.fit(made, probe())
    assert kept.seen == [1, 1, 2, 2, 3, 3]
    batch = next(iter(probe().loader("dev")))
    wanted = detection_figures(made.eval().tag(batch))["span_f1"]
    assert float(trainer.logged_metrics["dev/span_f1"]) == pytest.approx(wanted)
    assert "train/span" in trainer.logged_metrics


def prediction(words: int, gold: list[str], said: list[str], spans: list[int]) -> Prediction:
    post = Post("p", tuple("abcdefgh"[:words]), tuple(gold))
    return Prediction(post, said, ("PER", "LOC"), traces={"spans": np.array(spans)})


def test_figures_of_detected_spans() -> None:
    gold = ["B-PER", "I-PER", "O", "B-LOC", "B-PER"]
    figures = detection_figures(
        [
            # found and right; found and of another type; missed by the span task but tagged
            prediction(5, gold, ["B-PER", "I-PER", "O", "B-PER", "B-PER"], [1, 2, 0, 1, 0]),
            # an entity where there is none
            prediction(2, ["O", "O"], ["B-LOC", "O"], [1, 0]),
        ]
    )
    assert figures == pytest.approx(
        {
            "span_f1": 100 * 2 * 2 / (3 + 3),
            "span_precision": 100 * 2 / 3,
            "span_recall": 100 * 2 / 3,
            "f1_span_hit": 50.0,
            "f1_span_miss": 100.0,
            "false_entities": 1.0,
        }
    )
    assert detection_figures([]) == {}


def test_figures_hold_those_of_spans_where_they_are_detected() -> None:
    made, batch = tagger()
    assert {"f1", "span_f1", "false_entities"} <= made.figures(made.eval().tag(batch)).keys()
    made, batch = tagger(entity_nodes=False, span_task=False)
    assert "span_f1" not in made.figures(made.eval().tag(batch))


def test_the_ablations_are_the_papers_rows() -> None:
    assert list(PLUGIN.ablations) == ["no_entity", "no_span", "regions"]


def rank(number: int, folder: Path) -> None:
    """A step of one of two ranks; the second one has posts without entity and picture."""
    made, batch = tagger()
    if number:
        assert batch.tags is not None and batch.image_mask is not None and batch.crop_mask is not None
        batch.tags = torch.zeros_like(batch.tags)
        batch.image_mask, batch.crop_mask = torch.zeros_like(batch.image_mask), torch.zeros_like(batch.crop_mask)
    made.train()

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.made = made

        def forward(self, given: Batch) -> Tensor:
            return total(self.made, given)

    with joined(number, folder):
        step = torch.nn.parallel.DistributedDataParallel(Step())
        for _ in range(2):  # the second forward raises where the first left a tensor unused
            step(batch).backward()
        torch.save({name: each.grad for name, each in made.named_parameters()}, folder / f"{number}.pt")


def test_two_ranks_train_though_one_has_neither_entity_nor_picture(tmp_path: Path) -> None:
    in_two_ranks(rank, tmp_path)
    first, second = (torch.load(tmp_path / f"{number}.pt", weights_only=True) for number in (0, 1))
    assert all(each is not None for each in first.values())
    for name, gradient in first.items():
        torch.testing.assert_close(gradient, second[name])


def test_the_readme_names_every_reading_of_the_paper_as_an_option_with_its_default() -> None:
    text = (PLUGIN.folder / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Where the paper leaves a choice")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[1]) for row in rows] == list(range(1, 18)), "the rows of the paper's ambiguities"
    own = declared(GeiOptions)
    for row in rows:
        for name, default in re.findall(r"`(\w+)(?:: ([\w.]+))?`", row[3]):
            if name in own and default:
                assert default.lower() in (str(own[name].default).lower(), str(own[name].default).removesuffix(".0")), (
                    name
                )
