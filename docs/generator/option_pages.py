"""Pages of the options: one for each class that declares some, from what it declares."""

from __future__ import annotations

import html
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnerkit import registry
from mnerkit.methods.heads import HEADS, head_options
from mnerkit.options import Option, Options, declared
from mnerkit.runs.config.configuration import head_named
from mnerkit.runs.config.options import CLASSES


@dataclass(frozen=True)
class OptionPage:
    """A page of the options of one class.

    Attributes:
        place: of the page in the site.
        title: its heading.
        options_class: what declares the options.
        section: what stands before their names on the command line.
        settings: values of the method's `defaults.yaml`, by name.
        ablations: named overrides, by section.
    """

    place: str
    title: str
    options_class: type[Options]
    section: str
    settings: Mapping[str, Any]
    ablations: Mapping[str, Mapping[str, Any]]


TITLES = {
    "data": "Data",
    "trainer": "Training",
    "early_stopping": "Stopping early",
    "wandb": "Weights & Biases",
}


def option_pages() -> list[OptionPage]:
    """A page for each method, head and section of the configuration, in the order of the navigation."""
    pages = []
    for name, plugin in registry.plugins().items():
        if not plugin.distribution.startswith("mnerkit "):
            continue
        settings = dict(head_named(dict(plugin.defaults)).get("model") or {})
        place = f"reference/options/methods/{name}.md"
        pages.append(OptionPage(place, name, plugin.options_class, "model", settings, plugin.ablations))
    for name in HEADS:
        pages.append(OptionPage(f"reference/options/heads/{name}.md", name, head_options(name), "model.head", {}, {}))
    for name, options_class in CLASSES.items():
        title = TITLES.get(name, name)
        pages.append(OptionPage(f"reference/options/sections/{name}.md", title, options_class, name, {}, {}))
    return pages


def option_page(page: OptionPage) -> str:
    """The page as Markdown: the class's own options first, then those of its bases."""
    about = (inspect.getdoc(page.options_class) or "").split("\n")[0]
    given = f"`--{page.section}.NAME VALUE`"
    if page.section == "model":
        link = f"[{page.title}](../../../methods/{page.title}.md)"
        parts = [f"# Options of {page.title}", f"{about} {given} sets an option of the method {link}."]
    elif page.section == "model.head":
        chosen = f"`--model.head {page.title}` chooses this head, for any method that tags; {given} sets an option."
        parts = [f"# Head {page.title}", chosen]
    else:
        parts = [f"# {page.title}", f"{about} {given} sets an option."]
    own = True
    options = declared(page.options_class)
    for base in page.options_class.__mro__:
        names = [name for name in inspect.get_annotations(base) if name in options]
        names = [name for name in names if _declares(page.options_class, name) is base]
        if not names:
            continue
        if not own:
            parts.append("## " + re.split(r"[.;:]", inspect.getdoc(base) or base.__name__)[0])
        parts += [_entry(page, options[name]) for name in names]
        own = False
    if page.ablations:
        parts.append("## Ablations")
        parts.append("Named sets of options, for `mnerkit fit --ablation NAME`.")
        rows = [f"| `{name}` | {_settings(given)} |" for name, given in page.ablations.items()]
        parts.append("\n".join(["| ablation | sets |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _declares(options_class: type[Options], name: str) -> type:
    """The class that first declared an option; one that only changes its default does not count."""
    return [base for base in options_class.__mro__ if name in inspect.get_annotations(base)][-1]


def _entry(page: OptionPage, option: Option) -> str:
    """One option: name and values, then its help, default and range."""
    place = f"{page.section}.{option.name}"
    facts = [f"Default: {_value(option.default)}."]
    if option.name in page.settings and page.settings[option.name] != option.default:
        facts.append(f"In `defaults.yaml`, for the probe corpus: {_value(page.settings[option.name])}.")
    if option.rule is not None:
        facts.append(f"Range: {option.rule}.")
    about = html.escape(option.help[0].upper() + option.help[1:], quote=False).rstrip(".")
    values = html.escape(option.takes)
    return f'[`--{place}`](#{place}){{ #{place} }} <span class="values">{values}</span>\n:   {about}. {" ".join(facts)}'


def _value(value: Any) -> str:
    """A value as it is written on the command line or in a file."""
    if value is None:
        return "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _settings(given: Mapping[str, Any]) -> str:
    flat = [(f"{section}.{name}", value) for section, values in given.items() for name, value in values.items()]
    return ", ".join(f"`{name}: {json.dumps(value)}`" for name, value in flat)
