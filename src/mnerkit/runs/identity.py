"""The identity of a run: all that decides its figures, and nothing of where things lie.

The configuration with every option's value (an option that is set to its default changes nothing), the digests of the
corpus and of the files that it reads, the weights of towers in local folders, and three behaviour numbers: of the core,
of the plugin and of the head. Whoever changes what a run computes raises the number; the golden tests fail until they
do. Neither the commit nor the name of an ablation is a part of it.

An option that came with a later release counts only where its value is another one than that of files which lack it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mnerkit import registry
from mnerkit.methods.heads import head_options
from mnerkit.options import Options, declared
from mnerkit.runs.config.options import CLASSES
from mnerkit.runs.run_folder import deciding

# raised whenever data, towers, methods' base or scoring compute something else than before
BEHAVIOUR = 1
# the core's number of runs with `max_steps`: since 2, dev is also scored after a last epoch that is not whole
BEHAVIOUR_OF_STEPS = 2
# of section data: where things lie, and how fast they are read
PLACES = ("root", "workers", "eval_batch_size")
# options that name files or folders, which are known by what they hold
PATHS = {
    "model": ("text", "vision", "vectors", "rankings", "llm", "prompt", "replies"),
    "data": ("captions", "boxes", "ocr", "relevance", "episode_file"),
}


def digest_of(config: Mapping[str, Any], first: str | None = None) -> str:
    """Sixteen hex digits that name a run.

    Args:
        config: its configuration, with its seed and every option's value.
        first: digest of the run whose file this one reads, if any; that file's option holds `<first>`.

    Raises:
        MnerkitError: its corpus is not there.
    """
    facts = [canonical(config), data_facts(config), behaviours(config), first]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def behaviours(config: Mapping[str, Any]) -> dict[str, int]:
    """The behaviour numbers of the core, of a run's plugin and of its head, where it has one."""
    steps = ((config.get("trainer") or {}).get("max_steps") or -1) > 0
    core = BEHAVIOUR_OF_STEPS if steps else BEHAVIOUR
    kind, model = registry.get(config["plugin"]).options_class, config["model"]
    raised = [number for (name, value), number in kind.behaviour_with.items() if model.get(name) == value]
    plugin = max(kind.behaviour, *raised, 0)
    numbers = {"core": core, "plugin": plugin}
    head = config["model"].get("head")
    return {**numbers, "head": head_options(head["name"]).behaviour} if head else numbers


def reads_of(config: Mapping[str, Any]) -> str:
    """Sixteen hex digits that name the data, files and weights of towers that a run reads, wherever these lie.

    Raises:
        MnerkitError: its corpus is not there.
    """
    paths = ((config.get(section) or {}).get(name) for section, names in PATHS.items() for name in names)
    facts = [data_facts(config), [content_of(path) for path in paths if isinstance(path, str)]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration with every option's value that decides figures."""
    content = {key: value for key, value in without_later(deciding(config)).items() if key != "ablation"}
    content["data"] = {key: value for key, value in content["data"].items() if key not in (*PLACES, "cache")}
    if content["data"]["train_fraction"] == 1:  # all posts
        content["data"]["train_fraction"] = None
    for section, names in PATHS.items():
        for name in names:
            if isinstance(content[section].get(name), str):
                content[section][name] = content_of(content[section][name])
    return _numbers(content)


def without_later(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the options that came later and have the value of files which lack them.

    So an option that a release adds (`option(since=...)`) changes the identity of no run of an earlier one.
    """

    def before(kind: type[Options], section: Mapping[str, Any]) -> dict[str, Any]:
        since = {name: option.since for name, option in declared(kind).items()}
        return {key: value for key, value in section.items() if not (rule := since.get(key)) or value != rule[1]}

    model = before(registry.get(config["plugin"]).options_class, config["model"])
    if head := model.get("head"):
        model["head"] = before(head_options(head["name"]), head)
    sections = {name: before(kind, config[name]) for name, kind in CLASSES.items() if config.get(name)}
    return {**config, **sections, "model": model}


def _numbers(value: Any) -> Any:
    """The same with 1 and 1.0 alike."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def data_facts(config: Mapping[str, Any]) -> list[Any]:
    """Digests of what a run reads below its root: annotations, captions, boxes, and which pictures and crops are there.

    The probe corpus is generated: whoever changes it raises the behaviour number of the core.
    """
    data = config.get("data") or {}
    corpus, root = str(data.get("corpus") or "probe"), data.get("root")
    if corpus == "probe":
        return []
    root = str(root) if root else None
    labels = "objects" in (config["model"].get("context") or ())
    return [_corpus_digest(corpus, root, data.get("variant"), sees_pixels(config), data.get("columns"), labels)]


def sees_pixels(config: Mapping[str, Any]) -> bool:
    """Whether a run looks at pictures, not at captions or at nothing."""
    model = config["model"]
    return "vision" in model and "captions" not in (model.get("vision"), model.get("image_nodes"))


@cache
def _corpus_digest(
    corpus: str, root: str | None, variant: str | None, pixels: bool, columns: str | None = None, labels: bool = False
) -> str:
    from mnerkit.data.corpus.corpus import load_corpus

    content = load_corpus(corpus, root=root, variant=variant, columns=columns)
    whole = hashlib.sha256(content.digest.encode())
    images = (ref for posts in content.splits.values() for post in posts for ref in post.images)
    captions = [[ref.name, ref.caption] for ref in images if ref.caption]
    whole.update(json.dumps(captions).encode())
    boxes = None if content.root is None else content.root / "boxes" / f"{content.name}.jsonl"
    if (pixels or labels) and boxes is not None and boxes.is_file():
        whole.update(_file_digest(boxes).encode())
    if pixels:
        if content.crops is not None:  # a dict names the crops of each picture
            near = [content.crops.parent.glob("*_dict.pth"), (content.crops.parent / content.name).glob("*_dict.pth")]
            for path in sorted({*content.crops.rglob("*_dict.pth"), *near[0], *near[1]}):
                whole.update(f"{path.name} {_file_digest(path)}\n".encode())
        for folder in [*content.folders, *([content.crops] if content.crops else [])]:
            files = sorted((path.relative_to(folder).as_posix(), path.stat().st_size) for path in _files(folder))
            whole.update(json.dumps(files).encode())
    return whole.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """All files of a folder, in any order."""
    return (path for path in folder.rglob("*") if path.is_file())


def content_now(name: str) -> str:
    """A digest of the file, or of all files of the folder, that an option names; what is neither stays a name."""
    place = Path(name).expanduser()
    if place.is_file():
        return f"file {_file_digest(place)}"
    if not place.is_dir():
        return name
    whole = hashlib.sha256()
    for path in sorted(_files(place)):
        whole.update(f"{path.relative_to(place).as_posix()} {_file_digest(path)}\n".encode())
    return f"folder {whole.hexdigest()}"


content_of = cache(content_now)  # many runs of a sweep read the same files


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        whole = hashlib.sha256()
        while block := stream.read(1 << 20):
            whole.update(block)
        return whole.hexdigest()
