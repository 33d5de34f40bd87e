"""`mnerkit runs compare A B`: is one method better than another on the same posts or episodes?"""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

from mnerkit.cli.arguments import Parser, refuse
from mnerkit.errors import DataError, UsageError
from mnerkit.report.folders import mapping, sequence
from mnerkit.runs.run_folder import RunFolder
from mnerkit.text_table import table

ABOUT = """Compare two methods on the same posts or episodes: pooled F1, the difference with its interval (paired
bootstrap), a p-value (approximate randomisation), figures by type, and how many entities only one of them got right.
Runs that saw other posts, tags, types or episodes are refused.

Several runs a side (`--a RUN... --b RUN...`, or a pattern in quotes) are paired by corpus, training types and seed."""


def main(argv: list[str]) -> int:
    """Compare, and print.

    Raises:
        UsageError: an option that does not exist, or runs that can't be paired.
        DataError: no such run or predictions, or runs that were not asked alike.
    """
    parser = Parser("mnerkit runs compare", description=ABOUT, allow_abbrev=False)
    parser.add_argument("pair", nargs="*", metavar="RUN", help="two run folders: A, then B")
    parser.add_argument("--a", nargs="+", default=[], metavar="RUN", help="runs of the first method")
    parser.add_argument("--b", nargs="+", default=[], metavar="RUN", help="runs of the second method")
    parser.add_argument("--split", default="test", metavar="SPLIT", help="dev or test (default: test)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options, rest = parser.parse_known_args(argv)
    refuse(parser, rest)
    a, b = _sides(options)
    # here: a mistyped name is answered before numpy is imported
    from mnerkit.scoring.comparison import compare, read_answers

    pairs = _pairs(a, b)
    files = [tuple(_predictions(run, options.split) for run in pair) for pair in pairs]
    found = compare([(read_answers(one), read_answers(other)) for one, other in files])
    paths = {"a": [str(one.path) for one, _ in pairs], "b": [str(other.path) for _, other in pairs]}
    found = {**paths, "split": options.split, **found}
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else text(found))
    return 0


def _sides(options: Any) -> tuple[list[RunFolder], list[RunFolder]]:
    if options.pair and (options.a or options.b):
        raise UsageError("give two runs, or --a RUN... --b RUN..., not both")
    a, b = ([options.pair[0]], options.pair[1:]) if len(options.pair) == 2 else (options.a, options.b)
    if not a or not b:
        raise UsageError("`mnerkit runs compare` takes two runs, A and B (or --a RUN... --b RUN...)")
    return [run for each in a for run in _found(each)], [run for each in b for run in _found(each)]


def _found(pattern: str) -> list[RunFolder]:
    """The run of a folder, or those of a pattern."""
    paths = [Path(pattern)] if Path(pattern).is_dir() else [Path(each) for each in sorted(glob.glob(pattern))]
    runs = [run for run in map(RunFolder, paths) if run.started]
    if not runs:
        raise DataError(f"no run {pattern}; `mnerkit runs --json` tells their paths")
    return runs


def _pairs(a: list[RunFolder], b: list[RunFolder]) -> list[tuple[RunFolder, RunFolder]]:
    """A run of each side: the two given, or those of one corpus, training types and seed."""
    if len(a) == len(b) == 1:
        return [(a[0], b[0])]
    keyed: list[dict[str, RunFolder]] = []
    for side, runs in zip("AB", (a, b), strict=True):
        keys: dict[str, RunFolder] = {}
        for run in runs:
            key = _key(run)
            if key in keys:
                raise UsageError(f"{side} has two runs of {key}: {keys[key].path} and {run.path}")
            keys[key] = run
        keyed.append(keys)
    for key in keyed[0].keys() ^ keyed[1].keys():
        raise UsageError(f"{'A' if key in keyed[1] else 'B'} has no run of {key}, and the other side has")
    return [(run, keyed[1][key]) for key, run in sorted(keyed[0].items())]


def _key(run: RunFolder) -> str:
    if not run.finished:
        raise DataError(f"{run.path} is not finished; the command that began it continues it")
    metrics = run.metrics()
    protocol = mapping(metrics.get("protocol"))
    types = "+".join(map(str, sequence(protocol.get("train_types"))))
    return " ".join(filter(None, (str(protocol.get("corpus")), types, f"seed {metrics.get('seed')}")))


def _predictions(run: RunFolder, split: str) -> Path:
    path = run.path / f"predictions.{split}.jsonl"
    if path.parent != run.path or not path.is_file():
        writes = f"`mnerkit {'validate' if split == 'dev' else 'test'} --ckpt_path {run.best}` writes them"
        raise DataError(f"{run.path} has no predictions of {split!r}; {writes}")
    return path


def text(found: dict[str, Any]) -> str:
    """The comparison for the terminal."""
    lines = []
    for side in ("a", "b"):
        runs = found[side]
        others = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        lines.append(f"{side.upper()}  F1 {found[f'f1_{side}']:.2f}  {runs[0]}{others}")
    lines.append(
        f"B - A: {found['difference']:+.2f} [{found['low']:+.2f}, {found['high']:+.2f}] (95 % paired bootstrap), "
        f"p = {found['p']:.4f} (approximate randomisation)"
    )
    times = f" with the answers of {len(found['a'])} pairs of runs" if len(found["a"]) > 1 else ""
    lines.append(
        f"{found['split']}: {found['posts']} {found['unit']}s{times}, {found['gold']} gold entities: {found['both']} "
        f"right in both, {found['only_a']} only in A, {found['only_b']} only in B, {found['neither']} in neither"
    )
    body = [
        [kind, each["gold"], each["f1_a"], each["f1_b"], each["f1_b"] - each["f1_a"], each["only_a"], each["only_b"]]
        for kind, each in found["by_type"].items()
    ]
    return "\n".join(
        [*lines, "", table(["type", "gold", "F1 A", "F1 B", "B - A", "only A right", "only B right"], body)]
    )
