"""Options as data: what a class declares is what help, checks, checkpoints and old files go by."""

from __future__ import annotations

import dataclasses
import inspect
import json
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit import registry
from mnerkit.errors import UsageError
from mnerkit.methods.heads import HEADS, head_options, load_head_class
from mnerkit.methods.options import TextOptions
from mnerkit.options import COUNT, SHARE, Options, declared, in_its_time, make, option, typed
from mnerkit.runs.config import configuration
from mnerkit.runs.config.configuration import CLASSES, MANAGED
from mnerkit.runs.config.options import TrainerOptions

OF_PLUGINS = {name: each.options_class for name, each in registry.plugins().items()}
OF_HEADS = {f"head {name}": head_options(name) for name in HEADS}
EVERY: dict[str, type[Options]] = {**OF_PLUGINS, **OF_HEADS, **CLASSES}


@dataclass(frozen=True, kw_only=True)
class Base(Options):
    share: float = option(0.5, "a share", SHARE)
    width: int | None = option(None, "a width; default: that of the tower", COUNT)


@dataclass(frozen=True, kw_only=True)
class Sample(Base, share=0.25):
    way: Literal["mean", "first"] = option("mean", "how to pool")
    both: bool | Literal["last"] = option(False, "three ways")
    name: str = option("tiny", "a name", aliases=("tower", "net"))
    layers: Literal["all"] | list[int] = option("all", "some layers")
    tags: list[str] = option([], "tags")
    later: int = option(3, "came later", since=("0.2.0", 1))


def refusal(call: Any, *args: Any, **given: Any) -> str:
    with pytest.raises(UsageError) as caught:
        call(*args, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_class_changes_defaults_of_any_of_its_bases() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Other(Options):
        depth: int = option(2, "a depth", COUNT)

    @dataclass(frozen=True, kw_only=True)
    class Both(Base, Other, share=0.75, depth=4):
        pass

    assert (Both().share, Both().depth, Both().width) == (0.75, 4, None)
    assert declared(Both)["depth"].help == "a depth"


def test_a_class_declares_its_own_options_first_and_then_those_of_its_bases() -> None:
    found = declared(Sample)
    assert list(found) == ["share", "way", "both", "name", "layers", "tags", "later", "width"]
    assert (found["way"].default, found["way"].help) == ("mean", "how to pool")
    assert (found["width"].type, found["width"].rule) == (int | None, COUNT)
    assert [found[name].takes for name in ("share", "width", "way", "both", "name", "layers", "tags")] == [
        *("X", "N", "mean|first", "true|false|last", "TEXT", "all|N,...", "TEXT,...")
    ]
    assert [found[name].wanted for name in ("share", "width", "way", "both", "name", "layers", "tags")] == [
        *("a number", "a whole number", "mean or first", "true, false or last", "a text"),
        *("all or a list of whole numbers", "a list of texts"),
    ]


def test_a_keyword_of_the_class_changes_a_default_and_nothing_else() -> None:
    changed, before = declared(Sample)["share"], declared(Base)["share"]
    assert (Base().share, Sample().share) == (0.5, 0.25)
    assert changed == dataclasses.replace(before, default=0.25)
    assert "2: give at least 0 and at most 1" in refusal(Sample, share=2)


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"share": 1}, 1.0),
        ({"share": "0.75"}, 0.75),
        ({"width": 4}, 4),
        ({"width": "4"}, 4),
        ({"width": None}, None),
        ({"way": "first"}, "first"),
        ({"both": "last"}, "last"),
        ({"both": True}, True),
        ({"name": "2017"}, "2017"),
        ({"layers": [0, 2]}, [0, 2]),
        ({"tags": ["a"]}, ["a"]),
    ],
)
def test_a_value_becomes_that_of_its_type(given: dict[str, Any], value: Any) -> None:
    (name,) = given
    found = typed(Sample, given)[name]
    assert found == value and type(found) is type(value)
    assert getattr(make(Sample, given), name) == value


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"share": "much"}, "--model.share much: give a number"),
        ({"share": True}, "--model.share True: give a number"),
        ({"share": None}, "--model.share null: give a number"),
        ({"share": ""}, "--model.share '': give a number"),
        ({"width": 1.5}, "--model.width 1.5: give a whole number"),
        ({"width": 0}, "--model.width 0: give at least 1"),
        ({"width": "9" * 5000}, "; one of so many digits is not read"),
        ({"way": "means"}, "--model.way means: give mean or first. Did you mean 'mean'?"),
        ({"way": "x"}, "--model.way x: give mean or first"),
        ({"both": "least"}, "--model.both least: give true, false or last. Did you mean 'last'?"),
        ({"name": ["a\nb"]}, "give a text"),
        ({"layers": ["a"]}, "--model.layers ['a']: give all or a list of whole numbers"),
        ({"nmae": "x"}, "no option --model.nmae. Did you mean '--model.name'?"),
        ({"tower": "x"}, "no option --model.tower."),  # a name of earlier releases is read in their files alone
    ],
)
def test_a_value_that_is_not_taken_ends_in_one_line(given: dict[str, Any], said: str) -> None:
    message = refusal(make, Sample, given)
    assert message.startswith(said) or message.endswith(said)
    assert len(message) < 200


def test_a_message_names_the_section_that_a_value_was_given_in() -> None:
    assert refusal(typed, Sample, {"share": "x"}, "data") == "--data.share x: give a number"
    assert refusal(make, Sample, {"nmae": "x"}, "data").startswith("no option --data.nmae.")


def test_the_first_of_several_wrong_values_is_named() -> None:
    assert refusal(make, Sample, {"share": 1, "way": "x", "both": "x"}).startswith("--model.way x")


def test_an_object_can_not_be_changed_and_shares_no_list_with_another_one() -> None:
    one, other = Sample(), Sample()
    one.plain()["tags"].append("a")
    one.tags.append("b")
    assert (other.tags, Sample().tags, declared(Sample)["tags"].default) == ([], [], [])
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.share = 1.0  # type: ignore[misc]


def test_a_file_that_lacks_an_option_has_the_default_of_its_time() -> None:
    assert in_its_time(Sample, {})["later"] == 1
    assert in_its_time(Sample, {"later": 7})["later"] == 7
    assert Sample().later == 3
    found = in_its_time(Sample, {"way": "first", "stranger": 1})
    assert found["way"] == "first" and found["stranger"] == 1
    assert set(found) == {*declared(Sample), "stranger"}
    found["tags"].append("a")
    assert in_its_time(Sample, {})["tags"] == []


def test_an_option_is_found_under_the_names_of_earlier_releases() -> None:
    for alias in ("tower", "net"):
        found = in_its_time(Sample, {alias: "big"})
        assert found["name"] == "big" and alias not in found
    assert in_its_time(Sample, {"name": "new", "tower": "old"})["name"] == "new"


def test_a_combination_is_checked_by_the_class_that_knows_it() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Checked(Sample):
        section: ClassVar[str] = "data"
        most: int = option(2, "most")

        def check(self) -> None:
            super().check()
            if self.most < self.later:
                raise UsageError(f"--{self.section}.most {self.most} is below later")

    assert "section" not in declared(Checked)
    assert make(Checked, {"most": 3}).most == 3
    assert refusal(make, Checked, {}) == "--data.most 2 is below later"
    assert refusal(make, Checked, {"width": 0}).startswith("--data.width 0")


# ---------------------------------------------------------------------- every class that there is


@pytest.mark.parametrize("name", EVERY)
def test_every_option_has_a_help_line_a_type_and_a_default_of_that_type(name: str) -> None:
    kind = EVERY[name]
    for each in declared(kind).values():
        assert each.help and "\n" not in each.help, each.name
        assert "value" not in each.wanted.split(), each.name  # a type without a word
        if each.default is not None:
            assert typed(kind, {each.name: each.default}) == {each.name: each.default}
        else:
            assert each.optional, each.name
        for earlier in each.aliases:
            assert earlier not in declared(kind)
    made = kind()
    assert make(kind, made.plain()) == made
    assert json.loads(json.dumps(made.plain())) == made.plain()  # files hold it as it is
    assert in_its_time(kind, made.plain()) == made.plain()


def plain_values() -> st.SearchStrategy[Any]:
    """What a YAML file may hold in a value's place."""
    texts = st.text(max_size=12) | st.sampled_from(
        [
            "",
            "null",
            "true",
            "off",
            "1e3",
            "-0",
            "0x10",
            "1_000",
            ".inf",
            "nan",
            "[",
            "{a: 1}",
            "a: b",
            "${x}",
            "'",
            "all",
        ]
    )
    numbers = st.integers() | st.floats() | st.sampled_from([0, 1, 2**70, 10**400, 1e-320])
    leaves = st.none() | st.booleans() | numbers | texts
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2), max_leaves=5
    )


@pytest.mark.parametrize("name", EVERY)
@given(data=st.data())
def test_any_value_is_taken_or_refused_in_one_line(name: str, data: st.DataObject) -> None:
    kind = EVERY[name]
    chosen = data.draw(st.sampled_from(sorted(declared(kind))))
    value = data.draw(plain_values())
    try:
        made = make(kind, {chosen: value})
    except UsageError as problem:
        assert "\n" not in str(problem) and len(str(problem)) < 400
        return
    kept = getattr(made, chosen)
    rule = declared(kind)[chosen].rule
    assert rule is None or not isinstance(kept, int | float) or isinstance(kept, bool) or kept in rule
    # what is taken is kept in a file and read again as the same
    assert repr(make(kind, {chosen: kept})) == repr(made)


def test_a_mapping_in_place_of_a_list_of_an_earlier_layer_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match=r"^--data.train_types .*: give a list of texts"):
        configuration.resolve("mousing", values={"data": {"train_types": {"PER": 1}}})


def test_the_trainer_s_options_are_those_of_lightning() -> None:
    import lightning

    theirs = inspect.signature(lightning.Trainer.__init__).parameters
    ours = declared(TrainerOptions)
    assert {*ours} == ({*theirs} - {"self"} - MANAGED) | {"matmul_precision"}
    # ours stand in the options' text, beside Lightning's
    others = {"num_sanity_val_steps": (0, None), "enable_model_summary": (False, None)}
    for name, each in ours.items():
        if name not in theirs:
            continue
        own = theirs[name].default
        if name in others:
            assert (each.default, own) == others[name] and "Lightning's default" in each.help
        else:
            assert each.default == own and type(each.default) is type(own), name


@pytest.mark.parametrize("value", [10**400, -(10**400), 10**5000, 2**63], ids=["400", "-400", "5000", "64 bits"])
def test_a_whole_number_that_no_memory_holds_is_refused_in_a_short_line(value: int) -> None:
    with pytest.raises(UsageError, match=r"--model\.max_tokens .*: give at least 1") as refusal:
        make(TextOptions, {"max_tokens": value})
    assert len(str(refusal.value)) < 200


def test_a_head_in_the_place_of_the_options_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected BertOptions first, got CRFHead.*head="):
        registry.get("bert").load()(load_head_class("crf")())
