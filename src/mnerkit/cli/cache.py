"""`mnerkit cache info|clear`: what is kept between runs, and how to be rid of it."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from mnerkit.cli.arguments import Parser, below, with_verbs
from mnerkit.data.features.cache_folder import Kept, cache_folder, clear, kept
from mnerkit.errors import DataError, UsageError
from mnerkit.text_table import table

DAY = 86_400.0
_FOLDER = "the cache folder, as runs name it with --data.cache (default: $MNERKIT_CACHE, else the user's)"
_ABOUT = """Outputs of frozen towers, and tiny towers as they were trained: kept so that they are computed once.
All of it can be made again. Nothing but the cache's own files is ever deleted. A run with --data.cache none keeps
nothing here.
"""


def main(argv: list[str]) -> int:
    """Run one of the verbs; return the exit code: 1 where something was left that is not the cache's own.

    Raises:
        UsageError: an option or name that does not exist.
        DataError: the folder is a file.
    """
    parser, verbs = _parsers()
    read = below(parser, verbs, argv)
    if read is None:
        return 0
    options, _ = read
    root = Path(options.folder).expanduser() if options.folder else cache_folder()
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file, not a cache folder")
    found = kept(root)
    if options.older_than is not None:
        before = time.time() - options.older_than * DAY
        found = [each for each in found if each.used < before]
    return _info(root, found, options.json) if options.verb == "info" else _clear(root, found, options)


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


def _info(root: Path, found: list[Kept], as_json: bool) -> int:
    if as_json:
        print(
            json.dumps({"folder": str(root), "bytes": _bytes(found), "kept": [_row(each) for each in found]}, indent=2)
        )
        return 0
    if not found:
        print(f"nothing is kept in {root}")
        return 0
    rows = [
        [each.kind, each.path.name[:12], _printable(each.about), each.entries, _size(each.bytes), _age(each.used)]
        for each in found
        if not each.problem
    ]
    print(f"{root}: {_size(_bytes(found))}")
    if rows:
        print(table(["kind", "name", "what", "inputs", "size", "last used"], rows))
    _say_problems(found)
    return 0


def _clear(root: Path, found: list[Kept], options: argparse.Namespace) -> int:
    own = [each for each in found if not each.problem]
    files = sum(len(each.files) for each in own)
    if not options.json:
        _say_problems(found)
    if own and not options.yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{root}: would delete {files} files ({_size(_bytes(own))}); give --yes to do so")
        if input(f"delete {files} files ({_size(_bytes(own))}) in {root}? [y/N] ").strip().lower() not in ("y", "yes"):
            print("nothing was deleted")
            return 0
    count, freed = clear(own)
    left = [each for each in found if each.problem]
    if options.json:
        said = {"folder": str(root), "files": count, "bytes": freed, "left": [_row(each) for each in left]}
        print(json.dumps(said, indent=2))
    else:
        print(f"deleted {count} files, {_size(freed)}, in {root}")
    return 1 if left else 0


def _say_problems(found: list[Kept]) -> None:
    for each in found:
        if each.problem:
            print(
                f"mnerkit: {_printable(str(each.path))} {_printable(each.problem)}; it is left alone", file=sys.stderr
            )


def _row(each: Kept) -> dict[str, Any]:
    return {
        "kind": each.kind,
        "path": str(each.path),
        "about": each.about,
        "entries": each.entries,
        "files": len(each.files),
        "bytes": each.bytes,
        "used": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(each.used)),
        "problem": each.problem or None,
    }


def _bytes(found: list[Kept]) -> int:
    return sum(each.bytes for each in found)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _age(used: float) -> str:
    days = max(0.0, time.time() - used) / DAY
    return "today" if days < 1 else f"{days:.0f} days ago"


def _printable(text: str) -> str:
    """Text of a file that anyone may have written, without what steers a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
