"""Checkpoints: what is read is what was written, or it is refused in one line."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mnerkit.errors import CheckpointError
from mnerkit.methods import checkpoint
from mnerkit.methods.checkpoint import AtomicCheckpoints
from mnerkit.methods.checkpoint_content import MAX_TYPES


def content(**changes: Any) -> dict[str, Any]:
    """A checkpoint's content; `changes` are made in its record."""
    generator = torch.Generator().manual_seed(0)
    picture = {"name": "a.jpg", "pixels": torch.zeros(2, 2, 3, dtype=torch.uint8), "caption": None}
    record: dict[str, Any] = {
        "plugin": "bert",
        "config": {"plugin": "bert", "model": {"head": {"name": "crf"}}, "data": {"n_way": 2}, "seed": 0},
        "facts": {"types": ["PER", "LOC"], "words": ["the"]},
        "towers": {"text": {"family": "TinyText", "spec": "tiny", "options": {}, "frozen": False, "external": False}},
        "support": [{"id": "1", "words": ["Belan"], "tags": ["B-PER"], "images": [picture]}],
        "support_types": ["PER"],
        "trained_on": torch.tensor([3, 1]),
    }
    state = {
        "a": torch.randn(40, 50, generator=generator),
        "b": torch.randn(7, generator=generator).bfloat16(),
        "n": torch.tensor(3),
    }
    return {"epoch": 0, "global_step": 1, "state_dict": state, "loops": {}, "mnerkit": record | changes}


def written(file: Path, value: dict[str, Any] | None = None) -> Path:
    AtomicCheckpoints().save_checkpoint(content() if value is None else value, file)
    return file


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return checkpoint.content_digest(one) == checkpoint.content_digest(other)


@pytest.mark.parametrize("older", [False, True], ids=["with digest", "of an earlier release"])
def test_a_flipped_bit_is_found_or_changes_nothing(older: bool, tmp_path: Path) -> None:
    file = tmp_path / "best.ckpt"
    torch.save(content(), file) if older else written(file)
    whole, draw = file.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        try:
            assert same(checkpoint.read(file), content())
        except CheckpointError as problem:
            refused += 1
            assert str(file) in str(problem) and "\n" not in str(problem)
    assert refused > 100  # of 11 kB, 8 are weights


def test_a_checkpoint_with_other_content_is_refused_though_its_checksums_are_right(tmp_path: Path) -> None:
    file = written(tmp_path / "best.ckpt")
    for change in ("weight", "name", "dtype", "shape", "record"):
        loaded = torch.load(file, weights_only=True)
        state = loaded["state_dict"]
        if change == "weight":
            state["a"][3, 4] += 1e-6
        elif change == "name":
            loaded["state_dict"] = {"c" if name == "a" else name: value for name, value in state.items()}
        elif change == "dtype":
            state["b"] = state["b"].view(torch.float16)
        elif change == "shape":
            state["a"] = state["a"].reshape(50, 40)
        else:
            loaded["mnerkit"]["facts"]["types"] = ["LOC", "PER"]
        torch.save(loaded, tmp_path / "changed.ckpt")
        with pytest.raises(CheckpointError, match=r"changed\.ckpt is damaged .* digest"):
            checkpoint.read(tmp_path / "changed.ckpt")


def test_one_of_an_earlier_release_loads_with_one_remark(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(content(), tmp_path / "best.ckpt")
    with caplog.at_level(logging.WARNING):
        assert same(checkpoint.read(tmp_path / "best.ckpt"), content())
        checkpoint.read(tmp_path)
    assert [line.getMessage() for line in caplog.records] == [
        f"{tmp_path / 'best.ckpt'} was written by an earlier release, without a digest; its checksums are right"
    ]


@pytest.mark.parametrize("data", [b"", b"\x80\x02.", b"\x80" + b"(" * 201 + b".", b"PK\x05\x06" + bytes(18), b"\0"])
def test_a_file_of_a_few_bytes_is_refused_in_one_line(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"^\S+best.ckpt is damaged or not a checkpoint: .+$"):
        checkpoint.read(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    broken = content()
    broken["state_dict"]["b"][2] = value
    with pytest.raises(CheckpointError, match="weights b are not finite"):
        checkpoint.read(written(tmp_path / "best.ckpt", broken))


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "mnerkit": lambda c: c.update(mnerkit=3),
    "state_dict": lambda c: c.update(state_dict=[1]),
    "state_dict: a": lambda c: c["state_dict"].update(a="x"),
    "epoch": lambda c: c.update(epoch="one"),
    "plugin": lambda c: c["mnerkit"].update(plugin=7),
    "config": lambda c: c["mnerkit"].update(config=[1]),
    "config: plugin": lambda c: c["mnerkit"]["config"].pop("plugin"),
    "config: model": lambda c: c["mnerkit"]["config"].update(model="crf"),
    "config: data": lambda c: c["mnerkit"]["config"].update(data=1),
    "config: seed": lambda c: c["mnerkit"]["config"].update(seed="x"),
    "facts": lambda c: c["mnerkit"].update(facts=[]),
    "facts: types": lambda c: c["mnerkit"]["facts"].update(types="PER"),
    "facts: types[0]": lambda c: c["mnerkit"]["facts"].update(types=[1]),
    "facts: words": lambda c: c["mnerkit"]["facts"].update(words={}),
    "towers": lambda c: c["mnerkit"].update(towers=None),
    "towers: text": lambda c: c["mnerkit"]["towers"].update(text="tiny"),
    "towers: text: family": lambda c: c["mnerkit"]["towers"]["text"].update(family=None),
    "towers: text: options": lambda c: c["mnerkit"]["towers"]["text"].update(options=[]),
    "support": lambda c: c["mnerkit"].update(support={}),
    "support[0]": lambda c: c["mnerkit"].update(support=["x"]),
    "support[0]: words": lambda c: c["mnerkit"]["support"][0].update(words="Belan"),
    "support[0]: images[0] (a.jpg): pixels": lambda c: c["mnerkit"]["support"][0]["images"][0].update(pixels="x"),
    "support_types": lambda c: c["mnerkit"].update(support_types=2),
    "trained_on": lambda c: c["mnerkit"].update(trained_on=[1, 2]),
}


@pytest.mark.parametrize("place", WRONG)
def test_a_value_of_a_wrong_type_is_refused_with_its_place(place: str, tmp_path: Path) -> None:
    wrong = content()
    WRONG[place](wrong)
    with pytest.raises(CheckpointError) as refused:
        checkpoint.read(written(tmp_path / "best.ckpt", wrong))
    message = str(refused.value)
    assert place.removesuffix(": plugin") in message and "\n" not in message and len(message) < 400


@pytest.mark.parametrize("part", ["facts", "support_types"])
def test_more_types_than_a_corpus_has_are_refused_at_once(part: str, tmp_path: Path) -> None:
    types = [f"T{number}" for number in range(20_000)]
    wrong = content(**{part: {"types": types, "words": []} if part == "facts" else types})
    file = written(tmp_path / "best.ckpt", wrong)
    began = time.perf_counter()
    with pytest.raises(CheckpointError, match=f"a list of at most {MAX_TYPES}"):
        checkpoint.read(file)
    assert time.perf_counter() - began < 2


def test_lists_that_hold_each_other_end_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAX_VALUES", 10_000)
    nested: list[Any] = []
    for _ in range(40):
        nested = [nested] * 10
    file = tmp_path / "best.ckpt"
    torch.save({**content(), "loops": nested, checkpoint.DIGEST: "0" * 64}, file)
    with pytest.raises(CheckpointError, match="more than 10000 values"):
        checkpoint.read(file)


def test_a_tensor_that_repeats_a_small_storage_is_refused(tmp_path: Path) -> None:
    wide = content()
    wide["state_dict"]["a"] = torch.zeros(1).expand(1 << 36)
    torch.save({**wide, checkpoint.DIGEST: "0" * 64}, tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match="of which few are stored"):
        checkpoint.read(tmp_path)
