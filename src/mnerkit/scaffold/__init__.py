"""New plugins: a minimal method, or a fork of an installed one (`mnerkit new`). Nothing here imports torch.

A fork is its parent's folder with another package, other class names and another plugin name. Modules, attributes and
defaults stay, so it has the same weights by the same names, and computes what its parent computes. The minimal method
is a fork, too: of the folder `plain` beside this module.
"""

from __future__ import annotations

import ast
import configparser
import keyword
import re
import shutil
from bisect import insort
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from mnerkit import registry
from mnerkit.atomic_files import write_bytes, write_text
from mnerkit.errors import UsageError

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Source:
    """The plugin that a new one is made of.

    Attributes:
        name: of the plugin.
        folder: where its files lie.
        package: dotted name of the folder.
        module: dotted name of the module with its class.
        attr: the class.
        distribution: name and version of the distribution that brings it; empty for the minimal method.
        ablations: their names.
    """

    name: str
    folder: Path
    package: str
    module: str
    attr: str
    distribution: str = ""
    ablations: tuple[str, ...] = ()

    @classmethod
    def installed(cls, name: str) -> Source:
        """The plugin called `name`.

        Raises:
            UsageError: there is none, or it is a module without a folder of its own.
        """
        plugin = registry.get(name)
        module = plugin.entry.module
        package = module if plugin.module_file.name == "__init__.py" else module.rpartition(".")[0]
        if not package:
            raise UsageError(f"--from {name}: it is one module ({plugin.module_file}), not a folder; copy it by hand")
        ablations = tuple(plugin.ablations)
        return cls(name, plugin.folder, package, module, plugin.entry.attr, plugin.distribution, ablations)


PLAIN = Source("plain", _HERE / "plain", "plain_mner", "plain_mner.tagger", "PlainTagger")


def new_distribution(name: str, folder: Path, parent: str | None = None) -> None:
    """Write a plugin as a distribution of its own.

    Args:
        name: of the plugin.
        folder: where to; new or empty.
        parent: the plugin to fork; default: write a minimal method.

    Raises:
        UsageError: a name that can't be taken, an unknown parent, or a folder that holds something.
    """
    source = _source(name, parent)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"--package {folder}: it is there already; give a folder that is new or empty")
    package = f"{name}_mner"
    files = {f"{package}/{path}": content for path, content in _plugin_files(source, name, package).items()}
    brought_by = source.distribution.split(" ")[0]
    words = {
        **_words(source, name, package),
        "entry": f"{source.module.replace(source.package, package, 1)}:{_renamed(source, name, source.attr)}",
        # a fork may need what its parent needs
        "dependencies": ", ".join(f'"{each}"' for each in dict.fromkeys(["mnerkit", brought_by]) if each),
        "data": ", ".join(sorted({f'"*{Path(path).suffix}"' for path in files if not path.endswith(".py")})),
    }
    files["pyproject.toml"] = _page("pyproject.toml.txt", words)
    files["tests/test_plugin.py"] = _page("test.py.txt", words)
    with _whole(folder):
        _write(folder, files)


def new_in_checkout(name: str, root: Path, parent: str | None = None) -> Path:
    """Write a plugin into a checkout of mnerkit, below `plugins`, and its lines into `setup.cfg`; return its folder.

    Args:
        name: of the plugin.
        root: the checkout.
        parent: the plugin to fork; default: write a minimal method.

    Raises:
        UsageError: no checkout, a name that can't be taken, or an unknown parent.
    """
    source = _source(name, parent)
    if not is_checkout(root):
        raise UsageError("no checkout of mnerkit in the working folder: give --package DIR for a distribution")
    folder, package = root / "plugins" / name, f"mnerkit_plugins.{name}"
    if folder.exists():
        raise UsageError(f"{folder} is there already: choose another name")
    files = _plugin_files(source, name, package)
    inits = [Path(path).parent.parts for path in files if Path(path).name == "__init__.py"]
    module = source.module.replace(source.package, package, 1)
    setup = (root / "setup.cfg").read_text(encoding="utf-8")
    setup = _with_lines(setup, "packages", [".".join([package, *parts]) for parts in inits])
    entry = f"{name} = {module}:{_renamed(source, name, source.attr)}"
    setup = _with_lines(setup, registry.GROUP, [entry])
    with _whole(folder):
        _write(folder, files)
        write_text(root / "setup.cfg", setup)
    return folder


def is_checkout(root: Path) -> bool:
    """Whether a folder is a checkout of mnerkit."""
    parser = configparser.ConfigParser()
    try:
        parser.read(root / "setup.cfg", encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return False
    return parser.get("metadata", "name", fallback="", raw=True) == "mnerkit" and (root / "plugins").is_dir()


def _source(name: str, parent: str | None) -> Source:
    """What the plugin `name` is made of."""
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UsageError(f"{name!r} can't name a plugin: give lower-case letters, digits and _, such as my_gate")
    if taken := registry.plugins().get(name):
        raise UsageError(f"plugin {name!r} is installed already, by {taken.distribution}: choose another name")
    return PLAIN if parent is None else Source.installed(parent)


def _renamed(source: Source, name: str, kind: str) -> str:
    """The name of a class in the new plugin: HvpnetEncoder becomes MyGateEncoder, others stay."""
    stem = re.sub("(Tagger|Method)$", "", source.attr)
    title = "".join(part.capitalize() for part in name.split("_"))
    if stem and re.match(f"{stem}(?![a-z])", kind):
        return title + kind[len(stem) :]
    return f"{title}Tagger" if kind == source.attr else kind


def _plugin_files(source: Source, name: str, package: str) -> dict[str, bytes]:
    """The new plugin's files by their path in its folder."""
    own = sorted(path for path in source.folder.rglob("*") if path.is_file())
    paths = {path.relative_to(source.folder): path for path in own}
    files = {
        each.as_posix().removesuffix(".txt" if each.name.endswith(".py.txt") else ""): path.read_bytes()
        for each, path in paths.items()
        if not any(part.startswith(".") or part == "__pycache__" for part in each.parts)
    }
    code = {path: content.decode("utf-8") for path, content in files.items() if path.endswith(".py")}
    defined = {node.name for text in code.values() for node in ast.parse(text).body if isinstance(node, ast.ClassDef)}
    renames = {kind: _renamed(source, name, kind) for kind in sorted(defined | {source.attr})}
    renames = {old: new for old, new in renames.items() if old != new}
    for new in renames.values():
        if any(re.search(rf"\b{new}\b", text) for text in code.values()):
            raise UsageError(f"{name!r}: its class {new} would hide one that the code uses; choose another name")
    names = 0
    for path, text in code.items():
        text = re.sub(rf"(?<![\w.]){re.escape(source.package)}(?!\w)", package, text)
        text = re.sub(r"\b\w+\b", lambda word: renames.get(word[0], word[0]), text)
        text = re.sub(rf"(?<=lugin `){source.name}(?=`)", name, text)
        text, count = re.subn(rf"""(?m)^(\s+plugin\b[^=\n]*=\s*)(["']){source.name}\2""", rf"\g<1>\2{name}\2", text)
        names, files[path] = names + count, text.encode("utf-8")
    if names != 1:
        raise UsageError(f"--from {source.name}: its class has no line plugin = {source.name!r}; copy it by hand")
    page = "fork.md" if source.distribution else "README.md"
    return {**files, "README.md": _page(page, _words(source, name, package))}


def _words(source: Source, name: str, package: str) -> dict[str, str]:
    ablations = ", ".join(f"`{each}`" for each in source.ablations) or "none"
    words = {"name": name, "package": package, "parent": source.name, "distribution": source.distribution}
    return {**words, "ablations": ablations}


def _page(name: str, words: Mapping[str, str]) -> bytes:
    """A page of the folder `pages`, filled in."""
    return Template((_HERE / "pages" / name).read_text(encoding="utf-8")).substitute(words).encode("utf-8")


@contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """Remove a new folder again where it can't be written whole, so that the same command may be given again."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for path, content in files.items():
        write_bytes(folder / path, content)


def _with_lines(setup: str, key: str, lines: list[str]) -> str:
    """The text of a `setup.cfg` with lines added, in order, to the list of a key."""
    block = re.search(rf"(?m)^{re.escape(key)} =\n((?:[ \t]+\S.*\n)+)", setup)
    if block is None:
        raise UsageError(f"setup.cfg: no list `{key} =` to add {', '.join(lines)} to")
    rows = re.findall(".*\n", block[1])
    for line in lines:
        insort(rows, f"    {line}\n")
    return setup[: block.start(1)] + "".join(rows) + setup[block.end(1) :]
