"""Files of runs: predictions, scores, tables, figures, curves, runs that are kept, and predictions that go on."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.plain_json import loads, spans, text, text_of, whole
from fuzzing.posts import drawn_post
from fuzzing.reader import Reader
from mnerkit.report import folders
from mnerkit.report.posts.cases import read_run
from mnerkit.report.tables.sweeps import _logged
from mnerkit.report.tables.table_file import read_table
from mnerkit.reproduce.run_archive import RunArchive
from mnerkit.runs import figure_file
from mnerkit.runs.prediction_file import Progress, output
from mnerkit.runs.run import Run
from mnerkit.scoring.post_sets import PostSets
from mnerkit.scoring.scored_images import read_scored_images

# ------------------------------------------------------------------ predictions


def predictions(draw: Random) -> bytes:
    episodic, rows = draw.random() < 0.3, []
    for place in range(draw.randint(1, 6)):
        _, words, tags = drawn_post(draw)
        row: dict[str, Any] = {"id": f"p{place}", "words": words}
        found = spans(tags)
        row["entities"] = [{"type": kind, "start": start, "end": end, "text": "x"} for start, end, kind in found]
        row["gold"] = [list(span) for span in found if draw.random() < 0.8]
        if episodic:
            row |= {"episode": place // 2, "types": ["LOC", "PER"], "support": ["s1", "s2"]}
            row["ignored"] = [0] if draw.random() < 0.3 else []
        rows.append(row)
    return "".join(json.dumps(row, ensure_ascii=draw.random() < 0.5) + "\n" for row in rows).encode()


def read_predictions(path: Path) -> Any:
    rows = Run(path.parent).predictions()
    cases = read_run(path.parent).cases
    found = {
        (key[0], key[1]): (
            list(case.words),
            sorted((span.start, span.end, span.type) for span in case.gold),
            len(case.predicted),
        )
        for key, case in cases.items()
    }
    return len(rows), found


def read_post_set(path: Path) -> Any:
    """By the reader of many systems' predictions; posts may come twice there."""
    posts = PostSets().add_file(path)
    return [
        (
            post.id,
            list(post.words),
            sorted((span.start, span.end, span.type) for span in post.gold),
            len(predicted),
        )
        for post, predicted in zip(posts.posts, posts.predicted(path), strict=True)
    ]


def plain_post_set(path: Path) -> Any:
    return [(key[1], *rest) for key, rest in plain_answers(path)]


def plain_predictions(path: Path) -> Any:
    rows = plain_answers(path)
    assert len(dict(rows)) == len(rows)
    return len(rows), dict(rows)


def plain_answers(path: Path) -> list[Any]:
    rows = [loads(line) for line in text_of(path).removesuffix("\n").split("\n")]
    found = []
    for row in rows:
        ignored = set(map(whole, row.get("ignored", ())))
        kept = [(whole(each["start"]), whole(each["end"]), text(each["type"])) for each in row["entities"]]
        kept = [span for span in set(kept) if not ignored & set(range(span[0], span[1]))]
        gold = sorted({(whole(start), whole(end), text(kind)) for start, end, kind in row["gold"]})
        assert all(0 <= start < end <= len(row["words"]) for start, end, _ in [*gold, *kept])
        episode = row.get("episode")
        key = (-1 if episode is None else whole(episode), text(row["id"]))
        found.append((key, (list(map(text, row["words"])), gold, len(kept))))
    return found


def scored(draw: Random) -> bytes:
    rows = []
    for place in range(draw.randint(1, 6)):
        names = [f"{number}.jpg" for number in range(draw.randrange(4))]
        scores = [round(draw.random(), 4) for _ in names]
        raw = [draw.choice((None, 0.25, -3)) for _ in names]
        rows.append({"id": f"p{place}", "images": names, "scores": scores, "raw": raw})
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def read_scored(path: Path) -> Any:
    return [(row.id, row.images, row.scores, row.raw) for row in read_scored_images(path)]


def plain_scored(path: Path) -> Any:
    found = []
    for line in path.read_bytes().decode().removesuffix("\n").split("\n") if path.stat().st_size else ():
        row = loads(line)
        assert len(row["images"]) == len(row["scores"]) >= len(row["raw"])
        figures = [value for value in row["scores"] + row["raw"] if value is not None]
        assert all(type(value) in (int, float) and math.isfinite(value) for value in figures)
        found.append((text(row["id"]), list(map(text, row["images"])), row["scores"], row["raw"]))
    return found


# ------------------------------------------------------------------ scores and configurations of runs

CONFIG = b"plugin: bilstm\nseed: 3\nmodel: {lr: 0.01}\ndata: {corpus: probe, limit: 30}\ntrainer: {max_epochs: 2}\n"
METRICS = {
    "plugin": "bilstm",
    "seed": 3,
    "epochs": 2,
    "best_epoch": 1,
    "protocol": {"corpus": "probe", "variant": "default", "types": ["PER", "LOC"], "digest": "0" * 64},
    "dev": {"f1": 50.0, "f1_strict": 49.0, "type/PER/f1": 20.5, "confusion": [[1, 2], [3, 4]]},
    "test": {"f1": 40.25, "precision": 41.0, "recall": 39.5},
    "seconds": {"fit": 3.5},
}
ENV = {"mnerkit": "0.1.0", "python": "3.11.7", "packages": {"torch": "2.13.0"}, "command": ["mnerkit", "fit"]}


def metrics(draw: Random) -> bytes:
    changed = json.loads(json.dumps(METRICS))
    changed["test"]["f1"] = round(100 * draw.random(), 4)
    return json.dumps(changed, indent=2 if draw.random() < 0.5 else None).encode()


def env(_: Random) -> bytes:
    return json.dumps(ENV, indent=2).encode()


def config(draw: Random) -> bytes:
    return CONFIG.replace(b"seed: 3", b"seed: %d" % draw.randrange(99))


def read_run_folder(path: Path) -> Any:
    record = folders.read(path.parent)
    shown = [record.plugin, record.ablation, record.seed, record.corpus, record.label, record.configuration]
    assert all(shown[3:]) and isinstance(record.settings, dict)
    scores = {split: record.figure(split, "f1") for split in record.splits() if "f1" in record.metrics[split]}
    return dict(record.config), dict(record.metrics), dict(record.env), list(scores)


def plain_run_folder(path: Path) -> Any:
    parts = [loads((path.parent / name).read_bytes().decode()) for name in ("metrics.json", "env.json")]
    scores = [split for split in parts[0] if isinstance(parts[0][split], dict) and "f1" in parts[0][split]]
    assert all(type(parts[0][split]["f1"]) in (int, float) for split in scores)
    scores.sort(key=lambda split: (split != "test", split != "dev", split))
    return plain_yaml(path.parent / "config.yaml"), *parts, scores


def plain_yaml(path: Path) -> Any:
    """YAML without a key twice."""
    import yaml

    content = path.read_bytes().decode("utf-8-sig")
    try:  # one of the two takes tabs, the other halves of surrogate pairs
        return yaml.load(content, Loader=_once(yaml.CSafeLoader))
    except yaml.YAMLError:
        return yaml.load(content, Loader=_once(yaml.SafeLoader))


def _once(loader: Any) -> Any:
    def construct(self: Any, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(set(map(repr, keys))) == len(keys), "a key twice"
        return loader.construct_mapping(self, node, deep=deep)

    return type("Once", (loader,), {"construct_mapping": construct})


# ------------------------------------------------------------------ tables, figures, curves


def table(draw: Random) -> bytes:
    rows = [{"name": f"row {number}", "plugin": "bert"} for number in range(draw.randint(1, 4))]
    columns: list[dict[str, Any]] = [{"name": "F1", "corpus": "twitter2015"}, {"name": "P", "metric": "precision"}]
    cells = []
    for row in range(len(rows)):
        for column in range(2):
            cell: dict[str, Any] = {
                "row": row,
                "column": column,
                "state": draw.choice(("done", "missing", "printed_only")),
            }
            if draw.random() < 0.6:
                cell |= {"printed": 71.25, "printed_raw": "71.25"}
            if draw.random() < 0.4:
                cell |= {"runs": ["../runs/a", "../runs/b"], "value": 70.5}
            if draw.random() < 0.2:
                cell["erratum"] = {"text": "a misprint", "corrected": 17.25}
            cells.append(cell)
    head = {"format": "mnerkit-table", "version": 1, "experiment": "paper/table1", "title": "a table"}
    return json.dumps({**head, "rows": rows, "columns": columns, "cells": cells, "baseline_row": 0}, indent=1).encode()


def read_table_file(path: Path) -> Any:
    found = read_table(path)
    cells = [
        (cell.row, cell.column, cell.state, cell.printed, cell.value, cell.erratum, cell.corrected, len(cell.runs))
        for cell in found.cells
    ]
    shown = [cell.printed_text for cell in found.cells]
    return found.title, [row.name for row in found.rows], [column.metric for column in found.columns], cells, len(shown)


def plain_table(path: Path) -> Any:
    whole_table = loads(path.read_bytes().decode())
    cells = []
    for cell in whole_table["cells"]:
        erratum = cell.get("erratum")
        erratum = erratum if isinstance(erratum, dict) else {"text": erratum, "corrected": cell.get("corrected")}
        figures = [cell.get(key) for key in ("printed", "value")] + [erratum.get("corrected")]
        assert all(value is None or type(value) in (int, float) for value in figures)
        said = (erratum.get("text", ""), figures[2])
        cells.append(
            (whole(cell["row"]), whole(cell["column"]), cell["state"], *figures[:2], *said, len(cell.get("runs", ())))
        )
    rows = [text(row["name"]) for row in whole_table["rows"]]
    return whole_table["title"], rows, [each.get("metric", "f1") for each in whole_table["columns"]], cells, len(cells)


def figure(draw: Random) -> bytes:
    head: dict[str, Any] = {"format": "mnerkit-figure", "version": 1, "split": "test", "about": "x"}
    if draw.random() < 0.5:
        points = [[draw.random(), draw.random(), draw.randrange(2), "a", "p1"] for _ in range(3)]
        return json.dumps(head | {"kind": "tsne", "types": ["PER", "LOC"], "points": points, "posts_read": 3}).encode()
    weights = [[round(draw.random(), 3) for _ in range(3)] for _ in range(2)]
    post: dict[str, Any] = {
        "id": "p1",
        "episode": None,
        "words": ["a", "b"],
        "gold": [[0, 1, "PER"]],
        "said": [[1, 2, "LOC"]],
    }
    post |= {
        "rows": [["a", "PER"], ["b", "LOC"]],
        "columns": [["x", 0, [0, 0, 1, 1]], ["y", None, None], ["z", 0, None]],
    }
    return json.dumps(head | {"kind": "attention", "posts": [post | {"maps": [["layer", weights]]}]}).encode()


def read_figure(path: Path) -> Any:
    return figure_file.read(path)


def plain_figure(path: Path) -> Any:
    content = loads(path.read_bytes().decode())
    assert content.pop("format") == "mnerkit-figure" and content.pop("version") == 1
    _check_figures(content)
    return _escaped(content)


def _escaped(content: Any) -> Any:
    """The content with halves of surrogate pairs as escapes."""
    if isinstance(content, dict):
        return {key: _escaped(part) for key, part in content.items()}
    if isinstance(content, list):
        return list(map(_escaped, content))
    return content.encode("utf-8", "backslashreplace").decode() if isinstance(content, str) else content


def _check_figures(content: Any) -> None:
    """Refuse truth values where numbers are, and NaN."""
    assert content is None or type(content) in (int, float, str, list, dict)
    assert type(content) is not float or math.isfinite(content)
    for part in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        _check_figures(part)


def curve(draw: Random) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator=draw.choice(("\n", "\r\n")))
    writer.writerow(["dev/f1", "epoch", "step", "train/loss"])
    for epoch in range(draw.randint(1, 6)):
        writer.writerow([round(100 * draw.random(), 4), epoch, epoch * 10, ""])
        writer.writerow(["", epoch, epoch * 10, 3.5])
    return stream.getvalue().encode()


def read_curve(path: Path) -> Any:
    return {name: _logged(path, name) for name in ("dev/f1", "train/loss")}


def plain_curve(path: Path) -> Any:
    """All points that the file has; those behind a damaged line are not read."""
    found: dict[str, dict[int, list[float]]] = {"dev/f1": {}, "train/loss": {}}
    rows: list[list[str]] = []
    with contextlib.suppress(csv.Error):
        rows += csv.reader(io.StringIO(path.read_bytes().decode("utf-8", "replace"), newline=""))
    for row in rows[1:]:
        for name in found:
            if name in rows[0]:
                cells = dict(zip(rows[0], row, strict=False))
                try:
                    found[name].setdefault(int(cells["epoch"]), []).append(float(cells[name]))
                except (ValueError, KeyError):
                    continue
    return found


def same_curve(read: Any, plain: Any) -> bool:
    return all(value in plain[name].get(epoch, ()) for name, points in read.items() for epoch, value in points.items())


# ------------------------------------------------------------------ kept runs, predictions that go on


def kept(draw: Random) -> bytes:
    row = {
        "format": "mnerkit-kept",
        "version": 1,
        "digest": "ab12",
        "reads": {},
        "config": {"plugin": "bilstm", "seed": 1},
    }
    row |= {"env": ENV, "metrics": METRICS | {"epochs": draw.randrange(9)}, "curve": "epoch\n0\n"}
    return json.dumps(row, indent=1).encode()


def read_kept(path: Path) -> Any:
    archive = RunArchive.read(path.parent, {})
    archive.holds()
    return archive.rows


def plain_kept(path: Path) -> Any:
    row = loads(path.read_bytes().decode())
    assert (row["format"], row["version"]) == ("mnerkit-kept", 1)
    return {text(row["digest"]): row}


JOB = {"checkpoint": "c", "support": ""}


def progress(draw: Random) -> bytes:
    place: Any = {"lines": draw.randrange(9), "size": draw.randrange(99), "digest": "0" * 64, "form": "lines"}
    return (
        Progress(job=JOB, place=place, size=draw.randrange(50), posts=draw.randrange(9))
        .model_dump_json(indent=2)
        .encode()
    )


def read_progress(path: Path) -> Any:
    with output(str(path.parent / "out.jsonl"), Progress(job=JOB), resume=True) as (_, going_on):
        return going_on.model_dump()


def plain_progress(path: Path) -> Any:
    content = loads(path.read_bytes().decode())
    assert content["job"] == JOB
    filled = {
        "format": "mnerkit-prediction-1",
        "replaces": False,
        "size": 0,
        "posts": 0,
        "bad": 0,
        "first_bad": "",
    } | content
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    filled["place"] = {"lines": 0, "size": 0, "digest": empty, "form": "", "head": []} | filled.get("place", {})
    _check_figures({key: part for key, part in filled.items() if key != "replaces"})
    assert type(filled["replaces"]) is bool
    return filled


RUN = {"config.yaml": CONFIG, "metrics.json": json.dumps(METRICS).encode(), "env.json": json.dumps(ENV).encode()}
PARTS = {".out.jsonl.part": b"x" * 50}

READERS = (
    Reader("predictions", "predictions.test.jsonl", "json lines", predictions, read_predictions, plain_predictions),
    Reader("predictions of many systems", "a.jsonl", "json lines", predictions, read_post_set, plain_post_set),
    Reader("scored pictures", "predictions.test.jsonl", "json lines", scored, read_scored, plain_scored),
    Reader("metrics", "metrics.json", "json", metrics, read_run_folder, plain_run_folder, beside=RUN),
    Reader("environment", "env.json", "json", env, read_run_folder, plain_run_folder, beside=RUN),
    Reader("config of a run", "config.yaml", "yaml", config, read_run_folder, plain_run_folder, beside=RUN),
    Reader("tables", "table.json", "json", table, read_table_file, plain_table),
    Reader("figures", "tsne.test.json", "json", figure, read_figure, plain_figure),
    Reader("curves", "metrics.csv", "lines", curve, read_curve, plain_curve, agree=same_curve),
    Reader("kept runs", "bilstm.json", "json", kept, read_kept, plain_kept),
    Reader(
        "unfinished predictions", ".out.jsonl.part.json", "json", progress, read_progress, plain_progress, beside=PARTS
    ),
)
