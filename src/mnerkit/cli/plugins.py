"""`mnerkit plugins [NAME] [--params] [--json]`."""

from __future__ import annotations

import argparse
import json
from typing import Any

from mnerkit import registry
from mnerkit.cli import help as pages
from mnerkit.errors import UsageError
from mnerkit.text_table import table


def main(argv: list[str]) -> int:
    """List the installed methods, or show one."""
    parser = argparse.ArgumentParser(
        "mnerkit plugins", description="The installed methods, or one of them.", allow_abbrev=False, exit_on_error=False
    )
    parser.add_argument("name", nargs="?", help="show this one: options with defaults, heads, ablations")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--params",
        action="store_true",
        help="parameters of NAME at full size, by part, with the settings of experiments/*.yaml, or of --config FILE, "
        "--ablation NAME and --model.X VALUE; no weights are read",
    )
    try:
        options, rest = parser.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from None
    if options.params:
        if not options.name:
            raise UsageError("--params counts the parameters of one method: give its name")
        from mnerkit.runs import sizes

        return sizes.main(registry.get(options.name), rest, options.json)
    if rest:
        raise UsageError(f"no option {rest[0]!r} for `mnerkit plugins`; it takes a name, --params and --json")
    if options.name:
        return _one(registry.get(options.name), options.json)
    found = registry.plugins().values()
    if options.json:
        print(json.dumps([_facts(each) for each in found], indent=2))
    else:
        print(table(["plugin", "what", "from"], [[each.name, each.summary, each.distribution] for each in found]))
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
        print(json.dumps({**_facts(plugin), "defaults": plugin.defaults}, indent=2))
        return 0
    print(f"{plugin.name}: {plugin.summary}\nclass {plugin.entry.value} of {plugin.distribution}, in {plugin.folder}\n")
    for name, overrides in plugin.ablations.items():
        print(f"  --ablation {name:<24}{json.dumps(overrides)}")
    print(pages.verb("fit", ["--plugin", plugin.name]), end="")
    return 0
