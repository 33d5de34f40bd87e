"""Which files of the checkout are pages of the site, and where a link between two of them leads there."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# files outside docs/ that are pages, too
ELSEWHERE = {
    "README.md": "README.md",  # the documentation's own first page takes its place
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "experiments/README.md": "papers/experiments.md",
    "docker/README.md": "guides/containers.md",
    **{
        f"plugins/{path.parent.name}/README.md": f"methods/{path.parent.name}.md"
        for path in ROOT.glob("plugins/*/README.md")
    },
}
_LINK = re.compile(
    r"(?P<code>^```.*?^```|`[^`\n]+`(?!\]))|(?P<image>!?)\[(?P<label>[^\]\[]*)\]\((?P<target>[^)\s]+)\)", re.M | re.S
)


def page_of(path: str) -> str | None:
    """The page that a file or folder of the checkout is; None where it is none.

    Args:
        path: from the root of the checkout, with slashes.
    """
    for name in (path, f"{path}/README.md"):
        if name in ELSEWHERE:
            return ELSEWHERE[name]
        if name.startswith("docs/"):
            return name.removeprefix("docs/")
    return None


def source_of(page: str) -> str:
    """The file of the checkout that a page was made of, or would be."""
    sources = {target: source for source, target in ELSEWHERE.items() if source != "README.md"}
    return sources.get(page, f"docs/{page}")


def relinked(markdown: str, page: str, pages: Collection[str]) -> str:
    """A page with its links as they are in the site.

    A link to a file of the checkout that is no page becomes its name: the site has no sources.

    Args:
        markdown: as it is in the checkout.
        page: its place in the site.
        pages: what there is in the site, pictures included.
    """
    source = source_of(page)

    def linked(match: re.Match[str]) -> str:
        target = match["target"]
        if match["code"] or re.match(r"[a-z]+:|#", target):
            return match[0]
        name, hash_, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), name))
        goal = page_of(path)
        if goal is None or goal not in pages:
            label = match["label"]
            return label if label.startswith("`") else f"`{path}`" if label in (path, name) else f"{label} (`{path}`)"
        way = posixpath.relpath(goal, posixpath.dirname(page) or ".")
        return f"{match['image']}[{match['label']}]({way}{hash_}{anchor})"

    return _LINK.sub(linked, markdown)
