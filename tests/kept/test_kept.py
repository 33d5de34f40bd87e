"""Checkpoints and run folders of earlier releases keep their meaning: `write.py` wrote them, each in its time."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import adapter
import numpy as np
import pytest
import yaml
from adapter import main

HERE = Path(__file__).resolve().parent
RELEASES = sorted(path.name for path in HERE.iterdir() if path.name[:1].isdigit())
TOLERANCE = 1e-5
# over what counts of the configurations of all kept runs, as release 0.1.0 counted
IDENTITIES = "ffdae40cfbb270e28f27829dfd7eb460691bf7c340697fdacfcbb113fe827f9c"


def kept() -> list[tuple[str, str, str]]:
    """Release, plugin and head of each kept checkpoint."""
    names = []
    for release in RELEASES:
        for file in archives(release):
            with tarfile.open(file) as archive:
                names += [(release, file.name.removesuffix(".tar.xz"), name) for name in heads_in(archive)]
    return names


def archives(release: str) -> list[Path]:
    """The archives of the plugins, in the order of their names."""
    return sorted(path for path in (HERE / release).glob("*.tar.xz") if path.name != "runs.tar.xz")


def heads_in(archive: tarfile.TarFile) -> list[str]:
    """The heads of a plugin's archive."""
    return [name.split("/")[0] for name in archive.getnames() if name.endswith("/best.ckpt")]


KEPT = kept()


class Kept:
    """The unpacked files of one checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoint = folder / "best.ckpt"

    def predictions(self) -> list[dict[str, Any]]:
        """The records that were predicted."""
        return read_lines(self.folder / "predictions.jsonl")

    def emissions(self) -> np.ndarray:
        """(E, R, W, K) or (R, W, K); empty for a method without a head."""
        return np.load(io.BytesIO((self.folder / "emissions.npy").read_bytes()))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All archives, unpacked."""
    folder = tmp_path_factory.mktemp("kept")
    for release in RELEASES:
        for file in archives(release):
            with tarfile.open(file) as archive:
                archive.extractall(folder / release / file.name.removesuffix(".tar.xz"), filter="data")
    return folder


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def alike(found: Any, wanted: Any) -> bool:
    """Equal, but for numbers that are not whole, which may differ by the tolerance."""
    if isinstance(wanted, float):
        return isinstance(found, int | float) and abs(found - wanted) <= TOLERANCE * max(1.0, abs(wanted))
    if isinstance(wanted, dict):
        return found.keys() == wanted.keys() and all(alike(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(alike, found, wanted))
    return found == wanted


def test_every_plugin_is_kept_with_every_head() -> None:
    heads = {"softmax", "crf", "prototype", "prototype_crf", "nearest", "struct", "finetune"}
    plugins = ["bert", "bilstm", "captions", "cross", "gei", "gifr", "gmf", "hvpnet", "mgips_cl", "mousing", "tpm_mi"]
    assert {(plugin, head) for plugin in plugins for head in heads} <= {(plugin, head) for _, plugin, head in KEPT}
    assert {head for _, plugin, head in KEPT if plugin == "relevance"} == {"oracle", "clip", "utility"}


@pytest.mark.parametrize(("release", "plugin", "head"), KEPT, ids=map("-".join, KEPT))
def test_a_kept_checkpoint_predicts_what_it_predicted(release: str, plugin: str, head: str, unpacked: Path) -> None:
    run = Kept(unpacked / release / plugin / head)
    posts = read_lines(HERE / "posts" / "posts.jsonl")
    pictures, towers = str(HERE / "posts" / "pictures"), str(HERE / "towers")
    records, emissions = adapter.predictions(str(run.checkpoint), posts, pictures, towers)
    wanted = run.emissions()
    found = np.array(emissions[0] if emissions else [], dtype=np.float32)
    assert found.shape == wanted.shape
    np.testing.assert_array_less(np.abs(found - wanted), TOLERANCE * np.maximum(1.0, np.abs(wanted)) + 1e-12)
    if release == "0.1.0":  # which gave entities no score
        for entity in (entity for record in records for entity in record.get("entities", ())):
            assert 0 <= entity.pop("score") <= 1
    assert alike(records, run.predictions())


@pytest.mark.parametrize(("release", "plugin", "head"), KEPT, ids=map("-".join, KEPT))
def test_a_kept_configuration_describes_the_same_method(
    release: str,
    plugin: str,
    head: str,
    unpacked: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(HERE)  # names of towers are relative to here
    config = unpacked / release / plugin / head / "config.yaml"
    assert main(["plugins", plugin, "--params", "--json", "--config", str(config)]) == 0
    found = json.loads(capsys.readouterr().out)
    wanted = json.loads((HERE / release / "sizes.json").read_text("utf-8"))[f"{plugin}/{head}"]
    assert {name: found[name] for name in wanted} == wanted


def test_no_option_that_came_later_changes_the_identity_of_a_kept_run(
    unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(HERE)  # names of towers are relative to here
    results = sorted((HERE.parents[1] / "benchmarks" / "results" / "tweets").glob("*.json"))
    short = [yaml.safe_load(path.read_text("utf-8")) for path in sorted(unpacked.rglob("config.yaml"))]
    whole = [json.loads(path.read_text("utf-8"))["config"] for path in results]  # with every option of their time
    assert (len(short), len(whole)) == (len(KEPT), 146)
    assert [adapter.identity(each) for each in whole] == [adapter.identity(adapter.filled(each)) for each in whole]
    facts = [adapter.identity(adapter.filled(each)) for each in [*short, *whole]]
    assert hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest() == IDENTITIES


@pytest.fixture
def run_folders(release: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a release's run folders; names of towers are relative to here."""
    monkeypatch.chdir(HERE)
    with tarfile.open(HERE / release / "runs.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def command(run_folders: Path, name: str) -> list[str]:
    """The command that began a kept run."""
    return [*json.loads((run_folders / f"{name}.json").read_text()), "--runs_dir", str(run_folders / name)]


def files(folder: Path) -> dict[str, bytes]:
    """Names and content of the files of a run that hold results."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.suffix in (".json", ".jsonl", ".csv")}


@pytest.mark.parametrize("release", RELEASES)
def test_a_finished_run_is_listed_reported_and_not_trained_again(
    release: str, run_folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folders / "finished" / "cross" / "probe" / "finished"
    metrics, before = json.loads((run / "metrics.json").read_text()), files(run)
    assert main(["runs", "--json", str(run_folders / "finished")]) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["plugin"], row["state"], row["seed"]) == ("cross", "finished", 3)
    assert alike([row["dev"], row["test"]], [metrics[split]["f1"] for split in ("dev", "test")])

    assert main(["report", str(run_folders / "finished"), "--out", str(tmp_path / "report")]) == 0
    capsys.readouterr()
    (table,) = (tmp_path / "report" / "tables").glob("**/*.csv")
    assert f"{metrics['test']['f1']:.2f}" in table.read_text()
    assert metrics["protocol"]["digest"][:12] in (tmp_path / "report" / "index.html").read_text()

    assert main(command(run_folders, "finished")) == 0
    assert "already finished" in capsys.readouterr().out
    assert files(run) == before


@pytest.mark.parametrize("release", RELEASES)
def test_the_checkpoint_of_a_finished_run_gets_its_score_again(release: str, run_folders: Path) -> None:
    run = run_folders / "finished" / "cross" / "probe" / "finished"
    before, rows = json.loads((run / "metrics.json").read_text()), read_lines(run / "predictions.test.jsonl")
    (run / "predictions.test.jsonl").unlink()
    assert main(["test", "--ckpt_path", str(run / "best.ckpt"), "--trainer.enable_progress_bar", "false"]) == 0
    assert read_lines(run / "predictions.test.jsonl") == rows
    assert alike(json.loads((run / "metrics.json").read_text())["test"], before["test"])


@pytest.mark.parametrize("release", RELEASES)
def test_a_killed_run_is_continued_to_the_figures_of_an_undisturbed_one(release: str, run_folders: Path) -> None:
    run, undisturbed = (run_folders / name / "bilstm" / "probe" / "killed" for name in ("killed", "undisturbed"))
    saved = curve(run)
    assert not (run / "metrics.json").exists()
    assert main(command(run_folders, "killed")) == 0
    metrics, wanted = (json.loads((each / "metrics.json").read_text()) for each in (run, undisturbed))
    assert (metrics["epochs"], metrics["best_epoch"]) == (wanted["epochs"], wanted["best_epoch"])
    assert metrics["dev"]["f1"] == pytest.approx(wanted["dev"]["f1"], abs=1e-3)
    assert metrics["protocol"] == wanted["protocol"]
    found, figures = curve(run), curve(undisturbed)
    assert saved.items() <= found.items(), "epochs that were over are not trained again"
    assert {key for key in figures if key[1] == "dev/f1"} <= found.keys() <= figures.keys()
    assert found == pytest.approx({key: figures[key] for key in found}, rel=1e-3, abs=1e-3)
    assert read_lines(run / "predictions.dev.jsonl") == read_lines(undisturbed / "predictions.dev.jsonl")


def curve(run: Path) -> dict[tuple[str, str], float]:
    """The figures of a run's curve by epoch and name."""
    with (run / "curve" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {(row["epoch"], name): float(value) for row in rows for name, value in row.items() if value}
