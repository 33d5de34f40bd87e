"""Posts of scored episodes are encoded once; what is said of them is what the encoder says of whole batches."""

from __future__ import annotations

from functools import cache
from typing import Any

import lightning.pytorch as lightning
import pytest
import torch

from mnerkit import registry
from mnerkit.data.batches.batch import Batch
from mnerkit.data.datamodule import MnerData
from mnerkit.methods.evaluation import predictions
from mnerkit.methods.heads import load_head_class
from mnerkit.methods.post_states import PostStates
from mnerkit.towers.interface import Encoder, WordStates

SMALL: dict[str, dict[str, Any]] = {
    "bilstm": {},
    "hvpnet": {"hidden": 16, "prefix_grid": 1},
    "mousing": {"hidden": 16, "kl_width": 8},
    "gei": {"width": 16, "hidden": 16, "heads": 2},
}


@cache
def episodes() -> MnerData:
    return MnerData(
        corpus="probe",
        variant="fewshot",
        train_types="PER+LOC+ORG+MISC",
        dev_episodes=6,
        eval_episodes=12,
        episodes_per_epoch=2,
        limit=60,
    )


def method(plugin: str, head: str = "prototype", head_options: dict[str, Any] | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    made = registry.get(plugin).load()(
        head=load_head_class(head)(**(head_options or {})), **{**SMALL[plugin], **options}
    )
    data = episodes()
    made.build(data.facts, n_way=data.options.n_way)
    data.connect(made.needs(), made.train_mode)
    return made.eval()


def counted(made: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call of the encoder gets from now on."""
    rows: list[int] = []
    forward = made.encoder.forward

    def counting(batch: Batch, trace: bool = False) -> WordStates:
        rows.append(len(batch))
        return forward(batch, trace=trace)

    monkeypatch.setattr(made.encoder, "forward", counting)
    return rows


def trainer() -> lightning.Trainer:
    return lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_epochs=2
    )


def distinct(split: str) -> int:
    return len({key for batch in episodes().loader(split) for key in batch.notes["rows"]})


def test_a_key_of_a_batch_is_one_post_whatever_the_episode() -> None:
    method("bilstm")
    known: dict[Any, str] = {}
    for batch in episodes().loader("test"):
        assert len(batch.notes["rows"]) == len(batch)
        for key, post in zip(batch.notes["rows"], batch.posts, strict=True):
            assert known.setdefault(key, post.id) == post.id
    assert len(set(known.values())) == len(known)


@pytest.mark.parametrize("plugin", ["bilstm", "hvpnet", "mousing"])
def test_states_are_those_of_whole_batches_and_each_post_is_encoded_once(
    plugin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = method(plugin)
    batches = list(episodes().loader("test"))
    with torch.no_grad():
        whole = [made.encoder(batch) for batch in batches]
        rows = counted(made, monkeypatch)
        once = PostStates(made.encoder)
        for batch, wanted in zip(batches, whole, strict=True):
            found = once(batch)
            mask = batch.text.word_mask
            torch.testing.assert_close(found.states[:, mask], wanted.states[:, mask], rtol=1e-4, atol=1e-5)
            assert not found.states[:, ~mask].any() and found.states.shape == wanted.states.shape
    assert sum(rows) == distinct("test") < sum(map(len, batches))


@pytest.mark.parametrize(("head", "options"), [("prototype", {}), ("nearest", {}), ("finetune", {"steps": 3})])
def test_a_split_is_scored_as_by_whole_batches(
    head: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = method("hvpnet", head, options)
    alone = [each for batch in episodes().loader("test") for each in made.tag(batch)]
    rows = counted(made, monkeypatch)
    passed = predictions(trainer(), made, episodes(), "test")
    assert [each.tags for each in passed] == [each.tags for each in alone]
    assert sum(rows) == distinct("test")
    # the next pass may look at other pictures, or have other weights
    predictions(trainer(), made, episodes(), "test")
    assert sum(rows) == 2 * distinct("test")


def test_what_a_method_notes_of_a_batch_beside_its_states_is_of_that_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made = method("gei")
    batches = list(episodes().loader("test"))
    alone = [each for batch in batches for each in made.tag(batch)]
    rows = counted(made, monkeypatch)
    passed = predictions(trainer(), made, episodes(), "test")
    assert [each.tags for each in passed] == [each.tags for each in alone]
    assert rows == [len(batch) for batch in batches]  # its detected spans are read after the call


def test_a_pass_that_was_broken_off_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    made = method("hvpnet")
    rows = counted(made, monkeypatch)
    batches = list(episodes().loader("test"))

    def stopped(batch: Batch, batch_idx: int) -> None:
        made.predicted.extend(made.answers(batch))
        if batch_idx == 2:
            raise RuntimeError("stopped")

    with monkeypatch.context() as patched:
        patched.setattr(made, "predict_step", stopped)
        with pytest.raises(RuntimeError, match="stopped"):
            predictions(trainer(), made, episodes(), "test")
    rows.clear()
    made.tag(batches[0])
    assert rows == [len(batches[0])]


def test_an_encoder_that_is_tuned_reads_every_episode_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made = method("hvpnet", "finetune", {"steps": 1, "scope": "all"})
    rows = counted(made, monkeypatch)
    passed = predictions(trainer(), made, episodes(), "test")
    assert len(passed) == 12 and len(rows) == 3 * 12  # before tuning, in its one step, and after it


def test_what_is_drawn_for_an_episode_is_drawn_in_every_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    made = method("mousing", intervention="random", flip=0.5, kl_mode="none")
    rows = counted(made, monkeypatch)
    predictions(trainer(), made, episodes(), "test")
    assert sum(rows) == sum(map(len, episodes().loader("test")))


def test_dev_is_scored_with_the_weights_of_its_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    made = method("hvpnet", lr=0.05)
    rows = counted(made, monkeypatch)
    seen: list[tuple[float, float]] = []

    class Compare(lightning.Callback):
        def on_validation_end(self, trainer: lightning.Trainer, module: Any) -> None:
            alone = method("hvpnet", lr=0.05)
            alone.load_state_dict(module.state_dict())
            said = [each for batch in episodes().loader("dev") for each in alone.eval().tag(batch)]
            seen.append((float(trainer.callback_metrics["dev/f1"]), alone.figures(said)["f1"]))

    fitting = lightning.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        max_epochs=2,
        num_sanity_val_steps=0,
        callbacks=[Compare()],
    )
    fitting.fit(made, datamodule=episodes())
    assert len(seen) == 2 and all(found == pytest.approx(wanted) for found, wanted in seen)
    trained = 2 * sum(map(len, episodes().train_dataloader()))
    assert sum(rows) == 2 * distinct("dev") + trained


class Fixed(Encoder):
    """States that say which row they were, and emissions of boundaries."""

    width = 2

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, batch: Batch, trace: bool = False) -> WordStates:
        self.calls += 1
        lengths = batch.text.word_mask.sum(1).float()
        states = lengths.view(1, -1, 1, 1).expand(1, -1, batch.text.word_mask.shape[1], 2) * 1.0
        return WordStates(states, boundary=states[0, :, :, :1].expand(-1, -1, 3) + 1, trace={"here": states})


def test_boundaries_are_kept_traces_are_not_and_a_full_memory_forgets_nothing() -> None:
    method("bilstm")
    batches = list(episodes().loader("test"))
    encoder = Fixed()
    once = PostStates(encoder, limit=1)
    first = once(batches[0])
    mask = batches[0].text.word_mask
    assert first.boundary is not None
    assert torch.equal(first.boundary[mask][:, 0], first.states[0][mask][:, 0] + 1) and not first.boundary[~mask].any()
    assert encoder.calls == 1
    assert torch.equal(once(batches[0]).states, first.states) and encoder.calls == 1
    assert once(batches[1]).boundary is not None and encoder.calls == 2  # new, and there is no more room
    assert once(batches[1]).states.shape[1] == len(batches[1]) and encoder.calls == 3
    assert "here" in once(batches[0], trace=True).trace and encoder.calls == 4
    batches[0].notes.clear()
    once(batches[0])
    assert encoder.calls == 5
