"""Plugin mousing: options, objective, batches of the probe, and the rows of the paper's ablation table."""

from __future__ import annotations

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from mnerkit import registry
from mnerkit.data.batches.batch import Batch
from mnerkit.data.datamodule import MnerData
from mnerkit.data.options import DataOptions
from mnerkit.errors import UsageError
from mnerkit.methods.heads.options import PrototypeCRFOptions
from mnerkit.methods.heads.prototype_crf import PrototypeCRFHead
from mnerkit.options import declared
from mnerkit_plugins.mousing.options import MousingOptions
from mnerkit_plugins.mousing.tagger import MousingTagger

PLUGIN = registry.get("mousing")
SMALL = {"hidden": 32, "kl_width": 8, "dropout": 0.0}


@cache
def probe() -> MnerData:
    return MnerData(
        corpus="probe",
        variant="fewshot",
        train_types="PER+LOC+ORG+MISC",
        dev_episodes=2,
        episodes_per_epoch=2,
        limit=60,
    )


def tagger(**options: Any) -> tuple[MousingTagger, Batch]:
    """A tagger and an episode of the probe as it wants to see it."""
    torch.manual_seed(0)
    head = PrototypeCRFHead(transitions=options.pop("transitions", "tied"))
    made = MousingTagger(head=head, **{**SMALL, **options})
    data = probe()
    made.build(data.facts, n_way=data.options.n_way)
    data.connect(made.needs(), "episodic")
    return made, next(iter(data.loader("dev")))


def total(made: MousingTagger, batch: Batch) -> Tensor:
    """Weighted sum of the losses, as `training_step` forms it."""
    weights = made.loss_weights()
    return torch.stack([weights[name] * value for name, value in made.losses(batch).items()]).sum()


def test_the_objective_is_eq_14() -> None:
    made, batch = tagger(trade_off=0.6)
    losses = made.losses(batch)
    torch.testing.assert_close(total(made, batch), 0.6 * losses["head"] + 0.4 * losses["kl"])
    assert losses["kl"] < 0 < losses["head"]
    with pytest.raises(UsageError, match=r"--model\.trade_off 2"):
        tagger(trade_off=2.0)


def test_the_trade_off_decides_what_learns() -> None:
    made, batch = tagger(trade_off=1.0)
    total(made, batch).backward()
    assert made.encoder.divergence is not None
    assert not any(parameter.grad.any() for parameter in made.encoder.divergence.parameters())
    made, batch = tagger(trade_off=0.0)
    total(made, batch).backward()
    for part in (made.encoder.output, made.head):
        assert not any(parameter.grad.any() for parameter in part.parameters())
    assert made.encoder.divergence.weight.grad.any()


def share_of_the_divergence(made: MousingTagger, batch: Batch) -> Tensor:
    """Norm of its gradient on the nodes of Eq. 4 over that of the tagging loss: in one environment after the other."""
    nodes: list[Tensor] = []
    for network in made.encoder.generate:
        network.register_forward_hook(lambda _module, _inputs, x: nodes.append(x))
    weights, losses = made.loss_weights(), made.losses(batch)
    head, both = (
        torch.autograd.grad(loss, nodes, retain_graph=True)
        for loss in (weights["head"] * losses["head"], sum(weights[name] * losses[name] for name in weights))
    )
    pairs = zip(head, both, strict=True)
    return torch.stack([(together - alone).norm() / alone.norm() for alone, together in pairs])


def test_lambda_balances_gradients_whatever_the_size_of_the_losses() -> None:
    made, batch = tagger(balance="gradients", trade_off=0.8)
    torch.testing.assert_close(share_of_the_divergence(made, batch), torch.tensor([0.25, 0.25]), rtol=1e-3, atol=0)
    for weight in made.encoder.divergence.parameters():  # type: ignore[union-attr]
        weight.data *= 0.1
    torch.testing.assert_close(share_of_the_divergence(made, batch), torch.tensor([0.25, 0.25]), rtol=1e-2, atol=0)
    made, batch = tagger(trade_off=0.8)
    assert (share_of_the_divergence(made, batch) < 0.05).all(), "a mean over nodes against a sum over words"


@pytest.mark.parametrize("source", ["grid_crop", "pooled_tokens", "all_tokens", "captions"])
def test_batches_hold_the_view_that_the_image_nodes_need(source: str) -> None:
    made, batch = tagger(image_nodes=source)
    given = {
        name
        for name, value in (("grid", batch.crops), ("whole", batch.images), ("captions", batch.captions))
        if value is not None
    }
    assert given == made.needs().views == {{"grid_crop": "grid", "captions": "captions"}.get(source, "whole")}
    assert torch.isfinite(total(made, batch))
    assert ("vision" in made.towers) == (source != "captions")


def test_towers_are_frozen_and_never_train() -> None:
    made, batch = tagger()
    made.train()
    before = {name: value.clone() for name, value in made.towers["vision"].state_dict().items()}
    total(made, batch).backward()
    for tower in made.towers.values():
        assert not tower.training
        assert all(not each.requires_grad and each.grad is None for each in tower.parameters())
    after = made.towers["vision"].state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_the_support_carries_the_types_to_the_query() -> None:
    made, batch = tagger()
    predicted = made.eval().tag(batch)
    assert [each.post.id for each in predicted] == [batch.posts[-1].id]
    assert len(predicted[0].tags) == len(batch.posts[-1].words)
    assert {tag[2:] for tag in predicted[0].tags} <= {"", *batch.tagset.types}


def test_predictions_draw_ties_of_words_to_patches() -> None:
    made, batch = tagger()
    made.tracing = ("attention", "adjacency", "absent")
    (predicted,) = made.eval().tag(batch)
    assert predicted.traces["attention"].shape == (len(predicted.post.words), 9)
    assert predicted.traces.keys() == {"attention", "adjacency"}
    assert predicted.traces["adjacency"].shape[0] == 2


def test_as_printed_takes_back_every_reading_of_ours_and_of_the_plain_command() -> None:
    printed, ours = (PLUGIN.ablations[name]["model"] for name in ("as_printed", "ours"))
    assert printed.keys() == ours.keys() and printed["head"].keys() == ours["head"].keys()
    for values, kind in ((printed, MousingOptions), (printed["head"], PrototypeCRFOptions)):
        defaults = declared(kind)
        assert all(defaults[name].default == value for name, value in values.items() if name not in ("head", "name"))
    sizes = {"text", "vision", "lr", "warmup", "hidden", "kl_width"}
    assert PLUGIN.defaults["model"].keys() - sizes == ours.keys()
    same = {name for name in ours if PLUGIN.defaults["model"][name] == ours[name]}
    assert same == ours.keys() - {"head"} and PLUGIN.defaults["model"]["head"].keys() < ours["head"].keys()


def test_a_reading_that_is_not_the_papers_says_so() -> None:
    model = {**PLUGIN.defaults["model"]}
    del model["head"]
    plain = MousingTagger(head=PrototypeCRFHead(), **model)
    said = plain.reading()
    assert said is not None and "ours" in said and "--ablation as_printed" in said
    printed = {**model, **PLUGIN.ablations["as_printed"]["model"]}
    del printed["head"]
    assert MousingTagger(head=PrototypeCRFHead(), **printed).reading() is None


def test_the_ablations_are_two_readings_and_the_rows_of_table_3() -> None:
    assert list(PLUGIN.ablations) == [
        "as_printed",
        "ours",
        "no_image",
        "no_intervention",
        "no_multiview",
        "no_mcis",
        "random_intervention",
        "gaussian_intervention",
    ]


def test_without_images_nothing_is_looked_at() -> None:
    made, _ = tagger(**PLUGIN.ablations["no_image"]["model"])
    assert made.needs().views == frozenset()


def test_full_transitions_add_the_35_parameters_of_the_papers_count() -> None:
    made, _ = tagger(transitions="full")
    assert sum(each.numel() for each in made.head.parameters()) == 35


class Gradients(Callback):
    """Keeps the gradients of every optimiser step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.steps.append({name: p.grad.clone() for name, p in pl_module.named_parameters() if p.grad is not None})


def fitted(made: MousingTagger, folder: Path, **options: Any) -> Trainer:
    """One epoch of the probe's two training episodes."""
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        use_distributed_sampler=False,
        logger=False,
        **options,
    )
    trainer.fit(made, train_dataloaders=probe().train_dataloader())
    return trainer


@pytest.mark.filterwarnings("ignore")
def test_episodes_per_step_are_accumulated_gradients(tmp_path: Path) -> None:
    made, _ = tagger()
    reference = copy.deepcopy(made).train()
    kept = Gradients()
    fitted(made, tmp_path, accumulate_grad_batches=2, callbacks=[kept])
    (step,) = kept.steps
    episodes = list(probe().train_dataloader())
    assert len(episodes) == 2
    (sum(total(reference, batch) for batch in episodes) / 2).backward()
    wanted = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    assert step.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(step[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.filterwarnings("ignore")
def test_the_median_share_of_the_divergence_is_logged_and_kept(tmp_path: Path) -> None:
    made, _ = tagger(log_gradients=1)
    reference = copy.deepcopy(made).train()
    logged = fitted(made, tmp_path, limit_train_batches=1).logged_metrics
    losses, weights = reference.losses(next(iter(probe().train_dataloader()))), reference.loss_weights()
    norms = []
    for name in ("head", "kl"):
        reference.zero_grad()
        (weights[name] * losses[name]).backward(retain_graph=True)
        norms.append(torch.cat([weight.grad.flatten() for weight in reference.encoder.generate.parameters()]).norm())
    share = float(norms[1] / norms[0])
    assert float(logged["train/gradient_share"]) == pytest.approx(share, rel=0.01)
    assert made.notes["gradient_share"] == {"1": round(float(logged["train/gradient_share"]), 4)}


@pytest.mark.filterwarnings("ignore")
def test_densities_are_logged_with_the_epoch(tmp_path: Path) -> None:
    made, _ = tagger()
    logged = fitted(made, tmp_path).logged_metrics
    found = {name: float(value) for name, value in logged.items() if name.startswith("train/density_")}
    assert set(found) == {f"train/density_{block}" for block in ("text_text", "text_image", "image_image")}
    measured, posts = {name: 0.0 for name in found}, 0
    for batch in probe().train_dataloader():
        for name, value in made.encoder(batch).logged.items():
            if not name.startswith("density_"):
                continue
            measured[f"train/{name}"] += float(value) * len(batch)
        posts += len(batch)
    assert found == pytest.approx({name: value / posts for name, value in measured.items()}, abs=1e-5)


def test_the_readme_names_every_reading_of_the_paper_as_an_option_with_its_default() -> None:
    text = (PLUGIN.folder / "README.md").read_text(encoding="utf-8")
    table = text.partition("## Where the paper leaves a choice")[2].partition("\n## ")[0]
    rows = [line.split("|") for line in table.splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row[1]) for row in rows] == list(range(1, 25)), "the rows of the paper's ambiguities"
    head = declared(PrototypeCRFOptions)
    data = declared(DataOptions)
    own = declared(MousingOptions)
    for row in rows:
        named = re.findall(r"`([\w.]+)(?:: ([\w.]+))?`", row[3])
        options = [(name, default) for name, default in named if "." in name or name in own]
        assert options
        for name, default in options:
            section, _, option = name.rpartition(".")
            if section == "trainer":
                continue
            sections: dict[str, Any] = {"": own, "head": head, "data": data}
            found = sections[section][option]
            if default:
                assert default.lower() in (str(found.default).lower(), str(found.default).removesuffix(".0")), name
