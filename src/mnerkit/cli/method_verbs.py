"""`mnerkit fit`, `validate`, `test` and `predict`."""

from __future__ import annotations

import sys
from pathlib import Path

from mnerkit.cli.arguments import out_file
from mnerkit.cli.runs_compare import text
from mnerkit.errors import DataError, UsageError
from mnerkit.runs.config.requests import Request, items, place_of
from mnerkit.text_table import table


def report(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def fit(request: Request) -> int:
    """Train, or continue training, and score the best checkpoint on dev (and once on test with `--test`)."""
    if "seeds" in request.flags:
        return _fit_seeds(request)
    if "baseline" in request.flags:
        raise UsageError("--baseline goes with --seeds: mnerkit fit ... --seeds 0 1 2 --baseline RUN")
    configuration = request.configuration()
    from mnerkit.runs.fit import fit_configured

    fit_configured(configuration, place_of(request), report)
    return 0


def _fit_seeds(request: Request) -> int:
    """Train with several seeds, and print mean, interval and the paired difference to a baseline."""
    if "seed" in request.flags:
        raise UsageError("--seed and --seeds both say which seeds: give one")
    seeds, baseline = items(request.flags["seeds"]), items(request.flags.get("baseline") or "")
    if not all(each.isascii() and each.isdigit() for each in seeds):
        raise UsageError(f"--seeds {' '.join(seeds)}: give whole numbers, for instance --seeds 0 1 2")
    configurations = {int(seed): request.configuration(seed=int(seed)) for seed in seeds}
    from mnerkit.runs.seeds import fit_seeds

    found = fit_seeds(configurations.__getitem__, [int(seed) for seed in seeds], place_of(request), baseline, report)
    head = ["split", *(f"seed {seed}" for seed in seeds), "mean F1", "95 % over seeds"]
    rows = [
        [split, *each["f1"], each["mean"], "-" if each["half"] is None else f"+- {each['half']:.2f}"]
        for split, each in found.scores.items()
    ]
    print(f"\n{table(head, rows)}")
    if found.comparison is not None:
        print(f"\nA is the baseline, B what was trained now\n{text(found.comparison)}")
    return 0


def score(request: Request) -> int:
    """Score a checkpoint on dev or test, on its own corpus or another one."""
    flags = request.flags
    if "ckpt_path" not in flags:
        raise UsageError(f"`mnerkit {request.verb}` needs --ckpt_path FILE (best.ckpt of a run folder)")
    from mnerkit.runs.score import score as score_checkpoint

    score_checkpoint(
        flags["ckpt_path"],
        "dev" if request.verb == "validate" else "test",
        config=flags.get("config", []),
        plugin=flags.get("plugin"),
        dotted=request.dotted,
        tower_dir=flags.get("tower_dir"),
        report=report,
    )
    return 0


def predict(request: Request) -> int:
    """Tag the posts of `--input` with `--ckpt_path` and write `--output`."""
    flags = request.flags
    for name in ("ckpt_path", "input", "output"):
        if name not in flags:
            raise UsageError(f"`mnerkit predict` needs --{name}; it takes --ckpt_path FILE --input FILE --output FILE")
    source = Path(flags["input"])
    if not source.is_file():
        raise DataError(f"--input {source}: no such file")
    target = out_file(flags["output"], bool(flags.get("overwrite")), "--output")
    if target.exists() and target.samefile(source):
        raise UsageError("--output is the input file; give another one")
    from mnerkit.runs.predict import predict_file

    count, remarks = predict_file(
        flags["ckpt_path"],
        source,
        target,
        plugin=flags.get("plugin"),
        dotted=request.dotted,
        images=Path(flags.get("images") or source.parent),
        support=Path(flags["support"]) if "support" in flags else None,
        tower_dir=flags.get("tower_dir"),
    )
    for remark in remarks:
        print(f"mnerkit: {remark}", file=sys.stderr)
    print(f"{count} posts -> {target}")
    return 0
