"""Speed of training: an epoch of `bert` by mnerkit against two plain loops, in one run.

`make bench-train ROOT=<folder of the corpora>`. All train the packaged MiniLM with a CRF on the same Twitter-2017
posts with the same batch size, optimiser and number of threads, and tokenize ahead of time.

- `random` is what the public scripts do at their best: random batches padded to the longest, torchcrf. Bar: at most 0.8
  of its time;
- `sorted` has batches of posts of like length in random order, and our CRF: what remains is mnerkit's own cost. Bar: at
  most 1.0 of its time.

Seconds are of CPU. Exit code 1 when a bar is missed.
"""

from __future__ import annotations

import mnerkit  # noqa: F401  # first: it prepares torch for torchvision, which lightning imports

# isort: split
import argparse
import random
import sys
import time
from pathlib import Path

import lightning.pytorch as lightning
import torch
import torchcrf
from bench_quality import minilm
from epochs import epoch_seconds
from torch import nn
from transformers import AutoModel, AutoTokenizer

from mnerkit.atomic_files import write_json
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.datamodule import MnerData
from mnerkit.methods.tagger import make_method
from mnerkit.nn.linear_chain import CRF

BARS = {"random": 0.8, "sorted": 1.0}


class PlainModel(nn.Module):
    """First sub-word states -> dropout -> linear -> CRF."""

    def __init__(self, folder: Path, tags: int, crf: type[torchcrf.CRF]) -> None:
        super().__init__()
        self.tower = AutoModel.from_pretrained(folder, add_pooling_layer=False)
        self.drop, self.out = nn.Dropout(0.1), nn.Linear(self.tower.config.hidden_size, tags)
        self.crf = crf(tags, batch_first=True)

    def forward(self, ids, attention, first, tags, mask):  # type: ignore[no-untyped-def]
        states = self.tower(input_ids=ids, attention_mask=attention).last_hidden_state
        words = states.gather(1, first[..., None].expand(-1, -1, states.shape[-1]))
        return -self.crf(self.out(self.drop(words)), tags, mask, reduction="mean")


def plain_epoch(
    posts: list[Post], types: tuple[str, ...], folder: Path, batch_size: int, seed: int, by_length: bool
) -> float:
    """Seconds of one epoch of a plain loop, `sorted` if `by_length`; tokenizing is not counted."""
    tokenizer, tagset = AutoTokenizer.from_pretrained(folder), TagSet(types)
    rows = []
    for post in posts:
        code = tokenizer([word if word.strip() else "[UNK]" for word in post.words], is_split_into_words=True)
        owner = code.word_ids()
        first = [owner.index(word) if word in owner else 0 for word in range(len(post.words))]
        rows.append((code["input_ids"], first, tagset.encode(post.tags or ())))
    torch.manual_seed(seed)
    model = PlainModel(folder, len(tagset), CRF if by_length else torchcrf.CRF).train()
    slow = list(model.tower.parameters())
    fast = [*model.out.parameters(), *model.crf.parameters()]
    optimiser = torch.optim.AdamW([{"params": slow, "lr": 1e-4}, {"params": fast, "lr": 2e-3}])
    draw = random.Random(seed)
    order = draw.sample(range(len(rows)), len(rows))
    if by_length:
        order.sort(key=lambda place: len(rows[place][0]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    draw.shuffle(batches)
    started = time.process_time()
    for places in batches:
        batch = [rows[place] for place in places]
        n, w = max(len(row[0]) for row in batch), max(len(row[1]) for row in batch)
        ids = torch.tensor([row[0] + [0] * (n - len(row[0])) for row in batch])
        attention = torch.tensor([[1] * len(row[0]) + [0] * (n - len(row[0])) for row in batch])
        first_pieces = torch.tensor([row[1] + [0] * (w - len(row[1])) for row in batch])
        tags = torch.tensor([row[2] + [0] * (w - len(row[2])) for row in batch])
        mask = torch.tensor([[True] * len(row[1]) + [False] * (w - len(row[1])) for row in batch])
        loss = model(ids, attention, first_pieces, tags, mask)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return time.process_time() - started


def our_epoch(root: Path, folder: Path, batch_size: int, posts: int | None, seed: int) -> float:
    """Seconds of one epoch of `mnerkit fit --plugin bert`, Trainer included."""
    head = {"name": "crf"}
    model = {"text": str(folder), "head": head, "lr": 1e-4, "tower_lr": 1e-4, "head_lr": 2e-3, "dropout": 0.1}
    lightning.seed_everything(seed, verbose=False)
    tagger = make_method({"plugin": "bert", "model": model})
    data = MnerData(corpus="twitter2017", root=str(root), batch_size=batch_size, train_limit=posts, seed=seed)
    tagger.build(data.facts)
    data.connect(tagger.needs(), "plain")
    (seconds,) = epoch_seconds(tagger, data, clock=time.process_time, gradient_clip_val=1.0)
    return seconds


def main() -> int:
    """Time all, interleaved; print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--posts", type=int, default=None, help="train on so many posts (default: all 3,373)")
    parser.add_argument("--repeats", type=int, default=2, help="epochs of each, interleaved; the fastest counts")
    options = parser.parse_args()
    corpus = load_corpus("twitter2017", root=str(options.root))
    posts = corpus.splits["train"][: options.posts]
    seconds: dict[str, list[float]] = {"mnerkit": [], "random": [], "sorted": []}
    for seed in range(options.repeats):
        seconds["mnerkit"].append(our_epoch(options.root, minilm(), options.batch_size, options.posts, seed))
        for name in BARS:
            by_length = name == "sorted"
            plain = plain_epoch(posts, corpus.types, minilm(), options.batch_size, seed, by_length)
            seconds[name].append(plain)
        print(
            f"epoch {seed}: " + ", ".join(f"{name} {values[-1]:.1f} s" for name, values in seconds.items()), flush=True
        )
    ratios = {name: min(seconds["mnerkit"]) / min(seconds[name]) for name in BARS}
    print(f"batch {options.batch_size}, {len(posts)} posts, {torch.get_num_threads()} threads: ", end="")
    print(", ".join(f"{ratios[name]:.2f} of {name} (bar {bar})" for name, bar in BARS.items()))
    result = {"posts": len(posts), "batch_size": options.batch_size, "cpu_seconds": seconds, "ratios": ratios}
    write_json(Path(__file__).resolve().parent / "results" / "train.json", result)
    return int(any(ratios[name] > bar for name, bar in BARS.items()))


if __name__ == "__main__":
    sys.exit(main())
