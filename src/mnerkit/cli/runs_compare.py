"""`mnerkit runs compare A B`: is one method better than another on the same posts or episodes?"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

from mnerkit.cli.arguments import Parser, read
from mnerkit.errors import UsageError
from mnerkit.printable import Printable, json_text, printable, show
from mnerkit.runs.compare import compare_runs
from mnerkit.runs.run_folder import RunFolder
from mnerkit.scoring.draws import DRAWS
from mnerkit.text_table import table

ABOUT = """Compare two methods on the same posts or episodes: pooled F1, the difference with its interval (paired
bootstrap), a p-value (approximate randomisation), figures by type, and how many entities only one of them got right.
Runs that saw other posts, tags, types or episodes are refused.

Several runs a side (`--a RUN... --b RUN...`, or a pattern in quotes) are paired by corpus, training types, fold and
seed. The interval and p-value then hold for these runs. With `--draw posts,seeds` they hold for the methods, whatever
the seed, and with `--draw posts,seeds,folds` whatever the training posts, too (runs of all folds of `--data.folds`):
this takes two seeds at least, and three give much shorter intervals than two."""


def main(argv: list[str]) -> int:
    """Compare, and print.

    Raises:
        UsageError: an option that does not exist, or runs that can't be paired.
        DataError: no such run or predictions, or runs whose posts, tags, types or episodes differ.
    """
    parser = Parser("mnerkit runs compare", description=ABOUT, allow_abbrev=False)
    parser.add_argument("pair", nargs="*", metavar="RUN", help="two run folders: A, then B")
    parser.add_argument("--a", nargs="+", default=[], metavar="RUN", help="runs of the first method")
    parser.add_argument("--b", nargs="+", default=[], metavar="RUN", help="runs of the second method")
    parser.add_argument("--split", default="test", metavar="SPLIT", help="dev or test (default: test)")
    draws = "what interval and p-value draw: " + ", ".join(DRAWS) + " (default: posts)"
    parser.add_argument("--draw", default="posts", choices=DRAWS, metavar="WHAT", help=draws)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = read(parser, argv)
    a, b = _sides(options)
    comparison = compare_runs(a, b, options.split, options.draw)
    show(json_text(comparison, 2) if options.json else text(comparison))
    return 0


def _sides(options: Any) -> tuple[list[RunFolder], list[RunFolder]]:
    if options.pair and (options.a or options.b):
        raise UsageError("give two runs, or --a RUN... --b RUN..., not both")
    a, b = ([options.pair[0]], options.pair[1:]) if len(options.pair) == 2 else (options.a, options.b)
    if not a or not b:
        raise UsageError("`mnerkit runs compare` takes two runs, A and B (or --a RUN... --b RUN...)")
    return [run for name in a for run in _runs(name)], [run for name in b for run in _runs(name)]


def _runs(pattern: str) -> list[RunFolder]:
    """The run of a folder, or those of a pattern."""
    paths = [Path(pattern)] if Path(pattern).is_dir() else list(map(Path, sorted(glob.glob(pattern))))
    runs = [run for run in map(RunFolder, paths) if run.started]
    return runs or [RunFolder(Path(pattern)).existing()]


def text(comparison: dict[str, Any]) -> Printable:
    """The comparison for the terminal."""
    lines = []
    for side in ("a", "b"):
        runs = comparison[side]
        others = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        lines.append(f"{side.upper()}  F1 {comparison[f'f1_{side}']:.2f}  {runs[0]}{others}")
    difference = "B - A: {difference:+.2f} [{low:+.2f}, {high:+.2f}]".format(**comparison)
    if comparison["draw"] == "posts":
        lines.append(f"{difference} (95 % paired bootstrap), p = {comparison['p']:.4f} (approximate randomisation)")
    else:
        lines.append(
            "{0} (95 %, drawing {draw}: t with {freedom:.1f} degrees of freedom), p = {p:.4f}".format(
                difference, **comparison
            )
        )
        lines.append(
            "standard deviation from posts {deviation_posts:.2f}, seeds {deviation_seeds:.2f}, "
            "folds {deviation_folds:.2f}".format(**comparison)
        )
    times = f" with the answers of {len(comparison['a'])} pairs of runs" if len(comparison["a"]) > 1 else ""
    lines.append(
        "{split}: {posts} {unit}s{times}, {gold} gold entities: {both} right in both, {only_a} only in A, "
        "{only_b} only in B, {neither} in neither".format(times=times, **comparison)
    )
    body = [
        [kind, own["gold"], own["f1_a"], own["f1_b"], own["f1_b"] - own["f1_a"], own["only_a"], own["only_b"]]
        for kind, own in comparison["by_type"].items()
    ]
    head = ["type", "gold", "F1 A", "F1 B", "B - A", "only A right", "only B right"]
    return printable(*lines, "", table(head, body))
