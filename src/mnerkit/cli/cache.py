"""`mnerkit cache info|clear`: what is kept between runs, and how to be rid of it."""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

from mnerkit.cli.arguments import Parser, below, with_verbs
from mnerkit.data.features.cache_folder import Kept, cache_folder, clear, kept
from mnerkit.errors import DataError, UsageError
from mnerkit.printable import complain, json_text, printable, show
from mnerkit.text_table import table

DAY = 86_400.0
_FOLDER = "the cache folder, as runs name it with --data.cache (default: $MNERKIT_CACHE, else the user's)"
_ABOUT = """Outputs of frozen towers, resized pictures, tiny towers as they were trained, and data sets of the hub: kept
so that they are computed, or fetched, once. All of it can be made again. Nothing but the cache's own files is ever
deleted. A run with --data.cache none keeps nothing here.
"""


def main(argv: list[str]) -> int:
    """Run one of the verbs; return the exit code: 1 where something was left that is not the cache's own.

    Raises:
        UsageError: an option or name that does not exist.
        DataError: the folder is a file.
    """
    parser, verbs = _parsers()
    parsed = below(parser, verbs, argv)
    if parsed is None:
        return 0
    options, _ = parsed
    root = Path(options.folder).expanduser() if options.folder else cache_folder()
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file, not a cache folder")
    things = kept(root)
    if options.older_than is not None:
        before = time.time() - options.older_than * DAY
        things = [thing for thing in things if thing.used < before]
    return _info(root, things, options.json) if options.verb == "info" else _clear(root, things, options)


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    abouts = {"info": "list what is kept, and its size", "clear": "delete it"}
    parser, verbs = with_verbs("mnerkit cache", _ABOUT, abouts)
    for verb in verbs.values():
        verb.add_argument("--folder", metavar="DIR", help=_FOLDER)
        verb.add_argument(
            "--older-than",
            "--older_than",
            type=_days,
            metavar="DAYS",
            help="only what was not used for so many days",
        )
        verb.add_argument("--json", action="store_true", help="print JSON")
    verbs["clear"].add_argument("--yes", action="store_true", help="do not ask")
    return parser, verbs


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not (math.isfinite(days) and days >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days")
    return days


def _info(root: Path, things: list[Kept], as_json: bool) -> int:
    if as_json:
        content = {"folder": str(root), "bytes": _bytes(things), "kept": [thing.plain() for thing in things]}
        show(json_text(content, 2))
        return 0
    if not things:
        show(f"nothing is kept in {root}")
        return 0
    rows = [
        [thing.kind, thing.path.name[:12], thing.about, thing.entries, _size(thing.bytes), _age(thing.used)]
        for thing in things
        if not thing.problem
    ]
    show(f"{root}: {_size(_bytes(things))}")
    if rows:
        show(table(["kind", "name", "what", "inputs", "size", "last used"], rows))
    _print_problems(things)
    return 0


def _clear(root: Path, things: list[Kept], options: argparse.Namespace) -> int:
    own = [thing for thing in things if not thing.problem]
    files = sum(len(thing.files) for thing in own)
    if not options.json:
        _print_problems(things)
    if own and not options.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{root}: would delete {files} files ({_size(_bytes(own))}); give --yes to do so")
        answer = input(printable(f"delete {files} files ({_size(_bytes(own))}) in {root}? [y/N] "))
        if answer.strip().lower() not in ("y", "yes"):
            show("nothing was deleted")
            return 0
    count, freed = clear(own)
    left = [thing for thing in things if thing.problem]
    if options.json:
        report = {"folder": str(root), "files": count, "bytes": freed, "left": [thing.plain() for thing in left]}
        show(json_text(report, 2))
    else:
        show(f"deleted {count} files, {_size(freed)}, in {root}")
    return 1 if left else 0


def _print_problems(things: list[Kept]) -> None:
    for thing in things:
        if thing.problem:
            complain(f"{thing.path} {thing.problem}; it is left alone")


def _bytes(things: list[Kept]) -> int:
    return sum(thing.bytes for thing in things)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _age(used: float) -> str:
    days = max(0.0, time.time() - used) / DAY
    return "today" if days < 1 else f"{days:.0f} days ago"
