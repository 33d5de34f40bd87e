"""`mnerkit plugins [NAME] [--params] [--json]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnerkit import registry
from mnerkit.cli import method_help, method_verbs
from mnerkit.cli.arguments import Parser, complete, offer
from mnerkit.errors import DataError, UsageError
from mnerkit.plain_yaml import read_yaml
from mnerkit.printable import json_text, show
from mnerkit.runs.config.config_file import default
from mnerkit.runs.config.configuration import resolve
from mnerkit.text_table import table


def main(argv: list[str]) -> int:
    """List the installed methods, or show one."""
    parser = Parser("mnerkit plugins", description="The installed methods, or one of them.", allow_abbrev=False)
    name = parser.add_argument("name", nargs="?", help="show this one: options with defaults, heads, ablations")
    offer(name, registry.plugins())
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--params",
        action="store_true",
        help="parameters of NAME at full size, by part, with the settings of experiments/*.yaml, or of --config FILE, "
        "--ablation NAME and --model.X VALUE; no weights are read",
    )
    complete(parser)
    options, rest = parser.parse_known_args(argv)
    if options.params:
        if not options.name:
            raise UsageError("--params counts the parameters of one method: give its name")
        return _sizes(registry.get(options.name), rest, options.json)
    if rest:
        raise UsageError(f"no option {rest[0]!r} for `mnerkit plugins`; it takes a name, --params and --json")
    if options.name:
        return _one(registry.get(options.name), options.json)
    installed = registry.plugins().values()
    if options.json:
        show(json_text([_facts(plugin) for plugin in installed], 2))
    else:
        rows = [[plugin.name, plugin.summary, plugin.distribution] for plugin in installed]
        show(table(["plugin", "what", "from"], rows))
    return 0


def _facts(plugin: registry.Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "summary": plugin.summary,
        "class": plugin.entry.value,
        "distribution": plugin.distribution,
        "folder": str(plugin.folder),
        "ablations": sorted(plugin.ablations),
    }


def _one(plugin: registry.Plugin, as_json: bool) -> int:
    if as_json:
        show(json_text({**_facts(plugin), "defaults": plugin.defaults}, 2))
        return 0
    show(f"{plugin.name}: {plugin.summary}\nclass {plugin.entry.value} of {plugin.distribution}, in {plugin.folder}\n")
    for name, overrides in plugin.ablations.items():
        show(f"  --ablation {name:<24}{json_text(overrides)}")
    show(method_help.page("fit", ["--plugin", plugin.name]))
    return 0


def _sizes(plugin: registry.Plugin, argv: Sequence[str], as_json: bool) -> int:
    """Build the method without weights, count, and print.

    Raises:
        UsageError: an option that does not exist.
        TowerError: a tower of the hub that `ARCHITECTURES` lacks, and the hub is out of reach.
    """
    from mnerkit.runs.reporting import quiet

    quiet()
    from mnerkit.methods.parameter_counts import count

    options = method_verbs.parse("plugins NAME --params", argv)
    files = options.config or [str(path) for path in _experiments(plugin)[:1]]
    config = resolve(plugin.name, files=files, ablation=options.ablation, dotted=options.dotted).content
    parts, types = count(config)
    total, trainable = sum(part.parameters for part in parts), sum(part.trainable for part in parts)
    settings = ", ".join(files) or "its defaults (no file in experiments/ names it; --config FILE does)"
    if as_json:
        counts = {"plugin": plugin.name, "settings": files, "types": types, "parts": [asdict(part) for part in parts]}
        show(json_text({**counts, "parameters": total, "trainable": trainable}, 2))
        return 0
    show(f"{plugin.name}, settings: {settings}; head of {types} types; towers without their weights\n")
    rows = [[part.part, part.about, f"{part.parameters:>13,}", f"{part.trainable:>13,}"] for part in parts]
    rows.append(["all", "", f"{total:>13,}", f"{trainable:>13,}"])
    show(table(["part", "what", "   parameters", "    trainable"], rows))
    return 0


def _experiments(plugin: registry.Plugin) -> list[Path]:
    """Files of settings in `experiments/`, of the working folder or as they are installed."""
    folders = dict.fromkeys((Path("experiments"), default()))
    by_folder = ([path for path in sorted(folder.glob("*.yaml")) if _names(path, plugin)] for folder in folders)
    return next(filter(None, by_folder), [])


def _names(path: Path, plugin: registry.Plugin) -> bool:
    """Whether a file of settings is for a plugin; one that can't be read is for none."""
    try:
        return bool(read_yaml(path).get("plugin") == plugin.name)
    except DataError:
        return False
