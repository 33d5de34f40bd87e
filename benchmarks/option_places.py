"""In how many places the options of plugins are written: declared, documented, checked or copied.

Counted are the places in a plugin's method, encoder and options, and in the shared bases of its method and options:

- `field`: a field of a dataclass whose name ends in `Options`. Where a class gives an inherited option another default
  alone (`text: str = "tiny"`, without `option(...)`), the declaration stands in the base.
- `signature`: a parameter of the `__init__` of the method or its encoder.
- `docstring`: an entry under `Args:` of these, or under `Args:` or `Attributes:` of the options.
- `check`: a keyword of a call of `check`.
- `dict`: an entry of a dict literal that copies the option, under its own name or from the bare parameter.
- `locals`: a copy of all parameters by `locals()`.
- `attribute`: `self.anything = option`, the value as it is.
- `keyword`: the option handed on under its own name to the encoder's class or to `dict`, or a parameter handed on so to
  the `__init__` of a base.

Not counted are

- uses, which may be as many as the method has: in an expression, as an argument of a call, in a condition, as a weight
  that `loss_weights` returns, in what a run's metrics record (`self.notes[...]`);
- what the option is only a namesake of: an encoder's parameter that is a tower or sight, not the name of one; the
  parameters of blocks in the plugin's folder and of encoders' shared bases; local variables of other functions than
  `__init__`; attributes that every encoder must have, such as `width`;
- settings in `defaults.yaml`, which are no defaults of the class.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# the files whose classes are methods
METHOD_FILES = ("tagger.py", "method.py")
# of a method's constructor: the object of options and the head, which are no options
ARGUMENTS = {"options", "head", "given"}


@dataclass(frozen=True, order=True)
class Place:
    """Where an option is written.

    Attributes:
        path: the file, relative to the checkout.
        line: its line, counted from 1.
        kind: what is written, one of those in the module's docstring.
    """

    path: str
    line: int
    kind: str


@dataclass(frozen=True)
class _Class:
    """A class of the checkout, as written in the file `path`."""

    path: str
    node: ast.ClassDef
    tree: ast.Module

    @property
    def init(self) -> ast.FunctionDef | None:
        return next((n for n in self.node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)

    @property
    def bases(self) -> list[str]:
        return [base.id for base in self.node.bases if isinstance(base, ast.Name)]

    def is_a(self, *kinds: str) -> bool:
        """Whether its name or that of a base ends so."""
        return any(name.endswith(kinds) for name in (self.node.name, *self.bases))

    @property
    def has_options(self) -> bool:
        """Whether it is a dataclass of options."""
        return self.node.name.endswith("Options") and any(
            "dataclass" in ast.unparse(decorator) for decorator in self.node.decorator_list
        )


def option_places(root: Path) -> dict[tuple[str, str], list[Place]]:
    """Places of each option of each plugin of a checkout, by (plugin, option); inherited options are its own, too."""
    places: dict[tuple[str, str], list[Place]] = {}
    for folder in sorted(path.parent for path in (root / "plugins").glob("*/defaults.yaml")):
        for option, found in places_of_plugin(root, folder).items():
            places[folder.name, option] = found
    return places


def places_of_plugin(root: Path, folder: Path) -> dict[str, list[Place]]:
    """Places of each option of the plugin in `folder`, by option."""
    trees = {path.relative_to(root).as_posix(): ast.parse(path.read_text("utf-8")) for path in folder.rglob("*.py")}
    own = [_Class(path, node, tree) for path, tree in sorted(trees.items()) for node in _classes(tree)]
    methods = [each for each in own if each.path.endswith(METHOD_FILES) and each.is_a("Tagger", "Method")]
    encoders = [each for each in own if each not in methods and each.is_a("Encoder")]
    options = [each for each in own if each.has_options]
    shared = _bases(root, [*methods, *options])
    options += [each for each in shared if each.has_options]
    methods += [each for each in shared if not each.has_options]
    contract = {name for each in _bases(root, encoders) for name in _fields(each)}
    inherited = [{name for base in _bases(root, [each]) for name in _fields(base)} for each in options]
    names = {name for each in options for name in _fields(each)}
    names |= {name for each in methods for name in _parameters(each)} - ARGUMENTS
    encoder_names = {each.node.name for each in encoders}
    places: dict[str, list[Place]] = {}
    for name in sorted(names):
        pairs = zip(options, inherited, strict=True)
        found = {place for each, above in pairs for place in _declared(each, name, name in above)}
        for each in methods:
            found.update(_written(each, name, encoder_names, set()))
        for each in encoders:
            if not _is_part(_parameters(each).get(name)):
                found.update(_written(each, name, encoder_names, contract))
        places[name] = sorted(found)
    return places


def _classes(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def _bases(root: Path, classes: Sequence[_Class]) -> list[_Class]:
    """The base classes of `classes` that mnerkit has, and theirs; each once."""
    found: dict[tuple[str, str], _Class] = {}
    waiting = list(classes)
    while waiting:
        each = waiting.pop()
        for name in each.bases:
            base = _lookup(root, each, name)
            if base is not None and (base.path, base.node.name) not in found:
                found[base.path, base.node.name] = base
                waiting.append(base)
    own = {(each.path, each.node.name) for each in classes}
    return [each for key, each in sorted(found.items()) if key not in own]


def _lookup(root: Path, user: _Class, name: str) -> _Class | None:
    """The class that `name` means in the file of `user`: of that file, or imported from mnerkit or a plugin."""
    for own in _classes(user.tree):
        if own.name == name:
            return _Class(user.path, own, user.tree)
    for node in ast.walk(user.tree):
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
            path = _path(root, node.module or "")
            if path is None:
                return None
            tree = ast.parse(path.read_text(encoding="utf-8"))
            original = next(alias.name for alias in node.names if (alias.asname or alias.name) == name)
            anchor = _Class(path.relative_to(root).as_posix(), user.node, tree)
            return _lookup(root, anchor, original)
    return None


def _path(root: Path, module: str) -> Path | None:
    first, _, rest = module.partition(".")
    folder = {"mnerkit": root / "src" / "mnerkit", "mnerkit_plugins": root / "plugins"}.get(first)
    if folder is None:
        return None
    path = folder.joinpath(*rest.split(".")) if rest else folder
    return next((each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()), None)


def _fields(each: _Class) -> dict[str, ast.AnnAssign]:
    return {n.target.id: n for n in each.node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}


def _parameters(each: _Class) -> dict[str, ast.arg]:
    if each.init is None:
        return {}
    arguments = each.init.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return {argument.arg: argument for argument in named[1:]}  # without self


def _is_part(parameter: ast.arg | None) -> bool:
    """Whether an encoder's parameter is a tower, or what looks through one, and no option."""
    annotation = ast.unparse(parameter.annotation) if parameter is not None and parameter.annotation else ""
    return bool(re.search(r"(Tower|Sight)\b", annotation))


def _declared(each: _Class, name: str, inherited: bool) -> Iterator[Place]:
    """Places in a dataclass of options."""
    field = _fields(each).get(name)
    if field is not None and (isinstance(field.value, ast.Call) or not inherited):
        yield Place(each.path, field.lineno, "field")
    yield from _documented(each, each.node, name, "Args|Attributes")


def _written(each: _Class, name: str, encoders: set[str], contract: set[str]) -> Iterator[Place]:
    """Places in a method or encoder.

    Args:
        each: the class.
        name: the option.
        encoders: names of the plugin's encoders.
        contract: attributes that the class must have, whatever their value comes from.
    """
    yield from _documented(each, each.node, name, "Args")
    for member in each.node.body:
        if not isinstance(member, ast.FunctionDef) or member.name == "loss_weights":
            continue
        bare = member is each.init and name in _parameters(each)
        if member is each.init:
            yield from _documented(each, member, name, "Args")
            if bare:
                yield Place(each.path, _parameters(each)[name].lineno, "signature")
        records = {id(node.value) for node in ast.walk(member) if isinstance(node, ast.Assign) and _is_record(node)}
        for node in ast.walk(member):
            if id(node) in records:
                continue
            if isinstance(node, ast.Call):
                yield from _called(each, node, name, encoders, bare)
            elif isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    same = isinstance(key, ast.Constant) and key.value == name and _mentions(value, name, bare)
                    if same or (bare and isinstance(value, ast.Name) and value.id == name):
                        yield Place(each.path, value.lineno, "dict")
            elif isinstance(node, ast.Assign) and any(to not in contract for to in _copies(node, name, bare)):
                yield Place(each.path, node.lineno, "attribute")


def _is_record(node: ast.Assign) -> bool:
    """Whether something is noted for a run's metrics."""
    return ast.unparse(node.targets[0]).startswith("self.notes[")


def _called(each: _Class, call: ast.Call, name: str, encoders: set[str], bare: bool) -> Iterator[Place]:
    function = ast.unparse(call.func)
    if function == "locals" and bare:
        yield Place(each.path, call.lineno, "locals")
    for keyword in call.keywords:
        if keyword.arg != name or not _mentions(keyword.value, name, bare):
            continue
        to_base = function == "super().__init__" and isinstance(keyword.value, ast.Name)
        if function == "check":
            yield Place(each.path, keyword.value.lineno, "check")
        elif function in encoders or function == "dict" or to_base:
            yield Place(each.path, keyword.value.lineno, "keyword")


def _is_option(node: ast.AST, name: str, bare: bool) -> bool:
    """Whether an expression is the option itself: `self.x`, `o.x`, `self.options.x`, or, if `bare`, the parameter."""
    if isinstance(node, ast.Attribute) and node.attr == name:
        return ast.unparse(node.value).removeprefix("self.") in ("self", "o", "options")
    return bare and isinstance(node, ast.Name) and node.id == name


def _mentions(value: ast.expr, name: str, bare: bool) -> bool:
    return any(_is_option(node, name, bare) for node in ast.walk(value))


def _copies(node: ast.Assign, name: str, bare: bool) -> Iterator[str]:
    """Attributes of self that get the option as it is, alone or within a tuple."""
    for target in node.targets:
        pairs: Iterable[tuple[ast.expr, ast.expr]] = [(target, node.value)]
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs = zip(target.elts, node.value.elts, strict=False)
        for to, value in pairs:
            of_self = isinstance(to, ast.Attribute) and isinstance(to.value, ast.Name) and to.value.id == "self"
            if of_self and _is_option(value, name, bare):
                yield to.attr  # type: ignore[attr-defined]


def _documented(each: _Class, node: ast.ClassDef | ast.FunctionDef, name: str, heading: str) -> Iterator[Place]:
    """The entry of an option in the docstring of a class or function."""
    text = ast.get_docstring(node) or ""
    sections = re.findall(rf"^(?:{heading}):\n(.*?)(?=^\S|\Z)", text, flags=re.M | re.S)
    if re.search(rf"^ {{4}}{re.escape(name)}(?: \([^)]*\))?:", "\n".join(sections), flags=re.M):
        yield Place(each.path, node.body[0].lineno, "docstring")


def summary(places: Mapping[tuple[str, str], Sequence[Place]]) -> dict[str, float]:
    """Most and mean number of places of an option, and how many options there are."""
    counts = [len(each) for each in places.values()]
    return {"options": len(counts), "most": max(counts, default=0), "mean": round(sum(counts) / max(1, len(counts)), 2)}
