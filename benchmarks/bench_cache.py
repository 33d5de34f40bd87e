"""The feature cache: an epoch of `cross` over a frozen CLIP-B with it against one without, in one run.

Both towers have the size of CLIP ViT-B/32 and random weights; posts have about 20 words and a JPEG file of 640 x 480
pixels each. Three trainings of the same model, each with a new datamodule and Trainer:

- without: nothing is kept, and a batch is computed together, as a loop without a cache would;
- filling: the first epoch with the cache, which computes every input alone and writes it;
- from disk: the first epoch of the next run: verified and memory-mapped, no picture is decoded; and its second epoch,
  in which nothing is verified again.

Bar: without / from disk at least 10. Exit code 1 when it is missed.
"""

from __future__ import annotations

import mnerkit  # noqa: F401  # first: it prepares torch for torchvision, which lightning imports

# isort: split
import argparse
import json
import logging
import random
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from epochs import epoch_seconds
from PIL import Image

from mnerkit.atomic_files import write_json
from mnerkit.data.datamodule import MnerData
from mnerkit.methods.method import Method
from mnerkit.methods.tagger import make_method
from mnerkit.towers.frozen.memory import FeatureMemory, KnownPictures, keep_on_disk

BAR = 10.0
WORDS = 20
SIZE = (480, 640)


def write_towers(folder: Path, words: list[str]) -> None:
    """A CLIP of the size of ViT-B/32 with random weights, and a tokenizer that knows the words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(  # type: ignore[call-arg]
        vocab_size=2000, initial_alphabet=alphabet, special_tokens=special, end_of_word_suffix="</w>"
    )
    tokenizer.train_from_iterator(words, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    for letter in alphabet:
        model["vocab"].setdefault(letter + "</w>", len(model["vocab"]))
    # transformers annotates texts and reads pairs
    merges: Any = [tuple(pair) for pair in model["merges"]]
    CLIPTokenizer(vocab=model["vocab"], merges=merges).save_pretrained(folder)
    config = CLIPConfig(text_config={"bos_token_id": 0, "eos_token_id": 1})
    CLIPModel(config).save_pretrained(folder)


def write_posts(folder: Path, posts: int, seed: int = 0) -> list[str]:
    """A corpus with a picture a post; returns its words."""
    draw, noise = random.Random(seed), np.random.default_rng(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 8))) for _ in range(400)]
    (folder / "images").mkdir(parents=True)
    for split, count in (("train", posts), ("dev", 1), ("test", 1)):
        rows = []
        for number in range(count):
            name = f"{split}{number}.jpg"
            # blocks of colour with some noise: a file about as large as a photograph's
            coarse = noise.integers(0, 255, (SIZE[0] // 16, SIZE[1] // 16, 3)).repeat(16, 0).repeat(16, 1)
            pixels = np.clip(coarse + noise.integers(-12, 12, (*SIZE, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name, quality=85)
            text = draw.choices(words, k=WORDS + draw.randint(-6, 6))
            label = ["B-PER", *("O" for _ in text[1:])]
            rows.append({"id": f"{split}{number}", "text": text, "label": label, "images": [name]})
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return words


def train(method: Method, corpus: Path, cache: Path | None, batch_size: int, epochs: int = 1) -> list[float]:
    """Seconds of each epoch by a new datamodule and Trainer; what earlier trainings had in memory is forgotten."""
    towers = list(method.towers.values())
    for tower in towers:
        tower.memory = FeatureMemory(limit=0)
    if cache is not None:
        keep_on_disk(towers, cache)
    data = MnerData(corpus=str(corpus), batch_size=batch_size)
    data.connect(method.needs(), "plain", method.facts.types, None if cache is None else KnownPictures.of(towers))
    return epoch_seconds(method, data, epochs)


def main() -> int:
    """Time the four epochs; print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--posts", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=16)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        words = write_posts(folder / "corpus", options.posts)
        write_towers(folder / "clip", words)
        lightning.seed_everything(0, verbose=False)
        clip = str(folder / "clip")
        model = {"text": clip, "vision": clip, "freeze_text": True, "freeze_vision": True, "max_tokens": 77}
        method = make_method({"plugin": "cross", "model": {**model, "head": {"name": "crf"}}})
        method.build(MnerData(corpus=str(folder / "corpus")).facts)
        corpus, cache = folder / "corpus", folder / "cache"
        seconds: dict[str, float] = {}
        (seconds["without"],) = train(method, corpus, None, options.batch_size)
        (seconds["filling"],) = train(method, corpus, cache, options.batch_size)
        seconds["from disk"], seconds["its second"] = train(method, corpus, cache, options.batch_size, epochs=2)
        kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        ratio = seconds["without"] / seconds["from disk"]
    print("seconds an epoch: " + ", ".join(f"{name} {each:.2f}" for name, each in seconds.items()))
    print(
        f"{options.posts} posts, batch {options.batch_size}, {torch.get_num_threads()} threads, "
        f"{kept / 1e6:.0f} MB kept: ratio {ratio:.1f} (bar {BAR:g})"
    )
    found = {
        "posts": options.posts,
        "batch_size": options.batch_size,
        "threads": torch.get_num_threads(),
        "seconds": {name: round(each, 3) for name, each in seconds.items()},
        "kept_bytes": kept,
        "ratio": round(ratio, 1),
    }
    write_json(Path(__file__).resolve().parent / "results" / "cache.json", found)
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
