"""Training a run again from its own record, and whether the figures are the same."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError, UsageError
from mnerkit.runs import files_read
from mnerkit.runs.config.configuration import Configuration, resolve
from mnerkit.runs.run_folder import Place, RunFolder, dotted


def repetition(run: RunFolder, runs_dir: str | None = None, name: str | None = None) -> tuple[Configuration, Place]:
    """The configuration and place of the `fit` that repeats a run.

    Raises:
        UsageError: the new folder is the run's own.
        DataError: no such run, or it is not finished.
    """
    if not run.existing().finished:
        raise DataError(f"run {run.path} is not finished; the command that began it continues it")
    if run.origin != "trained":
        what = (
            "was imported, not trained by mnerkit"
            if run.origin == "imported"
            else "holds another program's predictions"
        )
        raise UsageError(f"run {run.path} {what}: there is nothing to repeat")
    metrics, configuration = run.metrics(), resolve(base=run.config())
    folder = Path(runs_dir) if runs_dir else run.path.resolve().parents[2]
    place = Place(name or f"{run.path.resolve().name}-repeat", folder, test="test" in metrics)
    if place.folder(configuration).path.resolve() == run.path.resolve():
        raise UsageError(f"--name {place.name}: that is the run itself; give another name")
    return configuration, place


def command_of(run: RunFolder, configuration: Configuration, place: Place) -> str:
    """The command line that repeats a run.

    The file of an earlier release lacks options, which `fit` would take from today's `defaults.yaml`: where that is not
    what the run had, the command is `runs repeat`.
    """
    where = ["--runs_dir", str(place.runs_dir), "--name", str(place.name)]
    try:
        same = resolve(files=[run.config_file]).content == configuration.content
    except UsageError:  # of an ablation, for instance, that is gone
        same = False
    if not same:
        return shlex.join(["mnerkit", "runs", "repeat", str(run.path), *where])
    words = ["mnerkit", "fit", "--config", str(run.config_file), *where]
    return shlex.join([*words, *(["--test"] if place.test else [])])


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Figures that are not exactly the same in two `metrics.json`, a line each; times and looks at test are none."""
    # scores that were added later (`test` on another corpus) are not repeated
    repeated = (key for key in before if key in after or "@" not in key)
    keys = [key for key in repeated if key not in ("seconds", "looks_at_test")]
    of_before, of_after = (dotted({key: metrics.get(key) for key in keys}) for metrics in (before, after))
    return [
        f"  {key}: {of_before.get(key, 'none')} before, {of_after.get(key, 'none')} now"
        for key in sorted(of_before.keys() | of_after.keys())
        if of_before.get(key) != of_after.get(key)
    ]


def other_data(run: RunFolder, again: RunFolder) -> list[str]:
    """What differs between the data of two runs: corpus, pictures, files; a line each."""
    return [line for line in surroundings(run, again) if re.match(r"  (corpus|pictures|data|model)\.", line)]


def surroundings(run: RunFolder, again: RunFolder) -> list[str]:
    """What else differs between two runs: versions, device, threads, behaviour, corpus, files; a line each."""
    both = [folder.environment() for folder in (run, again)]
    for folder, content in zip((run, again), both, strict=True):
        if not content:
            return [f"  the environment of {folder.path} was not kept"]
    # what only one has noted is of another version
    shared = (both[0].keys() & both[1].keys()) - {"command", "files"}
    one, other = (dotted({key: content[key] for key in shared}) for content in both)
    before, now = files_read.notes_of(run), files_read.notes_of(again)
    if before is not None and now is not None:  # else one is of an older version
        one |= {note.option: note.content for note in before}
        other |= {note.option: note.content for note in now}
    return [
        f"  {key}: {str(one.get(key, 'none'))[:60]} before, {str(other.get(key, 'none'))[:60]} now"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


def compared_predictions(run: RunFolder, again: RunFolder) -> str:
    """Whether two runs with the same figures have the same predictions, to end a sentence with."""
    files = sorted(path.name for path in run.path.glob("predictions.*.jsonl") if "@" not in path.name)
    both = [name for name in files if (again.path / name).is_file()]
    other = [name for name in both if (run.path / name).read_bytes() != (again.path / name).read_bytes()]
    if other:
        return f", but other predictions: {', '.join(other)}"
    return ", and the same predictions" if both else ""
