"""`mnerkit runs`: a table of runs and scores; `mnerkit runs compare`: one method against another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mnerkit import runs
from mnerkit.cli.arguments import Parser, refuse
from mnerkit.errors import DataError
from mnerkit.text_table import table

FIGURES = {"dev": ("dev", "f1"), "test": ("test", "f1"), "test_strict": ("test", "f1_strict")}


def main(argv: list[str]) -> int:
    """Print the runs below a folder, or compare two."""
    if argv[:1] == ["compare"]:
        from mnerkit.cli import comparing

        return comparing.main(argv[1:])
    parser = Parser(
        "mnerkit runs",
        description="A table of runs and their scores. `mnerkit runs compare A B` compares two of them.",
        allow_abbrev=False,
    )
    parser.add_argument("folder", nargs="?", default="runs", help="where run folders lie (default: runs)")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    parser.add_argument(
        "--by-seed",
        "--by_seed",
        action="store_true",
        help="one line for the finished runs that differ in nothing but the seed: mean and 95 %% t-interval",
    )
    options, rest = parser.parse_known_args(argv)
    refuse(parser, rest)
    root = Path(options.folder)
    if not root.is_dir():
        raise DataError(f"no folder {root}; runs appear there once `mnerkit fit` has started one")
    found = list(runs.find(root))
    rows = _by_seed(found) if options.by_seed else [_row(folder) for folder in found]
    if options.json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False))
    elif not rows:
        print(f"no {'finished ' if options.by_seed else ''}runs below {root}")
    elif options.by_seed:
        print(_seeds_table(rows))
    else:
        heads = ["plugin", "corpus", "name", "seed", "state", "epochs", "dev F1", "test F1", "strict"]
        keys = ("plugin", "corpus", "name", "seed", "state", "epochs", *FIGURES)
        print(table(heads, [[row[key] for key in keys] for row in rows]))
    return 0


def _row(folder: runs.RunFolder) -> dict[str, Any]:
    """Plain figures of one run; a damaged file shows as such and hides no other run."""
    plugin, corpus, name = folder.path.parts[-3:]
    row: dict[str, Any] = {"plugin": plugin, "corpus": corpus, "name": name, "path": str(folder.path)}
    row |= {"seed": None, "state": "unfinished", "epochs": None, **dict.fromkeys(FIGURES)}
    try:
        row["seed"] = folder.config().get("seed")
        if folder.finished:
            metrics = folder.metrics()
            row["state"] = "finished"
            row["epochs"] = metrics.get("epochs")
            row |= {key: metrics.get(split, {}).get(name) for key, (split, name) in FIGURES.items()}
    except DataError:
        row["state"] = "damaged"
    return row


def _by_seed(found: list[runs.RunFolder]) -> list[dict[str, Any]]:
    """Finished runs of one configuration in one row: seeds, and mean and half width of the interval of each figure."""
    from mnerkit.cli.options import digest
    from mnerkit.tagging.intervals import mean_interval

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
