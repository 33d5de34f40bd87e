"""The feature cache: epochs with it against epochs without, in one run; processor time, which others disturb less.

`cross` over a frozen CLIP-B (bar: without / from disk at least 25).
Both towers have the size of CLIP ViT-B/32 and random weights; posts have about 20 words and a JPEG file of 640 x 480
pixels each. Three trainings of the same model, each with a new datamodule and Trainer:

- without: nothing is kept, and a batch is computed together, as a loop without a cache would;
- filling: the first epoch with the cache, before which every input is computed and written (bar: at most 1.1 times the
  epoch without);
- from disk: the first epoch of the next run: verified and memory-mapped, no picture is decoded; and its second epoch,
  in which nothing is verified again.

`hvpnet` with a BERT of the base's size that is trained and a frozen ResNet-18, both with random weights, on posts with
a picture and three objects: a plain loop of the same steps without a cache against the first epoch with the cache
(bar: 1.1) and the second.

Exit code 1 when a bar is missed.
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
from time import process_time
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
from mnerkit.towers.frozen.cached_inputs import KnownPictures, keep_on_disk
from mnerkit.towers.frozen.memory import FeatureMemory

BAR, FIRST_EPOCH = 25.0, 1.1
WORDS, OBJECTS = 20, 3
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
            boxes = [{"box": [60 * place, 40, 60 * place + 300, 400], "score": 0.9} for place in range(OBJECTS)]
            rows.append({"id": f"{split}{number}", "text": text, "label": label, "images": [name], "boxes": [boxes]})
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return words


def write_bert(folder: Path, words: list[str]) -> None:
    """A BERT of the base's size with random weights, and a tokenizer that knows the words."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir()
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(vocabulary))).save_pretrained(folder)


def connected(method: Method, corpus: Path, cache: Path | None, batch_size: int) -> MnerData:
    """A new datamodule; what the towers had in memory is forgotten."""
    towers, data = list(method.towers.values()), MnerData(corpus=str(corpus), batch_size=batch_size)
    for tower in towers:
        tower.memory = FeatureMemory(limit=0)
    known = None
    if cache is not None:
        keep_on_disk(towers, cache, data.inputs)
        known = KnownPictures.of(towers)
        for tower in towers:
            if tower.constant:
                tower.memory.reading(tower)
    data.connect(method.needs(), "plain", method.facts.types, known, keyed=cache is not None)
    return data


def train(method: Method, corpus: Path, cache: Path | None, batch_size: int, epochs: int = 1) -> list[float]:
    """Seconds of each epoch by a new datamodule and Trainer."""
    return epoch_seconds(method, connected(method, corpus, cache, batch_size), epochs, process_time)


def plain_loop(method: Method, corpus: Path, batch_size: int) -> float:
    """Seconds of an epoch of the same steps, written out."""
    data = connected(method, corpus, None, batch_size)
    weights = [weight for weight in method.train().parameters() if weight.requires_grad]
    started, optimiser = process_time(), torch.optim.AdamW(weights, lr=1e-5)
    for batch in data.train_dataloader():
        optimiser.zero_grad()
        sum(method.losses(batch).values()).backward()  # type: ignore[union-attr]
        optimiser.step()
    return process_time() - started


def hvpnet(folder: Path, posts: int, batch_size: int) -> dict[str, float]:
    """Seconds of a plain loop, and of the first and the second epoch with the cache."""
    corpus = folder / "corpus"
    write_bert(folder / "bert", write_posts(corpus, posts))
    model = {"text": str(folder / "bert"), "vision": "random:resnet18", "freeze_vision": True, "max_tokens": 128}
    method = make_method({"plugin": "hvpnet", "model": {**model, "head": {"name": "crf"}}})
    method.build(MnerData(corpus=str(corpus)).facts)
    vision = method.towers["vision"]
    vision.loaded = True  # so that it is kept on disk
    first, second = train(method, corpus, folder / "cache", batch_size, epochs=2)
    return {"plain loop": plain_loop(method, corpus, batch_size), "filling": first, "second": second}


def main() -> int:
    """Time the epochs; print the ratios."""
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
        with tempfile.TemporaryDirectory() as other:
            of_hvpnet = hvpnet(Path(other), options.posts, options.batch_size)
    filling = seconds["filling"] / seconds["without"]
    plain = of_hvpnet["plain loop"]
    ratios = {"first epoch": of_hvpnet["filling"] / plain, "second epoch": of_hvpnet["second"] / plain}
    print(
        f"{options.posts} posts, batch {options.batch_size}, {torch.get_num_threads()} threads,"
        f" {kept / 1e6:.0f} MB kept"
    )
    for name, times in (("cross", seconds), ("hvpnet", of_hvpnet)):
        print(f"{name}, seconds an epoch: " + ", ".join(f"{each} {time:.2f}" for each, time in times.items()))
    print(f"cross: without / from disk {ratio:.1f} (bar {BAR:g}), filling / without {filling:.2f} (bar {FIRST_EPOCH})")
    print(f"hvpnet / plain loop: first epoch {ratios['first epoch']:.2f} (bar {FIRST_EPOCH}), second ", end="")
    print(f"{ratios['second epoch']:.2f}")
    found = {
        "posts": options.posts,
        "batch_size": options.batch_size,
        "threads": torch.get_num_threads(),
        "seconds": {name: round(each, 3) for name, each in seconds.items()},
        "kept_bytes": kept,
        "ratio": round(ratio, 1),
        "hvpnet_seconds": {name: round(each, 3) for name, each in of_hvpnet.items()},
    }
    write_json(Path(__file__).resolve().parent / "results" / "cache.json", found)
    return 0 if ratio >= BAR and max(filling, ratios["first epoch"]) <= FIRST_EPOCH else 1


if __name__ == "__main__":
    sys.exit(main())
