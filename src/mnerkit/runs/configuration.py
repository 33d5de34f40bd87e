"""From the command line to one configuration, before anything heavy is imported.

Layers, later ones win: the plugin's `defaults.yaml`, unless a file says `defaults: false`, an ablation that a file
names, each `--config FILE`, the overrides of `--ablation`, then dotted options (`--model.lr 1e-3`). Interpolations
(`${model.lr}`) are resolved last, so they see every override. Every name is checked against the constructors' source,
so that a misspelt one ends in one line at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mnerkit import registry
from mnerkit.errors import UsageError, did_you_mean
from mnerkit.methods.heads import HEADS
from mnerkit.runs.run_folder import deciding
from mnerkit.runs.signature import Option, class_options

TRAINER = ("lightning.pytorch.trainer.trainer", "Trainer")
DATA = ("mnerkit.data.datamodule", "MnerData")
# set by mnerkit itself: the run folder, the loggers and the callbacks are its own
MANAGED = {"logger", "callbacks", "default_root_dir", "enable_checkpointing", "use_distributed_sampler", "plugins"}
SECTIONS = ("model", "data", "trainer", "early_stopping", "wandb")
# what a method's defaults say of these holds for the corpus that they name, and for no other one
OF_CORPUS = ("variant", "captions", "boxes", "relevance", "train_types", "test_types", "episode_file", "episode_digest")
# a checkpoint's types stay what they were, whatever corpus it is scored on
OF_RELEASE = ("variant", "captions", "boxes", "relevance", "episode_file", "episode_digest")
# options of `Method` and `Tagger`, which say how it is trained; a checkpoint knows how it reads
TRAINING = ("lr", "tower_lr", "head_lr", "weight_decay", "schedule", "warmup", "word_pieces")
WANDB = {
    "project": Option("project", "str", "'mnerkit'", "project of the run"),
    "entity": Option("entity", "str | None", "None", "user or team"),
    "group": Option("group", "str | None", "None", "group of the run, for instance an experiment"),
    "job_type": Option("job_type", "str | None", "None", "kind of run within its group, for instance a variant"),
    "tags": Option("tags", "list[str] | None", "None", "tags of the run (default: plugin, corpus)"),
    "cells": Option("cells", "dict | None", "None", "cells of tables that the run fills, as `reproduce` notes them"),
    "mode": Option("mode", "Literal['online', 'offline']", "'online'", "offline: write files for `wandb sync`"),
}
EARLY_STOPPING = {"patience": Option("patience", "int", "None", "stop after so many epochs without a better dev F1")}


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
    # its own options are read by `mnerkit.cli.draw`
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
    """What the user asked for: a verb, its flags, and the merged configuration."""

    verb: str
    flags: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """The seed."""
        return int(self.config.get("seed", 0))


def parse(verb: str, argv: Sequence[str]) -> Request:
    """Read a verb's arguments into flags and dotted overrides; spelling of sections is checked by `resolve`."""
    flags = {flag.name: flag for flag in FLAGS[verb]}
    request = Request(verb)
    for name, value in pairs(argv):
        if "." in name:
            if name.partition(".")[0] not in SECTIONS:
                near = did_you_mean(name.partition(".")[0], SECTIONS)
                raise UsageError(f"no option --{name}.{near} Sections: --model.X, --data.X, --trainer.X")
            _refuse_idle(verb, name)
            request.overrides[name] = value
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


def _refuse_idle(verb: str, name: str) -> None:
    """Refuse an option that would change nothing: what is trained, or the data, of a verb that has its own."""
    section, _, option = name.partition(".")
    takes = TAKES[verb]
    if section not in takes:
        kept = " and ".join(f"--{each}.X" for each in takes)
        raise UsageError(f"--{name} has no effect on `mnerkit {verb}`, which takes {kept} (`mnerkit {verb} --help`)")
    if verb != "fit" and section == "model" and option in TRAINING:
        raise UsageError(f"--{name} has no effect on `mnerkit {verb}`: it is an option of training")


def _near(name: str, flags: Mapping[str, Flag]) -> str:
    sections = {option: section for section, options in known_options(None, None).items() for option in options}
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


def resolve(request: Request, base: dict[str, Any] | None = None) -> Request:
    """Merge all layers, check every name, resolve interpolations; `base` is a checkpoint's configuration."""
    files = [_read_config(Path(path)) for path in request.flags.get("config", [])]
    named = request.flags.get("plugin") or next((each["plugin"] for each in reversed(files) if "plugin" in each), None)
    if base is not None:
        if named and named != base["plugin"]:
            raise UsageError(
                f"the checkpoint was written by plugin {base['plugin']!r}, not {named!r}; leave --plugin out"
            )
        named = base["plugin"]
    if not named:
        raise UsageError(f"which method? give --plugin NAME; installed: {', '.join(registry.plugins())}")
    plugin = registry.get(named)
    layers = [head_named(layer) for layer in _layers(request, plugin, files, base)]
    schema = known_options(plugin, chosen_head(layers, request.overrides) if has_head(plugin) else None)
    config = _merged(layers, request, schema, OF_CORPUS if base is None else OF_RELEASE)
    config |= {"plugin": named, "seed": _seed(config.get("seed", 0))}
    _check_names(config, schema)
    _note_episode_files(config, (base or {}).get("data") or {})
    request.config = config
    return request


def _note_episode_files(config: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Put the digest of the episode files into the configuration: their content is a part of what a run is.

    A digest that stands there is kept (and checked when the files are read), unless it belongs to the files of the
    checkpoint and other ones were named.
    """
    data = config["data"]
    files, digest = data.get("episode_file"), data.get("episode_digest")
    if not files or (digest and (digest != before.get("episode_digest") or files == before.get("episode_file"))):
        return
    from mnerkit.data.episodes.episode_file import digests_of

    data["episode_digest"] = digests_of(files)


def _layers(
    request: Request, plugin: registry.Plugin, files: Sequence[dict[str, Any]], base: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """All that lies below dotted options.

    A checkpoint's configuration or the plugin's defaults, the user's files, and an ablation: above the files where it
    is asked for on the command line, since it was said last; below them where one of them names it, since that file
    may say more.
    """
    if base is not None:
        return [dict(base), *files]
    taken = _takes_defaults(files)
    defaults = {key: value for key, value in plugin.defaults.items() if taken and key != "ablations"}
    in_files = next((each["ablation"] for each in reversed(files) if each.get("ablation")), None)
    asked = request.flags.get("ablation")
    ablation = [*_ablation(plugin, asked or in_files)]
    return [defaults, *files, *ablation] if asked else [defaults, *ablation, *files]


def takes_defaults(argv: Sequence[str]) -> bool:
    """Whether the files of `--config` in a command leave a method's `defaults.yaml` in force."""
    return _takes_defaults([_read_config(Path(value)) for name, value in pairs(argv) if name == "config" and value])


def _takes_defaults(files: Sequence[Mapping[str, Any]]) -> bool:
    wanted = next((each["defaults"] for each in reversed(files) if "defaults" in each), True)
    if not isinstance(wanted, bool):
        raise UsageError(
            f"defaults: {wanted!r} in a --config; true takes the method's defaults.yaml, false its class's"
        )
    return wanted


def _ablation(plugin: registry.Plugin, name: str | None) -> Iterator[dict[str, Any]]:
    if not name:
        return
    if name not in plugin.ablations:
        near, have = did_you_mean(name, plugin.ablations), ", ".join(plugin.ablations) or "none"
        raise UsageError(f"plugin {plugin.name!r} has no ablation {name!r}.{near} It has: {have}")
    yield plugin.ablations[name]
    yield {"ablation": name}


def _merged(
    layers: Sequence[dict[str, Any]],
    request: Request,
    schema: Mapping[str, Mapping[str, Option]],
    of_corpus: Sequence[str],
) -> dict[str, Any]:
    """Layers, then dotted options, then interpolations; another corpus drops what was said `of_corpus` before."""
    # here: a misspelt plugin is answered before this is imported
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    merged: Any = OmegaConf.create({"model": {}, "data": {}})

    def choose_corpus(name: str | None) -> None:
        if name is not None and name != (merged.data.get("corpus") or "probe"):
            for option in of_corpus:
                merged.data.pop(option, None)

    try:
        before = None
        for layer in layers:
            choose_corpus((layer.get("data") or {}).get("corpus"))
            here = (layer.get("model") or {}).get("head", {}).get("name")
            if here and before and here != before:
                merged.model.head = {}  # another head: options of the one before do not apply
            before = here or before
            merged = OmegaConf.merge(merged, OmegaConf.create(layer))
        choose_corpus(request.overrides.get("data.corpus"))
        # first, wherever it stands: options of the head are those of this one
        if "model.head" in request.overrides:
            _value("model.head", head := request.overrides["model.head"], schema)  # it has one
            if head != before:
                merged.model.head = {"name": head}
        for name, value in request.overrides.items():
            if name != "model.head":
                merged = OmegaConf.merge(merged, OmegaConf.from_dotlist([f"{name}={_value(name, value, schema)}"]))
        if "seed" in request.flags:
            merged.seed = request.flags["seed"]
        content: Any = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError) as error:
        raise UsageError(f"configuration: {str(error).splitlines()[0]}") from None
    return dict(content)


def _seed(value: Any) -> int:
    try:
        seed = int(value)
    except (TypeError, ValueError):
        raise UsageError(f"--seed must be a whole number, got {value!r}") from None
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed must lie between 0 and 2**32 - 1, got {seed}")
    return seed


def head_named(layer: dict[str, Any]) -> dict[str, Any]:
    """`head: crf` is short for `head: {name: crf}`."""
    model = layer.get("model")
    if isinstance(model, dict) and isinstance(model.get("head"), str):
        return {**layer, "model": {**model, "head": {"name": model["head"]}}}
    return layer


def chosen_head(layers: Sequence[dict[str, Any]], overrides: Mapping[str, Any]) -> str:
    """Name of the head that the last layer or a dotted option asks for; `crf` where none does.

    Raises:
        UsageError: there is no such head.
    """
    named = [(layer.get("model") or {}).get("head", {}).get("name") for layer in layers]
    head = (
        overrides.get("model.head")
        or overrides.get("model.head.name")
        or next((n for n in reversed(named) if n), "crf")
    )
    if head not in HEADS:
        raise UsageError(f"no head {head!r}.{did_you_mean(str(head), HEADS)} Heads: {', '.join(HEADS)}")
    return str(head)


def _value(name: str, value: Any, schema: Mapping[str, Mapping[str, Option]]) -> str:
    section, _, option = name.partition(".")
    known = schema.get(section, {}).get(option)
    if value is None:
        if known and not known.is_flag:
            raise UsageError(f"--{name} needs a value ({known.description or known.annotation})")
        return "true"
    text = str(value)
    if known and known.annotation in ("str", "str | None") and text != "null":
        return json.dumps(text)  # as it is: YAML would read `2017` as a number and stumble over `a: b`
    if known and not text.startswith("[") and (known.is_only_list or (known.is_list and "," in text)):
        return "[" + text + "]"
    return text


def has_head(plugin: registry.Plugin) -> bool:
    """Whether a method takes a head: those that tag words do."""
    return "head" in class_options(plugin.entry.module, plugin.entry.attr)


def known_options(plugin: registry.Plugin | None, head: str | None) -> dict[str, dict[str, Option]]:
    """Section -> option -> what its constructor says; the head's options are named `head.X`."""
    model: dict[str, Option] = {}
    if plugin is not None:
        model = dict(class_options(plugin.entry.module, plugin.entry.attr))
        if model.pop("head", None) is not None:
            model["head"] = model["head.name"] = Option("head", "str", None, f"one of {', '.join(HEADS)}")
    if head is not None:
        module, _, name = HEADS[head].partition(":")
        model |= {f"head.{key}": option for key, option in class_options(module, name).items()}
    trainer = {key: option for key, option in class_options(*TRAINER).items() if key not in MANAGED}
    data = {key: option for key, option in class_options(*DATA).items() if key != "seed"}
    return {"model": model, "data": data, "trainer": trainer, "early_stopping": EARLY_STOPPING, "wandb": WANDB}


def _check_names(config: Mapping[str, Any], schema: Mapping[str, Mapping[str, Option]]) -> None:
    for key in config:
        if key not in (*SECTIONS, "plugin", "defaults", "seed", "ablation", "logger", "name"):
            raise UsageError(f"no section {key!r} in the configuration.{did_you_mean(key, SECTIONS)}")
    _check_checkpoints(config.get("trainer") or {})
    for section in SECTIONS:
        content = config.get(section) or {}
        if not isinstance(content, Mapping):
            raise UsageError(f"section {section!r} of the configuration is not a mapping of options")
        for name in _leaves(content, "head" if section == "model" else None):
            known = schema[section]
            if name in known:
                continue
            if section == "trainer" and name in MANAGED:
                raise UsageError(f"--trainer.{name} is managed by mnerkit (run folder, loggers, checkpoints)")
            elsewhere = [f"{other}.{name}" for other in SECTIONS if name in schema[other]]
            hint = did_you_mean(name, known) or (f" Did you mean '--{elsewhere[0]}'?" if elsewhere else "")
            raise UsageError(f"no option --{section}.{name}.{hint or ' See `mnerkit fit --plugin NAME --help`'}")


def _check_checkpoints(trainer: Any) -> None:
    """Refuse what would leave training without a dev score after each epoch: there would be no best checkpoint."""
    given = trainer if isinstance(trainer, Mapping) else {}
    for name, useless in (("limit_val_batches", (0, 0.0)), ("max_epochs", (0,)), ("max_steps", (0,))):
        if name in given and given[name] in useless:
            raise UsageError(f"--trainer.{name} {given[name]}: dev has to be scored after at least one epoch")
    if given.get("check_val_every_n_epoch", 1) != 1:
        raise UsageError(
            "--trainer.check_val_every_n_epoch: dev is scored after every epoch, since it selects the best"
        )
    if given.get("fast_dev_run"):
        raise UsageError("--trainer.fast_dev_run keeps no checkpoint; for a quick try give --data.limit 50")


def _leaves(content: Mapping[str, Any], nested: str | None) -> Iterator[str]:
    for key, value in content.items():
        if key == nested and isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner in value)
        else:
            yield str(key)


def _read_config(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from yaml import YAMLError

    if not path.is_file():
        raise UsageError(f"--config {path}: no such file")
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise UsageError(f"--config {where}: {str(getattr(error, 'problem', None) or error).splitlines()[0]}") from None
    if not isinstance(content, dict):
        raise UsageError(f"--config {path}: expected sections model, data, trainer")
    # a section whose options are all commented out says nothing
    read = {str(key): value for key, value in content.items() if value is not None}
    for section in SECTIONS:
        if not isinstance(read.get(section, {}), dict):
            raise UsageError(f"--config {path}: section {section!r} is not a mapping of options")
    head = read.get("model", {}).get("head", "")
    if not isinstance(head.get("name", "") if isinstance(head, dict) else head, str):
        raise UsageError(f"--config {path}: model.head must be a name, or a mapping with a name: {', '.join(HEADS)}")
    for key in ("plugin", "ablation", "name"):
        if not isinstance(read.get(key, ""), str):
            raise UsageError(f"--config {path}: {key} must be a name, got {read[key]!r}")
    return read


def digest(config: Mapping[str, Any]) -> str:
    """Eight hex digits that name a configuration, seed apart; what does not change a result is left out."""
    kept = {key: value for key, value in deciding(config).items() if key != "seed"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
