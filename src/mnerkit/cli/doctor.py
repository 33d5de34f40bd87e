"""`mnerkit doctor`: versions, devices, extras, data, caches, and what is missing for what."""

from __future__ import annotations

from dataclasses import asdict

from mnerkit.cli.arguments import Parser, read
from mnerkit.printable import json_text, show
from mnerkit.text_table import table

_ABOUT = """Look at the installation: packages and extras, plugins, devices, corpora, and folders that are written to.
Nothing is changed or downloaded. Exit code 1 where something is wrong; what is absent is optional."""


def main(argv: list[str]) -> int:
    """Print what was found; return 1 where something is wrong.

    Raises:
        UsageError: an option that does not exist.
    """
    parser = Parser("mnerkit doctor", description=_ABOUT, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = read(parser, argv)
    from mnerkit.runs.installation import findings

    things = findings()
    wrong = [each for each in things if each.state == "wrong"]
    if options.json:
        show(json_text([asdict(each) for each in things], 2))
    else:
        rows = [[each.part, each.name, each.state, each.detail] for each in things]
        show(table(["part", "what", "state", "detail"], rows))
        show("", *(f"{each.name}: {each.remedy}" for each in things if each.remedy))
        show(f"{len(wrong)} wrong: {', '.join(each.name for each in wrong)}" if wrong else "nothing is wrong")
    return 1 if wrong else 0
