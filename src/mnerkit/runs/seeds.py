"""One configuration trained with several seeds: mean, interval over seeds, and the paired difference to a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnerkit.errors import DataError, UsageError
from mnerkit.printable import show
from mnerkit.runs.compare import compare_runs
from mnerkit.runs.config.configuration import Configuration, filled
from mnerkit.runs.fit import fit_configured
from mnerkit.runs.reporting import Report
from mnerkit.runs.run import Run, load_run
from mnerkit.runs.run_folder import Place, RunFolder, digest, find


@dataclass(frozen=True)
class SeedsResult:
    """Runs that differ in nothing but their seed.

    Attributes:
        runs: one a seed.
        scores: split -> F1 by seed, mean and half width of its 95 % interval over seeds (Student's t).
        comparison: see `mnerkit.runs.compare.compare_runs`, the baseline being `a`; None without a baseline.
    """

    runs: list[Run]
    scores: dict[str, dict[str, Any]]
    comparison: dict[str, Any] | None = None


def fit_seeds(
    configurations: Sequence[Configuration],
    place: Place,
    baseline: Sequence[str | Path] = (),
    report: Report = show,
) -> SeedsResult:
    """Train one configuration with several seeds; finished runs are not trained again.

    Args:
        configurations: at least one; they differ in nothing but their seed, and none has that of another.
        place: where the runs are kept; a name gets `-s<seed>` at its end.
        baseline: runs of another method, or one run whose other seeds lie beside it.
        report: called with lines and tables of progress.

    Raises:
        UsageError: no seed, a seed twice, or no baseline run of a seed.
        DataError: no such baseline.
    """
    seeds = [configuration.seed for configuration in configurations]
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {' '.join(map(str, seeds))}: give at least one, and each only once")
    others = _baseline_runs(baseline, seeds)  # before hours of training
    runs = []
    for configuration in configurations:
        own = replace(place, name=f"{place.name}-s{configuration.seed}") if place.name else place
        runs.append(fit_configured(configuration, own, report))
    splits = ["dev", *(["test"] if place.test else [])]
    comparison = compare_runs(others, [run.folder for run in runs], splits[-1]) if others else None
    return SeedsResult(runs, {split: _scores(runs, split) for split in splits}, comparison)


def _scores(runs: Sequence[Run], split: str) -> dict[str, Any]:
    from mnerkit.scoring.intervals import mean_interval

    values = [run.metrics[split]["f1"] for run in runs]
    return {"f1": values, **mean_interval(values)._asdict()}


def _baseline_runs(given: Sequence[str | Path], seeds: Sequence[int]) -> list[RunFolder]:
    """The baseline's run of each seed: those that are given, or the one that is and those beside it."""
    runs = [load_run(path).folder for path in given]
    if not runs:
        return []
    if len(runs) == 1:
        settings = _settings(runs[0])
        runs = [run for run in find(runs[0].path.resolve().parent) if _settings(run) == settings]
    by_seed = {int(run.config().get("seed", 0)): run for run in runs if run.finished}
    for seed in seeds:
        if seed not in by_seed:
            raise UsageError(
                f"--baseline {given[0]}: no finished run with seed {seed} beside it; train it with --seed {seed}, or "
                "name the baseline's runs"
            )
    return [by_seed[seed] for seed in seeds]


def _settings(run: RunFolder) -> str | None:
    """What a run's configuration decides but for the seed, as a digest; None where it can't be read."""
    try:
        return digest(filled(run.config()))
    except (DataError, UsageError, KeyError, TypeError):
        return None
