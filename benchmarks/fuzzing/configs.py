"""Configurations, experiments, profiles, printed figures, and frozen episodes."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.plain_json import rows_of, text, whole
from fuzzing.reader import Reader
from fuzzing.runs import plain_yaml
from mnerkit.data.episodes.episode_file import digests_of, read_episode_file
from mnerkit.reproduce.experiments import experiment_files, profiles
from mnerkit.runs.config.configuration import resolve

# ------------------------------------------------------------------ configurations


def config(draw: Random) -> bytes:
    """Sections of options, as `--config` takes them."""
    lines = [f"plugin: {draw.choice(('bert', 'bilstm', 'hvpnet', 'relevance'))}"]
    if draw.random() < 0.5:
        lines.append(f"seed: {draw.randrange(100)}")
    if draw.random() < 0.7:
        lines += ["model:", f"  lr: {draw.choice(('1e-3', '0.001', '2.5e-05'))}  # learning rate"]
        lines += ["  weight_decay: ${model.lr}"] if draw.random() < 0.2 else []
    if draw.random() < 0.7:
        lines += [
            "data:",
            f"  corpus: {draw.choice(('probe', 'twitter2017', '/absent/x'))}",
            f"  limit: {draw.randint(1, 90)}",
        ]
        lines += ["  train_types: [PER, LOC]"] if draw.random() < 0.2 else []
        lines += ["  missing_images: skip"] if draw.random() < 0.2 else []
    if draw.random() < 0.7:
        lines += [f"trainer: {{max_epochs: {draw.randint(1, 9)}, precision: {draw.choice(('32-true', 'bf16-mixed'))}}}"]
    if draw.random() < 0.3:
        lines += ["wandb:", "  tags: [a, b]", "  mode: offline"]
    return "".join(f"{line}\n" for line in lines).encode()


def read_config(path: Path) -> Any:
    made = resolve(files=[path])
    return made.content


def plain_config(path: Path) -> Any:
    content = plain_yaml(path)
    assert isinstance(content, dict)
    return content


def same_values(read: Any, plain: Any) -> bool:
    """Every value that stands in the file is in the configuration; numbers and texts may be spelt otherwise."""
    for section, values in plain.items():
        if isinstance(values, dict):
            for key, value in values.items():
                if not _same(read.get(str(section), {}).get(key), value):
                    return False
        elif values is not None and not _same(read.get(str(section)), values):
            return False
    return True


def _same(one: Any, other: Any) -> bool:
    if isinstance(other, str) and "${" in other:
        return True
    if isinstance(one, dict) and isinstance(other, str):  # a head by its name
        return one.get("name") == other
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_same(one.get(key), value) for key, value in other.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if one == other or str(one) == str(other):
        return True
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return False


# ------------------------------------------------------------------ experiments

EXPERIMENT = {
    "title": "a table",
    "what": "table",
    "data": "posts",
    "seeds": [0, 1],
    "note": "two lines\nof it",
    "printed": {"file": "table1.csv", "row": "method"},
    "groups": [{"name": "T17", "corpus": "twitter2017", "where": {"dataset": "twitter2017"}}],
    "metrics": [{"name": "F1", "metric": "f1", "printed": "F1"}],
    "rows": [
        {"name": "BERT", "plugin": "bert", "options": {"model.lr": 0.001}},
        {"name": "UMT", "missing": "not here"},
    ],
    "errata": [{"row": "BERT", "column": "T17 F1", "location": "Table 1 BERT", "corrected": 83.5}],
}
PRINTED = b"method,dataset,F1\nBERT,twitter2017,83.44\nUMT,twitter2017,85.31\n"
ERRATA = b"paper,location,as_printed,likely_correct,basis\npaper,Table 1 BERT,83.44,83.5,a sum\n"
BESIDE = {
    "paper/table1.csv": PRINTED,
    "errata.csv": ERRATA,
    "profiles/mini.yaml": b"about: x\nseeds: [0]\nplugins: {bert: {}}\n",
    "paper/table1.yaml": json.dumps(EXPERIMENT).encode(),
}


def experiment(draw: Random) -> bytes:
    import yaml

    changed = json.loads(json.dumps(EXPERIMENT))
    changed["seeds"] = [draw.randrange(9)]
    if draw.random() < 0.3:
        changed |= {"what": "sweep", "sweep": {"option": "model.lr", "values": [0.1, 0.2]}, "errata": []}
    return yaml.safe_dump(changed, sort_keys=False).encode()


def read_experiment(path: Path) -> Any:
    folder = path.parents[1]
    found = experiment_files.load(folder / "paper/table1.yaml", folder)
    rows = [(row.name, row.plugin, dict(row.options)) for row in found.rows]
    figures = [found.figure(row, group, metric) for row in found.rows for group, metric in found.columns]
    shown = [(each.value, each.corrected) for each in figures]
    return found.name, list(found.seeds), rows, [metric.metric for metric in found.metrics], shown


def plain_experiment(path: Path) -> Any:
    folder = path.parents[1]
    content = plain_yaml(folder / "paper/table1.yaml")
    rows = [(row["name"], row.get("plugin"), dict(row.get("options", {}))) for row in content["rows"]]
    lines = csv_lines(folder / "paper" / content["printed"]["file"]) if content.get("printed") else []
    shown: list[Any] = []
    for row in content["rows"]:
        for group in content["groups"]:
            for metric in content["metrics"]:
                said = row.get("printed", True)
                value = None
                counted = lines and said and metric.get("printed") and group.get("where") is not None
                if counted:
                    name = said if isinstance(said, str) else row["name"]
                    wanted = {
                        content["printed"]["row"]: name,
                        **{key: str(part) for key, part in group["where"].items()},
                    }
                    (line,) = (line for line in lines if wanted.items() <= line.items())
                    written = line[metric["printed"]].strip()
                    assert set(written) <= set("0123456789+-.eE")
                    value = round(float(written) * content["printed"].get("scale", 1), 6) if written else None
                mine = [each for each in content.get("errata", ()) if counted and each["row"] == row["name"]]
                fixed = [each["corrected"] for each in mine if each.get("corrected") is not None]
                shown.append((value, fixed[0] if fixed else None))
    return (
        "paper/table1",
        list(map(whole, content["seeds"])),
        rows,
        [each["metric"] for each in content["metrics"]],
        shown,
    )


def csv_lines(path: Path) -> list[dict[str, str]]:
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True))
    rows = [row for row in rows if row]
    assert len(set(rows[0])) == len(rows[0]) and all(len(row) == len(rows[0]) for row in rows)
    return [dict(zip(rows[0], row, strict=False)) for row in rows[1:]]


def printed(draw: Random) -> bytes:
    return PRINTED.replace(b"83.44", str(round(100 * draw.random(), 2)).encode())


def errata(_: Random) -> bytes:
    return ERRATA


def plain_errata(path: Path) -> Any:
    csv_lines(path)
    return plain_experiment(path.parent / "paper" / "table1.yaml")


def read_errata(path: Path) -> Any:
    return read_experiment(path.parent / "paper" / "table1.yaml")


def profile(draw: Random) -> bytes:
    import yaml

    content = {
        "about": "short runs",
        "seeds": draw.choice(([0], [1, 2], "paper")),
        "points": draw.choice((None, 3)),
        "options": {"data.limit": 90, "trainer.max_epochs": draw.randint(1, 4)},
        "corpora": {"posts": {"data.corpus": "probe"}},
        "plugins": {"bert": {}, "bilstm": {"options": {"model.lr": 0.01}, "first": None}},
    }
    return yaml.safe_dump(content, sort_keys=False).encode()


def read_profile(path: Path) -> Any:
    found = profiles.load("short", path.parents[1])
    plugins = {name: dict(settings.options) for name, settings in found.plugins.items()}
    return found.seeds if found.seeds == "paper" else list(found.seeds), found.points, dict(found.options), plugins


def plain_profile(path: Path) -> Any:
    content = plain_yaml(path)
    plugins = {name: dict((settings or {}).get("options", {})) for name, settings in content["plugins"].items()}
    seeds = content["seeds"] if content["seeds"] == "paper" else list(map(whole, content["seeds"]))
    return seeds, content.get("points"), dict(content.get("options", {})), plugins


# ------------------------------------------------------------------ episodes


def episodes(draw: Random) -> bytes:
    count = draw.randint(1, 5)
    head = {"format": "mnerkit episodes", "version": 1, "corpus": "probe", "variant": "default", "digest": "0" * 64}
    rows: list[dict[str, Any]] = [head | {"split": "test", "episodes": count, "protocol": {"n_way": 2}}]
    for number in draw.sample(range(20), count):
        names = [f"p{place}" for place in draw.sample(range(40), 6)]
        rows.append(
            {"split": "test", "number": number, "types": ["LOC", "PER"], "support": names[:4], "query": names[4:]}
        )
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def read_episodes(path: Path) -> Any:
    digests_of(str(path)) if "," not in str(path) else None
    file = read_episode_file(path)
    return [(row.number, list(row.types), list(row.support), list(row.query)) for row in file.rows]


def plain_episodes(path: Path) -> Any:
    head, *rows = rows_of(path)
    assert head["episodes"] == len(rows) and all(row["split"] == head["split"] for row in rows)
    found = {}
    for row in rows:
        assert row["number"] not in found
        found[whole(row["number"])] = [list(map(text, row[key])) for key in ("types", "support", "query")]
    return [(number, sorted(found[number][0]), *found[number][1:]) for number in sorted(found)]


READERS = (
    Reader("configs", "config.yaml", "yaml", config, read_config, plain_config, agree=same_values),
    Reader("experiments", "paper/table1.yaml", "yaml", experiment, read_experiment, plain_experiment, beside=BESIDE),
    Reader("printed figures", "paper/table1.csv", "lines", printed, read_experiment, plain_experiment, beside=BESIDE),
    Reader("errata", "errata.csv", "lines", errata, read_errata, plain_errata, beside=BESIDE),
    Reader("profiles", "profiles/short.yaml", "yaml", profile, read_profile, plain_profile, beside=BESIDE),
    Reader("episodes", "episodes.jsonl", "json lines", episodes, read_episodes, plain_episodes),
)
