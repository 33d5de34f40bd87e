"""`mnerkit predict` on very many posts: `make bench-predict`.

A small `bilstm` tags 200,000 invented posts, first undisturbed, then killed (SIGKILL) at a third and at two thirds and
resumed each time. What must hold:

- the largest memory of the process (VmRSS) in each quarter of the posts lies within 10 % of the smallest of the four;
  a single moment says little, for memory rises and falls by a tenth within each block;
- the output of the interrupted prediction has the bytes of the undisturbed one, and nothing is left beside it.

- the whole command takes at most 1.1 times the CPU time of a plain loop over a twentieth of the posts, which are sorted
  by length: the same tower, its own reader and our CRF, without scores of entities, checks or blocks.

Exit code 1 when something does not. What is finished in `--folder` is not done again: the same command goes on.
`--against DIR` also times the checkout in DIR, on a tenth of the posts, alternating with this one. `--ckpt_path RUN`
takes another tagger's posts against the plain loop, and does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plain_predict import against_plain

from mnerkit.atomic_files import write_json
from mnerkit.data.corpus.corpus import load_corpus

RESULTS = Path(__file__).resolve().parent / "results" / "predict.json"
FLAT = 1.1  # largest memory over smallest
PLAIN = 1.1  # CPU time over the plain loop's
FIT = "fit --plugin bilstm --name one --data.limit 1000 --trainer.max_epochs 3 --trainer.enable_progress_bar false"


def prepare(folder: Path, posts: int) -> None:
    """A checkpoint, and posts of 3 to 60 words, in which the tagger finds entities."""
    if not (folder / "runs/bilstm/probe/one/best.ckpt").exists():
        words = [sys.executable, "-m", "mnerkit", *FIT.split(), "--runs_dir", str(folder / "runs")]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    draw = random.Random(0)
    pieces = [post.words for post in load_corpus("probe", limit=1000).splits["train"]]
    draft = folder / "draft"
    with draft.open("w", encoding="utf-8") as stream:
        for number in range(posts):
            length = max(3, min(60, int(draw.lognormvariate(2.6, 0.6))))
            tokens: list[str] = []
            while len(tokens) < length:
                tokens += draw.choice(pieces)
            stream.write(json.dumps({"id": str(number), "text": " ".join(tokens[:length])}) + "\n")
    draft.replace(folder / "posts.jsonl")


def command(folder: Path, source: str, target: str, *more: str) -> list[str]:
    """The command of a prediction."""
    files = ["--ckpt_path", str(folder / "runs/bilstm/probe/one/best.ckpt"), "--input", str(folder / source)]
    return [sys.executable, "-m", "mnerkit", "predict", *files, "--output", str(folder / target), *more]


def finished(folder: Path, target: str) -> int:
    """Posts that an unfinished output holds."""
    try:
        return int(json.loads((folder / f".{target}.part.json").read_text("utf-8"))["posts"])
    except FileNotFoundError:
        return 0


def watched(words: Sequence[str], folder: Path, target: str, posts: int, kill_at: int | None = None) -> dict[str, Any]:
    """Run a prediction, and look at it a few times a second.

    Returns:
        the largest VmRSS in MiB in each quarter, posts a second from the first block on, and whether it was killed.
    """
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    memory: dict[int, float] = {}
    before, first, last = finished(folder, target), (0, 0.0), (0, 0.0)
    try:
        while process.poll() is None:
            done, now = finished(folder, target), time.monotonic()
            quarter = min(4 * done // posts, 3)
            memory[quarter] = max(memory.get(quarter, 0.0), rss(process.pid))
            if done > max(before, last[0]):
                first, last = first if first[0] else (done, now), (done, now)
            if kill_at is not None and done >= kill_at:
                process.kill()
                process.wait()
                return {"killed": done}
            time.sleep(0.05)
        if process.returncode:
            raise SystemExit(f"the prediction ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()
    speed = (last[0] - first[0]) / (last[1] - first[1]) if last[1] > first[1] else 0.0
    return {"mib": [round(memory[quarter]) for quarter in sorted(memory)], "posts_a_second": round(speed)}


def rss(process: int) -> float:
    """VmRSS of a process in MiB; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:")), 0.0)


def against(folder: Path, other: Path, posts: int, pairs: int = 3) -> dict[str, Any]:
    """Seconds of whole commands of this checkout and another one, and whether their outputs are equal."""
    with (folder / "posts.jsonl").open("rb") as stream, (folder / "some.jsonl").open("wb") as some:
        some.writelines(line for _, line in zip(range(posts), stream, strict=False))
    here = Path(__file__).resolve().parents[1]
    seconds: dict[str, list[float]] = {"here": [], "other": []}
    for _ in range(pairs):
        for name, root in (("here", here), ("other", other)):
            with tempfile.TemporaryDirectory() as packages:
                (Path(packages) / "mnerkit_plugins").symlink_to(root.resolve() / "plugins")
                paths = os.pathsep.join([str(root.resolve() / "src"), packages])
                words = command(folder, "some.jsonl", f"{name}.jsonl", "--overwrite")
                started = time.monotonic()
                subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths})
                seconds[name].append(round(time.monotonic() - started, 2))
    equal = (folder / "here.jsonl").read_bytes() == (folder / "other.jsonl").read_bytes()
    ratio = statistics.median(seconds["here"]) / statistics.median(seconds["other"])
    return {"posts": posts, "seconds": seconds, "ratio": round(ratio, 3), "same_bytes": equal}


def main() -> int:
    """Predict undisturbed, then interrupted twice, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=200_000, help="how many (default: 200,000)")
    parser.add_argument("--folder", type=Path, help="where to work, and what to go on with (default: a new one)")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout, to be timed, too")
    parser.add_argument("--ckpt_path", type=Path, metavar="RUN", help="a run, against the plain loop alone")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="predict-"))
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "result.json"
    result: dict[str, Any] = json.loads(state.read_text("utf-8")) if state.exists() else {"posts": given.posts}
    if result["posts"] != given.posts:
        raise SystemExit(f"{folder} is of {result['posts']} posts")
    if not (folder / "posts.jsonl").exists():
        prepare(folder, given.posts)
    if given.ckpt_path is not None:
        print(json.dumps(against_plain(given.ckpt_path, folder / "posts.jsonl", given.posts, folder), indent=2))
        return 0
    if "undisturbed" not in result:
        words = command(folder, "posts.jsonl", "whole.jsonl", "--overwrite")
        result["undisturbed"] = watched(words, folder, "whole.jsonl", given.posts)
        write_json(state, result)
    memory = result["undisturbed"]["mib"]
    print(
        f"{result['undisturbed']['posts_a_second']} posts a second; largest MiB in each quarter: {memory}", flush=True
    )
    words = command(folder, "posts.jsonl", "cut.jsonl", "--resume")
    for third in (1, 2):
        if not (folder / "cut.jsonl").exists() and finished(folder, "cut.jsonl") < third * given.posts // 3:
            print(watched(words, folder, "cut.jsonl", given.posts, kill_at=third * given.posts // 3), flush=True)
    if not (folder / "cut.jsonl").exists():
        watched(words, folder, "cut.jsonl", given.posts)
    result["same_bytes"] = (folder / "cut.jsonl").read_bytes() == (folder / "whole.jsonl").read_bytes()
    result["left_behind"] = sorted(path.name for path in folder.glob(".*"))
    result["memory_ratio"] = round(max(memory) / min(memory), 3)
    run = folder / "runs/bilstm/probe/one"
    result["against_plain"] = against_plain(run, folder / "posts.jsonl", given.posts // 20, folder)
    if given.against is not None:
        result["against"] = against(folder, given.against, given.posts // 10)
    write_json(RESULTS, result)
    print(json.dumps(result, indent=2))
    if given.folder is None:
        shutil.rmtree(folder)
    slow = result["memory_ratio"] > FLAT or result["against_plain"]["ratio"] > PLAIN
    return int(not result["same_bytes"] or bool(result["left_behind"]) or slow)


if __name__ == "__main__":
    sys.exit(main())
