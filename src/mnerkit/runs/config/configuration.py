"""The configuration of a run: layers, merged and checked against the options' classes. Nothing here imports torch.

Layers, later ones win: the plugin's `defaults.yaml`, unless a file says `defaults: false`, an ablation that a file
names, each configuration file, an ablation that is given on its own, values from Python, then dotted options
(`--model.lr 1e-3`). Interpolations (`${model.lr}`) are resolved last, so they see every override. What no layer gives
has the default of its option's class.
"""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnerkit import registry
from mnerkit.errors import DataError, UsageError, did_you_mean, first_line, shown
from mnerkit.methods.heads import HEADS, head_options
from mnerkit.methods.options import TaggerOptions
from mnerkit.options import Option, Options, declared, in_its_time, make
from mnerkit.plain_yaml import check_limits, one_line
from mnerkit.runs.config.config_file import checked, read_file
from mnerkit.runs.config.options import CLASSES, SECTIONS
from mnerkit.runs.config.plain_data import plain, resolved

# keys of a configuration that are no sections
KEYS = ("plugin", "defaults", "seed", "ablation", "logger", "name")
# of Lightning's Trainer, set by mnerkit itself: the run folder, the loggers and the callbacks are its own
MANAGED = {"logger", "callbacks", "default_root_dir", "enable_checkpointing", "use_distributed_sampler", "plugins"}
# values that hold for the corpus that their layer names, and for no other one
OF_CORPUS = (
    "variant",
    "columns",
    "captions",
    "boxes",
    "ocr",
    "relevance",
    "train_types",
    "test_types",
    "episode_file",
    "episode_digest",
)
# a checkpoint's types stay what they were, whatever corpus it is scored on
OF_RELEASE = ("variant", "columns", "captions", "boxes", "ocr", "relevance", "episode_file", "episode_digest")
Schema = Mapping[str, Mapping[str, Option]]


@dataclass(frozen=True)
class Configuration:
    """What a run is made from.

    Attributes:
        content: every option's value, as plain data: `plugin`, `seed`, `ablation` and the sections.
        given: the same without what no layer gave.
    """

    content: dict[str, Any]
    given: dict[str, Any]

    @property
    def seed(self) -> int:
        """The seed of weights, data order and episodes."""
        return int(self.content["seed"])


def resolve(
    plugin: str | None = None,
    *,
    files: Sequence[str | Path] = (),
    ablation: str | None = None,
    values: Mapping[str, Any] | None = None,
    dotted: Mapping[str, str | None] | None = None,
    seed: Any = None,
    base: dict[str, Any] | None = None,
) -> Configuration:
    """Merge all layers, check every name and value, resolve interpolations.

    Args:
        plugin: name of the method; default: the one that a file or `base` names.
        files: configuration files (YAML), or names of those that come with mnerkit.
        ablation: a named set of overrides of the plugin.
        values: sections with their options' values, or with None.
        dotted: values as text by dotted name, as they are typed; None: the name alone was.
        seed: overrides that of the files.
        base: a checkpoint's configuration, in place of the plugin's defaults.

    Raises:
        UsageError: an unknown name, with the nearest one that there is; or a value that its option does not take.
    """
    dotted = dotted or {}
    contents = [read_file(file) for file in files]
    name = plugin or ChainMap(*reversed(contents)).get("plugin")
    if base is not None:
        if name and name != base["plugin"]:
            raise UsageError(
                f"the checkpoint was written by plugin {base['plugin']!r}, not {shown(name)!r}; leave --plugin out"
            )
        name = base["plugin"]
    if not name:
        raise UsageError(f"which method? give --plugin NAME; installed: {', '.join(registry.plugins())}")
    method = registry.get(name)
    from_python = checked({section: options for section, options in (values or {}).items() if options is not None})
    layers = [head_named(layer) for layer in (*_layers(method, contents, ablation, base), from_python)]
    head = chosen_head(layers, dotted) if has_head(method) else None
    options = schema(method, head)
    for section, _, option in (typed.partition(".") for typed in dotted):  # at once, before OmegaConf is imported
        if {option, option.partition(".")[0]}.isdisjoint(options.get(section, (option,))):
            raise _unknown(section, option, options)
    given = _merged(layers, dotted, options, OF_CORPUS if base is None else OF_RELEASE)
    given |= {"plugin": name, "seed": _checked_seed(given.get("seed", 0) if seed is None else seed)}
    _check_names(given, options)
    _note_episode_files(given, (base or {}).get("data") or {})
    return Configuration(filled(given, new=base is None), given)


def filled(given: Mapping[str, Any], new: bool = False) -> dict[str, Any]:
    """A configuration with every option's value.

    Args:
        given: what a layer or a file gives.
        new: what it lacks has today's default; else it is a file's, and has the default of the file's time.

    Raises:
        UsageError: a value that its option does not take.
    """

    def every_option(kind: type[Options], content: Mapping[str, Any]) -> dict[str, Any]:
        return make(kind, content if new else in_its_time(kind, content)).plain()

    method = registry.get(str(given["plugin"]))
    content = {key: value for key, value in given.items() if key not in SECTIONS}
    model = dict(head_named(dict(given)).get("model") or {})
    head = dict(model.pop("head", None) or {})
    content["model"] = every_option(method.options_class, model)
    if has_head(method):
        name = head.pop("name", "crf")
        content["model"]["head"] = {"name": name, **every_option(head_options(name), head)}
    content |= {section: every_option(kind, given.get(section) or {}) for section, kind in CLASSES.items()}
    return plain(content)  # a text may have been read as a mapping with keys that are no texts


def is_whole(content: Mapping[str, Any]) -> bool:
    """Whether a configuration has every option's value already."""
    head = (content.get("model") or {}).get("head")
    options = schema(registry.get(str(content["plugin"])), head["name"] if head else None)
    return all(set(names) - {"head"} <= {*_names(content.get(section) or {})} for section, names in options.items())


def schema(method: registry.Plugin | None, head: str | None) -> dict[str, dict[str, Option]]:
    """Section -> name -> what is declared of the option; the head's options are named `head.X`."""
    model: dict[str, Option] = {}
    if method is not None:
        model = dict(declared(method.options_class))
        if has_head(method):
            model["head"] = model["head.name"] = Option("head", str, None, f"one of {', '.join(HEADS)}")
    if head is not None:
        model |= {f"head.{name}": option for name, option in declared(head_options(head)).items()}
    return {"model": model, **{section: declared(kind) for section, kind in CLASSES.items()}}


def has_head(method: registry.Plugin) -> bool:
    """Whether a method takes a head: those that tag words do."""
    return issubclass(method.options_class, TaggerOptions)


def head_named(layer: dict[str, Any]) -> dict[str, Any]:
    """`head: crf` is short for `head: {name: crf}`."""
    model = layer.get("model")
    if isinstance(model, dict) and isinstance(model.get("head"), str):
        return {**layer, "model": {**model, "head": {"name": model["head"]}}}
    return layer


def chosen_head(layers: Iterable[Mapping[str, Any]], dotted: Mapping[str, str | None]) -> str:
    """Name of the head that the last layer or a dotted option asks for; `crf` where none does.

    Raises:
        UsageError: there is no such head.
    """
    names = [*map(_head_of, layers), dotted.get("model.head.name"), dotted.get("model.head")]
    head = next((name for name in reversed(names) if name), "crf")
    if head not in HEADS:
        raise UsageError(f"no head {shown(head)!r}.{did_you_mean(head, HEADS)} Heads: {', '.join(HEADS)}")
    return str(head)


def _head_of(layer: Mapping[str, Any]) -> Any:
    return ((layer.get("model") or {}).get("head") or {}).get("name")


def takes_defaults(contents: Sequence[Mapping[str, Any]]) -> bool:
    """Whether configuration files leave a method's `defaults.yaml` in force."""
    defaults = ChainMap(*map(dict, reversed(contents))).get("defaults", True)
    if not isinstance(defaults, bool):
        raise UsageError(
            f"defaults: {shown(defaults)!r} in a --config; true takes the method's defaults.yaml, false its class's"
        )
    return defaults


def _layers(
    method: registry.Plugin, files: Sequence[dict[str, Any]], ablation: str | None, base: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """All that lies below values from Python and dotted options.

    An ablation that is given on its own lies above the files; one that a file names lies below them, so that the file
    can override it.
    """
    if base is not None:
        return [dict(base), *files]
    taken = takes_defaults(files)
    defaults = {key: value for key, value in method.defaults.items() if taken and key != "ablations"}
    overrides = _ablation(method, ablation or ChainMap(*reversed(files)).get("ablation"))
    return [defaults, *files, *overrides] if ablation else [defaults, *overrides, *files]


def _ablation(method: registry.Plugin, name: str | None) -> list[dict[str, Any]]:
    if not name:
        return []
    if name not in method.ablations:
        near, have = did_you_mean(name, method.ablations), ", ".join(method.ablations) or "none"
        raise UsageError(f"plugin {method.name!r} has no ablation {shown(name)!r}.{near} It has: {have}")
    return [{**method.ablations[name], "ablation": name}]


def _merged(
    layers: Sequence[dict[str, Any]], dotted: Mapping[str, str | None], options: Schema, of_corpus: Sequence[str]
) -> dict[str, Any]:
    """Layers, then dotted options, then interpolations.

    Another corpus drops earlier options `of_corpus`, and another head the options of the one before.
    """
    merged: dict[str, Any] = {"model": {}, "data": {}}
    for layer in [*layers, _typed_layer(dotted, options)]:
        model, data = merged["model"] or {}, merged["data"] or {}
        corpus, head = (layer.get("data") or {}).get("corpus"), _head_of(layer)
        if corpus is not None and corpus != (data.get("corpus") or "probe"):
            data = {name: value for name, value in data.items() if name not in of_corpus}
        if head and _head_of(merged) not in (None, head):
            model = {**model, "head": {}}
        merged = _laid_over({**merged, "model": model, "data": data}, layer)
    return resolved(merged)


def _laid_over(below: Any, above: Any) -> Any:
    """Two configurations in one: mappings key by key; of anything else the upper one counts."""
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    return {**below, **{key: _laid_over(below.get(key), value) for key, value in above.items()}}


def _typed_layer(dotted: Mapping[str, str | None], options: Schema) -> dict[str, Any]:
    """The dotted options as a layer."""
    # here: a misspelt plugin is answered before this is imported
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    layer: dict[str, Any] = {}
    for name, value in dotted.items():
        text = _yaml_text(name, value, options)
        key = "model.head.name" if name == "model.head" else name
        where = f"--{shown(name)} {shown(text)}"
        try:
            with one_line(where):
                check_limits(text)
                read = OmegaConf.to_container(OmegaConf.from_dotlist([f"{key}={text}"]))
        except DataError as problem:
            raise UsageError(str(problem)) from None
        except OmegaConfBaseException as problem:  # an interpolation that is none
            raise UsageError(f"{where}: {shown(first_line(problem), 200)}") from None
        layer = _laid_over(layer, plain(read))
    return layer


def _yaml_text(name: str, value: str | None, options: Schema) -> str:
    """A value as it was typed, as YAML that its option's type reads."""
    section, _, key = name.partition(".")
    option = options.get(section, {}).get(key)
    if value is None:
        if option and not option.is_flag:
            raise UsageError(f"--{name} needs a value ({option.help or option.takes})")
        return "true"
    text = str(value)
    if option and option.is_text and text != "null":
        return json.dumps(text)  # as it is: YAML would read `2017` as a number and stumble over `a: b`
    if option and not text.startswith("[") and (option.is_only_list or (option.is_list and "," in text)):
        return "[" + text + "]"
    return text


def _checked_seed(value: Any) -> int:
    try:
        seed = int(value)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"--seed must be a whole number, got {shown(value)}") from None
    if not 0 <= seed < 2**32:
        raise UsageError(f"--seed must lie between 0 and 2**32 - 1, got {shown(seed)}")
    return seed


def _check_names(given: Mapping[str, Any], options: Schema) -> None:
    """Refuse a section or an option that does not exist, with the nearest one that does."""
    for key in given:
        if key not in (*SECTIONS, *KEYS):
            raise UsageError(f"no section {shown(key)!r} in the configuration.{did_you_mean(key, SECTIONS)}")
    for section in SECTIONS:
        content = given.get(section) or {}
        if not isinstance(content, Mapping):
            raise UsageError(f"section {section!r} of the configuration is not a mapping of options")
        for name in _names(content):
            if name not in options[section]:
                raise _unknown(section, name, options)


def _unknown(section: str, name: str, options: Schema) -> UsageError:
    if section == "trainer" and name in MANAGED:
        return UsageError(f"--trainer.{name} is managed by mnerkit (run folder, loggers, checkpoints)")
    elsewhere = [f"{other}.{name}" for other in SECTIONS if name in options[other]]
    near = did_you_mean(name, options[section], f"--{section}.")
    hint = near or (f" Did you mean '--{elsewhere[0]}'?" if elsewhere else "")
    return UsageError(f"no option --{section}.{shown(name)}.{hint or ' See `mnerkit fit --plugin NAME --help`'}")


def _names(content: Mapping[str, Any]) -> Iterator[str]:
    """Names of a section's options, those of the head as `head.X`."""
    for key, value in content.items():
        if key == "head" and isinstance(value, Mapping):
            yield from (f"{key}.{inner}" for inner in value)
        else:
            yield str(key)


def _note_episode_files(given: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Put the digest of the episode files into the configuration: their content is a part of what a run is.

    A digest that stands there is kept (and checked when the files are read), unless it belongs to the files of the
    checkpoint and other ones were named.
    """
    data = given["data"]
    files, noted = data.get("episode_file"), data.get("episode_digest")
    if not files or not isinstance(files, str | list):  # what is neither is refused later
        return
    if noted and (noted != before.get("episode_digest") or files == before.get("episode_file")):
        return
    from mnerkit.data.episodes.episode_file import digests_of

    data["episode_digest"] = digests_of(files)
