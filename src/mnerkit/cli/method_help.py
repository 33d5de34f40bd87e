"""The help page of `fit`, `validate`, `test` and `predict`, and what the shell offers to complete them.

argparse prints the help and is what argcomplete completes; its groups are made from the options' classes. Nothing heavy
is imported.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mnerkit import registry
from mnerkit.cli import HELP
from mnerkit.cli.arguments import Parser, complete, completing, offer
from mnerkit.cli.method_verbs import MATMUL, SECTIONS_OF, TRAINING, parse, parser_of
from mnerkit.errors import UsageError
from mnerkit.methods.heads import HEADS
from mnerkit.options import Option
from mnerkit.printable import show
from mnerkit.runs.config import configuration
from mnerkit.runs.config.config_file import read_file, settings_names
from mnerkit.runs.run_folder import LOGGERS

# of the Trainer's own options, those that nearly everyone uses; `--trainer.X` takes all of them
TRAINER_SHOWN = (
    "max_epochs",
    "accelerator",
    "devices",
    "strategy",
    "precision",
    "gradient_clip_val",
    "accumulate_grad_batches",
    "max_time",
)
TITLES = {
    "data": "data",
    "trainer": "training (any option of Lightning's Trainer)",
    "wandb": "Weights & Biases (with --logger wandb)",
    "early_stopping": "stopping early",
}


def main(verb: str, argv: Sequence[str]) -> int:
    """Print a verb's help page or, where the shell asks for them, its completions; return 0.

    Raises:
        UsageError: on the help page, an option that does not exist.
    """
    if completing():
        described(verb, argv, everything=True)
    show(page(verb, [word for word in argv if word not in HELP]))
    return 0


def page(verb: str, argv: Sequence[str]) -> str:
    """The help page; with `--plugin NAME` among the arguments it shows that method's options and head, too."""
    return described(verb, argv).format_help().rstrip("\n")


def described(verb: str, argv: Sequence[str], everything: bool = False) -> Parser:
    """The parser with the options of all sections, for its help or to be completed.

    Args:
        verb: whose.
        argv: what has been typed; it decides which method and head are shown.
        everything: for completion: with the Trainer's rarer options, and without an error about words that can't be
            read yet.
    """
    parser = parser_of(verb)
    for action in parser._actions:
        offer(action, _OFFERED.get(action.dest))
    try:
        # an option at the end waits for the value at the cursor
        typed = argv[:-1] if everything and argv and argv[-1].startswith("-") else argv
        _describe(parser, verb, parse(verb, typed), everything)
    except UsageError:
        if not everything:
            raise
    complete(parser)
    return parser


def _describe(parser: Parser, verb: str, options: argparse.Namespace, everything: bool) -> None:
    plugin = registry.get(options.plugin) if options.plugin else None
    head = _head(plugin, options.dotted)
    schema = configuration.schema(plugin, head)
    # a checkpoint has values of its own
    given = _given(plugin, head, options.config) if plugin is not None and verb == "fit" else {}
    if plugin is None:
        installed = ", ".join(registry.plugins())
        parser.add_argument_group(
            description=f"the method's own options: `mnerkit {verb} --plugin NAME --help`; installed: {installed}"
        )
    else:
        model = {name: option for name, option in schema["model"].items() if verb == "fit" or name not in TRAINING}
        of_head = {name: option for name, option in model.items() if name == "head" or name.startswith("head.")}
        own = {name: option for name, option in model.items() if name not in of_head}
        _group(parser, f"method {plugin.name} ({plugin.summary})", "model", own, given)
        of_head.pop("head.name", None)
        _group(parser, f"head {head}", "model", of_head, given)
        if verb == "fit" and plugin.ablations:
            parser.add_argument_group(description=f"ablations: {', '.join(plugin.ablations)}")
    for section, title in TITLES.items():
        if section in SECTIONS_OF[verb]:
            shown = schema[section]
            if section == "trainer" and not everything:
                shown = {name: shown[name] for name in TRAINER_SHOWN}
            _group(parser, title, section, shown, given)


def _head(plugin: registry.Plugin | None, dotted: Mapping[str, str | None]) -> str | None:
    """The head that is shown: the one that was typed, else that of `defaults.yaml`; None of a method without one."""
    if plugin is None or not configuration.has_head(plugin):
        return None
    layer = configuration.head_named({"model": dict(plugin.defaults.get("model") or {})})
    return configuration.chosen_head([layer], dotted)


def _given(plugin: registry.Plugin, head: str | None, files: Sequence[str]) -> dict[str, Any]:
    """Values of `defaults.yaml`, unless the files turn it off; the head's options only if it names the same head."""
    if not configuration.takes_defaults([read_file(file) for file in files]):
        return {}
    content = configuration.head_named(dict(plugin.defaults))
    model = dict(content.get("model") or {})
    of_head = model.pop("head", None) or {}
    if of_head.get("name") == head:
        model |= {f"head.{name}": value for name, value in of_head.items()}
    return {**content, "model": model}


def _group(
    parser: Parser, title: str, section: str, options: Mapping[str, Option], given: Mapping[str, Mapping[str, Any]]
) -> None:
    """Add an argument for each option; its help ends with its default, of `defaults.yaml` or else of the class."""
    group, values = parser.add_argument_group(title), given.get(section) or {}
    for name, option in options.items():
        about = option.help + _default(option, values.get(name))
        action = group.add_argument(
            f"--{section}.{name}",
            metavar=option.takes,
            nargs="?" if option.is_flag else None,
            help=about.replace("%", "%%"),
        )
        offer(action, HEADS if name == "head" else _choices(option))


def _default(option: Option, given: Any) -> str:
    of_class = None if option.default is None else repr(option.default)
    if given is None or repr(given) == of_class:
        return f" (default: {of_class})" if of_class else ""
    return f" (default: {given!r}" + (f"; of the class: {of_class})" if of_class else ")")


def _choices(option: Option) -> list[str] | None:
    """Completions of an option's value; None for a text, which may be the name of a file."""
    words = [*(("true", "false") if bool in option.alternatives else ()), *option.choices]
    return words if words or str not in option.alternatives else None


def _ablations(parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
    plugin = registry.plugins().get(parsed_args.plugin)
    return plugin.ablations if plugin is not None else ()


def _configs(**given: Any) -> list[str]:
    """Files, and the names of those that come with mnerkit."""
    from argcomplete.completers import FilesCompleter

    return [*settings_names(), *FilesCompleter()(**given)]


_OFFERED: dict[str, Any] = {
    "plugin": lambda **_: registry.plugins(),
    "ablation": _ablations,
    "config": _configs,
    "logger": LOGGERS,
    MATMUL: ("highest", "high"),
    **dict.fromkeys(("seed", "seeds", "name"), ()),
}
