"""`mnerkit doctor`: what an installation has, and what is missing for what."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from mnerkit import registry
from mnerkit.cli import main
from mnerkit.runs import installation


def found(capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, dict[str, str]]:
    assert main(["doctor", "--json"]) == code
    return {each["name"]: each for each in json.loads(capsys.readouterr().out)}


def test_all_that_is_installed_is_there(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MNERKIT_DATA", raising=False)
    things = found(capsys)
    assert things["torch"]["detail"] == metadata.version("torch")
    assert things["methods"]["detail"].startswith(f"{len(registry.plugins())}: {min(registry.plugins())}, ")
    assert {name for name in things if name.startswith("[")} == {f"[{name}]" for name in installation.EXTRAS}
    assert main(["doctor"]) == 0
    assert "nothing is wrong" in capsys.readouterr().out


def test_the_extras_are_those_of_the_package() -> None:
    extras = metadata.metadata("mnerkit").get_all("Provides-Extra")
    assert extras is not None and {*installation.EXTRAS} == {*extras} - {"dev", "docs"}


def test_packages_that_are_missing_or_too_old_are_wrong_and_extras_absent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = metadata.version
    others = {"wandb": None, "torch": "2.1.0", "matplotlib": None}

    def changed(name: str) -> str:
        if name not in others:
            return version(name)
        if (own := others[name]) is None:
            raise metadata.PackageNotFoundError(name)
        return own

    monkeypatch.setattr(metadata, "version", changed)
    things = found(capsys, code=1)
    assert things["wandb"]["state"] == "wrong" and things["wandb"]["remedy"] == "pip install 'wandb>=0.16'"
    assert things["torch"]["state"] == "wrong" and things["torch"]["detail"] == "2.1.0"
    assert things["[figures]"]["state"] == "absent" and "mnerkit[figures]" in things["[figures]"]["remedy"]
    assert main(["doctor"]) == 1
    assert "2 wrong: torch, wandb" in capsys.readouterr().out


def test_corpora_below_the_root_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNERKIT_DATA", str(tmp_path / "none"))
    assert found(capsys)["root"]["state"] == "absent"
    (tmp_path / "twitter2017").mkdir()
    (tmp_path / "twitter2017" / "train.txt").write_text("IMGID:1\na\tO\n")
    monkeypatch.setenv("MNERKIT_DATA", str(tmp_path))
    things = found(capsys)
    assert things["twitter2017"]["detail"] == "splits train; no folder of pictures"
    assert things["twitter2017"]["remedy"] and things["twitter2015"]["state"] == "absent"


def test_a_folder_that_can_not_be_written_and_a_plugin_that_does_not_load_are_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("MNERKIT_CACHE", str(tmp_path / "file" / "cache"))

    class Broken:
        distribution = "mnerkit-broken 1.0"

        @property
        def options_class(self) -> None:
            raise RuntimeError("no module named broken\nmore")

    monkeypatch.setattr(registry, "plugins", lambda: {"broken": Broken()})
    things = found(capsys, code=1)
    assert things["cache"]["state"] == "wrong" and things["cache"]["remedy"].startswith("set MNERKIT_CACHE")
    assert things["broken"]["detail"] == "no module named broken" and "mnerkit-broken" in things["broken"]["remedy"]
    assert things["methods"]["state"] == "wrong"
