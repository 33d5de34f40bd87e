"""A tiny training of one combination of the table, and what has to hold of it."""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import lightning.pytorch as lightning
import torch
from method_table import DATA, SIZES, Combination, configuration
from torch import distributed

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.corpus import Corpus, load_corpus
from mnerkit.data.corpus.post import Post
from mnerkit.methods import evaluation
from mnerkit.methods.evaluation import reads_windows
from mnerkit.methods.method import Method
from mnerkit.methods.tagger import Tagger
from mnerkit.runs.build import Assembly
from mnerkit.runs.reporting import quiet
from mnerkit.testing.plugin_tests import collated, reads_in_short_windows

STEPS = 2


class Watch(lightning.Callback):
    """Notes losses, and looks at the gradients of every step.

    Attributes:
        losses: of each step.
        reached: sums of the gradients' absolute values, by the name of the weight.
    """

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.reached: dict[str, float] = defaultdict(float)

    def on_after_backward(self, trainer: lightning.Trainer, method: lightning.LightningModule) -> None:
        gradients = {name: each.grad for name, each in method.named_parameters() if each.requires_grad}
        # a weight without a gradient stops distributed training
        assert [name for name, each in gradients.items() if each is None] == []
        sums = torch.stack(torch._foreach_norm([*gradients.values()], 1)).tolist()  # type: ignore[arg-type]
        for name, total in zip(gradients, sums, strict=True):
            assert math.isfinite(total), name
            self.reached[name] += total

    def on_train_batch_end(self, trainer: lightning.Trainer, method: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))


def without_pictures(posts: Sequence[Post]) -> list[Post]:
    """The posts with nothing to look at."""
    return [replace(post, images=(), truth=None) for post in posts]


def assembled(c: Combination, cache: str) -> Assembly:
    """Method, data and Trainer of a combination, ready to train.

    Args:
        c: the combination.
        cache: folder of tiny towers that were trained.

    Raises:
        MnerkitError: it is refused.
    """
    quiet()
    made = Assembly.of(configuration(c, cache).content)
    made.data.split_posts.corpus = corpus(c.data, c.pictures != "none")
    made.prepare()
    return made


@functools.cache
def corpus(data: str, pictures: bool) -> Corpus:
    """The corpus that all combinations of such data share, with or without its pictures."""
    options = DATA[data]
    made = load_corpus("probe", variant=options["variant"], limit=options["limit"])
    if pictures:
        return made
    return replace(made, splits={split: without_pictures(each) for split, each in made.splits.items()})


def train(c: Combination, cache: str) -> None:
    """Train two steps and score dev, as `mnerkit fit` does, alone or as one of two ranks.

    Raises:
        AssertionError: a loss or weight is not finite, a weight has no gradient, ranks differ, or posts have no answer.
    """
    made, watch = assembled(c, cache), Watch()
    trainer, method = made.trainer, made.method
    trainer.callbacks.append(watch)  # type: ignore[attr-defined]
    with ExitStack() as stack:
        if trainer.global_rank == 1:
            stack.enter_context(patch.object(Collator, "_collate", _blind))
        trainer.fit(method, made.data)
        assert math.isfinite(trainer.callback_metrics[method.monitor])
        predicted = evaluation.predictions(trainer, method, made.data, "dev")
    assert len(watch.losses) == STEPS and all(map(math.isfinite, watch.losses)), watch.losses
    assert torch.stack(torch._foreach_norm([*method.parameters()])).isfinite().all()
    assert parts_untouched(method, watch.reached, c) == []
    check_answers(made, predicted)
    if c.ranks == "one":
        check_windows(made)
    if c.ranks == "two":
        weights = torch.cat([each.detach().double().flatten() for each in method.parameters() if each.requires_grad])
        sums = [torch.zeros(2, dtype=torch.double) for _ in range(trainer.world_size)]
        distributed.all_gather(sums, torch.stack([weights.sum(), weights.square().sum()]))
        assert torch.equal(*sums), "the ranks end with other weights"


collate = Collator._collate


def _blind(collator: Collator, posts: Sequence[Post], *rest: Any, **named: Any) -> Batch:
    return collate(collator, without_pictures(posts), *rest, **named)


def parts_untouched(method: Method, reached: dict[str, float], c: Combination) -> list[str]:
    """Parts of a method that are trained and that no loss moves: towers, the encoder's own modules, the head.

    Without pictures only the text tower and the head are looked at.
    """
    names = {id(weight): name for name, weight in method.named_parameters()}
    parts = {name: modules for name, (modules, _) in method.rate_groups().items()}
    parts |= {name: [each] for name, each in method.towers.items()}
    if c.pictures == "none":
        parts = {name: parts[name] for name in ("text", "head")}
    untouched = []
    for part, modules in parts.items():
        weights = [names[id(each)] for module in modules for each in module.parameters() if each.requires_grad]
        if weights and not any(reached[name] for name in weights):
            untouched.append(part)
    return untouched


def check_answers(made: Assembly, predicted: Sequence[Any]) -> None:
    """Each post of a rank's batch (of an episode: its query) has its answer, and a tagger's has a tag for each word."""
    posts = 1 if made.data.few_shot else SIZES["eval_batch_size"]
    assert len(predicted) == posts * made.trainer.world_size
    if isinstance(made.method, Tagger):
        assert all(len(each.tags) == len(each.post.words) for each in predicted)
        assert 0 <= made.method.figures(predicted)["f1"] <= 100


def check_windows(made: Assembly) -> None:
    """A head tags words whose states are put together from several windows, where the method reads such."""
    if not isinstance(made.method, Tagger) or not reads_windows(made.method, predicting=True):
        return
    question = next(iter(made.data.loader("dev")))
    with reads_in_short_windows(made.method), torch.no_grad() if not made.method.tunes else nullcontext():
        batch = collated(made.data, question.posts, question, windows=True)
        assert batch.windows is not None and len(made.method.eval().answers(batch)) == int(question.query.sum())
