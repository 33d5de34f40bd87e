"""Kept results go on under today's identity of a run: `python benchmarks/carry_over.py kept|cells ...`.

Until 0.1.0 a digest of the source files was a part of a run's identity; now three behaviour numbers are. Results whose
configuration, data and weights are the same are the same results, if the code computes the same. That can't be seen
here: the golden tests, and runs at both commits with equal predictions, speak for it.

    carry_over.py kept --root DIR [--keep DIR]    runs of `mnerkit reproduce --keep`: configurations become whole, with
                                                  every option's value, digests and names of files today's
    carry_over.py note FILE --root DIR            in a checkout of the earlier commit, with this file laid beside its
                                                  benchmarks: configuration and digest of each cell of `cells.py`
    carry_over.py cells FILE --root DIR           rows of cells that were up to date at the earlier commit get today's
                                                  digest, and keep the one that they were measured with as `measured`

What is of other data or other weights than those that are here is left as it is, and so is a row that was out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bench_fewshot
import bench_methods
import cells
from bench_quality import minilm

from mnerkit.atomic_files import write_json, write_lines

RESULTS = Path(__file__).resolve().parent / "results"
FEWSHOT = (("twitter2015", "frozen"), ("twitter2017", "frozen"), ("twitter2017", "trained"))


# ---------------------------------------------------------------------- runs of a sweep


def carry_kept(folder: Path, places: Mapping[str, str]) -> tuple[int, list[str]]:
    """Give the kept runs of a folder today's digests, in their files and in the names of these.

    Args:
        folder: of kept runs, see `mnerkit.reproduce.run_archive`.
        places: what stands for paths in it -> the paths here.

    Returns:
        How many have today's digest, and a line about each of the others.
    """
    from mnerkit.reproduce.run_archive import RunArchive
    from mnerkit.runs.config.configuration import filled
    from mnerkit.runs.identity import digest_of, reads_of
    from mnerkit.runs.run_folder import as_written

    archive = RunArchive.read(folder, places)
    carried, left = 0, []
    for row, path in [(archive.rows[digest], archive.files[digest]) for digest in archive.rows]:
        config = filled(archive.moved(row["config"], back=True))
        if reads_of(config) != row["reads"]:
            left.append(f"{path.name}: of other data or weights than those that are here")
            continue
        digest = digest_of(config)
        whole = archive.moved(as_written(config), back=False)
        here = path.with_name(path.name.replace(row["digest"], digest))
        write_json(here, {**row, "digest": digest, "config": whole})
        if here != path:
            path.unlink()
        carried += 1
    return carried, left


# ---------------------------------------------------------------------- cells


def benches(root: str) -> Iterator[tuple[Path, cells.Bench]]:
    """The benchmarks of cells, each with the file of its rows."""
    for corpus, tower in FEWSHOT:
        runs = Path("runs") / "bench-fewshot" / f"{corpus}-{tower}"
        path = RESULTS / f"fewshot-{corpus}-{tower}.jsonl"
        yield path, bench_fewshot.Bench(corpus, root, str(runs), tower)
    runs = Path("runs") / "bench-methods" / "whole"
    yield RESULTS / f"methods-{bench_methods.CORPUS}.jsonl", bench_methods.Bench(bench_methods.CORPUS, root, str(runs))


def trained_by(bench: cells.Bench, cell: Any, resolve: Callable[[Sequence[str]], dict[str, Any]]) -> list[Any]:
    """All that is typed for a cell: its configuration, and that of the training of its tower where it has one.

    The folder of a trained tower is named by a digest, so the name is left out.
    """
    config = bench.config(cell)
    if not isinstance(bench, bench_fewshot.Bench) or bench.kind == "frozen":
        return [config]
    return [{**config, "model": {**config["model"], "text": "trained"}}, resolve(bench.training(cell.split))]


def note(root: str) -> dict[str, dict[str, Any]]:
    """File of rows -> name of a cell -> its digest and what is typed for it, at the commit that is checked out."""
    return {
        path.name: {
            cell.name: {"digest": bench.digest(cell), "typed": trained_by(bench, cell, _resolved)}
            for cell in map(bench.cell.of, cells.read_rows(path))
        }
        for path, bench in benches(root)
    }


def _resolved(argv: Sequence[str]) -> dict[str, Any]:
    try:
        from mnerkit.cli.method_verbs import configuration_of
    except ImportError:  # until 0.1.0
        from mnerkit.cli.reproduce import commands  # type: ignore[attr-defined]

        return dict(commands().resolve(argv[1:]))
    return configuration_of(argv).content


def carry_cells(bench: cells.Bench, path: Path, noted: Mapping[str, Mapping[str, Any]]) -> tuple[int, int, int]:
    """Give the rows that were up to date, and whose cells are configured as they were, today's digests.

    Args:
        bench: what the cells share.
        path: file of the rows.
        noted: cell -> its digest and what was typed for it at the earlier commit, see `note`.

    Returns:
        How many rows were carried over, were out of date, and are of another configuration today.
    """
    from mnerkit.runs.config.configuration import filled
    from mnerkit.runs.identity import canonical

    rows, carried, stale, other = [], 0, 0, 0
    for row in cells.read_rows(path):
        cell = bench.cell.of(row)
        before = noted.get(cell.name)
        rows.append(row)
        if before is None or before["digest"] != row["digest"]:
            stale += 1
        elif [canonical(filled(each)) for each in before["typed"]] != [
            canonical(each) for each in trained_by(bench, cell, _resolved)
        ]:
            other += 1
        else:
            rows[-1] = {**row, "digest": bench.digest(cell), "measured": row.get("measured", row["digest"])}
            carried += 1
    write_lines(path, rows)
    return carried, stale, other


def main() -> int:
    """Carry over what is asked for, and print how much of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kept", "note", "cells"])
    parser.add_argument("file", nargs="?", type=Path, help="of note and cells")
    parser.add_argument("--root", required=True, help="folder of the corpora and captions")
    parser.add_argument("--keep", type=Path, default=RESULTS / "tweets", help="folder of kept runs")
    asked = parser.parse_args()
    if (asked.what == "kept") != (asked.file is None):
        parser.error(f"{asked.what} takes {'no file' if asked.file else 'a FILE'}")
    if asked.what == "kept":
        from mnerkit.reproduce.experiments.profiles import tower_name
        from mnerkit.reproduce.grid import ROOT

        tower = str(minilm())
        carried, left = carry_kept(asked.keep, {ROOT: asked.root, f"<{tower_name(tower)}>": tower})
        print("\n".join([*left, f"{carried} runs of {asked.keep} have today's digest, {len(left)} stay as they are"]))
    elif asked.what == "note":
        write_json(asked.file, note(asked.root))
    else:
        noted = json.loads(asked.file.read_text("utf-8"))
        for path, bench in benches(asked.root):
            carried, stale, other = carry_cells(bench, path, noted[path.name])
            print(f"{path.name}: {carried} rows carried over, {stale} out of date before, {other} configured otherwise")
    return 0


if __name__ == "__main__":
    sys.exit(main())
