"""Few-shot tagging, every system on the same episodes: `make bench-fewshot ROOT=<folder of the corpora>`.

Systems on the frozen states of the packaged MiniLM: MOUSING as printed, in our reading, and in an earlier one whose
rows are kept, with captions as image nodes; four text baselines; three methods that read captions in place of images
(`@captions`). Six splits of four types into two for training and two for testing, three seeds, five support posts in
all (`total`) or for each type (`per_type`), every eligible test post once as query. Dev (source types) selects, test is
looked at once.

With `--tower trained` the tower is first trained on the source types of one half of the training posts (one seed), then
frozen, and the systems learn from the other half. `--limit` is for quick tries, whose rows stay in the folder of the
runs.

A cell is one run of `mnerkit fit` (`cells.py`). Its figures are kept in
`benchmarks/results/fewshot-<corpus>-<tower>.jsonl` and it is skipped from then on, until its configuration, the data or
a behaviour number of what it uses changes. Stop it when you like; the same command goes on.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cells
from bench_quality import minilm

from mnerkit import registry
from mnerkit.atomic_files import write_text
from mnerkit.cli.method_verbs import configuration_of
from mnerkit.data.corpus.corpus import TYPES
from mnerkit.data.episodes.sampling import two_type_splits
from mnerkit.reproduce.training import dotted, text_of
from mnerkit.runs.identity import digest_of
from mnerkit.runs.run_folder import RunFolder
from mnerkit.scoring.comparison import read_answers
from mnerkit.text_table import table

RESULTS = Path(__file__).resolve().parent / "results"
SEEDS = (0, 1, 2)
SUPPORTS = ("total", "per_type")

# sizes, rates and episodes of MOUSING; the readings of its paper that the table has are below
SIZES = {
    "--model.vision": "tiny",
    "--model.image_nodes": "captions",
    "--model.hidden": "384",
    "--model.kl_width": "128",
    "--model.lr": "5.0e-4",
    # with the rate of the rest the CRF's few weights stay as they were drawn, and some draws cut names into words
    "--model.head_lr": "2.0e-2",
    "--model.warmup": "0.05",
    "--data.episodes_per_epoch": "100",
    "--data.dev_episodes": "100",
    "--trainer.max_epochs": "3",
    "--trainer.gradient_clip_val": "1.0",
}
# residual, few edges, Eq. 13 as printed: chosen on dev posts (README.md of the plugin), the same for all ablations
MOUSING = {
    **SIZES,
    "--model.edge_sim": "zscore_block",
    "--model.delta": "1.5",
    "--model.neighbourhood": "original",
    "--model.residual": "true",
    "--model.head": "prototype_crf",
    "--model.head.distance": "cosine",
    "--model.head.dist_scale": "30",
    "--model.head.proto_classes": "io",
    "--model.head.o_proto": "nearest",
    "--model.caption_nodes": "words",
    "--model.balance": "losses",
    "--model.trade_off": "0.7",
    "--model.kl_mode": "neg_kl",
    "--model.kl_cap": "10",
}
# an ablation without a divergence sets its mode itself
NO_DIVERGENCE = {name: value for name, value in MOUSING.items() if name != "--model.kl_mode"}


def preset(*names: str) -> dict[str, str]:
    """Options of some of MOUSING's ablations, later ones win: given one by one, since a command takes one of them."""
    parts = registry.get("mousing").ablations
    return {f"--{name}": text_of(value) for part in names for name, value in dotted(parts[part]).items()}


OURS = {**SIZES, **preset("ours")}
FROZEN = {"--model.freeze": "true", "--data.dev_episodes": "100", "--trainer.max_epochs": "1"}
# on dev better than Euclidean distances to one prototype a BIO tag
PROTOTYPE = {"--model.head.distance": "cosine", "--model.head.proto_classes": "io"}
# methods that read an image's caption in its place, on a frozen text tower, as profile tweets has them
SIGHT = {
    "--model.vision": "captions",
    "--model.freeze_text": "true",
    "--model.lr": "3.0e-4",
    "--model.head_lr": "2.0e-3",
    "--model.schedule": "cosine",
    "--model.warmup": "0.15",
    "--model.weight_decay": "1.0e-4",
    "--data.batch_size": "32",
    "--data.episodes_per_epoch": "100",
    "--data.dev_episodes": "100",
    "--trainer.max_epochs": "1",
    "--trainer.gradient_clip_val": "5.0",
    "--trainer.precision": "bf16-mixed",
}
PROTO_SIGHT = {**SIGHT, "--model.head": "prototype", **PROTOTYPE}
UMGF = {"--model.width": "256", "--model.hidden": "256"}
SYSTEMS: dict[str, tuple[str, dict[str, str]]] = {
    "MOUSING (as printed)": ("mousing", {**SIZES, "--ablation": "as_printed"}),
    "MOUSING (ours)": ("mousing", {**SIZES, "--ablation": "ours"}),
    "ours, shuffled captions": ("mousing", {**OURS, "--data.pictures": "shuffled"}),
    "ours, w/o Image": ("mousing", {**SIZES, **preset("ours", "no_image")}),
    "ours, w/o Intervention": ("mousing", {**SIZES, **preset("ours", "no_intervention")}),
    "ours, w/o Multi-view": ("mousing", {**SIZES, **preset("ours", "no_multiview")}),
    "ours, w/o MCIS": ("mousing", {**SIZES, **preset("ours", "no_mcis")}),
    "MOUSING": ("mousing", MOUSING),
    "w/o Image": ("mousing", {**MOUSING, "--ablation": "no_image"}),
    "w/o Intervention": ("mousing", {**NO_DIVERGENCE, "--ablation": "no_intervention"}),
    "w/o Multi-view": ("mousing", {**MOUSING, "--ablation": "no_multiview"}),
    "w/o MCIS": ("mousing", {**NO_DIVERGENCE, "--ablation": "no_mcis"}),
    "prototype": ("bert", {**FROZEN, "--model.head": "prototype", **PROTOTYPE}),
    "nearest": ("bert", {**FROZEN, "--model.head": "nearest"}),
    "struct": ("bert", {**FROZEN, "--model.head": "struct"}),
    "finetune": ("bert", {**FROZEN, "--model.head": "finetune"}),
    "ProtoHVPNet@captions": ("hvpnet", {**PROTO_SIGHT, "--model.hidden": "400", "--model.max_images": "1"}),
    "ProtoUMGF@captions": ("umgf", {**PROTO_SIGHT, **UMGF}),
    "UMT@captions": ("umt", {**SIGHT, "--model.heads": "12", "--model.head": "finetune"}),
}
COMPARED = ("MOUSING (ours)", "MOUSING")  # with every other system
BASELINES = ("prototype", "nearest", "struct", "finetune")
# with `--tower trained` the tower learns from one half of the source posts, and the few-shot methods from the other
TOWERS_HALF = {"--data.train_on": "d_dis", "--data.dis_fraction": "0.5"}
OTHER_HALF = {"--data.train_on": "d_model", "--data.dis_fraction": "0.5"}
# the tower that `--tower trained` trains on the source types, with the softmax that NNShot drops afterwards
TRAINING = {
    "--model.head": "nearest",
    "--model.tower_lr": "1.0e-4",
    "--model.head_lr": "2.0e-3",
    "--trainer.max_epochs": "2",
    "--trainer.gradient_clip_val": "1.0",
}


@dataclass(frozen=True)
class Cell(cells.Cell):
    """One run: a system on one split, with one seed and one reading of K."""

    split: str
    seed: int
    support: str

    @property
    def name(self) -> str:
        """Plain name of its run folder."""
        plain = re.sub(r"[/(),]", "", self.system).replace(" ", "-").replace("@", "-").lower()
        return f"{plain}-{self.split}-{self.support}-s{self.seed}"


@dataclass(frozen=True)
class Bench(cells.Bench):
    """What all cells share.

    Attributes:
        kind: of the text tower: MiniLM as it is (`frozen`), or trained on the source types (`trained`).
        limit: read only so many posts of each split; None for all.
    """

    kind: str
    limit: int | None = None

    cell = Cell

    def plugin(self, cell: Cell) -> str:
        """The plugin that a cell runs."""
        return SYSTEMS[cell.system][0]

    def argv(self, cell: Cell) -> list[str]:
        """The command of a cell, from `fit` on."""
        plugin, options = SYSTEMS[cell.system]
        argv = ["fit", "--plugin", plugin, "--seed", str(cell.seed), "--test", "--name", cell.name]
        argv += ["--runs_dir", self.runs, "--data.corpus", self.corpus, "--data.root", self.root]
        argv += ["--model.text", self.text(cell), "--data.train_types", cell.split, "--data.support", cell.support]
        argv += ["--data.k_shot", "5", "--data.eval_episodes", "all_queries", "--trainer.enable_progress_bar", "false"]
        return argv + cells.pairs({**self._posts(OTHER_HALF), **options})

    def _posts(self, half: dict[str, str]) -> dict[str, str]:
        """Which posts a run reads: all, or a half of the training posts, and no more than the limit."""
        few = {} if self.limit is None else {"--data.limit": str(self.limit)}
        return few | (half if self.kind == "trained" else {})

    def text(self, cell: Cell) -> str:
        """Folder of the text tower: MiniLM, or what was trained on the split."""
        return super().text(cell) if self.kind == "frozen" else str(self.trained(cell.split))

    def tower(self, cell: Cell) -> str:
        """A trained tower is told by its training: its folder may not be there yet."""
        return super().tower(cell) if self.kind == "frozen" else self.trained(cell.split).name

    def trained(self, split: str) -> Path:
        """Folder of the tower trained on a split, named by all that decides its weights."""
        digest = digest_of(configuration_of(self.training(split)).content)
        return Path(self.runs) / "towers" / f"{split}-{digest}"

    def training(self, split: str) -> list[str]:
        """The command that trains the tower on a split, from `fit` on."""
        argv = ["fit", "--plugin", "bert", "--runs_dir", self.runs, "--data.corpus", self.corpus]
        argv += ["--data.root", self.root, "--model.text", str(minilm()), "--trainer.enable_progress_bar", "false"]
        return [*argv, "--data.train_types", split, *cells.pairs({**self._posts(TOWERS_HALF), **TRAINING})]

    def figures(self, folder: RunFolder) -> dict[str, Any]:
        """Figures of dev and test, and the counts of each test episode."""
        metrics = folder.metrics()
        row = {"best_epoch": metrics["best_epoch"], "seconds_train": metrics["seconds"]["train"]}
        row["dev"] = metrics["dev"]["f1"]
        kept = ("f1", "precision", "recall", "f1_low", "f1_high", "f1_episode", "episodes")
        row["test"] = {key: metrics["test"][key] for key in kept}
        answers = read_answers(folder.path / "predictions.test.jsonl")
        answers.sort(key=lambda each: each.episode or 0)
        row["counts"] = cells.packed((len(a.gold), len(a.predicted), len(a.gold & a.predicted)) for a in answers)
        return row


def all_cells(names: Sequence[str], seeds: Sequence[int], supports: Sequence[str], splits: Sequence[str]) -> list[Cell]:
    """All cells, a whole sweep of one seed after the other, so that a bench that is cut off can be read."""
    return [
        Cell(system, split, seed, support)
        for seed in seeds
        for support in supports
        for split in splits
        for system in names
    ]


def train_towers(bench: Bench, splits: Iterable[str]) -> None:
    """Train MiniLM on the source types of each split (`--tower trained`), and keep it as a folder."""
    from mnerkit.cli import main as mnerkit
    from mnerkit.methods.checkpoint import load

    for split in splits:
        folder = bench.trained(split)
        if (folder / "config.json").is_file():
            continue
        print(f"training the tower on {split}", flush=True)
        name = f"tower-{folder.name}"
        if code := mnerkit([*bench.training(split), "--name", name]):
            sys.exit(code)
        tower = load(RunFolder(Path(bench.runs) / "bert" / bench.corpus / name).best).towers["text"]
        draft = folder.with_name(f".{folder.name}")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(minilm(), draft)
        tower.model.save_pretrained(draft)  # type: ignore[operator,union-attr]
        draft.rename(folder)


def report(
    done: dict[Cell, dict[str, Any]], names: Sequence[str], supports: Sequence[str], seeds: Sequence[int]
) -> str:
    """A table for each reading of K: test F1 of each split, mean over seeds, and the average with its interval."""
    from mnerkit.scoring.intervals import mean_interval

    splits = list(two_type_splits(TYPES))
    parts = []
    for support in supports:
        rows: list[list[Any]] = []
        for system in names:
            of = {
                (cell.split, cell.seed): row
                for cell, row in done.items()
                if (cell.system, cell.support) == (system, support)
            }
            whole = [seed for seed in seeds if all((split, seed) in of for split in splits)]
            if not whole:
                continue
            averages = [sum(of[split, seed]["test"]["f1"] for split in splits) / len(splits) for seed in whole]
            mean = mean_interval(averages)
            dev = sum(of[split, seed]["dev"] for split in splits for seed in whole) / len(splits) / len(whole)
            each = [sum(of[split, seed]["test"]["f1"] for seed in whole) / len(whole) for split in splits]
            half = "" if mean.half is None else f"{mean.half:.1f}"
            rows.append([system, *each, mean.mean, half, len(whole), dev])
        if rows:
            head = ["system", *splits, "Avg", "+-", "seeds", "dev (source)"]
            parts.append(f"support: {support}, 5 posts, every eligible test post once\n{table(head, rows)}")
            for system in COMPARED:
                parts.append("\n".join(_paired(done, system, names, support, splits)))
    return "\n\n".join(part for part in parts if part)


def _paired(
    done: dict[Cell, dict[str, Any]], system: str, names: Sequence[str], support: str, splits: Sequence[str]
) -> Iterator[str]:
    """A system against every other one, over the posts that both were asked about, with the answers of all seeds."""
    import numpy as np

    from mnerkit.scoring.significance import paired_counts_test

    for other in names:
        found: dict[str, list[list[list[int]]]] = {}
        for cell, row in done.items():
            if (cell.system, cell.support) != (system, support) or other == system:
                continue
            twin = done.get(Cell(other, cell.split, cell.seed, support))
            if twin is None:
                continue
            pair = cells.side_by_side(f"{cell.name} and {other}", twin["counts"], row["counts"])
            found.setdefault(cell.split, []).append(pair)
        if found:
            rows = [row for split in splits if split in found for row in cells.over_seeds(other, found[split])]
            test = paired_counts_test(np.array(rows))
            yield (
                f"{system} - {other}: {test['difference']:+.2f} pooled F1 (95 % {test['low']:+.2f} to "
                f"{test['high']:+.2f}, p = {test['p']:.4f}, {len(rows)} queries)"
            )


def main() -> int:
    """Run what is left, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of the corpora and captions")
    parser.add_argument("--corpus", default="twitter2017", choices=["twitter2015", "twitter2017"])
    parser.add_argument(
        "--tower",
        default="frozen",
        choices=["frozen", "trained"],
        help="MiniLM as it is, or trained on the source types",
    )
    parser.add_argument("--runs", default="runs/bench-fewshot", help="where the runs lie")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="SYSTEM")
    splits = list(two_type_splits(TYPES))
    parser.add_argument("--splits", nargs="+", default=splits, choices=splits, help="types to train on")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: 0 1 2; with --tower trained 0")
    parser.add_argument("--supports", nargs="+", default=list(SUPPORTS), choices=SUPPORTS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells at once, one thread each")
    parser.add_argument("--recheck", type=int, metavar="N", help=cells.RECHECK)
    parser.add_argument("--report", action="store_true", help="print the tables of what is there, run nothing")
    parser.add_argument("--limit", type=int, metavar="N", help="a quick try: only the first N posts of each split")
    asked = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    seeds = asked.seeds or (SEEDS if asked.tower == "frozen" else (0,))
    wanted = all_cells(asked.systems, seeds, asked.supports, asked.splits)
    runs = Path(asked.runs) / f"{asked.corpus}-{asked.tower}{'' if asked.limit is None else f'-{asked.limit}'}"
    bench = Bench(asked.corpus, asked.root, str(runs), asked.tower, asked.limit)
    path = (RESULTS if asked.limit is None else runs) / f"fewshot-{asked.corpus}-{asked.tower}.jsonl"
    chosen = (asked.systems, asked.supports, asked.seeds, asked.splits, asked.limit)
    whole = chosen == (list(SYSTEMS), list(SUPPORTS), None, splits, None)
    if asked.recheck is not None:
        cells.recheck(bench, path, asked.recheck, asked.jobs)
    if read := asked.report or asked.recheck is not None:
        done = cells.kept(bench, path)
    else:
        if asked.tower == "trained":
            train_towers(bench, asked.splits)
        done = cells.sweep(bench, wanted, path, asked.jobs)
    said = report(done, asked.systems, asked.supports, seeds)
    print(said)
    if whole:
        write_text(path.with_suffix(".txt"), said + "\n")
    return 0 if read or len(done) == len(wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
