"""The arguments of `fit`, `validate`, `test` and `predict`: flags, and dotted options of the configuration's sections.

argparse reads them as text, prints the help and is what argcomplete completes; its groups are made from the options'
classes. jsonargparse checks the values (`mnerkit.options.typed`), but only after the layers are merged. Its own
`add_class_arguments` would check them here, where `${model.lr}` is not a number yet and the method may be named in a
file that has not been read, and its help could not show the values of `defaults.yaml`. Nothing heavy is imported.
"""

from __future__ import annotations

import argparse
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from mnerkit import registry
from mnerkit.cli import VERBS
from mnerkit.cli.arguments import Parser, complete, completing, offer
from mnerkit.errors import UsageError, did_you_mean
from mnerkit.methods.heads import HEADS
from mnerkit.methods.options import TaggerOptions
from mnerkit.options import Option, declared
from mnerkit.runs.config import configuration
from mnerkit.runs.config.config_file import read_file, settings_names
from mnerkit.runs.config.configuration import SECTIONS, Configuration

HELP = ("-h", "--help")
# options of training, which have no effect on a checkpoint
TRAINING = frozenset(declared(TaggerOptions))
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
# name -> what stands for its value, if it has one, and its help
_FLAGS: dict[str, tuple[str | None, str]] = {
    "plugin": ("NAME", "the method, by name (`mnerkit plugins` lists them)"),
    "config": (
        "FILE",
        "YAML file with sections model, data, trainer, early_stopping and wandb, or the name of one that comes with "
        "mnerkit; may be given several times. What it leaves out is as in the method's defaults.yaml or, with "
        "`defaults: false` in it, as in the method's class",
    ),
    "ablation": ("NAME", "a named set of overrides of the plugin"),
    "seed": ("N", "seed of weights, data order and episodes (default: 0)"),
    "seeds": ("N", "train with each of these seeds: mean, interval, and with --baseline the difference"),
    "baseline": ("RUN", "with --seeds: a run, or runs, to compare with, paired by seed"),
    "name": ("NAME", "name of the run folder (default: digest of the configuration, and the seed)"),
    "test": (None, "look at the test split once, with the best checkpoint, when training is over"),
    "logger": ("csv|wandb", "csv (always written), or wandb besides"),
    "runs_dir": ("DIR", "where run folders lie (default: runs)"),
    "overwrite": (None, "replace what is already there"),
    "ckpt_path": ("FILE", "a checkpoint (best.ckpt of a run folder)"),
    "tower_dir": ("DIR", "folder with a frozen tower's weights, where its own name can't be reached"),
    "input": (
        "FILE",
        "JSON lines {id, words | text, images}, or a data file of posts; with images optionally, one value for each of "
        'them: captions, texts; boxes, [{"box": [x0, y0, x1, y1], "score": 0.9}, ...] each, in pixels, or with '
        '"unit": "shares" in shares of width and height, for methods that look at objects (without, these see set '
        "places of the picture); relevance, scores from 0 to 1, for methods that need them",
    ),
    "output": ("FILE", "JSON lines with entities, word and character offsets"),
    "images": ("DIR", "folder of the pictures that the input names (default: the input's folder)"),
    "support": ("FILE", "labelled posts (JSON lines with tags, or IMGID/BIO) in place of the checkpoint's support"),
}
# of flags that take several values, may be repeated or have a default: arguments of `add_argument`
_READ: dict[str, dict[str, Any]] = {
    "config": {"action": "append", "default": []},
    "runs_dir": {"default": "runs"},
    **{name: {"nargs": "+"} for name in ("seeds", "baseline", "logger")},
}
FLAGS = {
    "fit": (
        *("plugin", "config", "ablation", "seed", "seeds", "baseline", "name", "test", "logger", "runs_dir"),
        "overwrite",
    ),
    **dict.fromkeys(("validate", "test"), ("ckpt_path", "plugin", "config", "tower_dir")),
    "predict": ("ckpt_path", "input", "output", "images", "support", "plugin", "tower_dir", "overwrite"),
    # `mnerkit.cli.drawing` reads its own flags
    **dict.fromkeys(("draw adjacency", "draw attention", "draw tsne"), ()),
    "plugins NAME --params": ("config", "ablation"),
}
# the sections whose options have an effect on a verb
SECTIONS_OF = {
    "fit": SECTIONS,
    **dict.fromkeys(
        ("validate", "test", "draw adjacency", "draw attention", "draw tsne"), ("model", "data", "trainer")
    ),
    "predict": ("model",),
    "plugins NAME --params": ("model", "data"),
}


def read(verb: str, argv: Sequence[str]) -> argparse.Namespace | None:
    """Read a verb's arguments; with `--help`, print the help and return None.

    Returns:
        The flags, and as `dotted` the options of the sections by dotted name: as text, since it takes all layers to
        check them (`configuration.resolve`); None where a name stands without a value.

    Raises:
        UsageError: a flag that does not exist or lacks its value; an option without effect.
    """
    if completing():
        described(verb, argv, everything=True)
    if not {*HELP} & {*argv}:
        return parse(verb, argv)
    print(page(verb, [word for word in argv if word not in HELP]), end="")
    return None


def configuration_of(words: Sequence[str]) -> Configuration:
    """The configuration of a command `fit --plugin NAME ...`."""
    return configured(parse("fit", words[1:]))


def dotted_of(verb: str, words: Sequence[str]) -> dict[str, str | None]:
    """The options of the sections alone, for a verb that reads its own flags."""
    return dict(parse(verb, words).dotted)


def configured(options: argparse.Namespace, seed: int | None = None) -> Configuration:
    """All layers of `fit`, merged and checked; `seed` replaces that of the flag."""
    return configuration.resolve(
        options.plugin,
        files=options.config,
        ablation=options.ablation,
        dotted=options.dotted,
        seed=options.seed if seed is None else seed,
    )


def several(values: Sequence[str]) -> list[str]:
    """Items that are separated by blanks or commas, in brackets or not."""
    return [item.strip() for item in ",".join(values).strip("[]").split(",") if item.strip()]


def parser_of(verb: str) -> Parser:
    """The parser of a verb's flags."""
    parser = Parser(
        f"mnerkit {verb}",
        usage=f"mnerkit {verb} [options]",
        description=VERBS.get(verb),
        formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=6),
        allow_abbrev=False,
    )
    for name in FLAGS[verb]:
        metavar, about = _FLAGS[name]
        how: dict[str, Any] = (
            {"action": "store_true"} if metavar is None else {"metavar": metavar, **_READ.get(name, {})}
        )
        offer(parser.add_argument(f"--{name}", help=about, **how), _OFFERED.get(name))
    return parser


def page(verb: str, argv: Sequence[str]) -> str:
    """The help page; with `--plugin NAME` among the arguments it shows that method's options and head, too."""
    return described(verb, argv).format_help()


# ---------------------------------------------------------------------- reading


def parse(verb: str, argv: Sequence[str]) -> argparse.Namespace:
    """Read a verb's arguments, `--help` not among them; see `read`."""
    parser = parser_of(verb)
    words = (word[2:].partition("=")[0] for word in argv if word.startswith("--"))
    dotted = list(dict.fromkeys(word for word in words if "." in word))
    for name in dotted:
        _check_effect(verb, name)
        parser.add_argument(f"--{name}", nargs="*")
    # of words with one dash, -1e-3 is a value, too; argparse's own pattern takes -1 and -0.1 alone
    parser._negative_number_matcher = re.compile("-[^-]")
    options, rest = parser.parse_known_args(argv)
    if rest and not rest[0].startswith("-"):
        raise UsageError(f"expected an option, got {rest[0]!r}; options look like --model.lr 1e-3")
    if rest:
        wrong = rest[0].partition("=")[0]
        raise UsageError(f"no option {wrong} for `mnerkit {verb}`.{_nearest(wrong.lstrip('-'), verb)}")
    options.dotted = {name: _joined(getattr(options, name)) for name in dotted}
    return options


def _joined(values: list[str]) -> str | None:
    """One text for all values of an option, as YAML reads it."""
    return f"[{','.join(values)}]" if len(values) > 1 else values[0] if values else None


def _check_effect(verb: str, name: str) -> None:
    """Refuse an option of no section, or one that would change nothing: a checkpoint has its own training."""
    section, _, option = name.partition(".")
    if section not in SECTIONS:
        near = did_you_mean(section, SECTIONS)
        raise UsageError(f"no option --{name}.{near} Sections: --model.X, --data.X, --trainer.X")
    if section not in SECTIONS_OF[verb]:
        sections = " and ".join(f"--{section}.X" for section in SECTIONS_OF[verb])
        raise UsageError(
            f"--{name} has no effect on `mnerkit {verb}`, which takes {sections} (`mnerkit {verb} --help`)"
        )
    if verb != "fit" and section == "model" and option in TRAINING:
        raise UsageError(f"--{name} has no effect on `mnerkit {verb}`: it is an option of training")


def _nearest(name: str, verb: str) -> str:
    sections = {option: section for section, options in configuration.schema(None, None).items() for option in options}
    near = get_close_matches(name, sections, n=1, cutoff=0.6)
    return (
        did_you_mean(name, FLAGS[verb])
        or (f" Did you mean '{sections[near[0]]}.{near[0]}'?" if near else "")
        or f" Options: --{', --'.join(FLAGS[verb])}, --model.X, --data.X, --trainer.X"
    )


# ---------------------------------------------------------------------- help and completion


def described(verb: str, argv: Sequence[str], everything: bool = False) -> Parser:
    """The parser with the options of all sections, for its help or to be completed.

    Args:
        verb: whose.
        argv: what has been typed; it decides which method and head are shown.
        everything: for completion: with the Trainer's rarer options, and without an error about words that can't be
            read yet.
    """
    parser = parser_of(verb)
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
    "logger": ("csv", "wandb"),
    **dict.fromkeys(("seed", "seeds", "name"), ()),
}
