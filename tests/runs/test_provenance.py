"""Source files of a run: every module of ours that is imported, directly or by another one, and no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mnerkit.runs import provenance
from mnerkit.runs.provenance import code_of, source_digest, source_files


def test_all_modules_that_a_method_really_imports_are_found() -> None:
    """What Python itself has loaded after the import of a tagger and of every head."""
    code = (
        "import sys, mnerkit_plugins.cross.tagger, mnerkit.runs.build\n"
        "print(*(name for name in sys.modules if name.split('.')[0] in ('mnerkit', 'mnerkit_plugins')))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    found = source_files(["mnerkit_plugins.cross", "mnerkit.runs.build"])
    assert {name for name in loaded if not name.startswith(provenance.LEFT_OUT)} <= found.keys()
    # tables of names, imports inside functions, and the whole plugin, but no other one
    assert {"mnerkit.methods.heads.struct", "mnerkit.scoring.metrics", "mnerkit_plugins.cross.model"} <= found.keys()
    assert not any(name.startswith(("mnerkit_plugins.mousing", "mnerkit.runs.fit")) for name in found)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages `one` (with modules a, b, c; a imports b inside a function) and `two`, which nobody imports."""
    files = {
        "one/__init__.py": "",
        "one/a.py": "def later():\n    from one import b\n    return b\n",
        "one/b.py": "TABLE = {'c': 'one.c:Thing'}\n",
        "one/c.py": "import json\n",
        "one/alone.py": "",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(provenance, "PACKAGES", ("one",))
    monkeypatch.delitem(sys.modules, "one", raising=False)
    provenance._file.cache_clear()
    provenance._imports.cache_clear()
    return tmp_path / "one"


def test_imports_are_followed_wherever_they_stand(package: Path) -> None:
    assert list(source_files(["one.a"])) == ["one", "one.a", "one.b", "one.c"]
    assert list(source_files(["one"])) == ["one", "one.a", "one.alone", "one.b", "one.c"]
    with pytest.raises(ModuleNotFoundError, match=r"one\.none"):
        source_files(["one.none"])


def test_the_digest_changes_with_a_used_file_and_with_no_other(package: Path) -> None:
    before = source_digest(["one.a"])
    (package / "alone.py").write_text("x = 1\n")
    assert source_digest(["one.a"]) == before
    (package / "c.py").write_text("import json  # changed\n")
    assert source_digest(["one.a"]) == before
    (package / "c.py").write_text("import re\n")
    assert source_digest(["one.a"]) != before


BARE = """import json
class A:
    x = '# no comment'
    def f(self):
        return f'{self.x!r} é'
    def g(self): 'É'; return 1"""

TOLD = '''"""What

this is: é."""
# why
import json  # é


class A:
    """An A."""
    # an x
    x = '# no comment'

    def f(self):
        """É

        f.
    """
        return f'{self.x!r} é'  # this
    def g(self): 'É'; return 1  # 'É'
'''


def test_comments_docstrings_and_empty_lines_do_not_count() -> None:
    assert code_of(TOLD) == code_of(BARE)
    assert code_of(TOLD).startswith("import json\nclass A:\n    x = '# no comment'\n")
    for old, new in (("# no", "# a"), ("return 1", "return 2"), ("!r} é", "!r} e")):
        assert code_of(BARE.replace(old, new)) != code_of(BARE)
