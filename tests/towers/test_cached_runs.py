"""Whole runs with the feature cache: equal predictions, whoever builds the batches, and no picture is decoded twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnerkit.cli import main
from mnerkit.data.features.table_files import read_description
from mnerkit.data.pictures import decoding
from mnerkit.runs.run_folder import RunFolder

Folder = Callable[[str], str]
PLUGINS = {
    "cross": ["--model.freeze_vision", "true", "--model.freeze_text", "true", "--model.heads", "1"],
    "mousing": ["--model.hidden", "16", "--data.episodes_per_epoch", "4"],
}
EPISODES = ["--data.n_way", "1", "--data.k_shot", "2", "--data.dev_episodes", "4", "--data.eval_episodes", "4"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own folder: a few posts a split with JPEG files, one of them broken and one missing."""
    folder, noise = tmp_path_factory.mktemp("corpora") / "mine", np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        rows = []
        for number in range(8):
            name = f"{split}{number}.jpg"
            if number != 6:
                Image.fromarray(noise.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(folder / "images" / name)
            if number == 7:
                (folder / "images" / name).write_bytes(b"no picture")
            kind = ("PER", "LOC")[number % 2]
            words = ["the", "cat", f"x{number}", split]
            rows.append(
                {"id": f"{split}{number}", "text": words, "label": ["O", f"B-{kind}", "O", "O"], "images": [name]}
            )
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def fit(
    plugin: str, corpus: Path, tower: str, runs: Path, name: str, cache: Path | str, workers: int, *more: str
) -> bytes:
    """The predictions of a short run."""
    argv = [*more, "--runs_dir", str(runs), "--name", name, "--test"]
    argv = ["fit", "--plugin", plugin, *argv]
    argv += ["--data.corpus", str(corpus), "--data.cache", str(cache), "--data.workers", str(workers)]
    argv += ["--model.text", tower, "--model.vision", tower, "--model.max_tokens", "24", *PLUGINS[plugin]]
    argv += ["--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    if plugin == "mousing":
        argv += EPISODES
    assert main(argv) == 0
    folder = RunFolder(next(path.parent for path in runs.rglob(f"{name}/config.yaml")))
    return b"".join((folder.path / f"predictions.{split}.jsonl").read_bytes() for split in ("dev", "test"))


def refuse_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on a picture that is decoded fails the test; workers inherit it."""
    decode = decoding.decode

    def refuse(ref: decoding.ImageRef) -> np.ndarray:
        # a broken file has no features: it is tried, in vain, by each process that meets it
        assert ref.path is not None and ref.path.read_bytes() == b"no picture", f"{ref.name} was decoded"
        return decode(ref)

    monkeypatch.setattr(decoding, "decode", refuse)


@pytest.mark.parametrize("plugin", sorted(PLUGINS))
def test_predictions_are_equal_with_and_without_cache_and_workers(
    folder_of: Folder, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugin: str
) -> None:
    tower, runs, cache = folder_of("clip"), tmp_path / "runs", tmp_path / "cache"

    def run(name: str, kept: Path | str, workers: int) -> bytes:
        return fit(plugin, corpus, tower, runs, name, kept, workers)

    expected = run("without", "none", 0)
    assert expected
    assert run("cold", cache, 2) == expected
    assert len(list((cache / "features").iterdir())) == 2
    files = sorted(cache.rglob("*"))

    refuse_decoding(monkeypatch)
    for workers in (0, 2):
        assert run(f"warm{workers}", cache, workers) == expected
    assert sorted(cache.rglob("*")) == files


def test_a_run_in_another_precision_finds_its_own_features(
    folder_of: Folder, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower, cache, mixed = folder_of("clip"), tmp_path / "cache", ["--trainer.precision", "bf16-mixed"]
    expected = fit("cross", corpus, tower, tmp_path, "cold", cache, 0, *mixed)
    said = [read_description(folder) for folder in (cache / "features").iterdir()]
    assert [each and each["reading"]["dtype"] for each in said] == ["bfloat16"] * 2
    refuse_decoding(monkeypatch)
    assert fit("cross", corpus, tower, tmp_path, "warm", cache, 0, *mixed) == expected


def test_where_the_cache_lies_does_not_make_another_run(
    folder_of: Folder, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tower = folder_of("clip")
    first = fit("cross", corpus, tower, tmp_path, "run", "none", 0)
    assert fit("cross", corpus, tower, tmp_path, "run", tmp_path / "cache", 0) == first
    assert "already finished" in capsys.readouterr().out


def test_a_file_is_no_cache_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cache"
    file.write_text("")
    assert main(["fit", "--plugin", "bert", "--runs_dir", str(tmp_path / "runs"), "--data.cache", str(file)]) == 2
    assert "is a file; give a folder, or none" in capsys.readouterr().err
