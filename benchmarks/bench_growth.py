"""Commands on much data: `make bench-growth`. Times, CPU and memory of each, beside what it may take.

- `stats`: `mnerkit data stats` of 1,000,000 posts without pictures: 90 s, 400 MB;
- `runs`: `mnerkit runs` of 3,000 finished runs with whole configurations: 0.8 s. The second of two calls counts; the
  first, which has to read all of them, is printed, too;
- `page`: `mnerkit report` of 200 runs that answered the same 4,000 posts, with pictures: 25 s.

Everything is made up and alike each time. Exit code 1 where a bar is missed; times are of one process (wall; CPU in
brackets), memory is its largest resident set. The figures go to results/growth.json; `--what` names some of the three.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_page import corpus, write_runs

from mnerkit.atomic_files import write_json
from mnerkit.plain_yaml import yaml_text
from mnerkit.runs.config.configuration import resolve
from mnerkit.runs.run_folder import as_written

RESULTS = Path(__file__).resolve().parent / "results" / "growth.json"
SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}  # of a corpus's posts
TYPES = ("PER", "LOC", "ORG", "MISC")
WORDS = tuple(f"word{number}" for number in range(30_000))


def made_up_posts(count: int, seed: int) -> Iterator[tuple[list[str], list[str]]]:
    """Words and tags: 3 to 35 words a post, 17 on average as in the tweets, one entity and a half."""
    dice = random.Random(seed)
    for _ in range(count):
        length = max(3, min(35, round(dice.gauss(17, 6))))
        tags = ["O"] * length
        for _ in range(dice.choice((0, 1, 1, 2, 2, 3))):
            start, kind = dice.randrange(length - 1), dice.choice(TYPES)
            if tags[start : start + 2] == ["O", "O"] and "B" not in tags[start + 2 : start + 3]:
                tags[start : start + 2] = [f"B-{kind}", f"I-{kind}"]
        yield dice.choices(WORDS, k=length), tags


def write_corpus(folder: Path, count: int, layout: str) -> None:
    """A corpus's annotation files: IMGID/BIO (`bio`) or a record a line (`records`)."""
    folder.mkdir(parents=True)
    suffix = {"bio": "txt", "records": "jsonl"}[layout]
    for seed, (split, share) in enumerate(SHARES.items()):
        with (folder / f"{split}.{suffix}").open("w", encoding="utf-8") as stream:
            for number, (words, tags) in enumerate(made_up_posts(round(share * count), seed)):
                name = f"{split}_{number}"
                if layout == "records":
                    record = {"id": name, "text": words, "label": tags, "images": [f"{name}.jpg"]}
                    stream.write(json.dumps(record) + "\n")
                else:
                    lines = "\n".join(map("\t".join, zip(words, tags, strict=True)))
                    stream.write(f"IMGID:{name}\n{lines}\n\n")


def write_finished_runs(folder: Path, count: int) -> None:
    """Runs with whole configurations and the scores of dev and test, without predictions."""
    content = resolve("bert", values={"data": {"corpus": "twitter2017"}, "model": {"text": "bert-base-cased"}}).content
    names = [f"{kind}f1" for kind in ("", *(f"type/{kind}/" for kind in TYPES))]
    names += [name.replace("f1", other) for name in names for other in ("precision", "recall", "f1_strict")]
    for number in range(count):
        dice = random.Random(number)
        path = folder / "bert" / "twitter2017" / f"run-{number}"
        path.mkdir(parents=True)
        run = {**content, "seed": number % 5, "model": {**content["model"], "lr": 1e-5 * (1 + number // 5)}}
        (path / "config.yaml").write_text(yaml_text(as_written(run)), encoding="utf-8")
        scores = {split: {name: 100 * dice.random() for name in names} for split in ("dev", "test")}
        (path / "metrics.json").write_text(json.dumps({"epochs": 5, **scores}, indent=2), encoding="utf-8")


def measured(words: Sequence[str]) -> dict[str, float]:
    """Seconds, seconds of CPU and MB of a command of mnerkit's, in a process of its own."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "mnerkit", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"mnerkit {' '.join(words[:3])} ended with {process.returncode}")
    return {"s": seconds, "cpu_s": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss * 1024 / 1e6}


def stats(folder: Path, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """`mnerkit data stats`, of both layouts."""
    figures = {}
    for layout in given.layouts:
        write_corpus(folder / layout, given.posts, layout)
        figures[f"stats, {given.posts:,} posts, {layout}"] = measured(["data", "stats", str(folder / layout)])
    return figures


def runs(folder: Path, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """`mnerkit runs`, twice."""
    write_finished_runs(folder / "runs", given.runs)
    time.sleep(2.5)  # what was written a moment ago is not taken from an index
    first, again = (measured(["runs", str(folder / "runs")]) for _ in range(2))
    return {f"runs, {given.runs:,} folders, first call": first, f"runs, {given.runs:,} folders": again}


def page(folder: Path, given: argparse.Namespace) -> dict[str, dict[str, float]]:
    """`mnerkit report`."""
    posts = corpus(folder / "data", given.page_posts)
    write_runs(folder / "runs", given.page_runs, posts, folder / "data")
    words = ["report", str(folder / "runs"), "--out", str(folder / "report"), "--root", str(folder / "data")]
    return {f"page, {given.page_runs} runs, {given.page_posts:,} posts": measured(words)}


PARTS: dict[str, Callable[[Path, argparse.Namespace], dict[str, dict[str, float]]]] = {
    "stats": stats,
    "runs": runs,
    "page": page,
}
BARS = {"stats": {"s": 90.0, "mb": 400.0}, "runs": {"s": 0.8}, "page": {"s": 25.0}}


def main() -> int:
    """Make the data, run the commands, print their figures beside the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--layouts", nargs="+", choices=("bio", "records"), default=["bio", "records"])
    parser.add_argument("--posts", type=int, default=1_000_000, help="of stats")
    parser.add_argument("--runs", type=int, default=3_000, help="of runs")
    parser.add_argument("--page-runs", type=int, default=200, help="of page")
    parser.add_argument("--page-posts", type=int, default=4_000, help="of page")
    given = parser.parse_args()
    results: dict[str, Any] = {}
    missed = 0
    for part in given.what:
        with tempfile.TemporaryDirectory(prefix="growth-") as name:
            figures = PARTS[part](Path(name), given)
        for what, measures in figures.items():
            bars = {} if "first call" in what else BARS[part]
            over = [f"{key} > {bar:g}" for key, bar in bars.items() if measures[key] > bar]
            missed += bool(over)
            times = f"{measures['s']:7.2f} s ({measures['cpu_s']:.2f} s of CPU), {measures['mb']:5.0f} MB"
            print(f"{what:<40}{times}   {'MISSED ' + ', '.join(over) if over else ''}".rstrip(), flush=True)
            results[what] = {key: round(value, 2) for key, value in measures.items()} | {"bars": bars}
    whole = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    write_json(RESULTS, whole | results)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
