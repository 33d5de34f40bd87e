"""Speed of training: an epoch of `bert` by mnerkit against a plain loop over random batches, in one run.

`make bench-train ROOT=<folder of the corpora>`. Both train the packaged MiniLM with a CRF on the same Twitter-2017
posts with the same batch size, optimiser and number of threads. The plain loop is what the public scripts do at their
best: random batches padded to the longest, the library's tokenizer ahead of time, torchcrf. Bar: at most 0.8 of its
time. Exit code 1 when it is missed.
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
from bench_quality import minilm
from epochs import epoch_seconds
from torch import nn
from torchcrf import CRF
from transformers import AutoModel, AutoTokenizer

from mnerkit.atomic_files import write_json
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.datamodule import MnerData
from mnerkit.methods.tagger import make_method

BAR = 0.8


class PlainModel(nn.Module):
    """First sub-word states -> dropout -> linear -> torchcrf."""

    def __init__(self, folder: Path, tags: int) -> None:
        super().__init__()
        self.tower = AutoModel.from_pretrained(folder, add_pooling_layer=False)
        self.drop, self.out = nn.Dropout(0.1), nn.Linear(self.tower.config.hidden_size, tags)
        self.crf = CRF(tags, batch_first=True)

    def forward(self, ids, attention, first, tags, mask):  # type: ignore[no-untyped-def]
        states = self.tower(input_ids=ids, attention_mask=attention).last_hidden_state
        words = states.gather(1, first[..., None].expand(-1, -1, states.shape[-1]))
        return -self.crf(self.out(self.drop(words)), tags, mask, reduction="mean")


def plain_epoch(posts: list[Post], types: tuple[str, ...], folder: Path, batch_size: int, seed: int) -> float:
    """Seconds of one epoch of the plain loop; tokenizing is not counted."""
    tokenizer, tagset = AutoTokenizer.from_pretrained(folder), TagSet(types)
    rows = []
    for post in posts:
        code = tokenizer([word if word.strip() else "[UNK]" for word in post.words], is_split_into_words=True)
        owner = code.word_ids()
        first = [owner.index(word) if word in owner else 0 for word in range(len(post.words))]
        rows.append((code["input_ids"], first, tagset.encode(post.tags or ())))
    torch.manual_seed(seed)
    model = PlainModel(folder, len(tagset)).train()
    slow = list(model.tower.parameters())
    fast = [*model.out.parameters(), *model.crf.parameters()]
    optimiser = torch.optim.AdamW([{"params": slow, "lr": 1e-4}, {"params": fast, "lr": 2e-3}])
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    started = time.perf_counter()
    for start in range(0, len(order), batch_size):
        batch = [rows[place] for place in order[start : start + batch_size]]
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
    return time.perf_counter() - started


def our_epoch(root: Path, folder: Path, batch_size: int, posts: int | None, seed: int) -> float:
    """Seconds of one epoch of `mnerkit fit --plugin bert`, Trainer included."""
    head = {"name": "crf"}
    model = {"text": str(folder), "head": head, "lr": 1e-4, "tower_lr": 1e-4, "head_lr": 2e-3, "dropout": 0.1}
    lightning.seed_everything(seed, verbose=False)
    tagger = make_method({"plugin": "bert", "model": model})
    data = MnerData(corpus="twitter2017", root=str(root), batch_size=batch_size, train_limit=posts, seed=seed)
    tagger.build(data.facts)
    data.connect(tagger.needs(), "plain")
    (seconds,) = epoch_seconds(tagger, data, gradient_clip_val=1.0)
    return seconds


def main() -> int:
    """Time both, interleaved; print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--posts", type=int, default=None, help="train on so many posts (default: all 3,373)")
    parser.add_argument("--repeats", type=int, default=2, help="epochs of each, interleaved; the fastest counts")
    options = parser.parse_args()
    corpus = load_corpus("twitter2017", root=str(options.root))
    posts = corpus.splits["train"][: options.posts]
    ours, plain = [], []
    for seed in range(options.repeats):
        ours.append(our_epoch(options.root, minilm(), options.batch_size, options.posts, seed))
        plain.append(plain_epoch(posts, corpus.types, minilm(), options.batch_size, seed))
        print(f"epoch {seed}: mnerkit {ours[-1]:.1f} s, plain loop {plain[-1]:.1f} s", flush=True)
    ratio = min(ours) / min(plain)
    print(
        f"batch {options.batch_size}, {len(posts)} posts, {torch.get_num_threads()} threads: "
        f"ratio {ratio:.2f} (bar {BAR})"
    )
    found = {"posts": len(posts), "batch_size": options.batch_size, "mnerkit_s": ours, "plain_s": plain, "ratio": ratio}
    write_json(Path(__file__).resolve().parent / "results" / "train.json", found)
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
