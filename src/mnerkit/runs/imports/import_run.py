"""Weights that the authors' code of a method has saved, as a run that is scored and predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnerkit.atomic_files import write_json, write_text
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.errors import CheckpointError
from mnerkit.methods.checkpoint import AtomicCheckpoints
from mnerkit.methods.parameter_counts import within_memory
from mnerkit.methods.tagger import Tagger, make_method
from mnerkit.plain_yaml import yaml_text
from mnerkit.printable import show
from mnerkit.runs import identity
from mnerkit.runs.config.configuration import resolve
from mnerkit.runs.fit import environment
from mnerkit.runs.imports.released_form import PIECES, ReleasedForm, ours_of, types_of
from mnerkit.runs.imports.weight_file import read_weights, without_prefix
from mnerkit.runs.new_folder import filling, new_folder
from mnerkit.runs.reporting import Report, quiet
from mnerkit.runs.run import Run
from mnerkit.runs.run_folder import RunFolder, as_written

# where the weights of towers are in a method, by the name of the tower
PLACES = {"text": ("encoder.text.",), "vision": ("encoder.sight.reads.", "encoder.vision.")}


def import_released(
    plugin: str,
    files: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    tags: Sequence[str] | None = None,
    model: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    config: Sequence[str | Path] = (),
    dotted: Mapping[str, str | None] | None = None,
    overwrite: bool = False,
    report: Report = show,
) -> Run:
    """Make a run of weights that the released code of a method's authors has saved. `mnerkit import` from Python.

    Nothing is trained. What the weights' shapes tell is read from them; what they don't tell (heads of attention, the
    tokenizer, the order of tags) is as the authors have it, unless options say otherwise.

    Args:
        plugin: name of the method.
        files: a file with a state dict, or several that each hold a part of the model.
        out: folder of the run.
        tags: the tags in the order of their numbers; default: the authors'.
        model: options of the method. `text` and `vision` name the towers: their architecture and tokenizer, and the
            weights of a tower of which the files hold none.
        data: options of the data; the run is scored on this `corpus` by default.
        config: configuration files.
        dotted: values as text by dotted name, as they are typed.
        overwrite: replace a run in this folder.
        report: called with lines about the run.

    Returns:
        The run.

    Raises:
        UsageError: the method has no released form, the folder is not free, or the tags are not the weights'.
        CheckpointError: a file can't be read, or its weights are not those of the method.
        TowerError: a tower's files are unavailable.
    """
    quiet()
    form = ReleasedForm.of(plugin)
    folder = new_folder(out, overwrite)
    paths = [Path(file) for file in ([files] if isinstance(files, str | Path) else files)]
    weights = _weights(paths, form)
    base = form.settings(weights)
    values = {"model": model, "data": data}
    configuration = resolve(plugin, files=config, values=values, dotted=dotted, base=base)
    method = make_method(configuration.content)
    assert isinstance(method, Tagger)
    given = tuple(tags or form.tags)
    order = form.tag_order(method, given, weights)
    sources = form.table.sources(weights)
    method.config, method.seed = configuration.content, configuration.seed
    method.new_towers = tuple(
        name for name, places in PLACES.items() if any(each.startswith(places) for each in sources)
    )
    with within_memory():
        method.build(CorpusFacts(types_of([ours_of(tag) for tag in given])))
    _check_vocabulary(method, form.count(PIECES, weights))
    own = [name for name in method.towers if name not in method.new_towers]
    with form.explained(weights):
        form.table.load(method, weights, torch.tensor(order), [method.towers[name] for name in own])
    record: dict[str, Any] = {
        "files": [{"name": path.name, "content": identity.content_now(str(path))} for path in paths],
        "tags": list(given),
        "towers": {
            name: {"spec": tower.spec, "weights": "own" if name in own else "imported"}
            for name, tower in method.towers.items()
        },
        "trained_on": "not known",
    }
    if form.repaired:
        record["repaired"] = form.repaired
    _write(method, folder, record, overwrite)
    for line in _summary(method, folder, record, form.table.left_out(weights)):
        report(line)
    return Run(folder.path)


def _weights(paths: Sequence[Path], form: ReleasedForm) -> dict[str, Tensor]:
    """The weights of all files, under the names of the authors' code.

    Raises:
        CheckpointError: a file can't be read, or two hold a weight of one name.
    """
    weights: dict[str, Tensor] = {}
    for path in paths:
        content = without_prefix(read_weights(path), form.table.unknown)
        if twice := sorted(weights.keys() & content.keys()):
            raise CheckpointError(f"{path} holds {twice[0]}, which a file before it holds, too")
        weights |= content
    return weights


def _check_vocabulary(method: Tagger, pieces: int | None) -> None:
    """Refuse a text tower whose tokenizer can't be that of the weights, before all shapes that differ are listed."""
    tower: Any = method.towers.get("text")
    size = getattr(getattr(tower, "config", None), "vocab_size", None)
    if pieces is not None and size not in (None, pieces):
        raise CheckpointError(
            f"--model.text {tower.spec} has {size} pieces, and the weights have {pieces}: give the tower, or a folder "
            "with its config.json and tokenizer, whose pieces these are"
        )


def _write(method: Tagger, folder: RunFolder, imported: Mapping[str, Any], overwrite: bool) -> None:
    """Write the run's folder."""
    with filling(folder, overwrite):
        write_text(folder.config_file, yaml_text(as_written(method.config)))
        content: dict[str, Any] = {"epoch": 0, "global_step": 0, "state_dict": method.state_dict()}
        method.on_save_checkpoint(content)
        content["mnerkit"]["imported"] = dict(imported)
        AtomicCheckpoints().save_checkpoint(content, folder.best)
        behaviours = identity.behaviours(method.config)
        write_json(folder.path / "env.json", environment() | {"behaviours": behaviours})
        metrics: dict[str, Any] = {"plugin": method.plugin, "ablation": None, "seed": None, "epochs": None}
        metrics |= {"best_epoch": None, "parameters": method.trainable_parameters(), "looks_at_test": 0}
        write_json(folder.metrics_file, metrics | {"imported": dict(imported)})


def _summary(
    method: Tagger, folder: RunFolder, imported: Mapping[str, Any], left_out: Mapping[str, Sequence[str]]
) -> list[str]:
    """What to know about an imported run."""
    names = ", ".join(file["name"] for file in imported["files"])
    lines = [f"imported {method.plugin} from {names}; nothing was trained"]
    for name, tower in imported["towers"].items():
        origin = "weights of its own: the files hold none" if tower["weights"] == "own" else "imported weights"
        lines.append(f"  {name} tower {tower['spec']}: {origin}")
    lines.append(f"  tags in the order of their numbers: {' '.join(imported['tags'])}")
    if "repaired" in imported:
        lines.append(f"  {imported['repaired']}")
    lines += [f"  left out: {len(group)} weights: {reason}" for reason, group in left_out.items()]
    lines.append("  the posts that it was trained on are not known: test posts among them would not be noticed")
    return [*lines, f"run {folder.path}"]
