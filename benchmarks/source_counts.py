"""Counts of a checkout's source: code lines, module names, imports that run up and circles of imports.

Code is what lies in `src/mnerkit` and `plugins`. A room is a folder of `src/mnerkit`; the modules that lie beside the
rooms (`errors.py`, `registry.py`) are the ground on which all rooms stand, and `plugins` is one room.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PLUGINS = "plugins"
# the package's own modules: its Python face and `python -m mnerkit`
FACE = "mnerkit"

# From the ground up: a room, or a module on the ground, may import what lies on lower floors, and a room itself.
# `encoders` and `tagging` are the names that `towers` and `methods` had at the start commit.
FLOORS = (
    {"printable"},
    {"errors", "text_table", "type_colours", "templates", "import_hooks", "atomic_files", "release"},
    {"strict_json", "plain_yaml", "torch_archive", "validation", "stop_signals"},
    {"options"},
    {"registry"},
    {"scaffold"},
    {"data", "nn"},
    {"towers"},
    {"encoders"},
    {"scoring"},
    {"methods"},
    {"tagging"},
    {"runs"},
    {FACE},  # fit, score, load
    {"testing"},
    {"report", "demo"},
    {"reproduce"},
    {"cli"},
    {PLUGINS},
)
# tensors alone
IMPORTED_BY_NN = {"errors", "options"}

NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True)
class Module:
    """A Python file of a checkout.

    Attributes:
        path: relative to the checkout, with slashes.
        code: its text.
    """

    path: str
    code: str

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def stem(self) -> str:
        return self.path.rpartition("/")[2].removesuffix(".py")

    @property
    def is_package(self) -> bool:
        return self.stem == "__init__"

    @property
    def dotted(self) -> str:
        """Name by which it is imported."""
        name = self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        return name.removeprefix("src.") if name.startswith("src.") else f"mnerkit_{name}"

    @property
    def room(self) -> str:
        """The folder below `src/mnerkit` or `plugins`; FACE for the package's own modules, else the module's name."""
        first, _, rest = self.path.partition("/")
        if first == PLUGINS:
            return PLUGINS
        inside, _, below = rest.removeprefix("mnerkit/").partition("/")
        return inside if below else FACE if self.stem in ("__init__", "__main__") else self.stem

    @property
    def on_ground(self) -> bool:
        """Whether it lies beside the rooms."""
        return self.folder == "src/mnerkit" and self.room != FACE


def modules(root: Path) -> list[Module]:
    """The modules of a checkout, by path."""
    paths = [path for folder in ("src/mnerkit", PLUGINS) for path in (root / folder).rglob("*.py")]
    return [Module(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in sorted(paths)]


def code_lines(code: str) -> int:
    """Lines without blank lines, comments and docstrings.

    A line counts when a token lies on it that is neither a comment nor a line's end. Of a string over several lines
    those count that are not blank. A statement that is nothing but a string is documentation wherever it stands.
    """
    lines = code.splitlines()
    filled: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type not in NO_CODE:
            filled.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            filled.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(bool(lines[number - 1].strip()) for number in filled)


def lines_by_room(found: Iterable[Module]) -> Counter[str]:
    """Code lines of each room, and of each module on the ground."""
    lines: Counter[str] = Counter()
    for module in found:
        lines[module.room] += code_lines(module.code)
    return lines


def modules_by_folder(found: Iterable[Module]) -> Counter[str]:
    """How many modules each folder holds, its `__init__.py` aside."""
    return Counter(module.folder for module in found if not module.is_package)


def names_in_two_rooms(found: Iterable[Module]) -> dict[str, list[str]]:
    """Names of modules (not of folders) that stand in two rooms or more, with these rooms.

    `plugins` is one room: `model.py` of each plugin is the same part of like things.
    """
    return _shared((module.stem, module.room) for module in found if not module.stem.startswith("__"))


def names_in_two_folders(found: Iterable[Module]) -> dict[str, list[str]]:
    """The same by folders, which tells `data/text` from `data/probe/text`; all plugins are one folder still."""
    return _shared(
        (module.stem, PLUGINS if module.room == PLUGINS else module.folder.removeprefix("src/mnerkit").lstrip("/"))
        for module in found
        if not module.stem.startswith("__")
    )


def _shared(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    places: defaultdict[str, set[str]] = defaultdict(set)
    for name, place in pairs:
        places[name].add(place)
    return {name: sorted(where) for name, where in sorted(places.items()) if len(where) > 1}


def imports(code: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a module imports, inside functions, too."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (f"{node.module}." if node.module else "")
            yield from ((node.lineno, f"{source}{alias.name}") for alias in node.names)


def targets(module: Module, names: Mapping[str, Module]) -> Iterator[tuple[int, str, Module | None]]:
    """Line, dotted name and module of each import of ours; None where there is no such module.

    Args:
        module: whose imports.
        names: all modules by dotted name.
    """
    for line, name in imports(module.code):
        if name.partition(".")[0] not in ("mnerkit", "mnerkit_plugins", ""):
            continue
        inside = name
        while inside and inside not in names:
            inside = inside.rpartition(".")[0]
        yield line, name, names.get(inside)


def upward_imports(found: Iterable[Module]) -> list[str]:
    """Imports that don't point downwards, as `path:line: name`.

    So are those of a plugin by mnerkit or by another plugin, relative ones, and those of a room that FLOORS lacks.
    """
    names = {module.dotted: module for module in found}
    return [
        f"{module.path}:{line}: {name}"
        for module in names.values()
        for line, name, target in targets(module, names)
        if target is None or not _downward(module, target)
    ]


def _downward(module: Module, target: Module) -> bool:
    if module.room == target.room:
        return module.room != PLUGINS or module.folder == target.folder
    if module.room == "nn":
        return target.room in IMPORTED_BY_NN
    heights = {room: height for height, floor in enumerate(FLOORS) for room in floor}
    # `mnerkit/__main__.py` calls the command line and is imported by nobody
    own = len(FLOORS) if module.stem == "__main__" else heights.get(module.room, -1)
    return heights.get(target.room, len(FLOORS)) < own


def circles(found: Iterable[Module], packages: bool = False) -> list[list[str]]:
    """Sets of modules each of which imports, by way of others, all others; imports inside functions count.

    Args:
        found: the modules.
        packages: follow imports of a package's `__init__`, too. It gathers what its modules offer or, as the command
            line's, calls them, so that a module that imports a name from it closes a circle.
    """
    names = {module.dotted: module for module in found}
    graph = {
        name: {
            target.dotted
            for _, _, target in targets(module, names)
            if target is not None and target.dotted != name and (packages or not target.is_package)
        }
        for name, module in names.items()
        if packages or not module.is_package
    }
    reached = {name: _reached(graph, name) for name in graph}
    classes = {frozenset(other for other in reached[name] if name in reached[other]) for name in graph}
    return sorted(sorted(each) for each in classes if each)


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    """All that can be reached from `start`, itself only by way of a circle."""
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(graph[name])
    return seen
