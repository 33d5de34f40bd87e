"""`mnerkit runs`: a table of runs and scores, sorted, filtered, exported; and verbs: compare, repeat, rescore."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import is_figure, write_text
from mnerkit.cli.arguments import Parser, out_file, read
from mnerkit.errors import DataError, UsageError
from mnerkit.printable import json_text, show
from mnerkit.report.tables import run_query
from mnerkit.runs import run_folder
from mnerkit.runs.run_index import indexed
from mnerkit.runs.tiny_towers import tiny_towers
from mnerkit.text_table import table

VERBS = {"compare": "runs_compare", "repeat": "runs_repeat", "rescore": "runs_rescore"}
FIGURES = {"dev": ("dev", "f1"), "test": ("test", "f1"), "test_strict": ("test", "f1_strict")}
GROUP = ("plugin", "corpus", "ablation", "config")  # what runs that differ in the seed alone have in common
HEADS = ("dev F1", "test F1", "strict")
ABOUT = """A table of runs and their scores. Other verbs: `mnerkit runs compare A B` tests one run against another;
`mnerkit runs repeat RUN [--dry-run]` trains a run again, or prints the command, and says whether the figures are the
same; `mnerkit runs rescore [FOLDER]` computes figures anew from kept predictions."""


def main(argv: list[str]) -> int:
    """Print the runs below a folder, or run one of the other verbs."""
    if argv[:1] and argv[0] in VERBS:
        return import_module(f"mnerkit.cli.{VERBS[argv[0]]}").main(argv[1:])
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
    folders = list(run_folder.find(root))
    contents = indexed(root, folders, _content)
    content_of = {str(folder.path): content for folder, content in zip(folders, contents, strict=True)}
    rows = run_query.matching([_row(folder, content_of[str(folder.path)]) for folder in folders], conditions)
    if options.by_seed:
        rows = _by_seed(rows, content_of)
    if options.sort:
        rows = run_query.in_order(rows, options.sort, FIGURES)
    if out is not None:
        write_text(out, run_query.exported(rows, out.suffix, FIGURES))
        show(f"wrote {out}: {len(rows)} {'run' if len(rows) == 1 else 'runs'}")
    elif options.json:
        for row in rows:
            show(json_text(row))
    elif not rows:
        kind = "finished " if options.by_seed else ""
        show(f"no {kind}runs below {root}{' of which all of that holds' if conditions else ''}")
    elif options.by_seed:
        body = [
            [*(row[key] for key in GROUP), " ".join(row["seeds"]), *(_mean(row[key]) for key in FIGURES)]
            for row in rows
        ]
        show(table(["plugin", "corpus", "ablation", "configuration", "seeds", *HEADS], body))
    else:
        keys = ["plugin", "corpus", "name", "ablation", "seed", "state", "epochs"]
        show(table([*keys, *HEADS], [[row[key] for key in (*keys, *FIGURES)] for row in rows]))
        if toys := [row["name"] for row in rows if content_of[row["path"]].get("tiny_towers")]:
            show(f"with tiny towers, made for the probe corpus, on other posts: {', '.join(toys)}")
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


def _row(folder: run_folder.RunFolder, content: Mapping[str, Any]) -> dict[str, Any]:
    """Plain figures of one run."""
    plugin, corpus, name = ("-", "-", *folder.path.absolute().parts)[-3:]
    row: dict[str, Any] = {"plugin": plugin, "corpus": corpus, "name": name, "path": str(folder.path)}
    row |= {"ablation": None, "seed": None, "state": "unfinished", "epochs": None, **dict.fromkeys(FIGURES)}
    return row | {key: content[key] for key in row if key in content}


def _content(folder: run_folder.RunFolder) -> dict[str, Any]:
    """What a row needs of a run's files; a damaged file shows as such and hides no other run.

    Besides of a finished run the digest of its configuration, and whether it has tiny towers on other posts than the
    probe's.
    """
    content: dict[str, Any] = {}
    try:
        config = folder.config()
        run_folder.deciding(config)
        content |= {"ablation": config.get("ablation"), "seed": config.get("seed")}
        if folder.finished:
            metrics = folder.metrics()
            figures = {key: _score(metrics, *place) for key, place in FIGURES.items()}
            content |= {"state": "finished", "epochs": metrics.get("epochs"), **figures}
            origin = run_folder.origin_of(metrics)
            if origin != "trained":  # its folder may lie anywhere
                content |= {"state": origin, "plugin": config.get("plugin"), "corpus": config["data"]["corpus"]}
        if content.get("state") == "finished":
            content |= {"digest": run_folder.digest(config), "tiny_towers": bool(tiny_towers(config))}
    except (DataError, AttributeError, TypeError, ValueError, RecursionError):  # of a configuration that is none
        content["state"] = "damaged"
    return content


def _score(metrics: Mapping[str, Any], split: str, name: str) -> float | None:
    """A score of a run; None where it has none.

    Raises:
        DataError: it is no number.
    """
    scores = metrics.get(split)
    score = scores.get(name) if isinstance(scores, Mapping) else None
    if score is not None and not is_figure(score):
        raise DataError(f"{split} {name} is no figure")
    return score


def _by_seed(rows: list[run_query.Row], content_of: Mapping[str, Mapping[str, Any]]) -> list[run_query.Row]:
    """Finished runs of one configuration in one row: seeds, and mean and half width of the interval of each figure."""
    from mnerkit.scoring.intervals import mean_interval

    groups: dict[tuple[str, ...], list[run_query.Row]] = {}
    for row in rows:
        if row["state"] == "finished":
            key = (row["plugin"], row["corpus"], str(row["ablation"] or "full"), content_of[row["path"]]["digest"])
            groups.setdefault(key, []).append(row)
    means: list[run_query.Row] = []
    for group, members in groups.items():
        mean: run_query.Row = dict(zip(GROUP, group, strict=True))
        mean["seeds"] = sorted({str(row["seed"]) for row in members}, key=lambda seed: (len(seed), seed))
        for figure in FIGURES:
            # two runs of one seed (under two names) are one measurement
            values = {str(row["seed"]): row[figure] for row in members if row[figure] is not None}
            mean[figure] = mean_interval(list(values.values()))._asdict() if values else None
        means.append(mean | {"runs": [row["path"] for row in members]})
    return means


def _mean(mean: dict[str, Any] | None) -> str:
    if mean is None:
        return "-"
    return f"{mean['mean']:.2f}" + ("" if mean["half"] is None else f" ± {mean['half']:.2f}")
