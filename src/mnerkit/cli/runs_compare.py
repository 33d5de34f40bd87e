"""`mnerkit runs compare A B`: is one method better than another on the same posts or episodes?"""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

from mnerkit.cli.arguments import Parser, read
from mnerkit.errors import UsageError
from mnerkit.runs.compare import compare_runs
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
    options = read(parser, argv)
    a, b = _sides(options)
    found = compare_runs(a, b, options.split)
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
    return runs or [RunFolder(Path(pattern)).existing()]


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
