"""A plugin in small: its method on a few posts of its corpus, made and trained as `mnerkit fit` does."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import torch
from torch import Tensor

from mnerkit import registry
from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import Post
from mnerkit.data.datamodule import MnerData
from mnerkit.methods import checkpoint
from mnerkit.methods.method import Method
from mnerkit.methods.optimiser import adamw, parameter_groups
from mnerkit.methods.options import TaggerOptions
from mnerkit.methods.tagger import Tagger
from mnerkit.options import Option, declared
from mnerkit.runs.build import Assembly
from mnerkit.runs.config.configuration import Configuration, resolve, schema

SMALL: dict[str, dict[str, Any]] = {
    "data": {
        "limit": 24,
        "batch_size": 4,
        "eval_batch_size": 4,
        "k_shot": 2,
        "episodes_per_epoch": 2,
        "dev_episodes": 2,
        "eval_episodes": 2,
    },
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
}


@dataclass
class Workbench:
    """Makes a plugin's method on few posts; methods that take the same data share its posts.

    Attributes:
        plugin: its name.
        settings: sections of options that are laid over `SMALL`.
        cache: folder where tiny towers are kept once they are trained.
    """

    plugin: str
    settings: Mapping[str, Mapping[str, Any]]
    cache: Path
    _assemblies: dict[str, Assembly] = field(default_factory=dict)

    @property
    def sections(self) -> dict[str, dict[str, Any]]:
        """What is laid over the plugin's `defaults.yaml`."""
        own = {name: {**SMALL.get(name, {}), **self.settings.get(name, {})} for name in {**SMALL, **self.settings}}
        return {**own, "data": {**own["data"], "cache": str(self.cache)}}

    def configuration(
        self, model: Mapping[str, Any] | None = None, data: Mapping[str, Any] | None = None, ablation: str | None = None
    ) -> Configuration:
        """The plugin's settings in small, with an ablation or with other options.

        Raises:
            UsageError: a value that the options do not take.
        """
        own = self.sections
        own["model"] = {**own.get("model", {}), **(model or {})}
        own["data"] |= data or {}
        return resolve(self.plugin, ablation=ablation, values=own)

    def assembled(self, configuration: Configuration) -> Assembly:
        """Method and data, connected; the first weights are the same each time."""
        content = configuration.content
        method = checkpoint.make(content)
        key = json.dumps([content["data"], method.train_mode, method.reads_support])
        if key not in self._assemblies:
            self._assemblies[key] = Assembly.of(content, None, [], curve=False)
        method.config, method.seed = content, configuration.seed
        made = replace(self._assemblies[key], method=method, config=content)
        made.data.split_posts.replacements.clear()  # what another method chose to train on
        torch.manual_seed(0)
        made.prepare()
        return made


# ---------------------------------------------------------------------- options


def other_values(plugin: registry.Plugin) -> Iterator[tuple[str, Any]]:
    """Options of a plugin and of its head by name, each with a value that it has not in `defaults.yaml`.

    All choices, both truth values, null where it is one, and of numbers half or twice the default. Options of how every
    method is trained (`lr`, `schedule`) are left out: they change no single step.
    """
    content = resolve(plugin.name).content["model"]
    head = content.get("head") or {}
    current = {**content, **{f"head.{name}": value for name, value in head.items()}}
    for name, option in schema(plugin, head.get("name"))["model"].items():
        if name in ("head", "head.name", *declared(TaggerOptions)):
            continue
        for value in _values(option, current[name]):
            if (value, type(value)) != (current[name], type(current[name])):
                yield name, value


def _values(option: Option, current: Any) -> Iterator[Any]:
    for kind in option.alternatives:
        if get_origin(kind) is Literal:
            yield from get_args(kind)
        elif kind is bool:
            yield from (True, False)
        elif kind is NoneType:
            yield None
        elif kind in (int, float):
            others = [current / 2, current * 2] if current and isinstance(current, int | float) else []
            numbers = [kind(number) for number in [*others, 2, 0.5]]
            yield next(each for each in numbers if each and (option.rule is None or each in option.rule))


# ---------------------------------------------------------------------- training


def training_loss(method: Method, batch: Batch) -> Tensor:
    """The loss of a training step, whose gradients are left in the weights."""
    method.train().zero_grad()
    loss = method.training_step(batch, 0)
    loss.backward()
    return loss.detach()


def untrained(method: Method) -> list[str]:
    """Trainable weights that a step left without a gradient: they would stop distributed training."""
    return [name for name, weight in method.named_parameters() if weight.requires_grad and weight.grad is None]


def learn_by_heart(method: Method, batch: Batch, steps: int = 300) -> list[float]:
    """Train on one batch until it is known by heart; the losses, a step each."""
    torch.manual_seed(0)
    optimiser, _ = adamw(parameter_groups(method.rate_groups(), method, 0.0), "constant", 0.0, steps)
    losses: list[float] = []
    while len(losses) < steps and (len(losses) % 10 or not is_known(method, batch, losses)):
        losses.append(float(training_loss(method, batch)))
        optimiser.step()
    return losses


def is_known(method: Method, batch: Batch, losses: Sequence[float]) -> bool:
    """Whether a tagger gives each word its tag; of another method, whether the loss is a tenth of the first one."""
    if isinstance(method, Tagger):
        return all(each.tags == each.gold for each in method.eval().answers(batch))
    return bool(losses) and losses[-1] < losses[0] / 10


# ---------------------------------------------------------------------- comparing


def collated(data: MnerData, posts: Sequence[Post], like: Batch) -> Batch:
    """A batch of posts; where `like` is an episode its first posts are the support, as many as in `like`."""
    if like.episode is None:
        return data.collator()(posts)
    size = len(like) - int(like.query.sum())
    return data.collator().episode(posts[:size], posts[size:], like.tagset.types, like.episode)


def support_of(batch: Batch) -> list[Post]:
    """The posts of an episode from which its types are learnt; of a plain batch none."""
    return batch.posts[: len(batch) - int(batch.query.sum())]


@torch.no_grad()
def answers(method: Method, batch: Batch) -> list[dict[str, Any]]:
    """What a method says of each post that is asked about, and the states of its words, as plain data."""
    found = list(method.eval().rows(method.answers(batch)))
    if isinstance(method, Tagger):
        states = method.encoder(batch).states[:, batch.query]  # (E, R, W, d)
        for row, answer in enumerate(found):
            answer["states"] = states[:, row, : len(answer["words"])].flatten().tolist()
    return found


def are_near(one: Any, other: Any, tolerance: float = 1e-4) -> bool:
    """Whether plain data are equal, numbers up to a tolerance."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(are_near(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(are_near, one, other, [tolerance] * len(one)))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return bool(one == other)


def with_pictures_swapped(posts: Sequence[Post]) -> list[Post]:
    """The posts, each with the pictures of the next one."""
    return [replace(post, images=other.images) for post, other in zip(posts, [*posts[1:], posts[0]], strict=True)]


def without_pictures(posts: Sequence[Post]) -> list[Post]:
    """The posts with nothing to look at."""
    return [replace(post, images=(), truth=None) for post in posts]
