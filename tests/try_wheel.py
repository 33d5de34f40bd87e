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
import venv
from collections.abc import Sequence
from pathlib import Path

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


def run(command: Sequence[str | Path], folder: Path) -> str:
    """Standard output of a command that has to end with 0, run outside the checkout."""
    words = [str(word) for word in command]
    # nothing of the checkout's environment may help
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    begin = time.perf_counter()
    done = subprocess.run(words, cwd=folder, env=clean | OFFLINE, capture_output=True, text=True, check=False)
    print(f"{time.perf_counter() - begin:6.1f} s  {Path(words[0]).name} {' '.join(words[1:])}", flush=True)
    if done.returncode != 0:
        raise SystemExit(f"ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


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
        fit = [mnerkit, "fit", "--plugin", "bert", "--data.corpus", "posts", "--trainer.max_epochs", "3"]
        run([*fit, "--test", "--name", "own"], folder)
        (own,) = folder.glob("runs/bert/*/own")
        assert json.loads((own / "metrics.json").read_text("utf-8"))["test"]["f1"] > 50

        (folder / "new.jsonl").write_text('{"text": "Grace flies to Lima"}\n', "utf-8")
        predict = [mnerkit, "predict", "--ckpt_path", own / "best.ckpt", "--input", "new.jsonl"]
        run([*predict, "--output", "tagged.jsonl"], folder)
        assert "entities" in json.loads((folder / "tagged.jsonl").read_text("utf-8"))
        scored = run([mnerkit, "score", "--gold", "posts", "--predictions", own / "predictions.test.jsonl"], folder)
        assert "f1" in scored.lower()
        run([mnerkit, "report", "runs", "--out", "page"], folder)
        assert (folder / "page" / "index.html").stat().st_size > 10_000
        assert "MOUSING" in run([mnerkit, "reproduce", "mousing/table2", "--profile", "mini", "--dry-run"], folder)
    print(f"{wheel.name} works without a checkout")


if __name__ == "__main__":
    main()
