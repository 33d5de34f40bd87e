"""`mnerkit new NAME [--from PLUGIN] [--package DIR]`."""

from __future__ import annotations

import shlex
from pathlib import Path

from mnerkit import registry, scaffold
from mnerkit.cli.arguments import Parser, offer, read
from mnerkit.printable import show

_ABOUT = """Write a new plugin: a minimal method, or a fork of an installed one, which computes what that one does
until it is changed. In a checkout of mnerkit it goes into plugins/NAME and setup.cfg; with --package, into a
distribution of its own.
"""


def main(argv: list[str]) -> int:
    """Write the plugin, and print how to go on; return 0.

    Raises:
        UsageError: a name that can't be taken, an unknown plugin, or a place where something lies already.
    """
    parser = Parser("mnerkit new", description=_ABOUT, allow_abbrev=False)
    parser.add_argument("name", metavar="NAME", help="of the plugin: lower-case letters, digits and _")
    fork = parser.add_argument("--from", dest="parent", metavar="PLUGIN", help="fork this plugin (mnerkit plugins)")
    offer(fork, registry.plugins())
    parser.add_argument("--package", metavar="DIR", help="write a distribution into this folder, new or empty")
    options = read(parser, argv)
    if options.package is not None:
        folder = Path(options.package)
        scaffold.new_distribution(options.name, folder, options.parent)
        show(f"wrote plugin {options.name} into {folder}; to go on:")
        show(f"  pip install -e {shlex.quote(str(folder))}")
        show(f"  pytest {shlex.quote(str(folder))}        # the tests that every plugin passes")
    else:
        folder = scaffold.new_in_checkout(options.name, Path(), options.parent)
        show(f"wrote plugin {options.name} into {folder}, and its lines into setup.cfg; to go on:")
        show("  make install        # or: pip install -e .")
        show(f"  pytest tests/plugins/test_every_plugin.py -k Test_{options.name}")
    show(f"  mnerkit fit --plugin {options.name}")
    return 0
