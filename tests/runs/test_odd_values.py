"""Odd values of options, however they are given, end in one line that names the option, or in a configuration."""

from __future__ import annotations

import datetime
import decimal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from mnerkit import registry
from mnerkit.cli import main
from mnerkit.errors import DataError, UsageError
from mnerkit.methods.heads import HEADS
from mnerkit.methods.parameter_counts import within_memory
from mnerkit.options import declared
from mnerkit.runs.config.configuration import Configuration, has_head, resolve, schema
from mnerkit.runs.config.plain_data import MAX_INTERPOLATIONS

PLUGINS = registry.plugins()


class Nameless:
    def __str__(self) -> str:
        raise RuntimeError("no name")


circle: list[Any] = []
circle.append(circle)
deep: list[Any] = []
for _ in range(2000):
    deep = [deep]

NUMBERS = ["0", "-1", "1e400", "-1e400", ".nan", "nan", ".inf", "1_0", "0x1F", "1:30", "1" * 5000, "0x" + "f" * 5000]
CONTROLS = ["\0", "a\0b", "\x1b[2J", "a\nb", "\u2028", "\x85", "\ud800"]
INTERPOLATIONS = ["${", "${}", "${${}}", "${model.lr}", "${nothing}", "${model}", "${.}", "${" * 60, "${a:" + "[" * 400]
INTERPOLATIONS += ["${oc.env:NO_SUCH}", "${oc.create:{a: 1}}", "${oc.decode:'1'}", "???"]
TAGS = ["!!binary x", "!!binary AA==", "!!set {a}", "!!omap [a: 1]", "!!int ''", "!!bool x", "!!timestamp x", "!x y"]
TAGS += ["!!python/object/apply:os.system [x]", "2001-01-01"]
FORMS = [
    "",
    "null",
    "~",
    "true",
    "off",
    "[",
    "{",
    "[[1]]",
    "[a, null]",
    "{a: {b: 1}}",
    "{null: 1}",
    "{1: 2}",
    "{[a]: 1}",
]
FORMS += ["{[a]: 1}", "? a", "- a", "a: b", "&a [*a]", "*a", "'", '"', "|", "@", "%", "[" * 20_000, "{name: [a]}"]
FORMS += ['"\\0"', '"\\e[2J"', '"\\ud800"', "x" * 30_000]
WORDS = NUMBERS + CONTROLS + INTERPOLATIONS + TAGS + FORMS
OBJECTS: list[Any] = [
    None,
    True,
    -1,
    0.5,
    float("nan"),
    float("inf"),
    1e308,
    10**12,
    10**400,
    10**5000,
    -(2**63),
    b"a",
    {1},
    (),
    (1,),
]
OBJECTS += [[], {}, [[]], {None: 1}, {1: 2}, {b"a": 1}, {"a": {}}, object(), Nameless(), len, int, 1j, circle, deep]
OBJECTS += [datetime.date(2001, 1, 1), decimal.Decimal(1), Path("a"), Path("a\0"), range(3), ["a"] * 20_000]


def is_line(message: str) -> bool:
    return len(message) < 600 and message.isprintable()


def resolves(name: str = "", **given: Any) -> Configuration | None:
    """The configuration, or None where it was refused in one line that has the name."""
    start = time.process_time()
    try:
        found = resolve(**given)
    except DataError as problem:
        assert "episode_file" in str(problem) and is_line(str(problem))  # it is read, to note its digest
        return None
    except UsageError as problem:
        whole = ("limit", "too deep")  # of the configuration as a whole
        assert is_line(str(problem)) and (name in str(problem) or any(word in str(problem) for word in whole)), problem
        return None
    finally:
        assert time.process_time() - start < 2
    return found


@st.composite
def an_option(draw: Any) -> tuple[str, str | None, str, str]:
    """Plugin, head, section and name of an option."""
    plugin = draw(st.sampled_from(sorted(PLUGINS)))
    head = draw(st.sampled_from(sorted(HEADS))) if has_head(PLUGINS[plugin]) else None
    known = schema(PLUGINS[plugin], head)
    section = draw(st.sampled_from(sorted(known)))
    return plugin, head, section, draw(st.sampled_from(sorted({*known[section]} - {"head", "head.name"})))


def in_sections(head: str | None, section: str, name: str, value: Any) -> dict[str, Any]:
    if name.startswith("head."):
        return {"model": {"head": {"name": head, name.removeprefix("head."): value}}}
    values: dict[str, Any] = {section: {name: value}}
    if head is not None:
        values.setdefault("model", {})["head"] = head
    return values


def in_file(path: Path, head: str | None, section: str, name: str, text: str) -> bool:
    """Write the option's value into a file, as it is typed; False where no file can hold it."""
    inner = name.removeprefix("head.")
    lines = ["model:", "  head:", f"    name: {head}", f"    {inner}: {text}"]
    try:
        path.write_text("\n".join(lines if inner != name else [f"{section}:", f"  {name}: {text}"]) + "\n", "utf-8")
    except UnicodeEncodeError:
        return False
    return True


@given(option=an_option(), value=st.sampled_from(OBJECTS + WORDS) | st.integers() | st.floats() | st.text())
@example(("bert", "crf", "model", "lr"), None)
@example(("bert", "crf", "model", "dropout"), 10**5000)
@example(("hvpnet", "crf", "model", "hidden"), 10**12)
@example(("bert", "crf", "data", "root"), "a\0b")
@example(("bert", "crf", "wandb", "cells"), "{null: 1}")
def test_a_value_from_python(option: tuple[str, str | None, str, str], value: Any) -> None:
    plugin, head, section, name = option
    found = resolves(name.removeprefix("head."), plugin=plugin, values=in_sections(head, section, name, value))
    if found is not None:
        assert {*found.content[section]} >= {*schema(PLUGINS[plugin], None)[section]} - {"head.name"}
        # what was taken is read again as the same, as from the file in the run's folder
        again = resolve(plugin, values={key: found.content[key] for key in schema(None, None)})
        assert repr(again.content) == repr(found.content)


@given(option=an_option(), word=st.none() | st.sampled_from(WORDS) | st.text(max_size=20))
@example(("bert", "crf", "model", "lr"), "!!binary x")
@example(("bert", "crf", "model", "lr"), "[" * 20_000)  # the C reader of YAML crashed
def test_a_word_of_a_command(option: tuple[str, str | None, str, str], word: str | None) -> None:
    plugin, head, section, name = option
    dotted = {"model.head": head} if head is not None else {}
    resolves(name.removeprefix("head."), plugin=plugin, dotted={**dotted, f"{section}.{name}": word})


@given(option=an_option(), text=st.sampled_from(WORDS) | st.text(max_size=20))
@example(("bert", "crf", "model", "lr"), "!!set {a}")
@example(("bert", "crf", "model", "lr"), "${${}}")
def test_a_value_of_a_file(tmp_path_factory: pytest.TempPathFactory, option: Any, text: str) -> None:
    plugin, head, section, name = option
    path = tmp_path_factory.getbasetemp() / "mine.yaml"
    if in_file(path, head, section, name, text):
        resolves(plugin=plugin, files=[path])


KEYS = st.sampled_from(["model", "data", "trainer", "wandb", "plugin", "seed", "defaults", "ablation", "name", "head"])
LEAVES = st.sampled_from([None, True, 0, -1, 1.5, "crf", "", "${model.lr}", "${}", b"a", datetime.date(2001, 1, 1)])
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS | st.sampled_from(["lr", "corpus", None, 1, "\0", "a b"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, TREES, max_size=4) | TREES)
@example({None: 1})
@example({"model": {"head": {"name": ["a"]}}})
@example({"seed": float("inf")})
@example({"data": {"root": {1, 2}}})
def test_a_tree_in_a_file(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "tree.yaml"
    path.write_text(yaml.dump(tree), encoding="utf-8")
    given = {} if isinstance(tree, dict) and tree.get("plugin") else {"plugin": "bert"}
    resolves(files=[path], **given)
    if isinstance(tree, dict):
        resolves(values=tree, plugin="bert")


@pytest.mark.parametrize("word", [*CONTROLS, *INTERPOLATIONS, "x" * 100_000])
def test_a_name_in_any_place(word: str) -> None:
    for parts in (
        {"plugin": word},
        {"plugin": "bert", "ablation": word},
        {"plugin": "bert", "seed": word},
        {"plugin": "bert", "files": [word]},
        {"plugin": "bert", "dotted": {word: "1"}},
        {"plugin": "bert", "dotted": {f"model.{word}": "1"}},
        {"plugin": "bert", "dotted": {f"wandb.cells.{word}": "1"}},
        {"plugin": "bert", "values": {word: {"a": 1}}},
        {"plugin": "bert", "values": {"model": {word: 1}}},
        {"plugin": "bert", "values": {"model": {"head": word}}},
    ):
        resolves(**parts)


def test_interpolations_can_not_fill_the_memory() -> None:
    cells: dict[str, Any] = {"a0": "x" * 100}
    for k in range(1, 40):
        cells[f"a{k}"] = f"${{wandb.cells.a{k - 1}}}" * 2
    sections: dict[str, Any] = {"b0": "x"}
    for k in range(1, 40):
        sections[f"b{k}"] = {"one": f"${{wandb.cells.b{k - 1}}}", "two": f"${{wandb.cells.b{k - 1}}}"}
    for bomb in (cells, sections, {"a": ["${model.lr}"] * (MAX_INTERPOLATIONS + 1)}, {"a": "${model.lr}" * 200}):
        with pytest.raises(UsageError, match="interpolations"):
            resolve("bert", values={"wandb": {"cells": bomb}})


def test_interpolations_of_a_real_size_are_resolved() -> None:
    names = {f"n{k}": "${model.lr} ${data.corpus} ${oc.env:HOME}" for k in range(30)}
    wandb = {"cells": {**names, "all": "${wandb.group}"}, "group": "${data.corpus}-1"}
    values = {"model": {"lr": 0.5}, "data": {"corpus": "probe"}, "wandb": wandb}
    found = resolve("bert", values=values).content["wandb"]["cells"]
    assert found["n29"].startswith("0.5 probe /") and found["all"] == "probe-1"


def test_what_takes_memory_in_proportion_has_an_upper_bound() -> None:
    """Sizes of layers and batches, and processes: 10 ** 12 of them is refused where it is declared."""
    unbounded = {
        "steps",
        "utility_seeds",
        "utility_epochs",
        "ss_start",
        "ss_end",
        "max_degree",
    }  # of time, of a schedule
    for plugin in PLUGINS.values():
        for option in declared(plugin.options_class).values():
            if int in option.alternatives and option.name not in unbounded:
                assert option.rule is not None and 10**12 not in option.rule, f"{plugin.name} {option.name}"


def test_a_network_that_no_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="do not fit into this machine's memory"), within_memory():
        nn.Linear(1 << 22, 1 << 22)
    monkeypatch.setattr("mnerkit.methods.parameter_counts.memory_of_machine", lambda: 4.0 * 1000)
    with within_memory():
        nn.Sequential(*[nn.Linear(9, 9) for _ in range(10)])
    with pytest.raises(UsageError, match="do not fit"), within_memory():
        nn.Sequential(*[nn.Linear(9, 9) for _ in range(12)])


@pytest.mark.parametrize(
    "words",
    [
        ["--model.lr", "!!binary x"],
        ["--model.lr", "1" * 5000],
        ["--model.lr", "1e400"],
        ["--model.lr", "null"],
        ["--data.root", "a\0b"],
        ["--data.root", "${${}}"],
        ["--trainer.max_epochs", "-5"],
        ["--trainer.gradient_clip_val", ".nan"],
        ["--seed", "1" * 5000],
        ["--name", "a\0b"],
        ["--runs_dir", "a\0b"],
        ["--config", "a\0b"],
        ["--config", "x" * 5000],
    ],
    ids=lambda words: " ".join(words)[:40].replace("\0", "NUL"),
)
def test_a_command_ends_with_2_and_a_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--plugin", "bert", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert is_line(line) and words[0] in line
