"""The arguments of the verbs that take a configuration: flags, and dotted options of its sections.

Nothing heavy is imported: a misspelt name ends in one line at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from mnerkit.errors import UsageError, did_you_mean
from mnerkit.methods.options import MethodOptions, TaggerOptions
from mnerkit.options import declared
from mnerkit.runs.config.configuration import SECTIONS, Configuration, resolve, schema
from mnerkit.runs.config.place import Place

# options of how a method is trained; a checkpoint knows how it reads
TRAINING = (*declared(MethodOptions), *declared(TaggerOptions))


@dataclass(frozen=True)
class Flag:
    """One option of a verb outside the sections."""

    name: str
    meaning: str
    takes: str = ""
    many: bool = False


PLUGIN = Flag("plugin", "the method, by name (`mnerkit plugins` lists them)", "NAME")
CONFIG = Flag(
    "config",
    "YAML file with sections model, data, trainer, early_stopping and wandb; may be given several times. What it "
    "leaves out is as in the method's defaults.yaml or, with `defaults: false` in it, as in the method's class",
    "FILE",
    many=True,
)
CKPT = Flag("ckpt_path", "a checkpoint (best.ckpt of a run folder)", "FILE")
TOWERS = Flag("tower_dir", "folder with a frozen tower's weights, where its own name can't be reached", "DIR")
RUNS = Flag("runs_dir", "where run folders lie (default: runs)", "DIR")
OVERWRITE = Flag("overwrite", "replace what is already there")
FLAGS: dict[str, tuple[Flag, ...]] = {
    "fit": (
        PLUGIN,
        CONFIG,
        Flag("ablation", "a named set of overrides of the plugin", "NAME"),
        Flag("seed", "seed of weights, data order and episodes (default: 0)", "N"),
        Flag("seeds", "train with each of these seeds: mean, interval, and with --baseline the difference", "N..."),
        Flag("baseline", "with --seeds: a run, or runs, to compare with, paired by seed", "RUN"),
        Flag("name", "name of the run folder (default: digest of the configuration, and the seed)", "NAME"),
        Flag("test", "look at the test split once, with the best checkpoint, when training is over"),
        Flag("logger", "csv (always written), or wandb besides", "csv|wandb"),
        RUNS,
        OVERWRITE,
    ),
    "validate": (CKPT, PLUGIN, CONFIG, TOWERS),
    "test": (CKPT, PLUGIN, CONFIG, TOWERS),
    "predict": (
        CKPT,
        Flag(
            "input",
            "JSON lines {id, words | text, images}, or a data file of posts; with images optionally, one value for "
            'each of them: captions, texts; boxes, [{"box": [x0, y0, x1, y1], "score": 0.9}, ...] each, in pixels, or '
            'with "unit": "shares" in shares of width and height, for methods that look at objects (without, these see '
            "set places of the picture); relevance, scores from 0 to 1, for methods that need them",
            "FILE",
        ),
        Flag("output", "JSON lines with entities, word and character offsets", "FILE"),
        Flag("images", "folder of the pictures that the input names (default: the input's folder)", "DIR"),
        Flag(
            "support",
            "labelled posts (JSON lines with tags, or IMGID/BIO) in place of the checkpoint's support",
            "FILE",
        ),
        PLUGIN,
        TOWERS,
        OVERWRITE,
    ),
    # its own options are read by `mnerkit.cli.drawing`
    **dict.fromkeys(("draw adjacency", "draw attention", "draw tsne"), ()),
    "plugins NAME --params": (CONFIG, Flag("ablation", "a named set of overrides of the plugin", "NAME")),
}


# the sections that have a say in what a verb does
TAKES = {
    "fit": SECTIONS,
    "validate": ("model", "data", "trainer"),
    "test": ("model", "data", "trainer"),
    "predict": ("model",),
    **dict.fromkeys(("draw adjacency", "draw attention", "draw tsne"), ("model", "data", "trainer")),
    "plugins NAME --params": ("model", "data"),
}


@dataclass
class Request:
    """What the user asked for: a verb, its flags, and dotted options as they were typed."""

    verb: str
    flags: dict[str, Any] = field(default_factory=dict)
    dotted: dict[str, str | None] = field(default_factory=dict)

    def configuration(self, base: dict[str, Any] | None = None, seed: int | None = None) -> Configuration:
        """All layers merged and checked; `base` is a checkpoint's configuration, `seed` one in place of the flag's."""
        return resolve(
            self.flags.get("plugin"),
            files=self.flags.get("config", []),
            ablation=self.flags.get("ablation"),
            dotted=self.dotted,
            seed=self.flags.get("seed") if seed is None else seed,
            base=base,
        )


def parse(verb: str, argv: Sequence[str]) -> Request:
    """Read a verb's arguments; options of the sections are checked by `Request.configuration`.

    Raises:
        UsageError: a flag that does not exist, lacks its value, or has none to take; an option without effect.
    """
    flags = {flag.name: flag for flag in FLAGS[verb]}
    request = Request(verb)
    for name, value in pairs(argv):
        if "." in name:
            if name.partition(".")[0] not in SECTIONS:
                near = did_you_mean(name.partition(".")[0], SECTIONS)
                raise UsageError(f"no option --{name}.{near} Sections: --model.X, --data.X, --trainer.X")
            _refuse_idle(verb, name)
            request.dotted[name] = value
        elif name not in flags:
            raise UsageError(f"no option --{name} for `mnerkit {verb}`.{_near(name, flags)}")
        elif flags[name].takes and value is None:
            raise UsageError(f"--{name} needs a value: {flags[name].takes} ({flags[name].meaning})")
        elif flags[name].many:
            request.flags.setdefault(name, []).append(value)
        else:
            request.flags[name] = True if not flags[name].takes else value
            if not flags[name].takes and value is not None:
                raise UsageError(f"--{name} takes no value, got {value!r}")
    return request


def items(value: str) -> list[str]:
    """The values of an option that takes several, as `pairs` joins them."""
    return [each.strip() for each in value.strip("[]").split(",") if each.strip()]


def configuration_of(command: Sequence[str]) -> Configuration:
    """What a command (`fit --plugin NAME ...`) trains."""
    return parse("fit", command[1:]).configuration()


def place_of(request: Request) -> Place:
    """Where a request to fit keeps its run, and what it does besides."""
    names = ("name", "runs_dir", "overwrite", "test", "logger")
    return Place(**{name: request.flags[name] for name in names if name in request.flags})


def _refuse_idle(verb: str, name: str) -> None:
    """Refuse an option that would change nothing: what is trained, or the data, of a verb that has its own."""
    section, _, option = name.partition(".")
    takes = TAKES[verb]
    if section not in takes:
        sections = " and ".join(f"--{each}.X" for each in takes)
        raise UsageError(
            f"--{name} has no effect on `mnerkit {verb}`, which takes {sections} (`mnerkit {verb} --help`)"
        )
    if verb != "fit" and section == "model" and option in TRAINING:
        raise UsageError(f"--{name} has no effect on `mnerkit {verb}`: it is an option of training")


def _near(name: str, flags: Mapping[str, Flag]) -> str:
    sections = {option: section for section, options in schema(None, None).items() for option in options}
    meant = get_close_matches(name, sections, n=1, cutoff=0.6)
    return (
        did_you_mean(name, flags)
        or (f" Did you mean '{sections[meant[0]]}.{meant[0]}'?" if meant else "")
        or f" Options: --{', --'.join(flags)}, --model.X, --data.X, --trainer.X"
    )


def pairs(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """(name, value) of each option; a value is what follows up to the next option, several are joined as a list."""
    position = 0
    while position < len(argv):
        word = argv[position]
        if not word.startswith("--") or len(word) == 2:
            raise UsageError(f"expected an option, got {word!r}; options look like --model.lr 1e-3")
        name, equals, value = word[2:].partition("=")
        position += 1
        values = [value] if equals else []
        while not equals and position < len(argv) and not argv[position].startswith("--"):
            values.append(argv[position])
            position += 1
        if len(values) > 1:
            yield name, "[" + ",".join(values) + "]"
        else:
            yield name, values[0] if values else None
