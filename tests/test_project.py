"""What README, documentation, packaging and settings say is true."""

from __future__ import annotations

import argparse
import configparser
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import mnerkit
from mnerkit import registry
from mnerkit.cli import METHOD_VERBS, VERBS, main, method_verbs
from mnerkit.cli.arguments import Parser
from mnerkit.runs.config.configuration import resolve
from tests.documented_commands import PAGES, commands

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = [
    "adacan",
    "bert",
    "bilstm",
    "captions",
    "cross",
    "gei",
    "gifr",
    "gmf",
    "gvatt",
    "hvpnet",
    "ita",
    "maf",
    "mgips_cl",
    "mkgformer",
    "mousing",
    "ocsga",
    "prompted",
    "relevance",
    "tpm_mi",
    "umgf",
    "umt",
    "vec_mner",
    "visualpt_moe",
]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


COMMANDS = sorted({command for page in PAGES for command in commands(page)})


@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_command_is_one_that_mnerkit_takes(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    _, verb, *argv = shlex.split(command, comments=True)
    assert verb in VERBS
    if verb in METHOD_VERBS:
        if "--help" in argv:
            assert main([verb, *argv]) == 0
            return
        options = method_verbs.parse(verb, argv)
        # score and predict take their configuration from a checkpoint: any will do here
        base = {"plugin": "bert", "model": {"head": {"name": "crf"}}}
        if verb == "fit":
            method_verbs.configured(options)
        else:
            resolve(options.plugin, files=getattr(options, "config", []), dotted=options.dotted, base=base)
        return
    with monkeypatch.context() as patch, pytest.raises(Parsed) as parsed:
        patch.setattr(Parser, "parse_known_args", stopping)
        main([verb, *argv])
    method_verbs.dotted_of("fit", parsed.value.rest)  # what a verb's own parser leaves are options of the sections


class Parsed(BaseException):
    """The arguments of a command have been read, and it is not run."""

    def __init__(self, rest: list[str]) -> None:
        self.rest = rest


def stopping(parser: Parser, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
    """`parse_known_args`, after which a command ends; one that asks for its help is shown it."""
    raise Parsed(argparse.ArgumentParser.parse_known_args(parser, args, namespace)[1])


def test_readme_shows_every_verb_that_a_user_meets_first() -> None:
    assert {shlex.split(command)[1] for command in commands(ROOT / "README.md")} >= {
        "fit",
        "test",
        "predict",
        "data",
        "runs",
    }


def test_python_in_the_pages_compiles() -> None:
    blocks = [
        block
        for page in PAGES
        if page.suffix == ".md"
        for block in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    ]
    assert blocks
    for block in blocks:
        compile(block, "page", "exec")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    for target in re.findall(r"\]\(([^):\s]+)\)", page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_the_readme_is_short_and_shows_the_probe_and_a_report() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.split()) <= 1200
    assert {"docs/images/probe.png", "docs/images/report.png"} <= set(re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text))


def test_the_index_of_the_documentation_names_every_page_and_every_picture_is_shown() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in ROOT.glob("docs/**/*.md"):
        assert page.name == "README.md" or f"]({page.relative_to(ROOT / 'docs')})" in index, page
    shown_pictures = {
        (page.parent / target).resolve()
        for page in PAGES
        for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    }
    assert set((ROOT / "docs" / "images").iterdir()) <= shown_pictures


def test_every_file_that_contributing_names_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:src|plugins|experiments|docs|benchmarks|tests)/[\w./-]*)`", text)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    for page in [*PAGES, ROOT / ".ci" / "run"]:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"`make ([a-z-]+)", text)) | set(re.findall(r"^make ([a-z-]+)", text, flags=re.M))
        assert named <= targets, page


def test_ci_checks_and_tests_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    lines = [line for line in script.read_text().splitlines() if line and not line.startswith(("#", "set ", "cd "))]
    assert lines == ["make check test --jobs=2"]


def test_the_workflow_calls_what_anybody_calls_on_every_python_that_the_package_names() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    assert [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step] == [
        ".ci/run",
        "make dist",
        "make docs",
    ]
    named = re.findall(r"Python :: (3\.\d+)$", SETUP["metadata"]["classifiers"], flags=re.M)
    assert jobs["test"]["strategy"]["matrix"]["python"] == named
    assert SETUP["options"]["python_requires"] == f">={named[0]}"


def test_a_hook_before_a_commit_is_a_line_of_make_check() -> None:
    (hooks,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    recipe = (ROOT / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    for hook in hooks["hooks"]:
        tool, *verb = hook["entry"].removeprefix(".venv/bin/").replace(" --fix", "").split()
        assert " ".join([f"$(BIN)/{tool}", *verb]) in recipe


def test_forms_for_issues_ask_for_something() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "labels", "body"} == set(form)
        assert any(field.get("validations", {}).get("required") for field in form["body"]), path


def test_every_folder_of_code_is_packaged() -> None:
    roots = {"mnerkit": "src/mnerkit", "mnerkit_plugins": "plugins", "mnerkit_experiments": "experiments"}
    folders = [(name, ROOT / folder) for name, folder in roots.items()]
    found = {
        ".".join([name, *init.parent.relative_to(folder).parts])
        for name, folder in folders
        for init in folder.rglob("__init__.py")
    }
    assert found == set(SETUP["options"]["packages"].split())


def test_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert mnerkit.__version__ == SETUP["metadata"]["version"] == citation["version"]
    first = re.search(r"^## \[(\d.*)\] - (\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first is not None and first[1] == mnerkit.__version__ and date.fromisoformat(first[2])
    assert SETUP["metadata"]["license"] == citation["license"] == "Apache-2.0"


def test_constraints_are_exact_and_hold_every_direct_dependency() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+(; python_version >= \"3\.11\")?", line) for line in lines)
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in lines}
    extras = SETUP["options.extras_require"]
    wanted = [line for part in (SETUP["options"]["install_requires"], *extras.values()) for line in part.splitlines()]
    named = {re.match(r"[\w.-]+", line)[0].lower() for line in wanted if line and not line.startswith("#")}  # type: ignore[index]
    assert named - pinned == set()


def test_a_pin_has_a_marker_where_its_release_needs_a_newer_python() -> None:
    """By what the installed releases say themselves; whether wheels exist is for the index to say."""
    tested = re.findall(r"Python :: (3\.\d+)$", SETUP["metadata"]["classifiers"], flags=re.M)
    faults, pins = [], 0
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            with suppress(metadata.PackageNotFoundError):  # of an extra that is not installed here
                needed = SpecifierSet(metadata.metadata(pin.name)["Requires-Python"] or "")
                pins += 1
                for version in tested:
                    applies = pin.marker is None or pin.marker.evaluate({"python_version": version})
                    if applies and f"{version}.99" not in needed:  # the newest of its line
                        faults.append(f"{line}: needs Python {needed}, and {version} is tested")
    assert faults == [] and pins > 50


def test_plugins_of_this_distribution_are_the_golden_list() -> None:
    entries = [
        line.split("=")[0].strip() for line in SETUP["options.entry_points"]["mnerkit.plugins"].split("\n") if line
    ]
    assert sorted(entries) == PLUGINS
    assert sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")) == PLUGINS
    assert {name for name, each in registry.plugins().items() if each.distribution.startswith("mnerkit ")} == set(
        PLUGINS
    )


@pytest.mark.parametrize("name", PLUGINS)
def test_a_plugin_folder_is_complete(name: str) -> None:
    folder = ROOT / "plugins" / name
    missing = [file for file in ("README.md", "defaults.yaml", "model.py") if not (folder / file).is_file()]
    assert not missing
    # tagger.py, but for a method that tags nothing
    assert registry.get(name).module_file.name == ("method.py" if name == "relevance" else "tagger.py")
    assert registry.get(name).summary
    assert f"| [`{name}`](plugins/{name}/README.md) |" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PLUGINS)
def test_every_default_and_every_ablation_of_a_plugin_resolves(name: str) -> None:
    method_verbs.configuration_of(["fit", "--plugin", name])
    for ablation in registry.get(name).ablations:
        command = ["fit", "--plugin", name, "--ablation", ablation]
        assert method_verbs.configuration_of(command).content["ablation"] == ablation


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_file_resolves_and_takes_overrides(path: Path) -> None:
    command = ["fit", "--config", str(path), "--model.text", "tiny-bert", "--data.root", "D"]
    config = method_verbs.configuration_of(command).content
    assert config["plugin"] in PLUGINS
    assert config["model"]["text"] == "tiny-bert"
    # interpolations see the override
    if "vision: ${model.text}" in path.read_text(encoding="utf-8"):
        assert config["model"]["vision"] == "tiny-bert"
    assert f"`{path.name}`" in (path.parent / "README.md").read_text(encoding="utf-8")


def test_no_file_names_a_path_of_one_machine() -> None:
    homes = re.compile(r"/(?:work|root|Users)/|/home/(?!mnerkit)|/tmp/|[A-Z]:\\\\")
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path != Path(__file__).resolve():
            assert not homes.search(text), f"{path}: {homes.search(text)}"


def test_no_data_of_others_and_no_large_file_is_in_the_tree() -> None:
    ours = ROOT / "tests" / "kept"  # what a release wrote of generated posts
    for path in tracked():
        own = ours in path.parents
        assert own or path.suffix not in {".pth", ".pt", ".ckpt", ".safetensors", ".jpg"}, path
        # rows of benchmarks, with the counts of each episode
        limit = 1_000_000 if own or "results" in path.parts else 200_000
        assert path.stat().st_size < limit, path


def test_imports_point_downwards_and_never_to_another_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    counts = importlib.import_module("source_counts")
    modules = counts.modules(ROOT)
    assert counts.upward_imports(modules) == []
    assert set().union(*counts.FLOORS) - {module.room for module in modules} == {"encoders", "tagging"}


def tracked() -> list[Path]:
    """Files of the project: those that git knows, or, outside a checkout, those of its own folders."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        paths = [ROOT / name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        folders = ("src", "plugins", "tests", "benchmarks", "experiments", "docker")
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    return [path for path in paths if path.is_file()]


def test_importing_mnerkit_and_reading_corpora_needs_no_torch() -> None:
    names = ("errors", "registry", "cli", "data.corpus.post", "data.corpus.tags", "data.probe")
    names += ("data.corpus.readers", "data.corpus.corpus", "data.pictures.decoding")
    modules = ", ".join(["mnerkit", *(f"mnerkit.{name}" for name in names)])
    probe = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
