"""The `mnerkit ...` command lines of README, documentation and Makefile."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "Makefile", *sorted(ROOT.glob("*/README.md"))]
PAGES += [*sorted(ROOT.glob("plugins/*/README.md")), *sorted(set(ROOT.glob("docs/**/*.md")) - set(PAGES))]
# of a recipe: the folder of the commands, and what stands for words that may be left out
MAKE = re.compile(r"\$\(BIN\)/|\$\((?:EXPERIMENTS|REPRODUCE)\)|--profile \$\(PROFILE\)")


def commands(page: Path) -> list[str]:
    """The `mnerkit ...` command lines of code blocks and make recipes, continued lines joined."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    if page.suffix == ".md":
        fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.M | re.S)
        indented = re.findall(r"^ {4}(mnerkit .*|\w+=\".*\")$", text, flags=re.M)
        named = dict(re.findall(r'^(\w+)="(.*)"$', "\n".join(indented), flags=re.M))  # as a shell would
        text = "\n".join([*fenced, *indented])
        for name, value in named.items():
            text = text.replace(f"${name}", value)
    return [line.strip() for line in MAKE.sub("", text).splitlines() if line.strip().startswith("mnerkit ")]
