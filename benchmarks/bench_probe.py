"""What every image method does with pictures that decide entities: `make bench-probe`, on the built-in probe corpus.

Each method with its own defaults, seeds 0 and 1, trained on the posts' own pictures and on those of other posts, both
tested with both; and its text twin, `bert` with the same kind of text tower on the same posts, and otherwise with the
settings of `bert`. The table says which of three claims holds (`mnerkit.scoring.picture_claims`): 95 %, posts and seeds
drawn, Holm's correction over the table. MOUSING is few-shot and has no row.

A cell is one run of `mnerkit fit` (`cells.py`); rows with the entities that were predicted for each post are kept in
`benchmarks/results/probe.jsonl`, from which the table is computed. Stop it when you like; the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cells
import numpy as np
from bench_folds import answers, kept_predictions

from mnerkit.atomic_files import write_text
from mnerkit.cli.method_verbs import configuration_of
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.tags import entities
from mnerkit.runs.run_folder import RunFolder
from mnerkit.scoring.picture_claims import CLAIMS, ClaimName, claim_rows
from mnerkit.scoring.seeds_and_folds import SeedComparison, runs_test
from mnerkit.text_table import table

RESULTS = Path(__file__).resolve().parent / "results"
SEEDS = (0, 1)
METHODS = (
    *("adacan", "captions", "cross", "gei", "gifr", "gmf", "gvatt", "hvpnet", "ita", "maf", "mgips_cl", "mkgformer"),
    *("ocsga", "tpm_mi", "umgf", "umt", "vec_mner", "visualpt_moe"),
)


@dataclass(frozen=True)
class Cell(cells.Cell):
    """One run: a method, or `bert TOWER VARIANT`, with what it is trained on."""

    pictures: str
    seed: int

    @property
    def name(self) -> str:
        """Plain name of its run folder."""
        return f"{self.system.replace(' ', '-')}-{self.pictures}-s{self.seed}"


@dataclass(frozen=True)
class Bench(cells.Bench):
    """What all cells share; `more` are options of all of them, for quick tries."""

    more: dict[str, str] = field(default_factory=dict)

    cell = Cell

    def plugin(self, cell: Cell) -> str:
        """The plugin that a cell runs."""
        return cell.system.split()[0]

    def argv(self, cell: Cell) -> list[str]:
        """The command of a cell."""
        argv = ["fit", "--plugin", self.plugin(cell), "--seed", str(cell.seed), "--test", "--name", cell.name]
        argv += ["--runs_dir", self.runs, "--trainer.enable_progress_bar", "false", "--data.pictures", cell.pictures]
        if cell.system.startswith("bert "):
            _, tower, variant = cell.system.split()
            argv += ["--model.text", tower, *([] if variant == "default" else ["--data.variant", variant])]
        return argv + cells.pairs(self.more)

    def tower(self, cell: Cell) -> str:
        """The towers are made by mnerkit: they have names."""
        return str(self.config(cell)["model"]["text"])

    def figures(self, folder: RunFolder) -> cells.Row:
        """F1 of dev and test, and the entities predicted for each test post with its own and with other pictures."""
        metrics = folder.metrics()
        row: cells.Row = {split: {"f1": metrics[split]["f1"]} for split in ("dev", "test")}
        return {**row, "variant": folder.config()["data"]["variant"], "predictions": kept_predictions(folder)}


def twin(method: str) -> str:
    """The text twin of a method."""
    config = configuration_of(["fit", "--plugin", method]).content
    return f"bert {config['model']['text']} {config['data']['variant'] or 'default'}"


def all_cells(methods: Sequence[str]) -> list[Cell]:
    """All cells, seed by seed, twins first."""
    twins = [(name, "right") for name in dict.fromkeys(map(twin, methods))]
    runs = [*twins, *((method, pictures) for method in methods for pictures in ("right", "shuffled"))]
    return [Cell(system, pictures, seed) for seed in SEEDS for system, pictures in runs]


@cache
def gold_of(variant: str | None, limit: int | None) -> list[frozenset[Any]]:
    """Gold entities of the test posts, by id."""
    posts = load_corpus("probe", variant=variant, splits=("test",), limit=limit).splits["test"]
    return [frozenset(entities(post.tags or ())) for post in sorted(posts, key=lambda post: post.id)]


def counts(rows: Sequence[cells.Row], pictures: str, limit: int | None = None) -> np.ndarray:
    """(seeds, posts, 3) gold, predicted and correct entities."""
    found = []
    for row in rows:
        gold, said = gold_of(row["variant"], limit), answers(row["predictions"][pictures])
        found.append([(len(g), len(s), len(g & s)) for g, s in zip(gold, said, strict=True)])
    return np.array(found)


def report(done: Mapping[Cell, cells.Row], methods: Sequence[str], limit: int | None = None) -> str:
    """F1 of every method with right and with other pictures, and the claims."""
    tests: dict[str, dict[ClaimName, SeedComparison]] = {}
    figures: dict[str, list[float]] = {}
    for method in methods:
        own, others, text = (
            [done[cell] for seed in SEEDS if (cell := Cell(system, pictures, seed)) in done]
            for system, pictures in ((method, "right"), (method, "shuffled"), (twin(method), "right"))
        )
        if len(own) < len(SEEDS):
            continue
        right, tests[method] = counts(own, "right", limit), {}
        compared: dict[ClaimName, np.ndarray | None] = {
            "reads": counts(own, "shuffled", limit),
            "helped": counts(text, "right", limit) if len(text) == len(SEEDS) else None,
            "by content": counts(others, "right", limit) if len(others) == len(SEEDS) else None,
        }
        for name, other in compared.items():
            if other is not None:
                tests[method][name] = runs_test([(other, right)])
        figures[method] = [row["test"]["f1"] for row in own]
    rows = [[name, *figures[name], *map(str, claims)] for name, claims in claim_rows(tests)]
    return (
        table(["method", *(f"F1, seed {seed}" for seed in SEEDS), *CLAIMS], rows) if rows else "no method has two seeds"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="METHOD")
    parser.add_argument("--runs", default="runs/bench-probe", help="where the runs lie")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells at once, one thread each")
    parser.add_argument("--cells", type=int, metavar="N", help="run at most N cells that are left")
    parser.add_argument("--limit", type=int, metavar="N", help="a quick try: only N posts of each split, one epoch")
    parser.add_argument("--report", action="store_true", help="print the table of what is there, run nothing")
    asked = parser.parse_args(argv)
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    more = {} if asked.limit is None else {"--data.limit": str(asked.limit), "--trainer.max_epochs": "1"}
    runs = Path(asked.runs) / ("whole" if asked.limit is None else "try")
    path = (RESULTS if asked.limit is None else runs) / "probe.jsonl"
    bench, wanted, complete = Bench("probe", "", str(runs), more), all_cells(asked.methods), True
    if not asked.report:
        if asked.cells is not None:
            wanted = cells.left(wanted, path)[: asked.cells]
        complete = len(cells.sweep(bench, wanted, path, asked.jobs)) == len(wanted)
    text = report(cells.kept(bench, path), asked.methods, asked.limit)
    print(text)
    if asked.methods == list(METHODS):
        write_text(path.with_suffix(".txt"), text + "\n")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
