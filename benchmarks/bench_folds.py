"""What captions are worth, by five-fold cross-validation: `make bench-folds CORPUS=twitter2017 ROOT=<folder>`.

The comparisons, systems, estimator, seeds and correction are those of `preregistered.yaml`, which was written before
the first cell; each row holds its digest, and with another file nothing is run and nothing is reported. Settings are
those of `bench_methods.py` (packaged MiniLM, CRF, bfloat16); captions stand for pictures. Folds are of the train and
dev posts (`--data.folds`); the test posts of the corpus are not scored.

A cell is one run of `mnerkit fit` on one fold (`cells.py`). A system that sees captions is scored twice: with the
posts' own and with those of other posts (`reads`). Rows hold the entities that were predicted for each post, from
which this program computes every figure anew, with the corpus in ROOT. Stop it when you like; the same command goes on.
`--limit`, `--epochs` and `--text` are for quick tries, whose rows stay in the folder of the runs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cells
import numpy as np
import yaml
from bench_methods import PRECISION
from bench_quality import SETTINGS, minilm

from mnerkit.atomic_files import write_text
from mnerkit.data.corpus.corpus import TYPES, load_corpus
from mnerkit.data.corpus.folds import folded
from mnerkit.data.corpus.post import Entity, Post
from mnerkit.data.corpus.tags import entities
from mnerkit.runs.run_folder import RunFolder
from mnerkit.runs.score import score
from mnerkit.scoring.picture_claims import ClaimName, claim_rows
from mnerkit.scoring.seeds_and_folds import SeedComparison, mean_test, runs_test
from mnerkit.scoring.significance import holm
from mnerkit.text_table import table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
PLAN = HERE / "preregistered.yaml"
CORPORA = ("twitter2017", "twitter2015")
SHUFFLED = ("--data.pictures", "shuffled")
Answers = list[frozenset[Entity]]  # of the posts of a fold, by their ids
Kept = Callable[[Post, Entity, frozenset[tuple[tuple[str, ...], str]]], bool]


@dataclass(frozen=True)
class Plan:
    """What was fixed before the first cell."""

    folds: int
    seeds: int
    epochs: int
    systems: dict[str, dict[str, Any]]
    comparisons: list[dict[str, Any]]
    digest: str

    @classmethod
    def read(cls, path: Path = PLAN) -> Plan:
        """The plan of a file."""
        content = path.read_bytes()
        return cls(**yaml.safe_load(content), digest=hashlib.sha256(content).hexdigest()[:16])

    def options(self, system: str) -> dict[str, str]:
        """The options of a system beside those of all."""
        return self.systems[system].get("options", {})

    def check(self, rows: Iterable[cells.Row], path: Path) -> None:
        """Refuse rows of another plan."""
        if others := {row["preregistered"] for row in rows} - {self.digest}:
            sys.exit(
                f"{path} was measured under another preregistered.yaml ({', '.join(sorted(others))}).\n"
                "What is compared can't change once there are rows: restore that file, or move the rows away."
            )


@dataclass(frozen=True)
class Cell(cells.Cell):
    """One run: a system on one fold, with one of its seeds."""

    fold: int
    repeat: int

    @property
    def name(self) -> str:
        """Plain name of its run folder."""
        plain = "".join(letter if letter.isalnum() else "-" for letter in self.system)
        return f"{plain}-f{self.fold}-r{self.repeat}"


@dataclass(frozen=True)
class Bench(cells.Bench):
    """What all cells share."""

    plan: Plan = field(default_factory=Plan.read)
    epochs: int | None = None
    limit: int | None = None
    text_tower: str | None = None

    cell = Cell

    def text(self, cell: Cell) -> str:
        """Folder of the text tower."""
        return self.text_tower or str(minilm())

    def plugin(self, cell: Cell) -> str:
        """The plugin that a cell runs."""
        return str(self.plan.systems[cell.system]["plugin"])

    def argv(self, cell: Cell) -> list[str]:
        """The command of a cell. Each fold has seeds of its own, so that no two runs of a system share one."""
        seed = cell.fold + self.plan.folds * cell.repeat
        argv = ["fit", "--plugin", self.plugin(cell), "--seed", str(seed), "--test", "--name", cell.name]
        argv += ["--runs_dir", self.runs, "--data.corpus", self.corpus, "--data.root", self.root]
        argv += ["--data.folds", str(self.plan.folds), "--data.fold", str(cell.fold)]
        argv += ["--model.text", self.text(cell), "--trainer.enable_progress_bar", "false"]
        argv += [] if self.limit is None else ["--data.limit", str(self.limit)]
        epochs = {"--trainer.max_epochs": str(self.epochs or self.plan.epochs)}
        return argv + cells.pairs({**SETTINGS, **PRECISION, **epochs, **self.plan.options(cell.system)})

    def figures(self, folder: RunFolder) -> cells.Row:
        """F1 of dev and of the fold, and the entities predicted for each post with its own and with other captions."""
        metrics = folder.metrics()
        row: cells.Row = {name: metrics[name] for name in ("best_epoch", "dev", "test")}
        row = {key: {"f1": value["f1"]} if isinstance(value, dict) else value for key, value in row.items()}
        return {**row, "preregistered": self.plan.digest, "predictions": kept_predictions(folder)}


def kept_predictions(folder: RunFolder) -> dict[str, str]:
    """The predicted entities of the test posts with their own pictures, and with other posts', if any are looked at.

    Whatever it was trained on, a run that looks at pictures is scored with both.
    """
    metrics, pictures = folder.metrics(), folder.config()["data"]["pictures"]
    if not metrics["protocol"].get("max_images"):
        return {"right": _predictions(folder, "test")}
    other = "right" if pictures == "shuffled" else "shuffled"
    found = score(folder.best, data={"pictures": other}, report=lambda line: None)
    key = next(key for key in found if key.startswith("test@") and ":" not in key)
    return {pictures: _predictions(folder, "test"), other: _predictions(folder, key)}


def _predictions(folder: RunFolder, key: str) -> str:
    """The predicted entities of each post, by the order of ids, in a short text."""
    lines = (folder.path / f"predictions.{key}.jsonl").read_text("utf-8").splitlines()
    rows = sorted(map(json.loads, lines), key=lambda row: row["id"])
    return packed([[Entity(each["start"], each["end"], each["type"]) for each in row["entities"]] for row in rows])


def packed(posts: Iterable[Iterable[Entity]]) -> str:
    """Entities of each post in a short text (see `answers`)."""
    spans = [[[each.start, each.end, each.type] for each in post] for post in posts]
    return cells.compressed(json.dumps(spans))


def answers(predictions: str) -> Answers:
    """The predicted entities of each post, from a row."""
    spans = json.loads(cells.expanded(predictions))
    return [frozenset(Entity(*each) for each in post) for post in spans]


# ------------------------------------------------------------------ figures, from predictions alone


@dataclass
class Scores:
    """The rows of a corpus with its posts, from which every figure is computed."""

    bench: Bench
    rows: Mapping[Cell, cells.Row]

    @cached_property
    def folds(self) -> list[tuple[list[Post], frozenset[tuple[tuple[str, ...], str]]]]:
        """Of each fold its posts by id, and the entities of its training posts."""
        corpus, found = load_corpus(self.bench.corpus, self.bench.root, limit=self.bench.limit), []
        for fold in range(self.bench.plan.folds):
            splits = folded(corpus, self.bench.plan.folds, fold).splits
            known = {
                (each.words[e.start : e.end], e.type) for each in splits["train"] for e in entities(each.tags or ())
            }
            found.append((sorted(splits["test"], key=lambda post: post.id), frozenset(known)))
        return found

    def seeds(self, *systems: str) -> int:
        """With how many seeds all folds of some systems are there."""
        plan = self.bench.plan
        done = [
            all(Cell(system, fold, repeat) in self.rows for system in systems for fold in range(plan.folds))
            for repeat in range(plan.seeds)
        ]
        return ([*done, False]).index(False)

    def counts(self, system: str, seeds: int, pictures: str = "right", kept: Kept | None = None) -> list[np.ndarray]:
        """Of each fold the counts (seeds, posts, 3) of a system, of posts or entities that are `kept`."""
        found = []
        for fold, (posts, known) in enumerate(self.folds):
            of_runs = []
            for repeat in range(seeds):
                predictions = self.rows[Cell(system, fold, repeat)]["predictions"]
                # one without pictures has one answer
                said = answers(predictions[pictures] if pictures in predictions else predictions["right"])
                of_runs.append([_counts(post, own, known, kept) for post, own in zip(posts, said, strict=True)])
            found.append(np.array(of_runs))
        return found

    def test(
        self, system: str, against: str, pictures: str = "right", kept: Kept | None = None
    ) -> SeedComparison | None:
        """A system against another one, whose posts have these pictures; None without two seeds of all folds."""
        seeds = self.seeds(system, against)
        if seeds < 2:
            return None
        pair = self.counts(against, seeds, pictures, kept), self.counts(system, seeds, kept=kept)
        return runs_test(list(zip(*pair, strict=True)))

    def f1(self, system: str, seeds: int, kept: Kept | None = None) -> float:
        """Pooled F1."""
        gold, said, right = np.concatenate(self.counts(system, seeds, kept=kept), axis=1).sum(axis=(0, 1))
        return float(200 * right / max(1, gold + said))


def _counts(post: Post, said: frozenset[Entity], known: frozenset[Any], kept: Kept | None) -> tuple[int, int, int]:
    gold = frozenset(entities(post.tags or ()))
    if kept is not None:
        gold, said = (frozenset(each for each in spans if kept(post, each, known)) for spans in (gold, said))
    return len(gold), len(said), len(gold & said)


def in_caption(post: Post) -> bool:
    """Whether the caption has a word of a gold entity."""
    words = {word.casefold() for image in post.images for word in (image.caption or "").split()}
    return any(word.casefold() in words for e in entities(post.tags or ()) for word in post.words[e.start : e.end])


def _of_type(kind: str) -> Kept:
    return lambda post, span, known: span.type == kind


SUBSETS: dict[str, Kept] = {
    "gold word in caption": lambda post, span, known: in_caption(post),
    "none in caption": lambda post, span, known: not in_caption(post),
    "seen in training": lambda post, span, known: (post.words[span.start : span.end], span.type) in known,
    "unseen": lambda post, span, known: (post.words[span.start : span.end], span.type) not in known,
    **{kind: _of_type(kind) for kind in TYPES},
}


# ------------------------------------------------------------------ the report


def compared(plan: Plan, scores: Mapping[str, Scores]) -> list[SeedComparison | None]:
    """The test of each comparison of the plan; None where cells are missing."""
    found: list[SeedComparison | None] = []
    for each in plan.comparisons:
        tests = [scores[name].test(each["system"], each["against"]) for name in each["corpora"] if name in scores]
        done = [test for test in tests if test is not None]
        found.append(mean_test(done) if len(done) == len(each["corpora"]) else None)
    return found


def preregistered(plan: Plan, scores: Mapping[str, Scores]) -> str:
    """The comparisons of the plan, corrected for all of them: what is missing counts as p = 1."""
    tests = compared(plan, scores)
    corrected = holm([1.0 if test is None else test["p"] for test in tests])
    rows = []
    for each, test, p in zip(plan.comparisons, tests, corrected, strict=True):
        name = f"{each['system']} - {each['against']}"
        figures: list[Any] = ["cells missing", "", "", "", "", ""]
        if test is not None:
            parts = (test[part] for part in ("deviation_posts", "deviation_seeds", "deviation_folds"))  # type: ignore[literal-required]
            half = test["high"] - test["difference"]
            figures = [f"{test['difference']:+.2f} +- {half:.2f}", f"{test['p']:.4f}", f"{p:.4f}"]
            figures += [" ".join(f"{part:.2f}" for part in parts), test["seeds"], test["posts"]]
        rows.append([each["claim"], name, " ".join(each["corpora"]), *figures])
    head = ["claim", "comparison", "corpora", "difference", "p", "p, Holm", "sd: posts seeds folds", "seeds", "posts"]
    return table(head, rows)


def claims(scores: Scores) -> str:
    """Which of the three claims about captions hold, corrected over this table; beyond the plan, so exploratory."""
    plan, tests = scores.bench.plan, dict[str, dict[ClaimName, SeedComparison]]()
    for system in plan.systems:
        if system == "bert" or SHUFFLED in plan.options(system).items():
            continue
        shuffled = f"{system}, trained on shuffled"
        tried: dict[ClaimName, SeedComparison | None] = {
            "reads": scores.test(system, system, "shuffled"),
            "helped": scores.test(system, "bert"),
            "by content": scores.test(system, shuffled) if shuffled in plan.systems else None,
        }
        tests[system] = {name: test for name, test in tried.items() if test is not None}
    return table(
        ["system", "reads", "helped", "by content"], [[name, *map(str, own)] for name, own in claim_rows(tests)]
    )


def by_subset(scores: Scores) -> Iterator[str]:
    """F1 of every system on subsets, and its difference to bert."""
    rows = []
    for system in scores.bench.plan.systems:
        seeds = scores.seeds(system)
        if not seeds:
            continue
        row: list[Any] = [system, seeds, scores.f1(system, seeds)]
        for kept in SUBSETS.values():
            test = None if system == "bert" else scores.test(system, "bert", kept=kept)
            difference = (
                "" if test is None else f" ({test['difference']:+.2f} +- {test['high'] - test['difference']:.2f})"
            )
            row.append(f"{scores.f1(system, seeds, kept):.2f}{difference}")
        rows.append(row)
    yield table(["system", "seeds", "F1", *SUBSETS], rows) if rows else "no system has all folds"


def report(plan: Plan, scores: Mapping[str, Scores]) -> str:
    """The tables of all corpora that have rows."""
    parts = [f"Preregistered ({plan.digest}):", preregistered(plan, scores)]
    for name, own in scores.items():
        parts += [f"\n{name}: claims, corrected in this table (exploratory):", claims(own)]
        parts += [f"\n{name}: F1 on subsets, and the difference to bert (exploratory):", *by_subset(own)]
    return "\n".join(parts)


def all_cells(plan: Plan) -> list[Cell]:
    """All cells, so ordered that a bench that is cut off has whole seeds of whole folds."""
    return [
        Cell(system, fold, repeat)
        for repeat in range(plan.seeds)
        for fold in range(plan.folds)
        for system in plan.systems
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is left, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of the corpora and captions")
    parser.add_argument("--corpus", default="twitter2017", help="twitter2017 or twitter2015")
    parser.add_argument("--runs", default="runs/bench-folds", help="where the runs lie")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="cells at once, one thread each")
    parser.add_argument("--cells", type=int, metavar="N", help="run at most N cells that are left")
    parser.add_argument("--systems", nargs="+", metavar="NAME", help="run cells of these systems alone")
    parser.add_argument("--limit", type=int, metavar="N", help="a quick try: only the first N posts of each split")
    parser.add_argument("--epochs", type=int, metavar="N", help="a quick try: other than the plan's epochs")
    parser.add_argument("--text", metavar="SPEC", help="a quick try: another text tower")
    parser.add_argument("--report", action="store_true", help="print the tables of what is there, run nothing")
    asked = parser.parse_args(argv)
    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    plan, trying = Plan.read(), (asked.limit, asked.epochs, asked.text) != (None, None, None)
    runs = Path(asked.runs) / ("try" if trying else "whole")
    folder = runs if trying else RESULTS

    def bench_of(corpus: str) -> Bench:
        return Bench(corpus, asked.root, str(runs), plan, asked.epochs, asked.limit, asked.text)

    path = folder / f"folds-{asked.corpus}.jsonl"
    plan.check(cells.read_rows(path), path)
    if unknown := set(asked.systems or ()) - set(plan.systems):
        parser.error(
            f"preregistered.yaml has no system {', '.join(sorted(unknown))}; it has: {'; '.join(plan.systems)}"
        )
    bench, complete = bench_of(asked.corpus), True
    wanted = [cell for cell in all_cells(plan) if cell.system in (asked.systems or plan.systems)]
    if not asked.report:
        if asked.cells is not None:
            wanted = cells.left(wanted, path)[: asked.cells]
        complete = len(cells.sweep(bench, wanted, path, asked.jobs)) == len(wanted)
    scores = {}
    for corpus in dict.fromkeys((*CORPORA, asked.corpus)):
        own = folder / f"folds-{corpus}.jsonl"
        plan.check(cells.read_rows(own), own)
        if rows := cells.kept(bench_of(corpus), own):
            scores[corpus] = Scores(bench_of(corpus), rows)
    text = report(plan, scores)
    print(text)
    write_text(folder / "folds.txt", text + "\n")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
