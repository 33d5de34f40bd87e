"""No container engine is needed: the images' steps are held to the Makefile's."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))


def steps(dockerfile: Path) -> list[tuple[str, str]]:
    """(instruction, argument) of each step; continued lines are joined, comments left out."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.M).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def made(dockerfile: Path) -> list[tuple[int, str]]:
    """(place, target) of each `RUN make TARGET`."""
    found = [(place, shlex.split(said)) for place, (what, said) in enumerate(steps(dockerfile)) if what == "RUN"]
    return [(place, target) for place, words in found if words[0] == "make" for target in words[1:]]


def test_there_is_an_image_for_cpu_and_one_for_cuda() -> None:
    assert [each.name for each in DOCKERFILES] == ["Dockerfile.cpu", "Dockerfile.cuda"]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda each: each.name)
def test_an_image_installs_by_make_targets_alone(dockerfile: Path) -> None:
    assert [target for _, target in made(dockerfile)] == ["torch", "setup"]
    assert {target for _, target in made(dockerfile)} <= TARGETS
    assert not [said for what, said in steps(dockerfile) if what == "RUN" and "pip" in shlex.split(said)]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda each: each.name)
def test_what_a_target_reads_is_copied_before_it_runs(dockerfile: Path) -> None:
    copied = {place: shlex.split(said)[1:-1] for place, (what, said) in enumerate(steps(dockerfile)) if what == "COPY"}
    before = {
        target: [path for at, paths in copied.items() if at < place for path in paths]
        for place, target in made(dockerfile)
    }
    assert {"Makefile", "constraints.txt"} <= set(before["torch"])
    assert "." not in before["torch"], "a change of the code must not install torch again"
    assert "." in before["setup"]


def test_nothing_that_an_image_needs_is_kept_out_of_it() -> None:
    ignored = set((ROOT / ".dockerignore").read_text().split())
    assert {".git", ".venv", "runs"} <= ignored
    assert not ignored & {"src", "plugins", "tests", "docker", "experiments", "Makefile", "README.md", "LICENSE"}


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda each: each.name)
def test_an_image_has_a_pinned_base_an_ordinary_user_and_mnerkit_as_entry_point(dockerfile: Path) -> None:
    said = {what: argument for what, argument in steps(dockerfile)}
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*", said["FROM"])
    assert said["USER"] not in ("root", "0")
    assert said["ENTRYPOINT"] == '["mnerkit"]'
    assert "/.venv/bin:" in " ".join(argument for what, argument in steps(dockerfile) if what == "ENV")


def test_the_images_differ_in_the_build_of_torch_only() -> None:
    def common(dockerfile: Path) -> list[tuple[str, str]]:
        return [step for step in steps(dockerfile) if step[0] != "ENV"]

    assert common(DOCKERFILES[0]) == common(DOCKERFILES[1])
    assert "download.pytorch.org/whl/cpu" in DOCKERFILES[0].read_text()
    assert "download.pytorch.org" not in DOCKERFILES[1].read_text()


def test_targets_that_the_readme_names_exist() -> None:
    text = (ROOT / "docker" / "README.md").read_text()
    assert set(re.findall(r"--entrypoint make \S+ ([\w-]+)", text)) == {"demo", "test"}
    assert {"demo", "test", *re.findall(r"`make ([\w-]+)`", text)} <= TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_make_can_plan_every_target(target: str) -> None:
    done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_make_alone_explains_every_target() -> None:
    page = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in page.splitlines() if line.startswith("  ")} == TARGETS
