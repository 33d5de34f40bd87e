"""Methods by name: the entry points of group `mnerkit.plugins`. Nothing here imports torch.

An entry point names a `mnerkit.methods.method.Method` class, nearly always a `Tagger`
(`mousing = mnerkit_plugins.mousing.tagger:MousingTagger`);
`defaults.yaml` and `README.md` lie beside its module.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from mnerkit.errors import MnerkitError, UsageError, did_you_mean, shown
from mnerkit.options import Options

GROUP = "mnerkit.plugins"


class BrokenPluginError(MnerkitError):
    """An installed plugin that can't be loaded."""


@dataclass(frozen=True)
class Plugin:
    """One installed method, not yet imported."""

    name: str
    entry: EntryPoint

    @property
    def distribution(self) -> str:
        """Name and version of the distribution that brings it."""
        return f"{self.entry.dist.name} {self.entry.dist.version}" if self.entry.dist else "unknown"

    @cached_property
    def module_file(self) -> Path:
        """File of the module that the entry point names."""
        try:
            spec = importlib.util.find_spec(self.entry.module)
        except ImportError as error:
            raise BrokenPluginError(f"plugin {self.name!r} of {self.distribution}: {error}") from None
        if spec is None or spec.origin is None:
            raise BrokenPluginError(f"plugin {self.name!r} of {self.distribution}: no module {self.entry.module}")
        return Path(spec.origin)

    @property
    def folder(self) -> Path:
        """Folder of the plugin."""
        return self.module_file.parent

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """`defaults.yaml`: sections `model`, `data`, `trainer`, and `ablations` (name -> overrides)."""
        import yaml

        path = self.folder / "defaults.yaml"
        if not path.is_file():
            return {}
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise BrokenPluginError(f"plugin {self.name!r}: {path}: {error}".split("\n")[0]) from None
        if not isinstance(content, dict):
            raise BrokenPluginError(f"plugin {self.name!r}: {path} is not a mapping of options")
        return content

    @property
    def ablations(self) -> dict[str, dict[str, Any]]:
        """Named sets of overrides."""
        return self.defaults.get("ablations") or {}

    @cached_property
    def summary(self) -> str:
        """First line of the docstring of its class, read without importing it; what is wrong with a broken plugin."""
        try:
            tree = ast.parse(self.module_file.read_text(encoding="utf-8"))
        except (BrokenPluginError, SyntaxError, OSError) as error:
            return f"broken: {error}"
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and node.name == self.entry.attr:
                return (ast.get_docstring(node) or "").split("\n")[0]
        return ""

    @cached_property
    def options_class(self) -> type[Options]:
        """The class that declares the method's options: that of the module `options` beside the one it is made in.

        A plugin without such a module is imported as a whole, for the `options_class` of its class.
        """
        package = self.entry.module.rpartition(".")[0]
        module = f"{package}.options"
        try:
            there = bool(package) and importlib.util.find_spec(module) is not None
            content = vars(importlib.import_module(module)) if there else {}
        except ImportError as error:
            raise BrokenPluginError(f"plugin {self.name!r} of {self.distribution} can't be loaded: {error}") from error
        classes = [each for each in content.values() if isinstance(each, type) and each.__module__ == module]
        classes = [each for each in classes if issubclass(each, Options) and each.section == "model"]
        return classes[-1] if classes else self.load().options_class

    @property
    def released_module(self) -> str | None:
        """Name of the module with the table of weights that its authors released; None where it has none."""
        package = self.entry.module.rpartition(".")[0]
        try:
            there = bool(package) and importlib.util.find_spec(f"{package}.released") is not None
        except ImportError:
            there = False
        return f"{package}.released" if there else None

    def load(self) -> type[Any]:
        """Import the class; every failure names the plugin and its distribution."""
        try:
            return self.entry.load()
        except (ImportError, AttributeError) as error:
            raise BrokenPluginError(f"plugin {self.name!r} of {self.distribution} can't be loaded: {error}") from error


def plugins() -> dict[str, Plugin]:
    """All installed plugins by name; of two with one name the first on the path wins."""
    return dict(_on_path(tuple(sys.path)))


@cache
def _on_path(path: tuple[str, ...]) -> dict[str, Plugin]:
    """Plugins of the distributions on a path; reading what these declare takes milliseconds each time."""
    plugins_by_name: dict[str, Plugin] = {}
    for entry in entry_points(group=GROUP):
        plugins_by_name.setdefault(entry.name, Plugin(entry.name, entry))
    return dict(sorted(plugins_by_name.items()))


def get(name: str) -> Plugin:
    """The plugin called `name`.

    Raises:
        UsageError: there is none, with the nearest name and the list of what is installed.
    """
    installed = plugins()
    if name not in installed:
        have = ", ".join(installed) or "none"
        raise UsageError(f"no plugin {shown(name)!r}.{did_you_mean(name, installed)} Installed: {have}")
    return installed[name]
