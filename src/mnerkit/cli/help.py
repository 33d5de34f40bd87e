"""Help pages, written from the options' classes: they appear at once and can't go out of date."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from mnerkit import registry
from mnerkit.cli import VERBS
from mnerkit.methods.heads import HEADS
from mnerkit.options import Option
from mnerkit.runs.config import configuration, requests
from mnerkit.runs.config.config_file import read_file
from mnerkit.runs.config.experiment_folder import settings_file

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


def verb(name: str, argv: Sequence[str]) -> str:
    """The page of a training verb; with `--plugin NAME` it shows that method's options and head, too."""
    lines = [f"usage: mnerkit {name} [options]", "", VERBS[name], ""]
    lines += [
        "options:",
        *(_line(f"--{flag.name} {flag.takes}".strip(), flag.meaning) for flag in requests.FLAGS[name]),
    ]
    plugin, head = _asked(argv)
    schema = configuration.schema(plugin, head)
    # a checkpoint has its own
    given = _given(plugin, head) if plugin is not None and name == "fit" and _takes_defaults(argv) else {}
    if name != "predict":
        if plugin is not None:
            lines += [
                "",
                f"method {plugin.name} ({plugin.summary}):",
                *_section("model", schema["model"], given, "head"),
            ]
            if head is not None:
                lines += [
                    "",
                    f"head {head} (others: {', '.join(each for each in HEADS if each != head)}):",
                    _line("--model.head NAME", "which head"),
                ]
                of_head = {k: v for k, v in schema["model"].items() if k.startswith("head.") and k != "head.name"}
                lines += _section("model", of_head, given)
            if plugin.ablations:
                lines += ["", f"ablations: {', '.join(plugin.ablations)}"]
        else:
            lines += [
                "",
                "the method's own options: `mnerkit fit --plugin NAME --help`; installed: "
                + ", ".join(registry.plugins()),
            ]
        lines += ["", "data:", *_section("data", schema["data"], given)]
        trainer = {key: schema["trainer"][key] for key in TRAINER_SHOWN if key in schema["trainer"]}
        lines += ["", "training (any option of Lightning's Trainer):", *_section("trainer", trainer, given)]
        if name == "fit":
            lines += ["", "Weights & Biases (with --logger wandb):", *_section("wandb", schema["wandb"], given)]
            lines += ["", "stopping early:", *_section("early_stopping", schema["early_stopping"], given)]
    return "\n".join(lines) + "\n"


def _takes_defaults(argv: Sequence[str]) -> bool:
    """Whether the files of `--config` in a command leave a method's `defaults.yaml` in force."""
    files = [value for name, value in requests.pairs(argv) if name == "config" and value]
    return configuration.takes_defaults([read_file(settings_file(each)) for each in files])


def _asked(argv: Sequence[str]) -> tuple[registry.Plugin | None, str | None]:
    flags = dict(requests.pairs(argv))
    if not flags.get("plugin"):
        return None, None
    plugin = registry.get(str(flags["plugin"]))
    if not configuration.has_head(plugin):
        return plugin, None
    layer = configuration.head_named({"model": dict(plugin.defaults.get("model") or {})})
    overrides = {key: value for key, value in flags.items() if key.startswith("model.head")}
    return plugin, configuration.chosen_head([layer], overrides)


def _given(plugin: registry.Plugin, head: str | None) -> dict[str, Any]:
    """What `defaults.yaml` says, of the head only where it is that one."""
    found = configuration.head_named(dict(plugin.defaults))
    model = dict(found.get("model") or {})
    if (model.get("head") or {}).get("name") != head:
        model.pop("head", None)
    return {**found, "model": model}


def _section(name: str, content: Mapping[str, Option], given: Mapping[str, Any], skip: str = "\0") -> list[str]:
    """A line an option, with the value that holds where nobody says more: of `defaults.yaml`, else of the class."""
    here = dict(given.get(name) or {})
    here |= {f"head.{key}": value for key, value in (here.pop("head", None) or {}).items()}
    lines = []
    for key, option in content.items():
        if key == skip or key.startswith(f"{skip}."):
            continue
        lines.append(_line(f"--{name}.{key} {option.takes}".strip(), option.help + _default(option, here.get(key))))
    return lines


def _default(option: Option, given: Any) -> str:
    of_class = None if option.default is None else repr(option.default)
    if given is None or repr(given) == of_class:
        return f" (default: {of_class})" if of_class else ""
    return f" (default: {given!r}" + (f"; of the class: {of_class})" if of_class else ")")


def _line(left: str, right: str) -> str:
    wrapped = textwrap.wrap(right, 78) or [""]
    gap = "\n" + " " * 6
    return f"  {left}{gap}{gap.join(wrapped)}" if right else f"  {left}"
