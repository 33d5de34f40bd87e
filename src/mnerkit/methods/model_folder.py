"""Models that travel: a folder that holds a method without pickles, which loads wherever its plugin is installed.

mnerkit.json       what the model is: plugin, options, types, towers, scores, and the digests of the other files
model.safetensors  the weights, without those of frozen towers that the hub has
data.safetensors   keys of the training posts, and the pictures of a few-shot method's support
words.json         words of the training posts, if there are any
support.json       labelled posts from which a few-shot method answers
tokenizer.json     the text tower's tokenizer (`NAME.tokenizer.json` of another tower)
README.md          the model card; it is not read

`read` returns what `checkpoint.read` returns of a checkpoint. Only files of these names are opened, so nothing that is
in a folder leads out of it; each has the digest that mnerkit.json notes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator
from torch import Tensor

from mnerkit import registry
from mnerkit.atomic_files import write_text
from mnerkit.data.options import DataOptions
from mnerkit.errors import CheckpointError, MnerkitError, UsageError, shown
from mnerkit.methods.checkpoint_content import MAX_TYPES, TowerRecord
from mnerkit.methods.model_card import Scores, card
from mnerkit.options import in_its_time, make
from mnerkit.release import RELEASE
from mnerkit.strict_json import loads
from mnerkit.validation import Content, ListOf, Place, Text, validated

if TYPE_CHECKING:
    from mnerkit.methods.method import Method

FORMAT = 1
DESCRIPTION, WEIGHTS, DATA, WORDS, SUPPORT, CARD = (
    "mnerkit.json",
    "model.safetensors",
    "data.safetensors",
    "words.json",
    "support.json",
    "README.md",
)
TOKENIZER = re.compile(r"(\w{1,80}\.)?tokenizer\.json")
MAX_WEIGHTS = 16 << 30  # bytes of a file of weights
MAX_TEXT = 64 << 20  # bytes of a JSON file; a large tokenizer has 17 MB
MAX_TENSORS = 20_000
_POINTER = b"version https://git-lfs"

_Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Options(Content):
    """The configuration that the model was trained with; paths are cut to their last part."""

    plugin: _Name
    seed: Place = 0
    ablation: Text | None = None
    model: dict[str, Any]
    data: dict[str, Any]
    trainer: dict[str, Any] = Field(default_factory=dict)
    early_stopping: dict[str, Any] = Field(default_factory=dict)


class _Tower(TowerRecord, Content):
    """A tower's record, in which the tokenizer is the name of its file, and words are null for those of words.json."""


class Description(Content):
    """The content of mnerkit.json.

    Attributes:
        format: of the folder.
        mnerkit: release that wrote it.
        distribution: name and version of the package that brings the plugin.
        config: see `_Options`.
        types: entity types, in the order of the model's tags.
        support_types: types in play in the support.
        characters: whether each Chinese character or kana of a text is a word.
        towers: the towers by name.
        imported: where weights come from that were trained elsewhere.
        scores: of the run, for the model card.
        files: SHA-256 of the other files.
    """

    format: int
    mnerkit: Text
    distribution: Text
    config: _Options
    types: Annotated[ListOf[_Name], Field(max_length=MAX_TYPES)]
    support_types: Annotated[ListOf[_Name], Field(max_length=MAX_TYPES)] = ()
    characters: bool = False
    towers: dict[str, _Tower]
    imported: dict[str, Any] | None = None
    scores: Scores | None = None
    files: dict[str, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]]

    @field_validator("files")
    @classmethod
    def _check_names(cls, files: dict[str, str]) -> dict[str, str]:
        for name in files:
            if name not in (WEIGHTS, DATA, WORDS, SUPPORT) and not TOKENIZER.fullmatch(name):
                raise ValueError(f"{shown(name)} is no file of a saved model")
        if missing := {WEIGHTS, DATA} - set(files):
            raise ValueError(f"{min(missing)} is missing")
        return files


def is_model_folder(path: Path) -> bool:
    """Whether a folder holds a saved model."""
    return (path / DESCRIPTION).is_file()


# ---------------------------------------------------------------------- reading


def read(folder: Path) -> dict[str, Any]:
    """A saved model as the content of a checkpoint; `mnerkit.scores` of it is the record of its scores.

    Raises:
        CheckpointError: a file is missing, too large, damaged or not what was saved; the plugin is not installed.
    """
    try:
        described = _described(folder)
        files = _Files(folder, described.files)
        words = files.json(WORDS) if WORDS in described.files else []
        data = files.tensors(DATA)
        support = files.json(SUPPORT) if SUPPORT in described.files else []
        towers = {name: _tower_record(tower, files, words) for name, tower in described.towers.items()}
        record = {
            "version": described.mnerkit,
            "plugin": described.config.plugin,
            "config": described.config.model_dump(exclude_unset=True),
            "facts": {"types": list(described.types), "words": words, "characters": described.characters},
            "towers": towers,
            "support": _with_pictures(support, data),
            "support_types": list(described.support_types),
            "trained_on": data["trained_on"],
            "repeats": data["repeats"],
            "imported": described.imported,
            "scores": described.scores,
        }
        return {"epoch": 0, "global_step": 0, "state_dict": files.tensors(WEIGHTS), "mnerkit": record}
    except CheckpointError:
        raise
    except MnerkitError as wrong:
        raise CheckpointError(" ".join(str(wrong).split())) from None
    except OSError as problem:
        raise CheckpointError(f"{problem.filename or folder}: {problem.strerror}") from None
    except (KeyError, TypeError, AttributeError, IndexError) as problem:
        raise CheckpointError(f"{folder} is no whole model: {shown(repr(problem))}") from None


def _described(folder: Path) -> Description:
    file = folder / DESCRIPTION
    content = _json(file)
    written_by = shown(content.get("mnerkit")) if isinstance(content, dict) else ""
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise CheckpointError(f"{file} describes no saved model")
    if content["format"] != FORMAT:
        raise CheckpointError(
            f"{folder} was saved in format {content['format']}, by mnerkit {written_by}; this release ({RELEASE}) "
            f"reads format {FORMAT}: install the release that wrote it, or a later one"
        )
    described = validated(Description, content, file)
    plugin = described.config.plugin
    if plugin not in registry.plugins():
        name, _, version = described.distribution.partition(" ")
        brings = f"install {shown(name)} ({shown(version)})" if name != "unknown" else "install the package with it"
        raise CheckpointError(f"{folder} is a model of plugin {shown(plugin)!r}, which is not installed: {brings}")
    make(DataOptions, in_its_time(DataOptions, described.config.data))
    return described


class _Files:
    """The files of a folder, each read only if it has the digest that was noted."""

    def __init__(self, folder: Path, digests: Mapping[str, str]) -> None:
        self.folder, self.digests = folder, digests

    def json(self, name: str) -> Any:
        self._check(name, MAX_TEXT)
        return _json(self.folder / name)

    def text(self, name: str) -> str:
        if not TOKENIZER.fullmatch(name):
            raise CheckpointError(f"{self.folder}: {shown(name)} is no name of a tokenizer's file")
        self._check(name, MAX_TEXT)
        try:
            return (self.folder / name).read_text(encoding="utf-8")
        except ValueError as problem:
            raise CheckpointError(f"{self.folder / name} is damaged: {shown(problem, 120)}") from None

    def tensors(self, name: str) -> dict[str, Tensor]:
        from safetensors import SafetensorError, safe_open

        file = self.folder / name
        self._check(name, MAX_WEIGHTS)
        try:
            with safe_open(file, "pt") as content:
                names = content.keys()
                if len(names) > MAX_TENSORS:
                    raise CheckpointError(f"{file} has {len(names)} tensors, more than {MAX_TENSORS}")
                return {each: content.get_tensor(each) for each in names}
        except (SafetensorError, ValueError, RuntimeError) as problem:
            raise CheckpointError(f"{file} is damaged: {shown(problem, 120)}") from None

    def _check(self, name: str, most: int) -> None:
        file = self.folder / name
        if name not in self.digests:
            raise CheckpointError(f"{self.folder / DESCRIPTION} does not list {shown(name)}")
        if not file.is_file():
            raise CheckpointError(f"{file} is missing")
        _check_size(file, most)
        if _digest(file) != self.digests[name]:
            with file.open("rb") as stream:
                pointer = stream.read(len(_POINTER)) == _POINTER
            hint = "git has left a pointer in its place (`git lfs pull`)" if pointer else "fetch or save it again"
            raise CheckpointError(f"{file} is not the file that was saved: {hint}")


def _json(file: Path) -> Any:
    _check_size(file, MAX_TEXT)
    try:
        return loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as problem:
        raise CheckpointError(f"{file} is damaged: {shown(problem, 120)}") from None


def _check_size(file: Path, most: int) -> None:
    if (size := file.stat().st_size) > most:
        raise CheckpointError(f"{file} has {size >> 20} MiB, more than the {most >> 20} MiB that are read")


def _digest(file: Path) -> str:
    whole = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            whole.update(block)
    return whole.hexdigest()


def _tower_record(tower: _Tower, files: _Files, words: list[str]) -> dict[str, Any]:
    record = tower.model_dump(exclude_unset=True)
    reader = record.get("reader") or {}
    if "tokenizer" in reader:
        reader["tokenizer"] = files.text(str(reader["tokenizer"]))
    if reader.get("words", words) is None:
        reader["words"] = words
    return record


def _with_pictures(support: Any, data: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """The support's records, in which the name of a picture's pixels becomes their tensor."""
    if not isinstance(support, list):
        raise CheckpointError(f"{SUPPORT} must be a list of posts")
    for post in support:
        for picture in post["images"]:
            picture["pixels"] = None if picture["pixels"] is None else data[picture["pixels"]]
    return support


# ---------------------------------------------------------------------- writing


def content_of(method: Method, copy_towers: bool = False, **about: Any) -> dict[str, Any]:
    """A method as the content of a checkpoint that needs no file of this machine.

    Frozen towers that the hub has stay names, with their revision and digest. Others become a part of the weights.

    Args:
        method: a built method with its weights.
        copy_towers: copy the hub's towers, too.
        about: joins the record: `scores`, `imported`.
    """
    record, state = {**method.record(), **about}, method.state_dict()
    left_out: list[str] = []
    for name, tower in record["towers"].items():
        if tower["external"] and not copy_towers and on_hub(tower):
            left_out += method.stored_elsewhere((name,))
        else:
            tower |= {"external": False, "digest": None}
    weights = {name: value for name, value in state.items() if not name.startswith((*left_out, "\0"))}
    return {"epoch": 0, "global_step": 0, "state_dict": weights, "mnerkit": record}


def write(
    content: Mapping[str, Any],
    target: Path,
    *,
    name: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a saved model, whole or not at all.

    Args:
        content: as of a checkpoint: `state_dict`, and as `mnerkit` the record, perhaps with `scores` and `imported`.
        target: the folder.
        name: of the model on its card; default: the folder's.
        overwrite: replace a saved model that is there.

    Returns:
        The folder.

    Raises:
        UsageError: the folder is not free.
    """
    target = Path(target)
    _check_free(target, overwrite)
    record = content["mnerkit"]
    with _filled(target) as folder:
        tensors = {"trained_on": record["trained_on"], "repeats": record["repeats"]}
        support = [
            {**post, "images": [_without_pixels(each, f"{i}.{j}", tensors) for j, each in enumerate(post["images"])]}
            for i, post in enumerate(record["support"])
        ]
        words = list(record["facts"]["words"])
        texts: dict[str, str] = {}
        towers = {key: _tower_entry(key, tower, words, texts) for key, tower in record["towers"].items()}
        if words:
            texts[WORDS] = json.dumps(words, ensure_ascii=False)
        if support:
            texts[SUPPORT] = json.dumps(support, ensure_ascii=False)
        for file, text in texts.items():
            write_text(folder / file, text)
        _save(content["state_dict"], folder / WEIGHTS)
        _save(tensors, folder / DATA)
        config = {key: record["config"][key] for key in _Options.model_fields if key in record["config"]}
        plugin = registry.get(record["plugin"])
        scores = record.get("scores")
        described = {
            "format": FORMAT,
            "mnerkit": RELEASE,
            "distribution": plugin.distribution,
            "config": _portable(config),
            "types": list(record["facts"]["types"]),
            "characters": record["facts"].get("characters", False),
            "support_types": list(record["support_types"]),
            "towers": towers,
            "imported": record.get("imported"),
            "scores": None if scores is None else scores.model_dump(mode="json"),
            "files": {file: _digest(folder / file) for file in sorted((*texts, WEIGHTS, DATA))},
        }
        text = json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False)
        write_text(folder / DESCRIPTION, text + "\n")
        whole = validated(Description, loads(text), folder / DESCRIPTION)
        size = (folder / WEIGHTS).stat().st_size
        write_text(folder / CARD, card(whole, name or target.resolve().name, size, support))
    return target


def _check_free(target: Path, overwrite: bool) -> None:
    if "\0" in str(target):
        raise UsageError("no folder has a NUL in its name")
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; give a folder")
    others = sorted(path.name for path in target.iterdir()) if target.exists() else []
    if others and not overwrite:
        raise UsageError(f"{target} is not empty; give another folder, or --overwrite to replace the model in it")
    for name in others:
        if name not in (DESCRIPTION, WEIGHTS, DATA, WORDS, SUPPORT, CARD) and not TOKENIZER.fullmatch(name):
            raise UsageError(f"{target} holds {name}, which is no file of a saved model; give another folder")


@contextmanager
def _filled(target: Path) -> Iterator[Path]:
    """A draft of the target, which takes its place when the block ends; after an error nothing of it stays.

    A folder that is there stays itself and gets the files: it may be a link, a mount, or where the user stands.
    """
    there = target.exists()
    parent = target if there else target.parent
    parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name[:60]}.", suffix=".part", dir=parent))
    try:
        inner = draft / "new"
        inner.mkdir()
        yield inner
        if not there:
            os.rename(inner, target)
            return
        # without its description the folder is no model, so one that a kill leaves half replaced is recognised
        (target / DESCRIPTION).unlink(missing_ok=True)
        files = sorted(inner.iterdir(), key=lambda file: file.name == DESCRIPTION)
        for path in target.iterdir():
            if path != draft:
                path.unlink()
        for file in files:
            os.replace(file, target / file.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _save(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors; those that share their storage are written each for itself."""
    from safetensors.torch import save_file

    file.touch()
    mode = file.stat().st_mode  # safetensors lets nobody else read what it writes
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}, file)
    file.chmod(mode)


def _without_pixels(picture: Mapping[str, Any], name: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """A picture's record with the name of its pixels, which join `tensors`."""
    if picture["pixels"] is None:
        return dict(picture)
    tensors[name] = picture["pixels"]
    return {**picture, "pixels": name}


def _tower_entry(name: str, record: Mapping[str, Any], words: list[str], texts: dict[str, str]) -> dict[str, Any]:
    """A tower's record, whose tokenizer joins `texts` as a file of its own."""
    entry = copy.deepcopy(dict(record))
    entry["spec"] = local_name(entry["spec"])
    reader = entry.get("reader") or {}
    if "tokenizer" in reader:
        file = next((file for file, text in texts.items() if text == reader["tokenizer"]), None)
        file = file or ("tokenizer.json" if name == "text" else f"{name}.tokenizer.json")
        texts[file], reader["tokenizer"] = reader["tokenizer"], file
    if reader.get("words") == words:
        reader["words"] = None
    return entry


def _portable(content: Any) -> Any:
    """A configuration without folders of this machine: paths are cut to their last part, `root` and `cache` to null."""
    if isinstance(content, Mapping):
        return {key: None if key in ("root", "cache") else _portable(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_portable(each) for each in content]
    return local_name(content) if isinstance(content, str) else content


def local_name(spec: str) -> str:
    """A name without the folders of this machine that lead to it; a name on the hub is left as it is."""
    kind, colon, path = spec.rpartition(":")
    place = Path(path).expanduser()
    if not path or not ("/" in path or os.sep in path):
        return spec
    return f"{kind}{colon}{place.name}" if place.is_absolute() or path.startswith(".") or place.exists() else spec


def on_hub(record: Mapping[str, Any]) -> bool:
    """Whether a tower's weights are those that its name stands for on the hub, or on torchvision's site.

    Weights without a revision came from a folder, whatever its name looks like.
    """
    spec = record["spec"]
    if record["family"] == "ResNetTower":
        return ":" not in spec
    return bool(record["revision"]) and not Path(spec).exists()
