"""A plugin of another distribution: installed, listed, trained."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

TAGGER = '''
"""A throwaway method."""
from __future__ import annotations
from typing import Any
import torch
from mnerkit.data.batches.needs import Needs
from mnerkit.towers.interface import Encoder, WordStates
from mnerkit.methods.tagger import Tagger


class Plain(Encoder):
    def __init__(self, tower):
        super().__init__()
        self.tower, self.width = tower, tower.width

    def forward(self, batch, trace=False):
        return WordStates(self.tower(batch.text).words[None])


class ThrowawayTagger(Tagger):
    """The tiny text tower and nothing else."""

    plugin = "throwaway"

    def __init__(self, text: str = "tiny", **training: Any) -> None:
        super().__init__(**training)
        self.text = text

    def make_encoder(self):
        return Plain(self.text_tower("text", self.text))

    def needs(self):
        return Needs(reader=self.towers["text"].reader)
'''
DEFAULTS = "model: {head: {name: softmax}}\ndata: {limit: 64}\ntrainer: {max_epochs: 1}\n"
BROKEN = "import nothing_of_this_name\nclass BrokenTagger: ...\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    info = "throwaway_mner-1.0.dist-info"
    files = {
        "throwaway_mner/__init__.py": "",
        "throwaway_mner/tagger.py": TAGGER,
        "throwaway_mner/defaults.yaml": DEFAULTS,
        "broken_mner.py": BROKEN,
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: throwaway-mner\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[mnerkit.plugins]\n"
        "throwaway = throwaway_mner.tagger:ThrowawayTagger\nbroken = broken_mner:BrokenTagger\n",
    }
    wheel = folder / "throwaway_mner-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
        archive.writestr(f"{info}/RECORD", record)
    target = folder / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    return target


def mnerkit(site: Path, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-m", "mnerkit", *argv], capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )


def test_an_installed_distribution_brings_a_method(site: Path, tmp_path: Path) -> None:
    listed = mnerkit(site, "plugins", cwd=tmp_path)
    assert "throwaway" in listed.stdout and "throwaway-mner 1.0" in listed.stdout
    trained = mnerkit(site, "fit", "--plugin", "throwaway", "--name", "once", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    folder = tmp_path / "runs" / "throwaway" / "probe" / "once"
    assert (folder / "metrics.json").is_file()
    tested = mnerkit(site, "test", "--ckpt_path", str(folder / "best.ckpt"), cwd=tmp_path)
    assert tested.returncode == 0, tested.stderr


def test_a_broken_plugin_is_named_and_hides_no_other(site: Path, tmp_path: Path) -> None:
    assert "bert" in mnerkit(site, "plugins", cwd=tmp_path).stdout
    failed = mnerkit(site, "fit", "--plugin", "broken", cwd=tmp_path)
    assert failed.returncode == 1
    assert "broken" in failed.stderr and "nothing_of_this_name" in failed.stderr and "Traceback" not in failed.stderr
