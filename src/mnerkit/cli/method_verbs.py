"""`mnerkit fit`, `validate`, `test` and `predict`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mnerkit.cli.arguments import out_file
from mnerkit.cli.method_arguments import configured, read, several
from mnerkit.cli.runs_compare import text
from mnerkit.errors import DataError, UsageError
from mnerkit.runs.run_folder import Place
from mnerkit.text_table import table


def report(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def main(verb: str, argv: Sequence[str]) -> int:
    """Run `mnerkit fit`, `validate`, `test` or `predict`; return the exit code.

    Raises:
        MnerkitError: see `runs.fit`, `runs.score` and `runs.predict`.
    """
    options = read(verb, argv)
    if options is None:
        return 0
    if verb == "fit":
        return _fit_seeds(options) if options.seeds else _fit(options)
    if not options.ckpt_path:
        files = "--ckpt_path FILE --input FILE --output FILE" if verb == "predict" else "--ckpt_path FILE"
        raise UsageError(f"`mnerkit {verb}` needs {files} (a checkpoint is best.ckpt of a run folder)")
    return _predict(options) if verb == "predict" else _score(options, "dev" if verb == "validate" else "test")


def _fit(options: argparse.Namespace) -> int:
    """Train, or continue training, and score the best checkpoint on dev (and once on test with `--test`)."""
    if options.baseline:
        raise UsageError("--baseline goes with --seeds: mnerkit fit ... --seeds 0 1 2 --baseline RUN")
    configuration = configured(options)
    from mnerkit.runs.fit import fit_configured

    fit_configured(configuration, _place(options), report)
    return 0


def _fit_seeds(options: argparse.Namespace) -> int:
    """Train with several seeds, and print mean, interval and the paired difference to a baseline."""
    if options.seed is not None:
        raise UsageError("--seed and --seeds can't go together: give one of them")
    seeds, baseline = several(options.seeds), several(options.baseline or [])
    if not all(seed.isascii() and seed.isdigit() for seed in seeds):
        raise UsageError(f"--seeds {' '.join(seeds)}: give whole numbers, for instance --seeds 0 1 2")
    configurations = {int(seed): configured(options, int(seed)) for seed in seeds}
    from mnerkit.runs.seeds import fit_seeds

    result = fit_seeds(configurations.__getitem__, [int(seed) for seed in seeds], _place(options), baseline, report)
    head = ["split", *(f"seed {seed}" for seed in seeds), "mean F1", "95 % over seeds"]
    rows = [
        [split, *scores["f1"], scores["mean"], "-" if scores["half"] is None else f"+- {scores['half']:.2f}"]
        for split, scores in result.scores.items()
    ]
    print(f"\n{table(head, rows)}")
    if result.comparison is not None:
        print(f"\nA is the baseline, B what was trained now\n{text(result.comparison)}")
    return 0


def _place(options: argparse.Namespace) -> Place:
    logger = several(options.logger) if options.logger else None
    return Place(options.name, options.runs_dir, options.overwrite, options.test, logger)


def _score(options: argparse.Namespace, split: str) -> int:
    """Score a checkpoint on dev or test, on its own corpus or another one."""
    from mnerkit.runs.score import score

    score(
        options.ckpt_path,
        split,
        config=options.config,
        plugin=options.plugin,
        dotted=options.dotted,
        tower_dir=options.tower_dir,
        report=report,
    )
    return 0


def _predict(options: argparse.Namespace) -> int:
    """Tag the posts of `--input` with `--ckpt_path` and write `--output`."""
    for name in ("input", "output"):
        if not getattr(options, name):
            raise UsageError(f"`mnerkit predict` needs --{name}; it takes --ckpt_path FILE --input FILE --output FILE")
    source = Path(options.input)
    if not source.is_file():
        raise DataError(f"--input {source}: no such file")
    target = out_file(options.output, options.overwrite, "--output")
    if target.exists() and target.samefile(source):
        raise UsageError("--output is the input file; give another one")
    from mnerkit.runs.predict import predict_file

    count, remarks = predict_file(
        options.ckpt_path,
        source,
        target,
        plugin=options.plugin,
        dotted=options.dotted,
        images=Path(options.images or source.parent),
        support=Path(options.support) if options.support else None,
        tower_dir=options.tower_dir,
    )
    for remark in remarks:
        print(f"mnerkit: {remark}", file=sys.stderr)
    print(f"{count} posts -> {target}")
    return 0
