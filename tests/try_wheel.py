"""Use a built wheel as its user does: a new environment, no checkout, own posts. `make dist` calls this.

Installing needs the package index; every command after that runs without network.
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
import urllib.request
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NAMES = {"PER": ["Ada", "Grace", "Alan", "Edsger"], "LOC": ["Oslo", "Lima", "Cairo", "Quito"]}
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "WANDB_MODE": "offline"}


def write_posts(folder: Path) -> None:
    """A corpus of one's own: posts `<name> flies to <place>` without pictures."""
    draw = random.Random(0)
    folder.mkdir()
    for split, count in (("train", 64), ("valid", 16), ("test", 16)):
        lines: list[str] = []
        for number in range(count):
            person, place = (draw.choice(names) for names in NAMES.values())
            words = [(person, "B-PER"), ("flies", "O"), ("to", "O"), (place, "B-LOC")]
            lines += [f"IMGID:{split}{number}", *(f"{word}\t{tag}" for word, tag in words), ""]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n", "utf-8")


def environment() -> dict[str, str]:
    """The environment of commands: nothing of the checkout's may help, and there is no hub."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")} | OFFLINE


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Standard output of a command that has to end with 0, run outside the checkout."""
    words = [str(word) for word in command]
    begin = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    print(f"{time.perf_counter() - begin:6.1f} s  {Path(words[0]).name} {' '.join(words[1:])}", flush=True)
    if done.returncode != 0:
        raise SystemExit(f"ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def demo_page(mnerkit: Path, checkpoint: Path, folder: Path) -> str:
    """The page that `mnerkit demo` answers a text with, on this machine."""
    words = [str(mnerkit), "demo", str(checkpoint), "--port", "0"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(words, cwd=folder, env=environment(), **pipes) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[0]
            assert address.startswith("http://127.0.0.1:"), address
            with urllib.request.urlopen(f"{address}?text=Grace+flies+to+Lima", timeout=60) as page:
                return str(page.read().decode("utf-8"))
        finally:
            server.terminate()


def main() -> None:
    """Install the wheel, and score, tag and compare own posts with it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--constraints", type=Path, required=True, help="the tested versions")
    arguments = parser.parse_args()
    wheel, constraints = arguments.wheel.resolve(), arguments.constraints.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        bin_folder = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
        pip: list[str | Path] = [bin_folder / "python", "-m", "pip", "install", "--quiet", "-c", constraints]
        # torch first and alone, as `make torch` does it
        run([*pip, "torch"], folder)
        run([*pip, wheel], folder)
        mnerkit = bin_folder / "mnerkit"
        write_posts(folder / "posts")

        package = run([bin_folder / "python", "-c", "import mnerkit; print(mnerkit.__file__)"], folder)
        assert Path(package.strip()).is_relative_to(folder.resolve()), package
        assert "mousing" in run([mnerkit, "plugins"], folder)
        run([mnerkit, "doctor"], folder)
        # the README's two commands for posts of one's own
        run([mnerkit, "fit", "--plugin", "bilstm", "--data.corpus", "posts", "--test", "--name", "first"], folder)
        own = folder / "runs" / "bilstm" / "posts" / "first"
        assert json.loads((own / "metrics.json").read_text("utf-8"))["test"]["f1"] > 90
        tagged = run([mnerkit, "predict", "runs/bilstm/posts/first", "--text", "Grace flies to Lima"], folder)
        assert "[Grace PER" in tagged and "[Lima LOC" in tagged, tagged

        (folder / "new.jsonl").write_text('{"text": "Grace flies to Lima"}\n', "utf-8")
        predict = [mnerkit, "predict", "--ckpt_path", own / "best.ckpt", "--input", "new.jsonl"]
        run([*predict, "--output", "tagged.jsonl"], folder)
        assert "entities" in json.loads((folder / "tagged.jsonl").read_text("utf-8"))
        scored = run([mnerkit, "score", "--gold", "posts", "--predictions", own / "predictions.test.jsonl"], folder)
        assert "f1" in scored.lower()
        run([mnerkit, "report", "runs", "--out", "page"], folder)
        assert (folder / "page" / "index.html").stat().st_size > 10_000
        assert "MOUSING" in run([mnerkit, "reproduce", "mousing/table2", "--profile", "mini", "--dry-run"], folder)
        run([mnerkit, "reproduce", "gei/table1", "--profile", "mini", "--jobs", "2"], folder)
        assert (folder / "runs" / "reproduce" / "mini" / "report" / "index.html").is_file()
        assert "Grace" in demo_page(mnerkit, own, folder)
    print(f"{wheel.name} works without a checkout")


if __name__ == "__main__":
    main()
