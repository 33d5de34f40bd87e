"""The full-data methods on real tweets, captions in place of pixels: `make bench-methods ROOT=<folder of the corpora>`.

Systems on Twitter-2017 with the packaged MiniLM and a CRF, five epochs, seeds 0 and 1; dev selects the epoch,
test is looked at once. The text tower, the head and the schedule are trained alike in all (settings of
`bench_quality.py`), in bfloat16 where autocast takes it: a processor that knows it needs three quarters of the time,
one that does not needs more. What a method adds learns at one rate, which was not tuned. Other settings are the
paper's, widths halved for MiniLM's 384, and half as many graph layers in `gei`; what is not said here is as in
`defaults.yaml`, of which captions leave one thing that counts: MGIPS-CL reads 64 pieces, not 40.

Every method looks at the caption of a post's image instead of the image (`--model.vision captions`): a frozen copy of
the text tower reads it, its words are the regions, and there are no objects. Two methods need a word more. MGIPS-CL
exchanges keys and values between two streams that are trained, so its image stream is a second, trained MiniLM that
reads the caption. GIFR weighs the images of a post by their relevance; these posts have one image each and no learnt
relevance, so it runs with R = 1 (`relevance: ones`, the paper's "w/o D").

A cell is one run of `mnerkit fit` (`cells.py`); its row, with the counts of every test post, is kept in
`benchmarks/results/methods-twitter2017.jsonl`. Stop it when you like; the same command goes on. Aim: mean test F1 above
that of `bert`. `--limit` and `--epochs` are for quick tries, whose rows stay in the folder of the runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cells
import numpy as np
from bench_quality import SETTINGS, minilm

from mnerkit.atomic_files import write_text
from mnerkit.runs.run_folder import RunFolder
from mnerkit.scoring.comparison import read_answers
from mnerkit.scoring.picture_claims import CLAIMS, ClaimName, claim_rows
from mnerkit.scoring.seeds_and_folds import SeedComparison, runs_test
from mnerkit.scoring.significance import paired_counts_test
from mnerkit.text_table import table

RESULTS = Path(__file__).resolve().parent / "results"
CORPUS = "twitter2017"
SEEDS = (0, 1)
EPOCHS = 5
BASE = "bert"
PRECISION = {"--trainer.precision": "bf16-mixed"}
# beside `bench_quality.SETTINGS`, for all that look at the image
SIGHT = {"--model.vision": "captions", "--model.max_images": "1", "--model.lr": "5.0e-4"}
SYSTEMS: dict[str, dict[str, str]] = {
    BASE: {},
    "captions": {},
    # the authors' weights
    "ita": {
        "--model.text_weight": "1.0",
        "--model.context_weight": "0.5",
        "--model.agreement": "0.5",
        "--model.agreement_temperature": "2.0",
    },
    "ocsga": {},
    "hvpnet": {**SIGHT, "--model.hidden": "400"},
    "gmf": {**SIGHT, "--model.tau": "0.174"},
    # of one image by construction
    "mgips_cl": {"--model.vision": "captions", "--model.lr": "5.0e-4", "--model.mge_heads": "12"},
    "mkgformer": {"--model.vision": "captions", "--model.lr": "5.0e-4"},
    "vec_mner": {"--model.vision": "captions", "--model.lr": "5.0e-4"},
    "gei": {
        **SIGHT,
        "--model.width": "256",
        "--model.hidden": "1024",
        "--model.graph_layers": "3",
        "--model.heads": "8",
        "--model.dropout": "0.4",
        # predicted spans from the second epoch on, most of them from the fourth: the paper's epochs 2 to 6 are too late
        "--model.ss_start": "1",
        "--model.ss_end": "4",
    },
    "tpm_mi": {**SIGHT, "--model.prompt_hidden": "512", "--model.word_pool": "first"},
    "gifr": {**SIGHT, "--model.relevance": "ones", "--model.word_pool": "first"},
    "gvatt": SIGHT,
    "adacan": {**SIGHT, "--model.filter": "true", "--model.gate": "scalar"},
}


@dataclass(frozen=True)
class Cell(cells.Cell):
    """One run: a system with one seed."""

    seed: int

    @property
    def name(self) -> str:
        """Plain name of its run folder."""
        return f"{self.system}-s{self.seed}"


@dataclass(frozen=True)
class Bench(cells.Bench):
    """What all cells share.

    Attributes:
        epochs: of each run.
        limit: read only so many posts of each split; None for all.
    """

    epochs: int = EPOCHS
    limit: int | None = None

    cell = Cell

    def plugin(self, cell: Cell) -> str:
        """The plugin that a cell runs."""
        return cell.system

    def argv(self, cell: Cell) -> list[str]:
        """The command of a cell, from `fit` on."""
        argv = ["fit", "--plugin", cell.system, "--seed", str(cell.seed), "--test", "--name", cell.name]
        argv += ["--runs_dir", self.runs, "--data.corpus", self.corpus, "--data.root", self.root]
        argv += ["--model.text", str(minilm()), "--trainer.enable_progress_bar", "false"]
        if self.limit is not None:
            argv += ["--data.limit", str(self.limit)]
        return argv + cells.pairs(
            {**SETTINGS, **PRECISION, "--trainer.max_epochs": str(self.epochs), **SYSTEMS[cell.system]}
        )

    def figures(self, folder: RunFolder) -> cells.Row:
        """F1 of dev and test, lenient, strict and of each type, and the counts of each test post."""
        metrics = folder.metrics()
        row: cells.Row = {"best_epoch": metrics["best_epoch"], "seconds_train": metrics["seconds"]["train"]}
        for split in ("dev", "test"):
            row[split] = {key: value for key, value in metrics[split].items() if _is_f1(key)}
        answers = sorted(read_answers(folder.path / "predictions.test.jsonl"), key=lambda each: each.id)
        row["counts"] = cells.packed((len(a.gold), len(a.predicted), len(a.gold & a.predicted)) for a in answers)
        return row


def _is_f1(key: str) -> bool:
    return key.rpartition("/")[2] in ("f1", "f1_strict")


def all_cells(names: Sequence[str], seeds: Sequence[int]) -> list[Cell]:
    """All cells, every system with one seed after the other, so that a bench that is cut off can be read."""
    return [Cell(system, seed) for seed in seeds for system in names]


def report(done: dict[Cell, cells.Row], names: Sequence[str], seeds: Sequence[int]) -> str:
    """The table of the systems, and each one's difference to `bert` with the paired test, by seed and pooled."""
    rows: list[list[Any]] = []
    for name in names:
        of = [done[Cell(name, seed)] for seed in seeds if Cell(name, seed) in done]
        if not of:
            continue
        each = [done[Cell(name, seed)]["test"]["f1"] if Cell(name, seed) in done else None for seed in seeds]
        types = [_mean(of, "test", f"type/{kind}/f1") for kind in _types(done)]
        cpu = statistics.mean(row["seconds_cpu"] for row in of)
        rows.append(
            [shown(name), _mean(of, "test", "f1"), *each, _mean(of, "test", "f1_strict"), _mean(of, "dev", "f1")]
        )
        rows[-1] += [*types, round(cpu)]
    if not rows:
        return "no row yet"
    head = ["system", "test F1", *(f"seed {seed}" for seed in seeds), "strict", "dev", *_types(done), "cpu s"]
    return "\n".join([table(head, rows), "", _claims(done, names, seeds), "", *_differences(done, names, seeds)])


def shown(name: str) -> str:
    """A system as tables call it: these figures are of captions, and no paper's."""
    return name if name in (BASE, "captions") else f"{name}@captions"


def _claims(done: dict[Cell, cells.Row], names: Sequence[str], seeds: Sequence[int]) -> str:
    """Which of the three claims about pictures hold, whatever the seed, with the smallest difference that shows."""
    helped: dict[str, dict[ClaimName, SeedComparison]] = {}
    for name in names:
        there = [seed for seed in seeds if Cell(name, seed) in done and Cell(BASE, seed) in done]
        if name != BASE:
            helped[shown(name)] = {}
        if name != BASE and len(there) > 1:
            pair = [
                np.array([cells.unpacked(done[Cell(each, seed)]["counts"]) for seed in there]) for each in (BASE, name)
            ]
            helped[shown(name)]["helped"] = runs_test([(pair[0], pair[1])])
    rows = []
    for name, claims in claim_rows(helped):
        test = helped[name].get("helped")
        smallest = "" if test is None else f"{test['high'] - test['difference']:.2f}"
        rows.append([name, *map(str, claims), smallest])
    head = ["claims (95 %, posts and seeds drawn, Holm)", *CLAIMS, "smallest difference that shows"]
    return table(head, rows)


def _types(done: dict[Cell, cells.Row]) -> list[str]:
    return sorted({key.split("/")[1] for row in done.values() for key in row["test"] if key.startswith("type/")})


def _mean(rows: Sequence[cells.Row], split: str, key: str) -> float:
    # a type that no post of a small try holds has no figure
    return statistics.mean(row[split].get(key, 0.0) for row in rows)


def _differences(done: dict[Cell, cells.Row], names: Sequence[str], seeds: Sequence[int]) -> Iterator[str]:
    for name in names:
        found: dict[int, list[list[int]]] = {}
        for seed in seeds:
            a, b = done.get(Cell(BASE, seed)), done.get(Cell(name, seed))
            if name == BASE or a is None or b is None:
                continue
            counts = cells.side_by_side(f"{BASE} and {name}, seed {seed},", a["counts"], b["counts"])
            yield _difference(shown(name), f"seed {seed}", counts)
            found[seed] = counts
        if len(found) > 1:
            seeds_ = f"seeds {' '.join(map(str, found))} together"
            yield _difference(shown(name), seeds_, cells.over_seeds(name, list(found.values())))


def _difference(name: str, which: str, counts: list[list[int]]) -> str:
    test = paired_counts_test(np.array(counts))
    return (
        f"{name} - {BASE}, {which}: {test['difference']:+.2f} F1 (95 % {test['low']:+.2f} to {test['high']:+.2f}, "
        f"p = {test['p']:.4f}, {test['posts']} posts)"
    )


def main() -> int:
    """Run what is left, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of the corpora and captions")
    parser.add_argument("--runs", default="runs/bench-methods", help="where the runs lie")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="default: 0 1")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells at once, one thread each")
    parser.add_argument("--limit", type=int, metavar="N", help="a quick try: only the first N posts of each split")
    parser.add_argument("--epochs", type=int, default=EPOCHS, metavar="N", help=f"a quick try: not {EPOCHS} epochs")
    parser.add_argument("--recheck", type=int, metavar="N", help=cells.RECHECK)
    parser.add_argument("--report", action="store_true", help="print the table of what is there, run nothing")
    asked = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    trying = asked.limit is not None or asked.epochs != EPOCHS
    runs = Path(asked.runs) / ("try" if trying else "whole")
    bench = Bench(CORPUS, asked.root, str(runs), asked.epochs, asked.limit)
    path = (runs if trying else RESULTS) / f"methods-{CORPUS}.jsonl"
    wanted = all_cells(asked.systems, asked.seeds)
    if asked.recheck is not None:
        cells.recheck(bench, path, asked.recheck, asked.jobs)
    read = asked.report or asked.recheck is not None
    done = cells.kept(bench, path) if read else cells.sweep(bench, wanted, path, asked.jobs)
    said = report(done, asked.systems, asked.seeds)
    print(said)
    if (asked.systems, asked.seeds) == (list(SYSTEMS), list(SEEDS)) and not trying:
        write_text(path.with_suffix(".txt"), said + "\n")
    return 0 if read or len(done) == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
