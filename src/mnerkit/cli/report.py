"""`mnerkit report RUNS... --out report/`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mnerkit.cli.arguments import Parser, positive, read
from mnerkit.errors import DataError, UsageError
from mnerkit.printable import complain, show
from mnerkit.scoring.draws import DRAWS

ABOUT = """Tables and one HTML page from run folders.

A run is named by its folder, by a folder above it, or by a pattern in quotes. --tables names table files, as `mnerkit
reproduce` writes them, or folders above them; without any, the runs make one table. Each table is written as CSV (a
line a cell), Markdown and LaTeX below DIR/tables; DIR/index.html holds everything and loads nothing.
"""


def main(argv: list[str]) -> int:
    """Write a report; return 0.

    Raises:
        UsageError: an option that does not exist, nothing to report on, or a folder that holds something else.
        DataError: nothing that was named can be reported on.
    """
    options = _options(argv)
    from mnerkit.report.folders import run_folders
    from mnerkit.report.page.writing import check_folder, write_report

    out = Path(options.out)
    check_folder(out, options.overwrite)
    tables, runs = _tables(options.tables), run_folders(options.runs)
    picture_bytes = options.picture_mb * 1_000_000
    seeds = options.draw == "posts,seeds"
    done = write_report(out, tables, runs, options.title, options.root, options.posts, picture_bytes, seeds)
    for problem in done.problems:
        complain(problem)
    page = out / "index.html"
    left = f"; {len(done.problems)} left out" if done.problems else ""
    show(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB) and {len(done.files) - 1} files of tables{left}")
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        "mnerkit report", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("runs", nargs="*", metavar="RUN", help="run folders, folders above them, or patterns")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder of the report; made where it is missing")
    parser.add_argument(
        "--tables", nargs="+", default=[], metavar="FILE", help="table.json files, or folders above them"
    )
    parser.add_argument("--title", default="mnerkit report", metavar="TEXT", help="title of the page")
    parser.add_argument(
        "--root", type=Path, metavar="DIR", help="folder of the corpora, for the pictures (default: each run's own)"
    )
    parser.add_argument(
        "--posts",
        type=positive,
        default=4000,
        metavar="N",
        help="at most N posts of a split in the page (default: 4000)",
    )
    parser.add_argument(
        "--picture-mb",
        "--picture_mb",
        type=_megabytes,
        default=3,
        metavar="N",
        help="at most N MB of pictures in the page (default: 3; 0: none)",
    )
    parser.add_argument(
        "--draw",
        default="posts",
        choices=DRAWS[:2],  # a table has no folds
        metavar="WHAT",
        help="what tests draw: posts, or posts,seeds, which needs two seeds a row (default: posts)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a report that is there")
    options = read(parser, argv)
    if not options.runs and not options.tables:
        raise UsageError(
            "`mnerkit report` takes run folders, or --tables FILE..., or both.\nSee mnerkit report --help."
        )
    return options


def _megabytes(text: str) -> int:
    return 0 if text == "0" else positive(text)


def _tables(names: Sequence[str]) -> list[Path]:
    """The table files that are named, or lie below a folder that is named."""
    paths: dict[Path, None] = {}
    for name in names:
        path = Path(name)
        files = sorted(path.rglob("table.json")) if path.is_dir() else [path]
        if not files or not files[0].exists():
            raise DataError(f"no table file at {name}; `mnerkit reproduce` writes them, one table.json a table")
        paths |= dict.fromkeys(files)
    return list(paths)
