"""Runs a case as a user would and records what it computed: losses, tags, how clear each tag was.

Everything goes through the command line, run folders and Lightning's own classes. There are four exceptions, and where
what they name is moved or renamed this file follows, while no golden value changes:

- `_Decisions`: every head decodes through a function that is called `viterbi(emissions, mask, scores)` or
  `most_likely(scores, words)` in a module of the heads.
- `_answers`: a method collects its answers in `predicted` while Lightning predicts; each has `post.id`, `episode` and,
  where words are tagged, `tags`.
- `registered` and `behaviour`: the table of heads, and the behaviour numbers of a configuration.
- `main`, the command line as a function.

Random numbers that torch draws differently on processors of different makers (dropout through Intel's library) are
drawn from `torch.rand` instead, which is the same everywhere.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mnerkit  # noqa: F401 (prepares torchvision before Lightning is imported)

import lightning.pytorch as lightning  # isort: skip
import torch
import yaml
from torch import Tensor
from torch.nn import functional

from mnerkit.cli import main

# three training steps in one epoch, on the first posts of the probe corpus
SMALL = {
    "data.limit": "16",
    "data.batch_size": "6",
    "data.eval_batch_size": "8",
    "data.episodes_per_epoch": "3",
    "data.dev_episodes": "2",
    "data.eval_episodes": "2",
    "data.k_shot": "2",
    "trainer.max_epochs": "1",
    "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": "false",
}
# larger margins are not told apart: a tag that is out of reach is infinitely far
CAP = 99.0
POSTS = 3


@dataclass
class Record:
    """What a run computed.

    Attributes:
        losses: every value that training logs, by its name, a value a step.
        answers: for each time that Lightning predicted a split, its posts in order: id, episode, tags and margins.
    """

    losses: dict[str, list[float]] = field(default_factory=dict)
    answers: list[list[dict[str, Any]]] = field(default_factory=list)


class Stopped(BaseException):
    """Ends a run in the middle, as a kill does: no `except Exception` holds it up."""


# ---------------------------------------------------------------------- runs


def fit(folder: Path, options: dict[str, str], cache: Path, stop_after: int | None = None) -> tuple[Path, Record]:
    """Train as `mnerkit fit` does and return the run's folder and a record.

    Args:
        folder: where run folders lie; the run is the only one in it.
        options: of the command line, without dashes, an empty value for a flag; they overrule `SMALL`.
        cache: folder of `--data.cache`, where frozen tiny towers are kept from case to case.
        stop_after: interrupt the run at this training step, counted from 1.
    """
    asked = {"runs_dir": str(folder), "name": "golden", "data.cache": str(cache), **SMALL, **options}
    argv = [part for name, value in asked.items() for part in (f"--{name}", value) if part]
    record = Record()
    with _watched(record, stop_after), contextlib.suppress(Stopped):
        if code := main(["fit", *argv]):
            raise RuntimeError(f"mnerkit fit {' '.join(argv)} ended with {code}")
    (config,) = folder.rglob("config.yaml")
    return config.parent, record


def values(run: Path, record: Record, splits: Sequence[str] = ("dev",)) -> dict[str, Any]:
    """What the golden file keeps of a run, in plain data: behaviour numbers, all losses, some posts of each split."""
    kept: dict[str, Any] = {"behaviour": behaviour(run)}
    kept["losses"] = {name: [_short(each) for each in found] for name, found in record.losses.items()}
    for split in splits:
        rows = [json.loads(line) for line in (run / f"predictions.{split}.jsonl").read_text().splitlines()]
        picked = [rows[place] for place in sorted({0, len(rows) // 2, len(rows) - 1})][:POSTS]
        if "entities" in rows[0]:
            answers = _pass_over(record, rows)
            kept[split] = [answers[row.get("episode"), row["id"]] for row in picked]
        else:
            # a score is only known up to a constant, which is the blank picture's
            kept[split] = [
                {
                    "id": row["id"],
                    "scores": _rounded(row["scores"]),
                    "above_blank": _rounded([value and value - row["blank"] for value in row["raw"]]),
                }
                for row in picked
            ]
    return kept


def _pass_over(record: Record, rows: list[dict[str, Any]]) -> dict[tuple[int | None, str], dict[str, Any]]:
    """The first time that just the posts of a file of predictions were predicted."""
    wanted = {(row.get("episode"), row["id"]) for row in rows}
    for answers in record.answers:
        found = {(each.get("episode"), each["id"]): each for each in answers}
        if found.keys() == wanted:
            return found
    raise RuntimeError("Lightning's Trainer.predict was not called with the posts of the file of predictions")


def behaviour(run: Path) -> dict[str, int]:
    """The behaviour numbers of the core, the plugin and the head of a run."""
    from mnerkit.runs.identity import behaviours

    return behaviours(yaml.safe_load((run / "config.yaml").read_text("utf-8")))


def registered() -> tuple[set[str], set[str]]:
    """Names of all plugins, and of all heads."""
    from mnerkit.methods.heads import HEADS

    return {each.name for each in entry_points(group="mnerkit.plugins")}, set(HEADS)


# ---------------------------------------------------------------------- watching


@contextmanager
def _watched(record: Record, stop_after: int | None) -> Iterator[None]:
    """Note what Lightning logs and predicts meanwhile."""
    log, predict = lightning.LightningModule.log, lightning.Trainer.predict

    def noted(module: lightning.LightningModule, name: str, value: Any, *args: Any, **options: Any) -> None:
        if name.startswith("train/"):
            steps = record.losses.setdefault(name, [])
            steps.append(float(value))
            if stop_after is not None and len(steps) >= stop_after:
                raise Stopped
        log(module, name, value, *args, **options)

    def predicted(trainer: lightning.Trainer, model: Any, *args: Any, **options: Any) -> Any:
        with _Decisions() as decisions:
            found = predict(trainer, model, *args, **options)
        record.answers.append(_answers(model, decisions.margins))
        return found

    with ExitStack() as patches:
        patches.enter_context(patch.object(lightning.LightningModule, "log", noted))
        patches.enter_context(patch.object(lightning.Trainer, "predict", predicted))
        patches.enter_context(patch.object(functional, "dropout", portable_dropout))
        patches.enter_context(patch.object(functional, "scaled_dot_product_attention", portable_attention))
        yield


def _answers(model: Any, margins: list[list[float]]) -> list[dict[str, Any]]:
    """The answers of a method that tags words, with the margin of each word; none of another method."""
    said = [each for each in model.predicted if hasattr(each, "tags")]
    if len(said) != len(margins):
        raise RuntimeError(f"{len(said)} posts were tagged, and decisions seen for {len(margins)}: see `_Decisions`")
    found = []
    for each, clear in zip(said, margins, strict=True):
        # words that the tower did not read are O, whatever happens
        clear = [*clear, *[CAP] * (len(each.tags) - len(clear))]
        row = {"id": each.post.id, "tags": " ".join(each.tags), "margins": [round(value, 4) for value in clear]}
        found.append(row if each.episode is None else {"episode": each.episode, **row})
    return found


class _Decisions:
    """While it is entered, notes how clearly each word's tag was chosen by `viterbi` or `most_likely`.

    Attributes:
        margins: a list a row that was decoded: the score of the best choice, less that of the best other tag there.
    """

    def __init__(self) -> None:
        self.margins: list[list[float]] = []
        self._patches = ExitStack()

    def __enter__(self) -> _Decisions:
        # of the heads alone: an encoder may find paths of its own. A module may be known by a former name, too
        heads = {id(module): module for key, module in sys.modules.items() if re.match(r"mnerkit\..*\bheads\b", key)}
        for name, watch in (("viterbi", self._of_paths), ("most_likely", self._of_words)):
            for module in heads.values():
                if callable(original := vars(module).get(name)):
                    self._patches.enter_context(patch.object(module, name, watch(original)))
        return self

    def __exit__(self, *error: object) -> None:
        self._patches.close()

    def _of_paths(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def viterbi(emissions: Tensor, mask: Tensor, scores: Any) -> Any:
            lengths = mask.sum(1).tolist()
            rows = emissions.detach().double()
            self.margins += [path_margins(row[:length], *scores) for row, length in zip(rows, lengths, strict=True)]
            return original(emissions, mask, scores)

        return viterbi

    def _of_words(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def most_likely(scores: Tensor, words: Any) -> Any:
            lengths = words.mask.sum(1).tolist()
            rows = scores.detach().double()
            self.margins += [margins_of(row[:length]) for row, length in zip(rows, lengths, strict=True)]
            return original(scores, words)

        return most_likely


def margins_of(scores: Tensor) -> list[float]:
    """Highest less second highest of each row of scores (W, K)."""
    if not len(scores) or scores.shape[1] < 2:
        return [CAP] * len(scores)
    best = scores.topk(2, dim=-1).values
    return [min(value, CAP) for value in (best[:, 0] - best[:, 1]).tolist()]


def path_margins(emissions: Tensor, start: Tensor, transitions: Tensor, end: Tensor) -> list[float]:
    """How far the best tag sequence is, at each word, above the best one with another tag there.

    Args:
        emissions: (W, K) of the real words.
        start: (K,) score of each first tag.
        transitions: (K, K) from row to column.
        end: (K,) score of each last tag.
    """
    start, transitions, end = (each.detach().double() for each in (start, transitions, end))
    if not len(emissions):
        return []
    forward, backward = [start + emissions[0]], [end]
    for emission in emissions[1:]:
        forward.append((forward[-1].unsqueeze(1) + transitions).amax(0) + emission)
    for emission in emissions[1:].flip(0):
        backward.append((transitions + emission + backward[-1]).amax(1))
    return margins_of(torch.stack(forward) + torch.stack(backward[::-1]))


# ---------------------------------------------------------------------- the same on every machine


def portable_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`torch.nn.functional.dropout`, drawn from `torch.rand`."""
    if not training or p == 0:
        return input
    return input * (torch.rand(input.shape, device=input.device) >= p).to(input.dtype) / (1 - p)


_attention = functional.scaled_dot_product_attention


def portable_attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`; with dropout it is computed step by step."""
    names = ("attn_mask", "dropout_p", "is_causal")
    options = {**dict(zip(names, args, strict=False)), **options}
    if not options.get("dropout_p"):
        return _attention(query, key, value, **options)
    if options.get("is_causal"):
        raise NotImplementedError("causal attention with dropout")
    scores = query @ key.mT * (options.get("scale") or 1 / math.sqrt(query.shape[-1]))
    mask = options.get("attn_mask")
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return portable_dropout(scores.softmax(-1), options["dropout_p"]) @ value


# ---------------------------------------------------------------------- material


def write_bert(folder: Path) -> Path:
    """A BERT of two layers with random weights and a small vocabulary, as `save_pretrained` writes it."""
    from transformers import BertConfig, BertModel, BertTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *".,:;!?#@/'-_", "the", "in", "at", "with", "a"]
    pieces += ["##" + letter for letter in letters]
    BertTokenizer(vocab={piece: number for number, piece in enumerate(dict.fromkeys(pieces))}).save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(15)
        # wider than BERT's 0.02, so that a narrow network says something
        config = BertConfig(vocab_size=len(set(pieces)), max_position_embeddings=128, initializer_range=0.15, **sizes)
        BertModel(config).save_pretrained(folder)
    return folder


def _short(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")


def _rounded(value: Any) -> Any:
    return [_rounded(each) for each in value] if isinstance(value, list) else value and _short(value)
