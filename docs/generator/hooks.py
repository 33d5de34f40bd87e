"""MkDocs' hooks: pages that are made while the site is built, and links between files of the checkout."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))

from command_pages import command_page
from links import ELSEWHERE, ROOT, relinked
from notebook_pages import notebook_pages
from option_pages import option_page, option_pages
from paper_pages import errata, paper_pages

from mnerkit import registry

# where a page of docs/ takes in what is made: a comment of this kind
_PLACE = re.compile(r"<!-- made here: ([a-z ]+) -->")


# a drawing that takes its colours from the page, which a picture could not
_DRAWING = re.compile(r"!\[[^\]]*\]\(([^)]+\.svg)\)")


def on_config(config: MkDocsConfig) -> None:
    """Fill the places of the navigation that end in `*`."""
    config.nav = _filled(config.nav, [place for place in sorted(_made()) if place.endswith(".md")])


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that are no files below docs/."""
    for place, content in _made().items():
        files.append(File.generated(config, place, content=content))


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links of a page to pages of the site, and fill its places."""
    text = relinked(markdown, page.file.src_uri, files.src_uris)
    folder, _, name = page.file.src_uri.removesuffix(".md").rpartition("/")
    if folder == "methods":
        heading, _, rest = text.partition("\n")
        text = f"{heading}\n\n[Options of `{name}`](../reference/options/methods/{name}.md)\n{rest}"
    text = _DRAWING.sub(lambda match: _drawing(page, match[1]), text)
    return _PLACE.sub(lambda match: _PARTS[match[1]](), text)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a page that would fetch anything from elsewhere.

    Raises:
        PluginError: naming the page and what it would fetch.
    """
    foreign = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)""")
    for path in Path(config.site_dir).rglob("*.html"):
        if found := foreign.search(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path.name} would fetch {found[1]}")


@cache
def _made() -> dict[str, str | bytes]:
    """Pages and pictures by their places."""
    pages: dict[str, Any] = {page.place: option_page(page) for page in option_pages()} | paper_pages(
        ROOT / "experiments"
    )
    for source, place in ELSEWHERE.items():
        if source != "README.md":
            pages[place] = (ROOT / source).read_text(encoding="utf-8")
    return pages | notebook_pages(ROOT / "docs" / "notebooks")


def _options() -> str:
    lines = ["| class | options of |", "|---|---|"]
    for page in option_pages():
        place = page.place.removeprefix("reference/")
        lines.append(f"| `{page.options_class.__name__}` | [`{page.section}`: {page.title}]({place}) |")
    return "\n".join(lines)


def _methods() -> str:
    lines = ["| method | what |", "|---|---|"]
    for page in option_pages():
        if page.section == "model":
            lines.append(f"| [`{page.title}`](methods/{page.title}.md) | {registry.get(page.title).summary} |")
    return "\n".join(lines)


def _parity() -> str:
    compared = [page.title for page in option_pages() if page.section == "model"]
    compared = [name for name in compared if registry.get(name).released_module]
    return ", ".join(f"[`{name}`](../methods/{name}.md)" for name in compared)


_PARTS = {
    "options": _options,
    "commands": command_page,
    "methods": _methods,
    "methods with released code": _parity,
    "errata": lambda: errata(ROOT / "experiments"),
}


def _drawing(page: Page, target: str) -> str:
    path = (ROOT / "docs" / page.file.src_uri).parent / target
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    return f'<div class="drawn">{"".join(lines)}</div>'


def _filled(nav: Any, places: list[str]) -> Any:
    """The navigation with all pages of a folder where a place ends in `*`."""
    if isinstance(nav, str):
        return [place for place in places if place.startswith(nav[:-1])] if nav.endswith("*") else nav
    if isinstance(nav, dict):
        return {title: _filled(inner, places) for title, inner in nav.items()}
    items: list[Any] = []
    for item in nav:
        filled = _filled(item, places)
        items += filled if isinstance(item, str) and isinstance(filled, list) else [filled]
    return items
