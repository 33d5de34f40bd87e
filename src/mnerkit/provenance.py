"""Which source files a run uses: the imports of some modules, followed, without running them."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# ours; other packages are named by their versions
PACKAGES = ("mnerkit", "mnerkit_plugins")
# what only reads options and prints: a change there changes no figure
LEFT_OUT = ("mnerkit.cli", "mnerkit.report")


def source_files(modules: Iterable[str]) -> dict[str, Path]:
    """The modules named, and all of ours that they import, at any depth and anywhere in their files.

    Modules of `LEFT_OUT` are not followed unless they are named.

    Args:
        modules: dotted names; a package stands for all its modules.

    Returns:
        Dotted name -> file, sorted by name.

    Raises:
        ModuleNotFoundError: a named module does not exist.
    """
    waiting = [name for module in modules for name in _members(module)]
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = _file(name)
        if path is None:
            raise ModuleNotFoundError(f"no module {name}")
        found[name] = path
        # a package runs before its modules
        above = [name.rpartition(".")[0]] if "." in name else []
        waiting += [each for each in (*_imports(path), *above) if each not in found and not _left_out(each)]
    return dict(sorted(found.items()))


def source_digest(modules: Iterable[str]) -> str:
    """SHA-256 over names and contents of `source_files`, as hex."""
    digest = hashlib.sha256()
    for name, path in source_files(modules).items():
        content = path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _left_out(name: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in LEFT_OUT)


def _members(name: str) -> list[str]:
    """A module itself, or a package and all its modules."""
    path = _file(name)
    if path is None or path.name != "__init__.py":
        return [name]
    inner = [each.relative_to(path.parent).with_suffix("") for each in path.parent.rglob("*.py")]
    return [".".join((name, *(part for part in each.parts if part != "__init__"))) for each in sorted(inner)]


@cache
def _file(name: str) -> Path | None:
    try:
        spec = find_spec(name)
    except ModuleNotFoundError:
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """Modules of `PACKAGES` that a file imports; `from package import name` names a module or what it holds."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            # an entry in a table of names: `package.module:Class`
            found.add(node.value.partition(":")[0])
    ours = (name for name in found if name.split(".")[0] in PACKAGES)
    return tuple(sorted(name for name in ours if _file(name) is not None))
