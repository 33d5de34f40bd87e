"""The page of a report at its largest: `make bench-page`.

Two hundred made-up runs (ten methods, each with an ablation, ten seeds) answer the same 4,000 posts of the probe
corpus, each with a picture. Measured are the time that the report takes, the bytes of its page, and the time that
headless Chromium takes to open it: by the browser's own clock, from the start of the navigation to the first frame
after the page's scripts and pictures are loaded. The browser's start does not count; the whole command is timed as
well, and an empty page beside it. Bars: 8 MB, 0.8 s to open, 25 s of the processor's time to make. Exit code 1 when one
is missed. The figures go to results/page.json; so do those of seven of the runs alone, whose page may have 4 MB.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

import mnerkit
from mnerkit import report
from mnerkit.atomic_files import write_json, write_lines, write_text
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import Entity, entities, tags_of
from mnerkit.data.probe import generate, types_of
from mnerkit.scoring.counts import entity_scores

MEGABYTES, SECONDS, CPU_SECONDS = 8.0, 0.8, 25.0
FEW, MEGABYTES_OF_FEW = 7, 4.0
RESULTS = Path(__file__).resolve().parent / "results" / "page.json"
CORPUS, PICTURE = "tweets", 320
# prints when the first frame after loading is due; the page's policy allows no script but its own
CLOCK = """<script>addEventListener("load", () => requestAnimationFrame(() => setTimeout(() =>
  console.log("milliseconds to open:", performance.now()))));</script>"""
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def corpus(root: Path, count: int) -> list[Post]:
    """Posts of the probe corpus, written as a folder of the usual layout with pictures of a tweet's size."""
    posts = generate("default", "test", count)
    folder, images = root / CORPUS, root / CORPUS / f"{CORPUS}_images"
    images.mkdir(parents=True)
    parts = []
    for number, post in enumerate(posts):
        assert post.tags is not None and post.images[0].pixels is not None
        Image.fromarray(post.images[0].pixels).resize((PICTURE, PICTURE)).save(images / f"{number}.jpg", quality=85)
        lines = [f"{word}\t{tag}" for word, tag in zip(post.words, post.tags, strict=True)]
        parts.append("\n".join([f"IMGID:{number}", *lines, ""]))
    for split in ("train", "dev", "test"):
        few = parts if split == "test" else [part.replace("IMGID:", f"IMGID:{split}") for part in parts[:8]]
        write_text(folder / f"{split}.txt", "\n".join(few))
    return posts


def answers(gold: Sequence[Entity], types: Sequence[str], wrong: float, dice: random.Random) -> list[Entity]:
    """What a system that errs so often says of a post: an entity lost, or of another type."""
    said = []
    for span in gold:
        if dice.random() >= wrong:
            said.append(span)
        elif dice.random() < 0.5:
            said.append(Entity(span.start, span.end, dice.choice(types)))
    return said


def write_run(path: Path, posts: Sequence[Post], root: Path, facts: dict[str, Any], dice: random.Random) -> None:
    """A finished run folder, scored."""
    types = types_of("default")
    gold = [entities(post.tags or ()) for post in posts]
    wrong = 0.15 + 0.3 * dice.random()
    said = [answers(spans, types, wrong, dice) for spans in gold]
    path.mkdir(parents=True)
    data = {"corpus": CORPUS, "root": str(root)}
    write_text(path / "config.yaml", yaml.safe_dump({**facts, "model": {"text": "bert-base"}, "data": data}))
    write_json(path / "env.json", {"mnerkit": mnerkit.__version__, "command": ["mnerkit", "fit"], "device": "cpu"})
    rows = [
        {
            "id": str(number),
            "words": list(post.words),
            "entities": [asdict(span) for span in mine],
            "gold": [[span.start, span.end, span.type] for span in spans],
        }
        for number, (post, spans, mine) in enumerate(zip(posts, gold, said, strict=True))
    ]
    write_lines(path / "predictions.test.jsonl", rows)
    tags = [[tags_of(spans, len(post.words)) for post, spans in zip(posts, each, strict=True)] for each in (gold, said)]
    protocol = {"corpus": CORPUS, "variant": "default", "digest": "made up", "types": list(types)}
    write_json(path / "metrics.json", {**facts, "protocol": protocol, "test": entity_scores(*tags)})


def write_runs(folder: Path, count: int, posts: Sequence[Post], root: Path) -> list[Path]:
    """Run folders of ten methods with and without a part."""
    made = []
    for number in range(count):
        method, rest = number % 10, number // 10
        ablation = "no_part" if rest % 2 else None
        facts: dict[str, Any] = {"plugin": f"method_{method}", "seed": rest // 2, "ablation": ablation}
        made.append(folder / facts["plugin"] / CORPUS / str(number))
        write_run(made[-1], posts, root, facts, random.Random(number))
    return made


def opening(browser: str, page: Path, folder: Path) -> tuple[float, float]:
    """Seconds that a page takes to open by the browser's clock, and those of the whole command."""
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--screenshot={folder / 'page.png'}", page.as_uri()]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    seconds = time.perf_counter() - started
    printed = re.search(r"milliseconds to open: ([\d.]+)", done.stderr)
    if printed is None:
        raise SystemExit(f"the browser printed no time: {done.stderr[-500:]}")
    return float(printed[1]) / 1e3, seconds


def openings(browser: str, page: Path, folder: Path, turns: int) -> dict[str, float]:
    """Medians of `opening` for a copy of the page with a clock and for an empty page, in turns."""
    pages = {"page": page.read_text("utf-8"), "empty": "<!doctype html><title>empty</title><body></body>"}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in pages}
    for name, content in pages.items():
        write_text(folder / f"{name}.html", POLICY.sub("", content).replace("</body>", f"{CLOCK}</body>"))
        opening(browser, folder / f"{name}.html", folder)  # the first one fills the browser's caches
    for _ in range(turns):
        for name in pages:
            times[name].append(opening(browser, folder / f"{name}.html", folder))
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    (own, whole), (_, empty) = medians["page"], medians["empty"]
    return {"seconds": own, "seconds_with_browser": whole, "seconds_with_browser_of_an_empty_page": empty}


def cpu_seconds() -> float:
    """The processor's time of this process and of those that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> int:
    """Write runs and report, open the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="run folders")
    parser.add_argument("--posts", type=int, default=4000, help="posts that each has answered")
    parser.add_argument("--turns", type=int, default=5, help="times that the page is opened")
    asked = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        posts = corpus(folder / "data", asked.posts)
        runs = write_runs(folder / "runs", asked.runs, posts, folder / "data")
        print(f"{asked.runs} runs of {asked.posts} posts are written", flush=True)
        report.write(folder / "few", runs=runs[:FEW], root=folder / "data", posts=asked.posts)
        few = (folder / "few" / "index.html").stat().st_size / 1e6
        print(f"page of {FEW} runs: {few:.1f} MB (bar {MEGABYTES_OF_FEW:.0f})", flush=True)
        started, before = time.perf_counter(), cpu_seconds()
        done = report.write(folder / "report", runs=runs, root=folder / "data", posts=asked.posts)
        seconds, cpu = time.perf_counter() - started, cpu_seconds() - before
        page = folder / "report" / "index.html"
        size = page.stat().st_size / 1e6
        print(f"report: {seconds:.1f} s, {cpu:.1f} s of CPU (bar {CPU_SECONDS:.0f}); page: {size:.1f} MB", flush=True)
        for problem in done.problems:
            print(f"left out: {problem}")
        if browser is None:
            print(f"none of {', '.join(BROWSERS)} is on PATH: the page was not opened")
            return 1
        opened = openings(browser, page, folder, asked.turns)
        whole, empty = opened["seconds_with_browser"], opened["seconds_with_browser_of_an_empty_page"]
        print(f"opened in {opened['seconds']:.2f} s (bar {SECONDS}); ", end="")
        print(f"with the browser's start in {whole:.2f} s, an empty page in {empty:.2f} s")
        found = {"runs": asked.runs, "posts": asked.posts, "report_seconds": seconds, "report_cpu_seconds": cpu}
        found |= {"megabytes": size, "megabytes_of_few_runs": few, "few_runs": FEW}
        write_json(RESULTS, {**found, **opened, "turns": asked.turns})
        small = size <= MEGABYTES and few <= MEGABYTES_OF_FEW
        return 0 if small and opened["seconds"] <= SECONDS and cpu <= CPU_SECONDS and not done.problems else 1


if __name__ == "__main__":
    sys.exit(main())
