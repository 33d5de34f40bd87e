"""Pictures of a training epoch: how often each post's are decoded, and the time that a post's batch takes.

`make bench-pictures ROOT=<folder of the corpora>`. The batches of `gmf` and `hvpnet` over a ResNet that is trained (the
whole picture and three objects of each, at 224 pixels) are made from the real pictures below ROOT, 30 in the
repository's own data, without training on them. Epochs without a cache, the first and second epoch with one, and the
first epoch of the next run; processor time. Exit code 1 where a post is decoded more than once a run.
"""

from __future__ import annotations

import mnerkit  # noqa: F401  # first: it prepares torch for torchvision, which lightning imports

# isort: split
import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import process_time
from typing import Any

import torch

from mnerkit.atomic_files import write_json
from mnerkit.data.datamodule import MnerData
from mnerkit.data.pictures import decoding, picture_loader
from mnerkit.methods.tagger import make_method
from mnerkit.text_table import table

METHODS = ("gmf", "hvpnet")
FOLDERS = ("twitter2015_images", "twitter2017_images")
EPOCHS = {"no cache, first epoch": 0, "no cache, second epoch": 0, "cache, first epoch": 1, "cache, second epoch": 1}
EPOCHS["cache, next run"] = 1


def write_corpus(folder: Path, pictures: list[Path]) -> None:
    """A post for each picture."""
    (folder / "images").mkdir()
    for path in pictures:
        shutil.copy(path, folder / "images" / path.name)
    for split, shown in (("train", pictures), ("dev", pictures[:1]), ("test", pictures[:1])):
        rows = [
            {"id": f"{split}{number}", "text": ["Anna", "waits"], "label": ["B-PER", "O"], "images": [path.name]}
            for number, path in enumerate(shown)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def batches_of(method: Any, corpus: Path, cache: str) -> MnerData:
    """A run's data, as a new process has it: nothing is remembered."""
    picture_loader._contents.clear()
    data = MnerData(corpus=str(corpus), batch_size=16, cache=cache)
    data.connect(method.needs(), "plain", method.facts.types)
    return data


def epoch(data: MnerData, decoded: Counter[str]) -> tuple[float, float]:
    """Milliseconds of processor time a post, and how often its pictures are decoded."""
    decoded.clear()
    started, posts = process_time(), 0
    for batch in data.train_dataloader():
        posts += len(batch)
    return 1e3 * (process_time() - started) / posts, decoded.total() / posts


def main() -> int:
    """Time the epochs; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True)
    root = parser.parse_args().root
    pictures = sorted(path for folder in FOLDERS for path in (root / folder).glob("*.jpg"))
    if not pictures:
        print(f"{root}: there are no pictures in {' and '.join(FOLDERS)}")
        return 1
    torch.set_num_threads(1)
    decoded: Counter[str] = Counter()
    decode = decoding.decode

    def counted(ref: Any, least: int | None = None) -> Any:
        decoded[str(ref.path)] += 1
        return decode(ref, least)

    decoding.decode = counted  # type: ignore[assignment]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in METHODS:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_corpus(folder, pictures)
            method = make_method({"plugin": name, "model": {"text": "tiny-bert", "vision": "random:resnet18"}})
            method.build(MnerData(corpus=str(folder)).facts)
            runs = {0: "none", 1: str(folder / "cache")}
            of_run = {number: batches_of(method, folder, cache) for number, cache in runs.items()}
            for _ in batches_of(method, folder, "none").train_dataloader():  # warm-up
                pass
            found[name] = {}
            for label, number in EPOCHS.items():
                if label.endswith("next run"):
                    of_run[number] = batches_of(method, folder, runs[number])
                cost, count = epoch(of_run[number], decoded)
                found[name][label] = {"ms": round(cost, 2), "decoded": round(count, 2)}
    heads = ["", *(f"{name}, {what}" for name in METHODS for what in ("ms a post", "decoded"))]
    rows = [[label, *(value for name in METHODS for value in found[name][label].values())] for label in EPOCHS]
    print(f"{len(pictures)} posts, one picture and three objects each\n{table(heads, rows)}")
    write_json(Path(__file__).resolve().parent / "results" / "pictures.json", {"posts": len(pictures), **found})
    often = {label: each for label, each in found[METHODS[0]].items() if each["decoded"] > 1}
    return 1 if often else 0


if __name__ == "__main__":
    sys.exit(main())
