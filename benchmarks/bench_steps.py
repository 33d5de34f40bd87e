"""Operations and waits for the device in a training step of each method: `make bench-steps`.

A step is forward and backward of 16 posts of 32 pieces with a caption each in place of the picture, on a BERT of twelve
layers with new weights (few-shot methods: an episode). Counted are the operations that are no views, as torch
dispatches them, and the host reads, also of a step of scoring: what would make Python wait for a GPU, such as
`nonzero`, boolean indices and `.item()`, with the place in our code or the library that asks. Chains are computed as a
GPU would compute them, and so is torch's attention: it is one operation, with dropout, too.

The bars are ratios to `results/steps_start.json`, counted before anything was made faster (chains by sweeps of
logsumexp, as a GPU computed them then). Exit code 1 where a bar is missed.
"""

from __future__ import annotations

import mnerkit  # noqa: F401  # first: it prepares torch for torchvision, which lightning imports

# isort: split
import argparse
import contextlib
import itertools
import json
import math
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from parity_methods.case import tower_folder
from timing import verdict
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig

from mnerkit import registry
from mnerkit.atomic_files import write_json
from mnerkit.cli.method_verbs import configuration_of
from mnerkit.data.batches.batch import Batch
from mnerkit.methods.method import Method
from mnerkit.nn import chain_tree
from mnerkit.options import declared
from mnerkit.runs.build import Assembly
from mnerkit.runs.reporting import quiet
from mnerkit.text_table import table

START = Path(__file__).resolve().parent / "results" / "steps_start.json"
POSTS, WORDS, HEADS = 16, 30, 4  # with [CLS] and [SEP] 32 pieces
PICTURES = ("captions", "hvpnet", "gmf", "tpm_mi", "mgips_cl", "umt", "maf", "umgf", "mkgformer")
# plugin, and options
SYSTEMS: dict[str, list[str]] = {
    "bert + softmax": ["bert", "--model.head", "softmax"],
    **{name: [name] for name in ("bert", *PICTURES, "visualpt_moe", "gei")},
    "gifr": ["gifr", "--model.relevance", "ones"],
    "cross": ["cross", "--model.vision", "tiny-vit"],
    "mousing": ["mousing", "--model.image_nodes", "captions"],
}
# most operations in a step, over those at the start
RATIOS = {
    **dict.fromkeys(("bert", "hvpnet", "tpm_mi", "mousing"), 0.78),
    **dict.fromkeys(("gmf", "mgips_cl"), 0.65),
    "gei": 0.55,
}
READS = dict.fromkeys(("gei", "mousing"), 1)  # most host reads of ours in a training step; of the others none
SCORING_READS = 1  # most in a step of scoring: the tags that the head decodes
ALWAYS_READ = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "unique_dim", "unique_consecutive")
READERS = ("item", "tolist", "cpu", "__bool__", "__int__", "__float__", "__index__")
OURS = ("mnerkit", "mnerkit_plugins")


@dataclass
class Counts(TorchDispatchMode):
    """Operations without views, and host reads by place, of what runs within."""

    operations: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        super().__init__()
        self._inside = False  # a reader of the table above: what it dispatches is the same read

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = operation.name().removeprefix("aten::")
        returned = [each.alias_info for each in operation._schema.returns]
        if name != "_unsafe_view" and not any(each is not None and not each.is_write for each in returned):
            self.operations[name] += 1
        if not self._inside and (name.startswith(ALWAYS_READ) or _indexed_by_mask(name, args)):
            self.reads[place()] += 1
        return operation(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Count, the readers of tensors included."""
        original = {name: getattr(Tensor, name) for name in READERS}
        try:
            for name, method in original.items():
                setattr(Tensor, name, self._counted(method))
            with self:
                yield
        finally:
            for name, method in original.items():
                setattr(Tensor, name, method)

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def read(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return method(*args, **kwargs)
            self.reads[place()] += 1
            self._inside = True
            try:
                return method(*args, **kwargs)
            finally:
                self._inside = False

        return read


def _indexed_by_mask(name: str, args: Any) -> bool:
    """Whether an operation has to count the true entries of a mask."""
    if not name.startswith(("index.", "index_put")):
        return False
    masks = [each for each in args[1] if each is not None and each.dtype in (torch.bool, torch.uint8)]
    # one number for all masked entries needs no count
    return bool(masks) and not (name.startswith("index_put") and args[2].numel() == 1)


def place() -> str:
    """File and line of our code that runs, or the library whose call of its own it is."""
    for frame in reversed(traceback.extract_stack()[:-2]):
        path = Path(frame.filename)
        if path == Path(__file__) or "torch" in path.parts:
            continue
        for package in ("src/mnerkit", "plugins", "mnerkit_plugins"):
            if f"/{package}/" in frame.filename:
                return f"{package.split('/')[-1]}/{frame.filename.split(f'/{package}/')[-1]}:{frame.lineno}"
        if "site-packages" in path.parts:
            return f"({path.parts[path.parts.index('site-packages') + 1]}) {path.name}:{frame.lineno}"
    return "(torch)"


def write_corpus(folder: Path) -> None:
    """Posts of one length with entities of four types, and captions of their pictures."""
    draw = random.Random(0)
    captions = []
    (folder / "posts").mkdir()
    for split in ("train", "valid", "test"):
        posts = []
        for number in range(8 * POSTS):
            tags = ["O"] * WORDS
            for first, kind in zip(range(0, WORDS, 8), draw.sample(("PER", "LOC", "ORG", "MISC"), 4), strict=False):
                tags[first + 1 : first + 3] = [f"B-{kind}", f"I-{kind}"]
            lines = [f"a\t{tag}" for tag in tags]
            posts.append("\n".join([f"IMGID:{split}{number}", *lines]) + "\n\n")
            captions.append(f"{split}{number}.jpg :{' '.join(['a'] * draw.randint(6, 10))}\n")
        (folder / "posts" / f"{split}.txt").write_text("".join(posts), "utf-8")
    (folder / "captions.txt").write_text("".join(captions), "utf-8")


def assembled(words: Sequence[str], folder: Path) -> Assembly:
    """A system of `SYSTEMS`, ready to train."""
    tower = folder / "tower"
    if not tower.exists():
        sizes: dict[str, Any] = {
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 12,
            "num_attention_heads": HEADS,
        }
        tower_folder(tower, BertConfig(vocab_size=6, attention_probs_dropout_prob=0.0, **sizes))
    plugin = words[0]
    known = declared(registry.get(plugin).options_class)
    given = {
        "data.corpus": str(folder / "posts"),
        "data.captions": str(folder / "captions.txt"),
        "data.batch_size": POSTS,
        "trainer.accelerator": "cpu",
        "model.text": f"random:{tower}",
        "model.vision": "captions",
        "model.heads": HEADS,
        "model.width": 48,
        "model.dropout": 0.1,
    }
    used = {name: value for name, value in given.items() if not name.startswith("model.") or name[6:] in known}
    options = [word for name, value in used.items() for word in (f"--{name}", str(value))]
    made = Assembly.of(configuration_of(["fit", "--plugin", plugin, *options, *words[1:]]).content)
    made.prepare()
    return made


@contextlib.contextmanager
def attention_of_a_gpu() -> Iterator[None]:
    """Attention with dropout is one operation on a GPU; a CPU has one for attention without dropout alone."""
    original = functional.scaled_dot_product_attention

    def attend(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *_: Any, **options: Any
    ) -> Tensor:
        options["dropout_p"] = 0.0
        return original(query, key, value, options.pop("attn_mask", mask), **options)

    functional.scaled_dot_product_attention = attend  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = original


def step(method: Method, batch: Batch) -> None:
    """Forward and backward."""
    weights = method.loss_weights()
    losses = method.losses(batch)
    torch.stack([weights.get(name, 1.0) * value for name, value in losses.items()]).sum().backward()


def counted(made: Assembly) -> Counts:
    """What the third training step does: caches of a first step are filled by then."""
    method = made.method.train()
    method.on_train_epoch_start()
    batches = itertools.islice(itertools.cycle(made.data.train_dataloader()), 3)
    for number, batch in enumerate(batches):
        method.zero_grad(set_to_none=True)
        counts = Counts()
        with attention_of_a_gpu(), counts.watching() if number == 2 else contextlib.nullcontext():
            step(method, batch)
    return counts


def evaluated(made: Assembly) -> Counts:
    """What the third batch of dev posts does, with its entities counted."""
    method = made.method.eval()
    counts = Counts()
    with torch.inference_mode():
        method.on_validation_epoch_start()
        batches = itertools.islice(itertools.cycle(made.data.val_dataloader()), 3)
        for number, batch in enumerate(batches):
            with counts.watching() if number == 2 else contextlib.nullcontext():
                method.validation_step(batch, number)
    return counts


def figures(systems: Sequence[str]) -> dict[str, Any]:
    """Operations and host reads of a training step of each system, and host reads of a step of scoring."""
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder)
        for system in systems:
            made = assembled(SYSTEMS[system], folder)
            counts, scored = counted(made), evaluated(made).reads
            found[system] = {
                "operations": counts.operations.total(),
                "reads": dict(counts.reads),
                "scoring_reads": dict(scored),
            }
            print(f"{system}: {counts.operations.total()} operations", *counts.reads, sep="\n    ")
            print("  scoring", *(f"{number} at {where}" for where, number in scored.items()), sep="\n    ", flush=True)
    return found


def main() -> int:
    """Count, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), metavar="SYSTEM")
    parser.add_argument("--out", type=Path, help="write the figures to this file")
    parser.add_argument("--against", type=Path, default=START, help=f"earlier figures (default: {START.name})")
    asked = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    with chain_tree.forced():
        found = figures(asked.systems)
    before = json.loads(asked.against.read_text("utf-8")) if asked.against.exists() else {}
    rows, missed = [], []
    for system, each in found.items():
        ours, scoring = (
            sum(number for where, number in each[kind].items() if not where.startswith("("))
            for kind in ("reads", "scoring_reads")
        )
        ratio = each["operations"] / before[system]["operations"] if system in before else None
        rows.append([system, each["operations"], ratio, RATIOS.get(system), ours, READS.get(system, 0), scoring])
        if ratio is not None and ratio > RATIOS.get(system, math.inf):
            missed.append(f"{system}: {ratio:.2f} of the operations at the start, not {RATIOS[system]}")
        if ours > READS.get(system, 0):
            missed.append(f"{system}: {ours} host reads")
        if scoring > SCORING_READS:
            missed.append(f"{system}: {scoring} host reads in a step of scoring")
    print(table(["system", "operations", "of the start", "bar", "host reads", "bar", "in scoring"], rows))
    if asked.out is not None:
        write_json(asked.out, found)
    return verdict(missed, "all bars are met")


if __name__ == "__main__":
    sys.exit(main())
