"""Two processes against one: `make bench-ddp ROOT=<folder of the corpora>`.

`bert` and `hvpnet` (captions in place of pixels) with the packaged MiniLM train on Twitter-2017 by `mnerkit fit` on the
CPU, one thread a process, in three ways, each step learning from as many posts:

- `one`: one process, a batch a step: the fastest that one process can do;
- `halves`: one process, two batches of half the size a step (`--trainer.accumulate_grad_batches 2`);
- `two`: two processes by DistributedDataParallel (gloo), half a batch each. These are the batches of `halves`.

What must hold: `two` has the losses of `halves` in every epoch (relative difference at most 1e-4) and the same dev
figures; dropout is off, since each process draws its own. The speed is reported: posts a second on the clock, with dev
scored after every epoch, and that of `two` over that of `one`. Ways take turns and the fastest turn counts; each
process needs a core of its own, so other programs make this ratio worse. Exit code 1 when losses or figures differ.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_methods import CORPUS, SYSTEMS
from bench_quality import SETTINGS, minilm
from timing import verdict

from mnerkit.atomic_files import write_json
from mnerkit.runs.run_folder import RunFolder

RESULTS = Path(__file__).resolve().parent / "results" / "ddp.json"
RELATIVE = 1e-4  # of losses
ALONE = {"--trainer.devices": "1", "--trainer.strategy": "auto"}
PLUGINS = ("bert", "hvpnet")


def ways(batch: int) -> dict[str, dict[str, str]]:
    """Options of the three ways to train with so many posts a step."""
    half = {"--data.batch_size": str(batch // 2)}
    return {
        "one": {**ALONE, "--data.batch_size": str(batch)},
        "halves": {**ALONE, **half, "--trainer.accumulate_grad_batches": "2"},
        "two": {**half, "--trainer.devices": "2", "--trainer.strategy": "ddp"},
    }


def without_dropout(folder: Path) -> Path:
    """MiniLM in a folder of its own, whose configuration has no dropout."""
    folder.mkdir()
    for file in minilm().iterdir():
        if file.name != "config.json":
            (folder / file.name).symlink_to(file.resolve())
    config = json.loads((minilm() / "config.json").read_text("utf-8"))
    rates = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    write_json(folder / "config.json", {**config, **dict.fromkeys(rates, 0.0)})
    return folder


def train(plugin: str, name: str, options: dict[str, str], folder: Path) -> dict[str, Any]:
    """Train and score by the command; losses of the epochs, dev figures, and seconds of training."""
    words = [sys.executable, "-m", "mnerkit", "fit", "--plugin", plugin, "--name", name, "--overwrite"]
    words += ["--runs_dir", str(folder / "runs"), "--trainer.enable_progress_bar", "false"]
    words += [word for option in options.items() for word in option]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr[-3000:]}")
    run = RunFolder(folder / "runs" / plugin / CORPUS / name)
    with (run.path / "curve" / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        losses = [float(row["train/loss"]) for row in csv.DictReader(stream) if row["train/loss"]]
    metrics = run.metrics()
    return {"losses": losses, "dev": metrics["dev"], "seconds": metrics["seconds"]["train"]}


def main() -> int:
    """Train each plugin in the three ways, in turns; compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the corpora and captions")
    parser.add_argument("--posts", type=int, default=480, help="train on so many posts, a multiple of the batch")
    parser.add_argument("--batch_size", type=int, default=16, help="posts a step, even (default: 16)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of a run (default: 2)")
    parser.add_argument("--turns", type=int, default=2, help="runs of each way (default: 2)")
    given = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    found: dict[str, Any] = {}
    missed: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common = {**SETTINGS, "--model.text": str(without_dropout(folder / "minilm")), "--model.dropout": "0"}
        common |= {"--data.corpus": CORPUS, "--data.root": str(given.root), "--data.limit": str(given.posts)}
        common |= {"--data.cache": str(folder / "cache"), "--trainer.accelerator": "cpu"}
        common["--trainer.max_epochs"] = str(given.epochs)
        for plugin in PLUGINS:
            runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways(given.batch_size)}
            for turn in range(given.turns):
                for way, options in ways(given.batch_size).items():
                    runs[way].append(train(plugin, way, {**common, **SYSTEMS[plugin], **options}, folder))
                seconds = ", ".join(f"{way} {of[-1]['seconds']:.1f} s" for way, of in runs.items())
                print(f"{plugin}, turn {turn}: {seconds}", flush=True)
            found[plugin] = compared(runs, given.posts * given.epochs)
            two, halves = runs["two"][0], runs["halves"][0]
            if found[plugin]["loss_difference"] > RELATIVE:
                missed.append(f"{plugin}: losses {two['losses']}, of one process {halves['losses']}")
            if two["dev"] != halves["dev"]:
                missed.append(f"{plugin}: dev F1 {two['dev']['f1']}, of one process {halves['dev']['f1']}")
            print(f"{plugin}: {found[plugin]}", flush=True)
    settings = {"posts": given.posts, "batch_size": given.batch_size, "epochs": given.epochs, "turns": given.turns}
    write_json(RESULTS, {**settings, **found})
    return verdict(missed, "two processes have the losses and dev figures of one")


def compared(runs: dict[str, list[dict[str, Any]]], posts: int) -> dict[str, Any]:
    """The largest relative difference of an epoch's losses, dev F1, and the speed of each way."""
    two, halves = runs["two"][0], runs["halves"][0]
    speeds = {way: posts / min(run["seconds"] for run in of) for way, of in runs.items()}
    return {
        "losses": two["losses"],
        "loss_difference": max(abs(a / b - 1) for a, b in zip(two["losses"], halves["losses"], strict=True)),
        "dev_f1": {way: of[0]["dev"]["f1"] for way, of in runs.items()},
        "posts_a_second": {way: round(speed, 1) for way, speed in speeds.items()},
        "speed_of_two": round(speeds["two"] / speeds["one"], 2),
    }


if __name__ == "__main__":
    sys.exit(main())
