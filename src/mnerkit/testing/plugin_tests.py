"""What holds of every plugin: a test class inherits `BasePluginTest` and names its plugin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import mnerkit
from mnerkit import registry
from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import Post
from mnerkit.errors import UsageError
from mnerkit.methods import checkpoint
from mnerkit.methods.heads import HEADS, load_head_class
from mnerkit.options import declared
from mnerkit.runs.build import Assembly
from mnerkit.runs.config.configuration import has_head
from mnerkit.testing.workbench import (
    Workbench,
    answers,
    are_near,
    collated,
    is_known,
    learn_by_heart,
    other_values,
    support_of,
    training_loss,
    untrained,
    with_pictures_swapped,
    without_pictures,
)


@dataclass
class Learnt:
    """A method that knows a batch by heart.

    Attributes:
        assembly: method and data.
        batch: of training posts.
        losses: a training step each.
    """

    assembly: Assembly
    batch: Batch
    losses: list[float]

    @property
    def posts(self) -> list[Post]:
        """Posts of several lengths."""
        return self.assembly.data.posts("train")[:6]

    def answers(self, posts: list[Post]) -> list[dict[str, Any]]:
        """What it says of posts in one batch, from the support of the batch where it reads one."""
        batch = collated(self.assembly.data, [*support_of(self.batch), *posts], self.batch)
        return answers(self.assembly.method, batch)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")
class BasePluginTest:
    """The tests of a plugin; `pytest -k NAME` runs those of one.

    Attributes:
        plugin: its name.
        settings: sections of options for the tests, over its `defaults.yaml`: where this names large towers, small
            ones.
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
            values = list(other_values(plugin))
            metafunc.parametrize(("name", "value"), values, ids=[f"{name}={value}" for name, value in values])

    @pytest.fixture(scope="class")
    def bench(self, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
        """Makes the method on few posts."""
        return Workbench(request.cls.plugin, request.cls.settings, tmp_path_factory.getbasetemp() / "towers")

    @pytest.fixture(scope="class")
    def learnt(self, bench: Workbench) -> Learnt:
        """The method after it was trained on one batch."""
        assembly = bench.assembled(bench.configuration())
        batch = next(iter(assembly.data.train_dataloader()))
        return Learnt(assembly, batch, learn_by_heart(assembly.method, batch))

    # ------------------------------------------------------------------ learning

    def test_training_lowers_the_loss(self, learnt: Learnt) -> None:
        assert torch.tensor(learnt.losses).isfinite().all()
        assert learnt.losses[-1] < learnt.losses[0]

    def test_one_batch_is_learnt_by_heart(self, learnt: Learnt) -> None:
        assert is_known(learnt.assembly.method, learnt.batch, learnt.losses)

    def test_a_run_is_fitted_scored_and_predicts(self, bench: Workbench, tmp_path: Path) -> None:
        sections: dict[str, Any] = bench.sections
        run = mnerkit.fit(self.plugin, **sections, runs_dir=tmp_path)
        assert run.metrics["epochs"] == 1 and run.predictions("dev")
        assert are_near(mnerkit.score(run, "dev")["dev"], run.metrics["dev"])
        (answer,) = mnerkit.load(run).predict([{"id": "one", "text": "Jordan scores again in Chicago"}])
        assert answer["id"] == "one"

    # ------------------------------------------------------------------ answers

    def test_an_answer_depends_neither_on_padding_nor_on_batch_mates(self, learnt: Learnt) -> None:
        together = learnt.answers(posts := learnt.posts)
        for post, answer in zip(posts, together, strict=True):
            assert are_near(learnt.answers([post]), [answer]), post.id

    def test_pictures_count_where_the_method_looks_at_them_and_nowhere_else(self, learnt: Learnt) -> None:
        own, swapped = learnt.answers(learnt.posts), learnt.answers(with_pictures_swapped(learnt.posts))
        before, after = ([each.get("states", each.get("scores")) for each in rows] for rows in (own, swapped))
        assert are_near(before, after, 1e-3) != bool(learnt.assembly.method.needs().views)

    def test_a_checkpoint_gives_the_answers_of_the_method_that_was_saved(self, learnt: Learnt, tmp_path: Path) -> None:
        method = learnt.assembly.method
        content = {"state_dict": method.state_dict(), "epoch": 0}
        method.on_save_checkpoint(content)
        torch.save(content, tmp_path / "best.ckpt")
        loaded = checkpoint.load(tmp_path)
        assert are_near(answers(loaded, learnt.batch), answers(method, learnt.batch), 1e-6)

    # ------------------------------------------------------------------ options

    def assert_trains(self, assembly: Assembly) -> None:
        """A step reaches every weight, also where no post has a picture, and afterwards the method answers."""
        method, data = assembly.method, assembly.data
        batch = next(iter(data.train_dataloader()))
        for each in (batch, collated(data, without_pictures(batch.posts), batch)):
            assert training_loss(method, each).isfinite()
            assert untrained(method) == []
        question = next(iter(data.loader("dev"))) if method.reads_support else batch
        assert len(answers(method, question)) == int(question.query.sum())

    def test_every_ablation_trains(self, bench: Workbench, ablation: str) -> None:
        self.assert_trains(bench.assembled(bench.configuration(ablation=ablation)))

    def test_every_value_of_an_option_trains_or_is_refused_in_one_line(
        self, bench: Workbench, name: str, value: Any
    ) -> None:
        of_head, _, option = name.rpartition(".")
        configuration = None
        try:
            configuration = bench.configuration({of_head: {option: value}} if of_head else {option: value})
            assembly = bench.assembled(configuration)
        except UsageError as refusal:
            assert option in str(refusal) and "\n" not in str(refusal)
            # a tower refuses sizes that do not fit its own, and a library may be missing; all else the options refuse
            assert configuration is None or type(value) in (int, float) or "pip install" in str(refusal)
        else:
            self.assert_trains(assembly)

    def test_any_head_tags_the_states_of_a_tagger(self, bench: Workbench, head: str) -> None:
        if has_head(registry.get(self.plugin)):
            # a head that learns nothing from a support can't be scored on episodes
            data = {} if load_head_class(head).reads_support else {"train_types": None}
            self.assert_trains(bench.assembled(bench.configuration({"head": {"name": head}}, data)))
        else:
            with pytest.raises(UsageError, match="head"):
                bench.configuration({"head": {"name": head}})

    # ------------------------------------------------------------------ documentation

    def test_every_option_is_explained_in_a_line(self) -> None:
        for name, option in declared(registry.get(self.plugin).options_class).items():
            assert re.fullmatch(r"\S.*[^\s.]", option.help) and " " in option.help, name

    def test_the_page_names_every_ablation_and_the_source(self) -> None:
        plugin = registry.get(self.plugin)
        page = (plugin.folder / "README.md").read_text(encoding="utf-8")
        assert [name for name in plugin.ablations if not re.search(rf"\b{name}\b", page)] == []
        source = r"\b(19|20)\d\d\b" + r'|"(\w+\W+){3,}.*"' + "|a fork of"
        assert re.search(source, page.partition("\n## ")[0]), "neither year nor title of a paper"
