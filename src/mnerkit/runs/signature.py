"""Options of a class, read from its source: so that help and spelling need no import of torch."""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mnerkit.runs.provenance import PACKAGES


@dataclass(frozen=True)
class Option:
    """One constructor argument: its name, annotation and default as written, and its docstring line."""

    name: str
    annotation: str
    default: str | None
    description: str

    @property
    def is_list(self) -> bool:
        """Whether it can take several values."""
        return "list[" in self.annotation

    @property
    def is_only_list(self) -> bool:
        """Whether a single value, too, is meant as a list of one."""
        return self.annotation.startswith("list[") and "|" not in self.annotation.replace("| None", "")

    @property
    def is_flag(self) -> bool:
        """Whether the bare option means true."""
        return self.annotation == "bool"

    @property
    def choices(self) -> list[str]:
        """Values of a `Literal` annotation; none where other values are taken, too."""
        inside = re.fullmatch(r"Literal\[([^]]*)\]( \| None)?", self.annotation)
        return _literals(inside.group(1)) if inside else []

    @property
    def takes(self) -> str:
        """What it takes, for a help page: `first|mean`, `bool|last_stage_only`, `float | None`."""
        shown = re.sub(r"Literal\[([^]]*)\]", lambda found: "|".join(_literals(found.group(1))), self.annotation)
        return shown if shown == self.annotation else "|".join(each for each in shown.split(" | ") if each != "None")


def _literals(inside: str) -> list[str]:
    return [str(each) for each in ast.literal_eval(f"[{inside}]")]


def module_file(module: str) -> Path | None:
    """File of a module, found without importing it (packages above it are imported)."""
    top = importlib.util.find_spec(module.partition(".")[0])
    if top is None or not top.submodule_search_locations:
        return Path(top.origin) if top and top.origin else None
    parts = module.split(".")[1:]
    for root in top.submodule_search_locations:
        path = Path(root).joinpath(*parts)
        if path.with_suffix(".py").is_file() and parts:
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
    # editable installs map names to folders that only the import system knows
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec and spec.origin else None


@lru_cache(maxsize=64)
def class_options(module: str, name: str) -> dict[str, Option]:
    """Constructor options of a class: its own, and where it takes `**options`, those of its first base, too."""
    path = module_file(module)
    if path is None:
        return {}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    node = next((each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == name), None)
    if node is None:
        source = _imported_from(tree, name)
        return class_options(source, name) if source else {}
    init = next((each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__"), None)
    found = _arguments(init, node, tree) if init else {}
    if (init is None or init.args.kwarg) and node.bases:
        base = node.bases[0]
        base_name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
        here = any(isinstance(each, ast.ClassDef) and each.name == base_name for each in tree.body)
        source = module if here else _imported_from(tree, base_name)
        if source:
            found = {**found, **{k: v for k, v in class_options(source, base_name).items() if k not in found}}
    return found


def _imported_from(tree: ast.Module, name: str) -> str | None:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return node.module
    return None


class _Spelt(ast.NodeTransformer):
    """Puts the values in place of a name that stands for a `Literal`."""

    def __init__(self, tree: ast.Module) -> None:
        self.tree = tree

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """The `Literal` that a name stands for, or the name."""
        return _literal(self.tree, node.id) or node


def _literal(tree: ast.Module, name: str) -> ast.expr | None:
    """What stands in `name = Literal[...]` of a module, or of the one of ours that it takes the name from."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(each, "id", "") for each in node.targets] == [name]:
            return node.value if ast.unparse(node.value).startswith("Literal[") else None
    source = _imported_from(tree, name) or ""
    path = module_file(source) if source.partition(".")[0] in PACKAGES else None
    return _literal(ast.parse(path.read_text(encoding="utf-8")), name) if path else None


def _arguments(init: ast.FunctionDef, owner: ast.ClassDef, tree: ast.Module) -> dict[str, Option]:
    documented = {**_documented(owner), **_documented(init)}
    every = [*init.args.posonlyargs, *init.args.args][1:]
    defaults: list[ast.expr | None] = [None] * (len(every) - len(init.args.defaults)) + list(init.args.defaults)
    pairs = [*zip(every, defaults, strict=True), *zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)]
    return {
        argument.arg: Option(
            argument.arg,
            ast.unparse(_Spelt(tree).visit(argument.annotation)) if argument.annotation else "",
            ast.unparse(default) if default is not None else None,
            documented.get(argument.arg, ""),
        )
        for argument, default in pairs
    }


def _documented(node: ast.ClassDef | ast.FunctionDef) -> dict[str, str]:
    """The `Args:` section of a docstring: name -> description on one line."""
    text = ast.get_docstring(node) or ""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", text, flags=re.M | re.S)
    if not section:
        return {}
    entries = re.findall(
        r"^ {4}(\w+)(?: \([^)]*\))?:(.*?)(?=^ {4}\w+(?: \([^)]*\))?:|\Z)", section.group(1), re.M | re.S
    )
    return {name: " ".join(description.split()) for name, description in entries}
