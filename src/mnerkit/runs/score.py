"""Scoring a checkpoint on dev or test, on its own corpus or another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnerkit.atomic_files import write_json
from mnerkit.data.batches.truncation import sentence
from mnerkit.errors import UsageError
from mnerkit.printable import complain, show
from mnerkit.runs import files_read
from mnerkit.runs.config.configuration import filled, resolve
from mnerkit.runs.reporting import Report, quiet, summary
from mnerkit.runs.run_folder import UNKNOWN_CORPUS, RunFolder, digest, writing
from mnerkit.runs.tiny_towers import warning

if TYPE_CHECKING:
    from mnerkit.runs.build import Assembly
    from mnerkit.runs.run import Run


def score(
    run: Run | str | Path,
    split: str = "test",
    *,
    model: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
    config: Sequence[str | Path] = (),
    plugin: str | None = None,
    dotted: Mapping[str, str | None] | None = None,
    tower_dir: str | None = None,
    report: Report = show,
) -> dict[str, Any]:
    """Score a run's best checkpoint; the scores are kept in the folder of a finished run.

    Args:
        run: the run, its folder, or a checkpoint.
        split: `dev` or `test`.
        model: options of decoding that differ from the run's.
        data: options of the data that differ from the run's, for instance `{"corpus": "twitter2015"}`.
        trainer: options of the Trainer (device, precision).
        config: configuration files that lie above the run's own.
        plugin: refuse a checkpoint of another method.
        dotted: values as text by dotted name, as they are typed.
        tower_dir: folder with a frozen tower's weights, where its own name can't be reached.
        report: takes the table of scores.

    Returns:
        The new scores by name: those of the split, and what belongs to them.

    Raises:
        UsageError: an unknown option, or test posts that the checkpoint was trained with.
        CheckpointError: no checkpoint, or a damaged one.

    Examples:
        >>> small = {"data": {"limit": 40}, "trainer": {"max_epochs": 1, "enable_progress_bar": False}}
        >>> run = mnerkit.fit("bilstm", **small, test=True, report=lambda line: None)
        >>> scores = mnerkit.score(run, "dev", report=lambda line: None)
        >>> scores["dev"]["f1"] == run.metrics["dev"]["f1"]
        True
    """
    if split not in ("dev", "test"):
        raise UsageError(f"no split {split!r} to score: dev or test")
    quiet()
    from mnerkit.methods import checkpoint
    from mnerkit.runs.build import Assembly

    path = Path(getattr(run, "path", run))  # type: ignore[arg-type]
    content = checkpoint.read(path)
    own = content["mnerkit"]["config"]
    values = {"model": model, "data": data, "trainer": trainer}
    configuration = resolve(plugin, files=config, values=values, dotted=dotted, base=own)
    if content["mnerkit"].get("imported") is not None:
        _check_imported(path, configuration.content)
    folder = RunFolder(path if path.is_dir() else path.parent)
    with writing(folder) if folder.finished else nullcontext():
        assembly = Assembly.of_checkpoint(content, configuration.content, tower_dir)
        return _score(assembly, configuration.given, own, split, folder, report)


def _check_imported(path: Path, config: Mapping[str, Any]) -> None:
    """Say what is not known of an imported checkpoint.

    Raises:
        UsageError: on what to score it.
    """
    if config["data"]["corpus"] == UNKNOWN_CORPUS:
        raise UsageError(f"{path} was imported without a corpus: say which to score it on, --data.corpus NAME")
    complain(
        f"warning: {path} was imported, so the posts that it was trained on are not known, and test posts among them "
        "are not noticed"
    )


def _score(
    assembly: Assembly,
    given: Mapping[str, Any],
    own: Mapping[str, Any],
    split: str,
    run: RunFolder,
    report: Report,
) -> dict[str, Any]:
    """Score a split; the scores join those in the folder of a finished run."""
    from mnerkit.runs.trainer.trainer_refusals import check_scored, lightning_refusals

    assembly.check_unseen(split)
    assembly.data.posts(split)  # with these, objects are looked for
    check_scored(assembly.trainer, assembly.data, split)
    before = filled(own)
    scored, others = files_read.changed(run, assembly, before, split)
    folder = run if run.finished else None
    metrics = folder.metrics() if folder is not None else {}
    sections = [name for name in ("data", "model") if assembly.config[name] != before[name]]
    changed: dict[str, Any] = {name: given.get(name) for name in sections}
    files = {note.option: note.content for note in scored}
    for option, name in (("data.corpus", "posts"), ("data.root", "pictures")):
        if option in files:
            changed[name] = files.pop(option)
    if files:
        changed["files"] = files
    protocol, cut = assembly.data.protocol(), assembly.truncation(split)
    key = split if not changed else f"{split}@{protocol['corpus']}-{digest({'data': changed})}"
    with lightning_refusals(assembly.config):
        scores = assembly.score(split, folder, key)
    if assembly.trainer.is_global_zero:
        for note in (*scored, *others):
            then = f"; scores as {key}" if note in scored else ""
            text = f"{note.file} (--{note.option}) is not what it was when the run was trained{then}"
            complain(text)
        if folder is not None:
            if split == "test":
                scores["looks_at_test"] = int(metrics.get("looks_at_test", 0)) + 1
            if changed:
                scores[f"{key}:protocol"] = protocol
            if metrics.get("imported"):  # it had no protocol before
                metrics.setdefault("protocol", protocol)
            metrics["truncation"] = {**(metrics.get("truncation") or {}), key: cut[split]}
            write_json(folder.metrics_file, {**metrics, **scores})
        if line := sentence(cut, "long_posts" in assembly.config["model"]):
            report(line)
        report(summary({"plugin": own["plugin"], **scores}))
        if line := warning(assembly.config):
            report(line)
        if folder is not None:
            report(f"run {folder.path}")
    return scores
