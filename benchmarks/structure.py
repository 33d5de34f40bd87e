"""How the source is built: `make structure` prints figures of this checkout, their bars and those of the start commit.

By these figures the redesign into rooms is measured. The modules beside this one say by which rules they count:
`source_counts.py` (lines, names, imports), `option_places.py` (where an option is written) and `first_loss.py` (files
that take part in a training).

The training is `mnerkit fit --plugin gmf` on the probe, in a new run folder. Its tiny towers come from the cache, as
in a user's second run and later ones: the same command fills it before, for one epoch. Times are medians of five runs
on the clock, which other work on the machine disturbs, and of the processor's time, which it disturbs less.

A `!` marks a figure that misses its bar. No bar ends this program with an error: `make structure` reports.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import option_places
import source_counts

CHECKOUT = Path(__file__).resolve().parents[1]
START = Path(__file__).resolve().parent / "results" / "structure-start.json"
Figures = dict[str, Any]

# the rooms of methods and their mathematics, under today's names and those of the start commit
METHODS = ("plugins", "nn", "towers", "methods", "scoring", "encoders", "tagging")
# `mnerkit` is the package's own two modules, which call these rooms and no others; `runs` and `provenance` were modules
COMMANDS = ("cli", "runs", "provenance", "reproduce", "report", source_counts.FACE)
TAGGERS = ("hvpnet", "gmf", "gifr", "tpm_mi", "bert", "cross")
TRAINING = ("fit", "--plugin", "gmf")
TIMED = (
    ("--help",),
    ("plugins",),
    ("data", "--help"),
    ("fit", "--plugin", "gmf", "--help"),
    ("fit", "--plugin", "gmf", "--model.csa_dilatoin", "3"),
)
REPEATS = 5


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        figure: its name in the figures.
        what: what is counted.
        bar: the bar as printed, empty where there is none.
        met: whether a figure meets the bar; takes the figure and that of the start commit.
    """

    figure: str
    what: str
    bar: str = ""
    met: Callable[[Any, Any], bool] = lambda figure, start: True


def rows(figures: Figures) -> list[Row]:
    """The lines of the table, in order."""
    return [
        Row("share", "plugins, nn, towers, methods, scoring, % of all code lines", ">= 42", lambda x, _: x >= 42),
        Row("commands", "code lines of cli, runs, reproduce, report", "<= 6400", lambda x, _: x <= 6400),
        Row("code", "code lines in all", "<= 19000", lambda x, _: x <= 19000),
        *(Row(f"code {room}", f"  {room}") for room in figures["rooms"]),
        Row("first loss", "files up to the first loss", "<= 0.75 of the start", lambda x, start: x <= 0.75 * start),
        Row("places most", "places of one option of a plugin, most", "1", lambda x, _: x <= 1),
        Row("places mean", "places of one option of a plugin, mean", "1", lambda x, _: x <= 1),
        Row("options", "  options, counted in each plugin that has them"),
        Row("longest", "lines of the longest file", "<= 350", lambda x, _: x <= 350),
        Row("fullest", "most modules in one folder", "<= 16", lambda x, _: x <= 16),
        Row("rooms shared", "module names in two rooms", "0, but like parts of like things", lambda x, _: x == 0),
        Row("folders shared", "module names in two folders"),
        Row("upward", "imports that run up", "0", lambda x, _: x == 0),
        Row("circles", "circles of imports", "0", lambda x, _: x == 0),
        Row("package circles", "  more by way of a package's __init__"),
        *(Row(f"tagger {name}", f"lines of {name}/tagger.py", "<= 45", lambda x, _: x <= 45) for name in TAGGERS),
        Row("readme", "words of the README", "<= 1200", lambda x, _: x <= 1200),
        *(row for argv in TIMED for row in _time_rows(" ".join(argv))),
    ]


def _time_rows(command: str) -> list[Row]:
    what = f"seconds of mnerkit {command}"
    return [Row(f"time {command}", what, "<= 0.4", lambda x, _: x <= 0.4), Row(f"cpu {command}", "  of the processor")]


def counted(root: Path) -> tuple[Figures, dict[str, list[str]]]:
    """The figures that need nothing but the source, and what they are made of: names, imports, circles.

    Args:
        root: a checkout.
    """
    modules = source_counts.modules(root)
    by_room = source_counts.lines_by_room(modules)
    lines = {module.path: len(module.code.splitlines()) for module in modules}
    rooms = source_counts.names_in_two_rooms(modules)
    folders = source_counts.names_in_two_folders(modules)
    upward = source_counts.upward_imports(modules)
    circles = source_counts.circles(modules)
    total = sum(by_room.values())
    fullest, most = source_counts.modules_by_folder(modules).most_common(1)[0]
    places = option_places.option_places(root)
    written = option_places.summary(places)
    methods = {room for room in METHODS if room in by_room}
    figures: Figures = {
        "share": round(100 * sum(by_room[room] for room in methods) / total, 1),
        "commands": sum(by_room[room] for room in COMMANDS),
        "code": total,
        "rooms": [room for room, _ in by_room.most_common()],
        **{f"code {room}": number for room, number in by_room.items()},
        "places most": written["most"],
        "places mean": written["mean"],
        "options": written["options"],
        "longest": max(lines.values()),
        "fullest": most,
        "rooms shared": len(rooms),
        "folders shared": len(folders),
        "upward": len(upward),
        "circles": len(circles),
        "package circles": len(source_counts.circles(modules, packages=True)) - len(circles),
        **{f"tagger {name}": lines[f"plugins/{name}/tagger.py"] for name in TAGGERS},
        "readme": len((root / "README.md").read_text(encoding="utf-8").split()),
    }
    details = {
        "the longest file": [max(lines, key=lambda path: lines[path])],
        "files of more than 350 lines": sorted(path for path, number in lines.items() if number > 350),
        "the fullest folder": [fullest],
        "module names in two rooms": [f"{name}: {', '.join(where)}" for name, where in rooms.items()],
        "imports that run up": upward,
        "circles of imports": [" <-> ".join(circle) for circle in circles],
        "options in most places": [
            f"{plugin}: {option}" for (plugin, option), found in places.items() if len(found) == written["most"]
        ],
    }
    return figures, details


def files_to_first_loss(root: Path) -> list[str]:
    """The files of `root` with a function called between `mnerkit fit --plugin gmf` and the first loss.

    Raises:
        RuntimeError: the training ended without a loss, or mnerkit is that of another checkout.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "files.json"
        env = {**os.environ, "WANDB_MODE": "disabled"}
        warm = [sys.executable, "-m", "mnerkit", *TRAINING, "--trainer.max_epochs", "1"]
        watched = [sys.executable, str(Path(__file__).with_name("first_loss.py")), str(root), str(out), *TRAINING]
        for name, command in (("warm", warm), ("watched", watched)):
            print(f"running `{' '.join(TRAINING)}` ({name})", file=sys.stderr)
            cwd = Path(folder) / name
            cwd.mkdir()
            done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return json.loads(out.read_text(encoding="utf-8"))


def times() -> Figures:
    """Median seconds of each command of TIMED, on the clock and of the processor."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for argv in TIMED:
            taken = [_seconds(argv, folder) for _ in range(REPEATS)]
            for kind, seconds in zip(("time", "cpu"), zip(*taken, strict=True), strict=True):
                figures[f"{kind} {' '.join(argv)}"] = round(statistics.median(seconds), 2)
    return figures


def _seconds(argv: Sequence[str], cwd: str) -> tuple[float, float]:
    """Seconds of one call, on the clock and of the processor."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "mnerkit", *argv], cwd=cwd, capture_output=True, check=False)
    clock, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(figures: Figures, start: Mapping[str, Any]) -> list[str]:
    """The lines that are printed; a figure that misses its bar is marked with `!`."""
    rooms = [*figures["rooms"], *(room for room in start.get("rooms", []) if room not in figures["rooms"])]
    lines = [("what", "today", "bar", "start commit")]
    for row in rows({**figures, "rooms": rooms}):
        figure, before = figures.get(row.figure), start.get(row.figure)
        if figure is None and not row.figure.startswith("code "):
            continue
        missed = figure is not None and not row.met(figure, figure if before is None else before)
        lines.append((row.what, f"{_text(figure)}{' !' if missed else ''}", row.bar, _text(before)))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _text(figure: Any) -> str:
    return "" if figure is None else str(figure)


def main() -> int:
    """Count, print the table and what lies behind it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=CHECKOUT, help="the checkout that is counted (default: this one)")
    parser.add_argument("--source", action="store_true", help="only what needs no run: without the first loss")
    parser.add_argument("--times", action="store_true", help="time help and errors, too")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the figures to a JSON file")
    options = parser.parse_args()
    root = options.root.resolve()
    figures, details = counted(root)
    if not options.source:
        files = files_to_first_loss(root)
        figures["first loss"] = len(files)
        details["files up to the first loss"] = files
    if options.times:
        figures |= times()
    if options.keep is not None:
        options.keep.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print("\n".join(table(figures, json.loads(START.read_text(encoding="utf-8")) if START.is_file() else {})))
    for what, found in details.items():
        print(f"\n{what} ({len(found)})")
        for each in found:
            print(f"  {each}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
