"""What `make structure` counts, on small sources made by hand."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def checkout(root: Path, files: Mapping[str, str]) -> Path:
    """A checkout with these files, and with nothing in `src/mnerkit` and `plugins` otherwise."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


SOURCE = '''"""A module.

Of three lines.
"""

# a comment
X = """a string

with a blank line"""  # which is no code


def f(a,
      b):
    """A docstring."""
    return (
        a  # counted

        + b
    )


class C:
    x: int
    "what x is"
'''


def test_code_lines_are_those_without_blank_lines_comments_and_docstrings(bench: Callable[[str], Any]) -> None:
    # X and its last line; f: 2 of its head, 4 of the return; C: 2
    assert bench("source_counts").code_lines(SOURCE) == 10
    assert bench("source_counts").code_lines('"""Nothing but a docstring."""\n') == 0


def test_lines_and_modules_are_counted_by_room_and_folder(bench: Callable[[str], Any], tmp_path: Path) -> None:
    counts = bench("source_counts")
    root = checkout(
        tmp_path,
        {
            "src/mnerkit/__init__.py": "x = 1\n",
            "src/mnerkit/errors.py": "x = 1\ny = 2\n",
            "src/mnerkit/data/__init__.py": "",
            "src/mnerkit/data/text.py": "x = 1\n",
            "src/mnerkit/data/probe/text.py": "x = 1\n",
            "src/mnerkit/towers/text.py": "x = 1\n",
            "plugins/a/model.py": "x = 1\n",
            "plugins/b/model.py": "x = 1\n",
        },
    )
    modules = counts.modules(root)
    assert counts.lines_by_room(modules) == {"mnerkit": 1, "errors": 2, "data": 2, "towers": 1, "plugins": 2}
    assert counts.modules_by_folder(modules)["src/mnerkit/data"] == 1
    assert counts.names_in_two_rooms(modules) == {"text": ["data", "towers"]}
    assert counts.names_in_two_folders(modules) == {"text": ["data", "data/probe", "towers"]}


def test_imports_that_run_up_are_listed_and_no_others(bench: Callable[[str], Any], tmp_path: Path) -> None:
    counts = bench("source_counts")
    root = checkout(
        tmp_path,
        {
            "src/mnerkit/__init__.py": "from mnerkit.methods import tagger\n",
            "src/mnerkit/__main__.py": "from mnerkit.cli import main\n",
            "src/mnerkit/errors.py": "",
            "src/mnerkit/registry.py": "from mnerkit import errors\nfrom mnerkit.nn import crf\n",
            "src/mnerkit/nn/crf.py": "from mnerkit.errors import X\nfrom mnerkit import registry\n",
            "src/mnerkit/data/post.py": "def f():\n    from mnerkit.towers.text import Text\n",
            "src/mnerkit/towers/text.py": "import mnerkit.nn.crf\nfrom mnerkit.data.post import Post\nimport torch\n",
            "src/mnerkit/methods/tagger.py": "from . import other\nfrom mnerkit import __version__\n",
            "src/mnerkit/cli/__init__.py": "from mnerkit import __version__\nimport mnerkit_plugins.a.model\n",
            "plugins/a/model.py": "from mnerkit.nn import crf\nimport mnerkit_plugins.a.nodes\n",
            "plugins/a/nodes.py": "",
            "plugins/b/model.py": "from mnerkit_plugins.a.nodes import f\n",
        },
    )
    assert counts.upward_imports(counts.modules(root)) == [
        "plugins/b/model.py:1: mnerkit_plugins.a.nodes.f",
        "src/mnerkit/cli/__init__.py:2: mnerkit_plugins.a.model",
        "src/mnerkit/data/post.py:2: mnerkit.towers.text.Text",
        "src/mnerkit/methods/tagger.py:1: .other",
        "src/mnerkit/methods/tagger.py:2: mnerkit.__version__",
        "src/mnerkit/nn/crf.py:2: mnerkit.registry",
        "src/mnerkit/registry.py:2: mnerkit.nn.crf",
    ]


def test_a_circle_is_found_also_by_way_of_a_function_and_a_package_apart(
    bench: Callable[[str], Any], tmp_path: Path
) -> None:
    counts = bench("source_counts")
    root = checkout(
        tmp_path,
        {
            "src/mnerkit/data/a.py": "from mnerkit.data import b\n",
            "src/mnerkit/data/b.py": "def f():\n    from mnerkit.data.c import g\n",
            "src/mnerkit/data/c.py": "from mnerkit.data.a import x\nfrom mnerkit.data import d\n",
            "src/mnerkit/data/d.py": "",
            "src/mnerkit/cli/__init__.py": "from mnerkit.cli import help\n",
            "src/mnerkit/cli/help.py": "from mnerkit.cli import VERBS\n",
        },
    )
    circle = ["mnerkit.data.a", "mnerkit.data.b", "mnerkit.data.c"]
    assert counts.circles(counts.modules(root)) == [circle]
    assert counts.circles(counts.modules(root), packages=True) == [["mnerkit.cli", "mnerkit.cli.help"], circle]


OLD_TAGGER = '''
from mnerkit.methods.tagger import Tagger
from mnerkit_plugins.old.model import OldEncoder
class OldTagger(Tagger):
    def __init__(self, alpha: float = 0.7, grid: int = 7, **training) -> None:
        """Keep the options.

        Args:
            alpha: a share.
            grid: rows of positions.
        """
        super().__init__(**training)
        check("model", SHARE, alpha=alpha)
        self.alpha = alpha
        self.options = {"rows": grid}
    def make_encoder(self):
        return OldEncoder(self.tower, alpha=self.alpha, **self.options)
    def loss_weights(self):
        return {"head": self.alpha, "alpha": self.alpha}
'''
OLD_MODEL = '''
from mnerkit.towers.interface import Encoder
class OldEncoder(Encoder):
    """An encoder.

    Args:
        text: the tower, which is not the option.
        alpha: a share.
    """
    def __init__(self, text: TextTower, *, alpha: float = 0.7, rows: int = 7) -> None:
        self.text, self.weight = text, alpha
        self.width = 2 * alpha
        self.block = Block(rows, alpha)
class Block:
    """A block.

    Args:
        alpha: its own.
    """
    def __init__(self, rows: int, alpha: float) -> None:
        self.alpha = alpha
'''
BASE = """
class Tagger:
    def __init__(self, text: str = "tiny", lr: float = 1e-3) -> None:
        given = locals()
        self.text = text
"""
NEW_OPTIONS = """
from mnerkit.methods.options import TaggerOptions
@dataclass(frozen=True, kw_only=True)
class NewOptions(TaggerOptions):
    alpha: float = option(0.7, "share of the tagging loss", SHARE)
    text: str = "tiny-bert"
"""
NEW_MODEL = """
from mnerkit.towers.interface import Encoder
class NewEncoder(Encoder):
    def __init__(self, text: TextTower, o: NewOptions) -> None:
        self.text, self.width = text, o.width
        self.block = Block(o.alpha, rows=o.rows)
        self.kept = o.copied
"""
NEW_TAGGER = """
class NewTagger(Tagger):
    def prepare(self) -> None:
        self.notes["rates"] = {"alpha": self.options.alpha}
"""
BASE_OPTIONS = '''
@dataclass(frozen=True, kw_only=True)
class TaggerOptions:
    """Options of all taggers.

    Attributes:
        rows: written a second time.
    """
    text: str = option("tiny", "the text tower")
    rows: int = option(7, "rows of positions")
    width: int = option(8, "width of states")
    copied: int = option(8, "copied by the encoder")
'''
INTERFACE = "class Encoder:\n    width: int\n"


def test_places_of_an_option_are_those_where_it_is_written_and_not_its_uses(
    bench: Callable[[str], Any], tmp_path: Path
) -> None:
    places = bench("option_places")
    root = checkout(
        tmp_path,
        {
            "src/mnerkit/methods/tagger.py": BASE,
            "src/mnerkit/methods/options.py": BASE_OPTIONS,
            "src/mnerkit/towers/interface.py": INTERFACE,
            "plugins/old/tagger.py": OLD_TAGGER,
            "plugins/old/model.py": OLD_MODEL,
            "plugins/old/defaults.yaml": "model: {alpha: 1}\n",
            "plugins/new/options.py": NEW_OPTIONS,
            "plugins/new/model.py": NEW_MODEL,
            "plugins/new/tagger.py": NEW_TAGGER,
            "plugins/new/defaults.yaml": "model: {alpha: 1}\n",
        },
    )
    found = {key: [place.kind for place in written] for key, written in places.option_places(root).items()}
    assert found == {
        ("old", "alpha"): [
            *("docstring", "signature", "attribute"),  # model.py
            *("signature", "docstring", "check", "attribute", "keyword"),  # tagger.py
        ],
        ("old", "grid"): ["signature", "docstring", "dict"],
        ("old", "text"): ["signature", "locals", "attribute"],
        ("old", "lr"): ["signature", "locals"],
        ("new", "alpha"): ["field"],
        ("new", "text"): ["field"],
        ("new", "rows"): ["docstring", "field"],
        ("new", "width"): ["field"],
        ("new", "copied"): ["attribute", "field"],
    }
    assert places.summary(places.option_places(root)) == {"options": 9, "most": 8, "mean": 2.56}


def test_every_option_of_every_plugin_is_written_once(bench: Callable[[str], Any]) -> None:
    written = bench("option_places").option_places(ROOT)
    assert {plugin for plugin, _ in written} == {
        path.parent.name for path in (ROOT / "plugins").glob("*/defaults.yaml")
    }
    twice = {
        key: [f"{p.path}:{p.line} ({p.kind})" for p in places] for key, places in written.items() if len(places) != 1
    }
    assert not twice


FAKE_CLI = """
from mnerkit import called, data, late, method, only_imported
def main(argv):
    called.f()
    [each for each in data.numbers()]
    method.Method().training_step()
    late.f()
"""


def test_files_up_to_the_first_loss_are_those_with_a_function_called_by_then(tmp_path: Path) -> None:
    root = checkout(
        tmp_path,
        {
            "src/mnerkit/__init__.py": "",
            "src/mnerkit/cli.py": FAKE_CLI,
            "src/mnerkit/called.py": "def f():\n    import threading\n    from mnerkit import threads\n"
            "    thread = threading.Thread(target=threads.f)\n    thread.start()\n    thread.join()\n",
            "src/mnerkit/threads.py": "def f(): pass\n",
            "src/mnerkit/data.py": "def numbers():\n    yield 1\n",
            "src/mnerkit/method.py": "class Method:\n    def training_step(self):\n        return 1\n",
            "src/mnerkit/late.py": "def f(): pass\n",
            "src/mnerkit/only_imported.py": "class C:\n    x = [y for y in (1, 2)]\ndef f(): pass\n",
        },
    )
    out = tmp_path / "files.json"
    command = [sys.executable, str(BENCHMARKS / "first_loss.py"), str(root), str(out), "fit"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root / "src")}, check=True)
    names = ("called", "cli", "data", "method", "threads")
    assert json.loads(out.read_text()) == [f"src/mnerkit/{name}.py" for name in names]
    # mnerkit of another checkout is not counted as if it were this one
    elsewhere = subprocess.run([*command[:2], str(tmp_path / "plugins"), *command[3:]], check=False)
    assert elsewhere.returncode == 1


def test_every_figure_of_this_checkout_has_its_line_beside_that_of_the_start_commit(
    bench: Callable[[str], Any],
) -> None:
    structure = bench("structure")
    start = json.loads(structure.START.read_text(encoding="utf-8"))
    # the figures that the redesign began with
    assert (start["share"], start["commands"], start["code"], start["readme"]) == (37.3, 8240, 21585, 4287)
    assert (start["longest"], start["fullest"], start["rooms shared"]) == (588, 43, 19)
    assert (start["upward"], start["circles"]) == (1, 1)
    figures, details = structure.counted(ROOT)
    assert figures["code"] == sum(figures[f"code {room}"] for room in figures["rooms"])
    assert len(details["imports that run up"]) == figures["upward"]
    assert {row.figure for row in structure.rows(figures)} >= set(figures) - {"rooms"}
    assert set(figures) - {f"code {room}" for room in figures["rooms"]} <= set(start)


def test_the_table_marks_a_figure_that_misses_its_bar(bench: Callable[[str], Any]) -> None:
    start = {"rooms": ["data", "tagging"], "code data": 5000, "code tagging": 2000, "first loss": 80, "readme": 4287}
    today = {"rooms": ["data"], "code data": 4000, "first loss": 60, "readme": 1201}
    lines = [" ".join(line.split()) for line in bench("structure").table(today, start)]
    assert lines == [
        "what today bar start commit",
        "data 4000 5000",
        "tagging 2000",
        "files up to the first loss 60 <= 0.75 of the start 80",
        "words of the README 1201 ! <= 1200 4287",
    ]
