"""Which source files a run uses: the imports of some modules, followed, without running them."""

from __future__ import annotations

import ast
import hashlib
import io
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# ours; other packages are named by their versions
PACKAGES = ("mnerkit", "mnerkit_plugins")
# what only reads options, prints, logs and keeps run folders, and this: a change there changes no figure
LEFT_OUT = tuple(
    f"mnerkit.{name}" for name in ("cli", "plain_yaml", "provenance", "report", "runs", "tagging.dashboards")
)


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
    """SHA-256 over names and code of `source_files`, as hex; see `code_of`."""
    digest = hashlib.sha256()
    for name, path in source_files(modules).items():
        digest.update(f"{name} {_code_digest(path.read_bytes())}\n".encode())
    return digest.hexdigest()


@cache
def _code_digest(source: bytes) -> str:
    """SHA-256 of a file's code; many runs share most of their files."""
    return hashlib.sha256(code_of(source.decode()).encode()).hexdigest()


def code_of(source: str) -> str:
    """Source text without comments, docstrings, empty lines and blanks at the ends of lines."""
    # split as Python does: a form feed ends no line
    lines = source.split("\n")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    spans = [(*token.start, *token.end) for token in tokens if token.type == tokenize.COMMENT]
    spans += [_span(node, lines) for node in _docstrings(ast.parse(source))]
    for top, left, bottom, right in spans:
        for number in range(top, bottom + 1):
            line = lines[number - 1]
            begin, end = left if number == top else 0, right if number == bottom else len(line)
            lines[number - 1] = line[:begin] + " " * (end - begin) + line[end:]
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first


def _span(node: ast.Expr, lines: Sequence[str]) -> tuple[int, int, int, int]:
    """First line and column, last line and column; the tree counts columns in bytes."""
    bottom, end = node.end_lineno or node.lineno, node.end_col_offset or 0
    return node.lineno, node.col_offset, bottom, len(lines[bottom - 1].encode()[:end].decode())


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
    """File of a module. Only the package at the top is asked for: `find_spec` runs the packages above a module."""
    top, *parts = name.split(".")
    spec = find_spec(top)
    if spec is None:
        return None
    if not parts:
        return None if spec.origin is None else Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        path = Path(folder, *parts)
        for each in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if each.is_file():
                return each
    return None


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
