"""The documentation is whole: what is made when the site is built holds every option, command and public name."""

from __future__ import annotations

import ast
import doctest
import importlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import mnerkit
from mnerkit import registry
from mnerkit.cli import VERBS
from mnerkit.methods.heads import HEADS, head_options
from mnerkit.options import declared
from mnerkit.reproduce.experiments.experiment_files import load
from mnerkit.runs.config.options import CLASSES

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def generator() -> Any:
    """Imports a module of docs/generator by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS / "generator"))
        yield importlib.import_module


def test_every_option_of_every_class_has_its_help_default_and_range_on_a_page(generator: Any) -> None:
    made = generator("option_pages")
    pages = {(page.section, page.title): page for page in made.option_pages()}
    classes = {("model", name): plugin.options_class for name, plugin in registry.plugins().items()}
    classes |= {("model.head", name): head_options(name) for name in HEADS}
    classes |= {(name, made.TITLES[name]): options_class for name, options_class in CLASSES.items()}
    assert set(pages) == set(classes)
    for key, options_class in classes.items():
        text = made.option_page(pages[key])
        for name, option in declared(options_class).items():
            (entry,) = re.findall(rf"^\[`--{key[0]}\.{name}`\].*\n:   (.*)$", text, flags=re.M)
            assert entry.lower().startswith(option.help[:20].lower().replace("<", "&lt;").rstrip(".")), name
            assert "Default: " in entry
            assert option.rule is None or f"Range: {option.rule}." in entry


def test_the_page_of_the_commands_has_the_help_of_every_verb(generator: Any) -> None:
    text = generator("command_pages").command_page()
    for verb in VERBS:
        (block,) = re.findall(rf"^## {verb}\n.*?^```text\n(.*?)^```", text, flags=re.M | re.S)
        assert f"usage: mnerkit {verb}" in block
    assert "--detector" in text and "--episodes" in text  # verbs of verbs have theirs


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    named = set(re.findall(r"^::: mnerkit\.(\w+)$", (DOCS / "reference" / "api.md").read_text(), flags=re.M))
    assert set(mnerkit.__all__) <= named


def test_the_examples_of_the_public_names_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNERKIT_CACHE", "cache")
    finder = doctest.DocTestFinder(recurse=False)
    with_examples = set()
    for name in mnerkit.__all__:
        for example in finder.find(getattr(mnerkit, name), name, globs={"mnerkit": mnerkit, "Path": Path}):
            if example.examples:
                with_examples.add(name)
                result = doctest.DocTestRunner().run(example)
                assert result.failed == 0, name
    # weights that authors released are in nobody's hands here
    assert with_examples == set(mnerkit.__all__) - {"import_released"}


def test_a_link_between_files_of_the_checkout_leads_to_their_pages(generator: Any) -> None:
    links = generator("links")
    pages = {"guides/runs.md", "methods/bert.md", "methods/umt.md", "methods.md", "images/probe.png"}
    text = "[a](../../docs/guides/runs.md#list) [`umt`](../umt/README.md) [m](model.py) [w](https://a.b) `[c](d)`"
    assert links.relinked(text, "methods/bert.md", pages) == (
        "[a](../guides/runs.md#list) [`umt`](umt.md) m (`plugins/bert/model.py`) [w](https://a.b) `[c](d)`"
    )
    assert links.relinked("![p](images/probe.png)\n```\n[a](b)\n```", "probe.md", pages) == (
        "![p](images/probe.png)\n```\n[a](b)\n```"
    )


def test_a_notebook_becomes_a_page_with_what_its_cells_print(generator: Any) -> None:
    outputs = [
        {"output_type": "stream", "text": "\x1b[1mtwo\x1b[0m\n"},
        {"output_type": "display_data", "data": {"image/png": "aGk=", "text/plain": "<Image>"}},
        {"output_type": "display_data", "data": {"text/html": "<pre></pre>\n", "text/plain": ""}},
        {"output_type": "execute_result", "data": {"text/html": "<p>\n\nthree</p>", "text/plain": "3"}},
    ]
    cells = [
        {"cell_type": "markdown", "source": "# One"},
        {"cell_type": "code", "source": "run()", "outputs": outputs},
    ]
    assert generator("notebook_pages").shown({"cells": cells}, "notebooks/a") == {
        "notebooks/a.md": "# One\n\n```python\nrun()\n```\n\n```text\ntwo\n```\n\n![output](a-0.png)\n\n"
        '<div class="output"><p>\nthree</p></div>\n',
        "notebooks/a-0.png": b"hi",
    }


def test_notebooks_hold_no_outputs_and_call_what_there_is() -> None:
    paths = sorted(DOCS.glob("notebooks/*.ipynb"))
    assert len(paths) >= 2
    for path in paths:
        code = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
        assert not any(cell["outputs"] or cell["execution_count"] for cell in code), path
        text = "\n".join("".join(cell["source"]) for cell in code)
        assert max(map(len, text.splitlines())) <= 88, path  # as much as a page shows without scrolling
        for statement in ast.walk(ast.parse(text)):
            if isinstance(statement, ast.ImportFrom) and str(statement.module).startswith("mnerkit"):
                module = importlib.import_module(str(statement.module))
                assert all(hasattr(module, name.name) for name in statement.names)


def test_the_experiment_of_the_guide_is_one(tmp_path: Path) -> None:
    (content,) = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "guides" / "experiments.md").read_text(), re.M | re.S)
    shutil.copytree(ROOT / "experiments" / "profiles", tmp_path / "profiles")
    shutil.copy(ROOT / "experiments" / "errata.csv", tmp_path)
    path = tmp_path / "mine" / "first.yaml"
    path.parent.mkdir()
    path.write_text(content)
    experiment = load(path, tmp_path)
    assert [row.plugin for row in experiment.rows] == ["bert", "bilstm", "hvpnet"]
    assert not any(row.missing for row in experiment.rows)


def test_pages_of_the_papers_have_every_experiment_and_every_erratum(generator: Any) -> None:
    made = generator("paper_pages")
    pages = made.paper_pages(ROOT / "experiments")
    for path in sorted((ROOT / "experiments").glob("*/*.yaml")):
        paper = path.parent.name
        if paper != "profiles":
            assert f"mnerkit reproduce {paper}/{path.stem}\n" in pages[f"papers/tables/{paper}.md"]
    lines = (ROOT / "experiments" / "errata.csv").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("| ") for line in made.errata(ROOT / "experiments").splitlines()) >= len(lines) - 1


def test_the_navigation_names_every_page_of_the_documentation() -> None:
    class Loader(yaml.SafeLoader):
        """Passes over the tag of the anchors' function."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)
    settings = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader)
    places = _leaves(settings["nav"])
    for path in [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]:
        assert str(path.relative_to(DOCS).with_suffix(".md")) in places, path
    assert settings["strict"] is True and settings["theme"]["font"] is False


def _leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav
    return [place for item in inner for place in _leaves(item)]
