"""`mnerkit runs`: a table of runs and scores, sorted, filtered, exported; `compare` and `repeat` are verbs of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import is_figure, write_text
from mnerkit.cli.arguments import Parser, out_file, read
from mnerkit.errors import DataError, UsageError
from mnerkit.report.tables import run_query
from mnerkit.runs import run_folder
from mnerkit.text_table import table

FIGURES = {"dev": ("dev", "f1"), "test": ("test", "f1"), "test_strict": ("test", "f1_strict")}
ABOUT = """A table of runs and their scores. Other verbs: `mnerkit runs compare A B` tests one run against another;
`mnerkit runs repeat RUN [--dry-run]` trains a run again, or prints the command, and says whether the figures are the
same."""


def main(argv: list[str]) -> int:
    """Print the runs below a folder, or compare two."""
    if argv[:1] == ["compare"]:
        from mnerkit.cli import runs_compare

        return runs_compare.main(argv[1:])
    if argv[:1] == ["repeat"]:
        from mnerkit.cli import runs_repeat

        return runs_repeat.main(argv[1:])
    parser = _parser()
    options = read(parser, argv)
    out = None
    if options.export:
        if Path(options.export).suffix not in (".csv", ".json"):
            raise UsageError(f"--export {options.export}: the name of the file ends in .csv or .json")
        out = out_file(options.export, options.overwrite, "--export")
    conditions = [run_query.condition(text) for text in options.where]
    root = Path(options.folder)
    if not root.is_dir():
        raise DataError(f"no folder {root}; runs appear there once `mnerkit fit` has started one")
    found = list(run_folder.find(root))
    if conditions:
        facts = [run_query.facts_of(folder) | _row(folder) for folder in found]
        run_query.check_keys(conditions, facts)
        found = [folder for folder, own in zip(found, facts, strict=True) if run_query.passes(own, conditions)]
    rows = _by_seed(found) if options.by_seed else [_row(folder) for folder in found]
    if options.sort:
        rows = run_query.in_order(rows, options.sort, FIGURES)
    if out is not None:
        write_text(out, run_query.exported(rows, out.suffix, FIGURES))
        print(f"wrote {out}: {len(rows)} {'run' if len(rows) == 1 else 'runs'}")
    elif options.json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
    elif not rows:
        kind = "finished " if options.by_seed else ""
        print(f"no {kind}runs below {root}{' of which all of that holds' if conditions else ''}")
    elif options.by_seed:
        print(_seeds_table(rows))
    else:
        heads = ["plugin", "corpus", "name", "ablation", "seed", "state", "epochs", "dev F1", "test F1", "strict"]
        keys = ("plugin", "corpus", "name", "ablation", "seed", "state", "epochs", *FIGURES)
        print(table(heads, [[row[key] for key in keys] for row in rows]))
    return 0


def _parser() -> Parser:
    parser = Parser("mnerkit runs", description=ABOUT, allow_abbrev=False)
    parser.add_argument("folder", nargs="?", default="runs", help="where run folders lie (default: runs)")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument(
        "--by-seed",
        "--by_seed",
        action="store_true",
        help="one line for the finished runs that differ in nothing but the seed: mean and 95 %% t-interval",
    )
    parser.add_argument(
        "--sort",
        metavar="COLUMN",
        help="by a column of --json, for instance test, dev, seed or plugin; the highest dev, test and test_strict "
        "come first (--sort=-COLUMN: the other way round)",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs of which this holds: a column, an option (model.lr) or a score (test/recall); also !=, <, >, "
        "<=, >=; may be given several times",
    )
    parser.add_argument("--export", metavar="FILE", help="write the table into FILE.csv or FILE.json")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --export")
    return parser


def _row(folder: run_folder.RunFolder) -> dict[str, Any]:
    """Plain figures of one run; a damaged file shows as such and hides no other run."""
    plugin, corpus, name = ("-", "-", *folder.path.absolute().parts)[-3:]
    row: dict[str, Any] = {"plugin": plugin, "corpus": corpus, "name": name, "path": str(folder.path)}
    row |= {"ablation": None, "seed": None, "state": "unfinished", "epochs": None, **dict.fromkeys(FIGURES)}
    try:
        config = folder.config()
        if not isinstance(config, dict):
            raise DataError(f"{folder.config_file}: not a configuration")
        run_folder.deciding(config)
        row |= {"ablation": config.get("ablation"), "seed": config.get("seed")}
        if folder.finished:
            metrics = folder.metrics()
            figures = {key: _score(metrics, *place) for key, place in FIGURES.items()}
            row |= {"state": "finished", "epochs": metrics.get("epochs"), **figures}
    except (DataError, AttributeError, TypeError, ValueError, RecursionError):  # of a configuration that is none
        row["state"] = "damaged"
    return row


def _score(metrics: Mapping[str, Any], split: str, name: str) -> float | None:
    """A score of a run; None where it has none.

    Raises:
        DataError: what stands there is no number.
    """
    scores = metrics.get(split)
    found = scores.get(name) if isinstance(scores, Mapping) else None
    if found is not None and not is_figure(found):
        raise DataError(f"{split} {name} is no figure")
    return found


def _by_seed(found: list[run_folder.RunFolder]) -> list[dict[str, Any]]:
    """Finished runs of one configuration in one row: seeds, and mean and half width of the interval of each figure."""
    from mnerkit.runs.run_folder import digest
    from mnerkit.scoring.intervals import mean_interval

    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for folder in found:
        row = _row(folder)
        if row["state"] == "finished":
            config = folder.config()
            named = (row["plugin"], row["corpus"], str(config.get("ablation") or "full"), digest(config))
            groups.setdefault(named, []).append(row)
    made = []
    for (plugin, corpus, ablation, name), rows in groups.items():
        seeds = sorted({str(row["seed"]) for row in rows}, key=lambda seed: (len(seed), seed))
        row = {"plugin": plugin, "corpus": corpus, "ablation": ablation, "config": name, "seeds": seeds}
        for key in FIGURES:
            # two runs of one seed (under two names) are one measurement
            values = {str(each["seed"]): each[key] for each in rows if each[key] is not None}
            row[key] = dict(mean_interval(list(values.values()))._asdict()) if values else None
        made.append({**row, "runs": [each["path"] for each in rows]})
    return made


def _seeds_table(rows: list[dict[str, Any]]) -> str:
    heads = ["plugin", "corpus", "ablation", "configuration", "seeds", "dev F1", "test F1", "strict"]
    body = [
        [row["plugin"], row["corpus"], row["ablation"], row["config"], " ".join(row["seeds"])]
        + [_figure(row[key]) for key in FIGURES]
        for row in rows
    ]
    return table(heads, body)


def _figure(found: dict[str, Any] | None) -> str:
    if found is None:
        return "-"
    return f"{found['mean']:.2f}" + ("" if found["half"] is None else f" ± {found['half']:.2f}")
