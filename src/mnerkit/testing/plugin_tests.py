"""What holds of every plugin: a test class inherits `BasePluginTest` and names its plugin."""

from __future__ import annotations

import copy
import functools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Literal, get_args, get_origin

import pytest
import torch

import mnerkit
from mnerkit import registry
from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import Post
from mnerkit.data.datamodule import MnerData
from mnerkit.errors import UsageError
from mnerkit.methods import checkpoint
from mnerkit.methods.evaluation import reads_windows
from mnerkit.methods.heads import HEADS, load_head_class
from mnerkit.methods.method import Method
from mnerkit.methods.optimiser import adamw, parameter_groups
from mnerkit.methods.options import TaggerOptions, TowerOptions
from mnerkit.methods.tagger import Tagger, make_method
from mnerkit.options import Option, declared
from mnerkit.runs.build import Assembly
from mnerkit.runs.config.configuration import Configuration, filled, has_head, resolve, schema

DATA = {"limit": 24, "batch_size": 4, "eval_batch_size": 4, "k_shot": 2}
DATA |= {"episodes_per_epoch": 2, "dev_episodes": 2, "eval_episodes": 2}
TRAINER = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}
MOST_STEPS = 300


@dataclass
class Workbench:
    """Makes a plugin's method on a few posts, as `mnerkit fit` does; methods that take the same data share its posts.

    Attributes:
        plugin: its name.
        settings: sections of options over its `defaults.yaml`.
        losses: those of the training of `learnt`, a step each.
    """

    plugin: str
    settings: dict[str, Any]
    losses: list[float] = field(default_factory=list)
    _assemblies: dict[str, Assembly] = field(default_factory=dict)

    @functools.cached_property
    def own(self) -> Configuration:
        """The configuration that has no other options than `settings`."""
        return resolve(self.plugin, values=self.settings)

    def configuration(self, **options: Any) -> Configuration:
        """The same with options by their dotted names.

        Raises:
            UsageError: a value that the options do not take.
        """
        given = copy.deepcopy(self.own.given)
        for name, value in options.items():
            *sections, option = name.split(".")
            functools.reduce(lambda outer, section: outer[section], sections, given)[option] = value
        return Configuration(filled(given, new=True), given)

    def assembled(self, configuration: Configuration) -> Assembly:
        """Method and data, connected; the first weights are the same each time."""
        content = configuration.content
        method = make_method(content)
        method.config = content
        key = json.dumps([content["data"], method.train_mode, method.reads_support])
        if key not in self._assemblies:
            self._assemblies[key] = Assembly.of(content)
        made = replace(self._assemblies[key], method=method, config=content)
        made.data.split_posts.replacements.clear()  # what another method chose to train on
        torch.manual_seed(0)
        made.prepare()
        return made

    @functools.cached_property
    def learnt(self) -> Assembly:
        """The method after it was trained on one batch until it knows that by heart."""
        made = self.assembled(self.own)
        self._batch = next(iter(made.data.train_dataloader()))
        if not made.method.trainable_parameters():
            return made
        groups = parameter_groups(made.method.rate_groups(), made.method, weight_decay=0.0)
        optimiser, _ = adamw(groups, "constant", 0.0, MOST_STEPS)
        while len(self.losses) < MOST_STEPS and (len(self.losses) % 10 or not self.knows_by_heart(made.method)):
            self.losses.append(training_loss(made.method, self._batch))
            optimiser.step()
        return made

    def knows_by_heart(self, method: Method) -> bool:
        """Whether a tagger gives each word its tag; of another method, whether the loss is a tenth of the first one."""
        if isinstance(method, Tagger):
            return all(each.tags == each.gold for each in method.eval().answers(self._batch))
        return bool(self.losses) and self.losses[-1] < self.losses[0] / 10

    def answers(self, posts: Sequence[Post], method: Method | None = None) -> list[dict[str, Any]]:
        """The answers of `method`, by default the one of `learnt`, to posts that are in one batch."""
        made = self.learnt
        support = self._batch.posts[: len(self._batch) - int(self._batch.query.sum())]
        return answers(method or made.method, collated(made.data, [*support, *posts], self._batch))


def collated(data: MnerData, posts: Sequence[Post], like: Batch, windows: bool = False) -> Batch:
    """A batch of posts; where `like` is an episode, one of the same types with a support of the same size."""
    collator = data.collator(windows)
    if like.episode is None:
        return collator(posts)
    size = len(like) - int(like.query.sum())
    return collator.episode(posts[:size], posts[size:], like.tagset.types, like.episode)


def short_windows(words: Sequence[str], second: Sequence[str] = ()) -> list[tuple[int, int]]:
    """Windows of eight words that overlap by two."""
    return [(start, min(start + 8, len(words))) for start in range(0, max(len(words) - 2, 1), 6)]


@contextmanager
def reads_in_short_windows(method: Method) -> Iterator[None]:
    """Has the reader of a method's words, which may have no limit, read no more than eight at once."""
    with pytest.MonkeyPatch.context() as patch:
        reader = method.needs().reader
        patch.setattr(reader, "words_read", lambda words: min(len(words), 8))
        patch.setattr(reader, "windows", short_windows)
        yield


def without_pictures(post: Post) -> Post:
    """The post with nothing to look at."""
    return replace(post, images=(), truth=None)


def training_loss(method: Method, batch: Batch) -> float:
    """The loss of a training step, whose gradients are left in the weights."""
    method.train().zero_grad()
    loss = method.training_step(batch, 0)
    loss.backward()
    return float(loss)


@torch.no_grad()
def answers(method: Method, batch: Batch) -> list[dict[str, Any]]:
    """A method's answers to the posts of a batch that are scored, as plain data; a tagger's with the words' states."""
    records = list(method.eval().rows(method.answers(batch)))
    if isinstance(method, Tagger):
        states = method.encoder(batch).states[:, batch.query]  # (E, R, W, d)
        for row, record in enumerate(records):
            record["states"] = states[:, row, : len(record["words"])].flatten().tolist()
    return records


def are_near(one: Any, other: Any, tolerance: float = 1e-4) -> bool:
    """Whether plain data are equal, numbers up to a tolerance."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(one, dict) and isinstance(other, dict):
        return are_near([*one.items()], [*other.items()], tolerance)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(are_near(a, b, tolerance) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def other_values(plugin: registry.Plugin) -> Iterator[tuple[str, Any]]:
    """Options of a plugin and of its head by name, each with a value that it has not in `defaults.yaml`.

    All choices, both truth values, null where it is one, and of numbers half or twice the default. Options of how every
    method is trained (`lr`, `schedule`) are left out: they change no single step.
    """
    content = resolve(plugin.name).content["model"]
    head = content.get("head") or {}
    current = {**content, **{f"head.{name}": value for name, value in head.items()}}
    for name, option in schema(plugin, head.get("name"))["model"].items():
        if name not in ("head", "head.name", *declared(TaggerOptions)):
            values = _values(option, current[name])
            yield from ((name, each) for each in values if [each, type(each)] != [current[name], type(current[name])])


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


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")
class BasePluginTest:
    """The tests of a plugin.

    Attributes:
        plugin: its name.
        settings: sections of options for the tests, over its `defaults.yaml`: small towers, where that has large ones.
    """

    plugin: ClassVar[str]
    settings: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """A test for each ablation, for each other value of an option, and for each head."""
        plugin = registry.get(cls.plugin)
        if "ablation" in metafunc.fixturenames:
            metafunc.parametrize("ablation", plugin.ablations)
        if "head" in metafunc.fixturenames:
            metafunc.parametrize("head", HEADS)
        if "value" in metafunc.fixturenames:
            others = list(other_values(plugin))
            metafunc.parametrize(("name", "value"), others, ids=[f"{name}={value}" for name, value in others])

    @pytest.fixture(scope="class")
    def bench(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
        """Makes the method on few posts."""
        data = {**DATA, "cache": str(tmp_path_factory.getbasetemp() / "towers")}
        given = request.cls.settings
        settings = {**given, "data": data | given.get("data", {}), "trainer": TRAINER | given.get("trainer", {})}
        return Workbench(request.cls.plugin, settings)

    @pytest.fixture(scope="class")
    def posts(self, bench: Workbench) -> list[Post]:
        """Posts of several lengths; the first one has another's picture besides its own, the last one has none."""
        first, *others, last = bench.learnt.data.posts("train")[:6]
        return [replace(first, images=first.images + last.images), *others, without_pictures(last)]

    # ------------------------------------------------------------------ learning

    def test_training_lowers_the_loss(self, bench: Workbench) -> None:
        assert bench.learnt and all(map(math.isfinite, bench.losses))
        assert bench.losses[-1] < bench.losses[0]

    def test_one_batch_is_learnt_by_heart(self, bench: Workbench) -> None:
        assert bench.knows_by_heart(bench.learnt.method)

    def test_a_run_is_fitted_scored_and_predicts(self, bench: Workbench, tmp_path: Path) -> None:
        run = mnerkit.fit(self.plugin, **bench.settings, runs_dir=tmp_path)
        assert run.metrics["epochs"] == 1 and run.predictions("dev")
        assert are_near(mnerkit.score(run, "dev")["dev"], run.metrics["dev"])
        (answer,) = mnerkit.load(run).predict([{"id": "one", "text": "Jordan scores again in Chicago"}])
        assert answer["id"] == "one"

    # ------------------------------------------------------------------ answers

    def test_an_answer_depends_neither_on_padding_nor_on_batch_mates(self, bench: Workbench, posts: list[Post]) -> None:
        for post, answer in zip(posts, bench.answers(posts), strict=True):
            assert are_near(bench.answers([post]), [answer]), post.id

    @torch.no_grad()
    def test_each_word_of_a_long_post_is_read_in_its_window(self, bench: Workbench, posts: list[Post]) -> None:
        method, data, like = bench.learnt.method.eval(), bench.learnt.data, bench._batch
        if not reads_windows(method, predicting=True):
            return
        long = replace(posts[0], words=posts[0].words * 2, tags=(posts[0].tags or ()) * 2, truth=None)
        spans = short_windows(long.words)
        alone = [replace(long, words=long.words[a:b], tags=(long.tags or ())[a:b]) for a, b in spans]
        support = like.posts[: len(like) - int(like.query.sum())]
        with reads_in_short_windows(method):
            whole = method.encoder(collated(data, [*support, long, posts[1]], like, windows=True))
            windows = method.encoder(collated(data, [*support, *alone], like))
        for word in range(len(long.words)):
            number, (start, _) = max(enumerate(spans), key=lambda span: min(word - span[1][0], span[1][1] - 1 - word))
            one, other = whole.states[:, len(support), word], windows.states[:, len(support) + number, word - start]
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)

    def test_pictures_count_for_a_method_that_looks_at_them_alone(self, bench: Workbench, posts: list[Post]) -> None:
        swapped = [replace(post, images=posts[number - 1].images) for number, post in enumerate(posts)]
        own, other = (
            [each.get("states", each.get("scores", each)) for each in bench.answers(seen)] for seen in (posts, swapped)
        )
        assert are_near(own, other, 1e-3) != bool(bench.learnt.method.needs().views)

    def test_a_checkpoint_gives_the_same_answers(self, bench: Workbench, posts: list[Post], tmp_path: Path) -> None:
        content = {"epoch": 0, "state_dict": bench.learnt.method.state_dict()}
        bench.learnt.method.on_save_checkpoint(content)
        torch.save(content, tmp_path / "best.ckpt")
        assert are_near(bench.answers(posts, checkpoint.load(tmp_path)), bench.answers(posts), 1e-6)

    # ------------------------------------------------------------------ options

    def assert_trains(self, made: Assembly) -> None:
        """A step reaches every weight, also where no post has a picture, and afterwards the method answers."""
        batch = next(iter(made.data.train_dataloader()))
        for each in (batch, collated(made.data, [*map(without_pictures, batch.posts)], batch)):
            assert math.isfinite(training_loss(made.method, each))
            weights = {name: each for name, each in made.method.named_parameters() if each.requires_grad}
            # a weight without a gradient stops distributed training
            assert [name for name, each in weights.items() if each.grad is None or not each.grad.isfinite().all()] == []
        question = next(iter(made.data.loader("dev"))) if made.method.reads_support else batch
        assert len(answers(made.method, question)) == int(question.query.sum())
        made.method.on_train_epoch_end()  # frozen towers keep what they computed, for the next method

    def test_every_ablation_trains(self, bench: Workbench, ablation: str) -> None:
        self.assert_trains(bench.assembled(resolve(self.plugin, values=bench.settings, ablation=ablation)))

    def test_every_value_of_an_option_trains_or_is_refused(self, bench: Workbench, name: str, value: Any) -> None:
        configuration = None
        try:
            configuration = bench.configuration(**{f"model.{name}": value})
            made = bench.assembled(configuration)
        except UsageError as refusal:
            assert name.rpartition(".")[2] in str(refusal) and "\n" not in str(refusal)
            # a tower refuses sizes that don't fit its own, pieces where it reads words, and ways of training that it
            # lacks; a library may be missing; all else the options refuse
            of_tower = type(value) in (int, float) or name == "subword" or name in declared(TowerOptions)
            assert configuration is None or of_tower or "pip install" in str(refusal)
        else:
            self.assert_trains(made)

    def test_any_head_tags_the_states_of_a_tagger(self, bench: Workbench, head: str) -> None:
        if not has_head(registry.get(self.plugin)):
            with pytest.raises(UsageError, match=r"no option --model\.head"):
                resolve(self.plugin, values={"model": {"head": head}})
            return
        options: dict[str, Any] = {"model.head": head}
        if not load_head_class(head).reads_support:
            options["data.train_types"] = None  # the types of episodes, of which such a head learns nothing
        made = bench.assembled(bench.configuration(**options))
        self.assert_trains(made)
        question = next(iter(made.data.loader("dev")))
        with reads_in_short_windows(made.method):
            batch = collated(made.data, question.posts, question, windows=True)
            assert batch.windows is not None and len(answers(made.method, batch)) == int(question.query.sum())

    # ------------------------------------------------------------------ documentation

    def test_every_option_is_explained_in_a_line(self) -> None:
        plugin = registry.get(self.plugin)
        assert plugin.options_class is plugin.load().options_class  # what help pages show is what the method takes
        for name, option in declared(plugin.options_class).items():
            assert re.fullmatch(r"\S.* .*[^\s.]", option.help), name

    def test_the_page_names_every_ablation_and_the_source(self) -> None:
        plugin = registry.get(self.plugin)
        page = (plugin.folder / "README.md").read_text(encoding="utf-8")
        assert [name for name in plugin.ablations if not re.search(rf"\b{name}\b", page)] == []
        source = r'\b(19|20)\d\d\b|"(\w+\W+){3,}.*"|a fork of'
        assert re.search(source, page.partition("\n## ")[0]), "neither year nor title of a paper"
