"""Is one method better than another on the same posts or episodes? Runs are paired by corpus, types and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnerkit.errors import DataError, UsageError
from mnerkit.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from mnerkit.scoring.draws import Draw


def compare_runs(
    a: Sequence[RunFolder], b: Sequence[RunFolder], split: str = "test", draw: Draw = "posts"
) -> dict[str, Any]:
    """Compare two methods by their runs.

    Args:
        a: runs of the first method; with one a side these are the pair, else pairs share corpus, types and seed.
        b: runs of the second method.
        split: `dev` or `test`.
        draw: what the interval and the p-value draw.

    Returns:
        Paths of the pairs (`a`, `b`), `split`, and what `mnerkit.scoring.comparison.compare` returns.

    Raises:
        UsageError: runs that can't be paired, or seeds that can't be drawn.
        DataError: a run without predictions, or runs whose posts, tags, types or episodes differ.
    """
    # here: a mistyped name is answered before numpy is imported
    from mnerkit.scoring.comparison import compare, read_answers

    pairs = _pairs(a, b)
    files = [tuple(_predictions(run, split) for run in pair) for pair in pairs]
    comparison = compare([(read_answers(one), read_answers(other)) for one, other in files], draw=draw)
    paths = {"a": [str(one.path) for one, _ in pairs], "b": [str(other.path) for _, other in pairs]}
    return {**paths, "split": split, **comparison}


def _pairs(a: Sequence[RunFolder], b: Sequence[RunFolder]) -> list[tuple[RunFolder, RunFolder]]:
    """A run of each side: the two given, or those of one corpus, training types and seed."""
    if len(a) == len(b) == 1:
        return [(a[0], b[0])]
    keyed: list[dict[str, RunFolder]] = []
    for side, runs in zip("AB", (a, b), strict=True):
        keys: dict[str, RunFolder] = {}
        for run in runs:
            key = _key(run)
            if key in keys:
                raise UsageError(f"{side} has two runs of {key}: {keys[key].path} and {run.path}")
            keys[key] = run
        keyed.append(keys)
    for key in keyed[0].keys() ^ keyed[1].keys():
        raise UsageError(f"{'A' if key in keyed[1] else 'B'} has no run of {key}, and the other side has")
    return [(run, keyed[1][key]) for key, run in sorted(keyed[0].items())]


def _key(run: RunFolder) -> str:
    if not run.finished:
        raise DataError(f"{run.path} is not finished; the command that began it continues it")
    metrics = run.metrics()
    protocol = metrics.get("protocol")
    protocol = protocol if isinstance(protocol, Mapping) else {}
    types = "+".join(map(str, protocol.get("train_types") or ()))
    fold = f"fold {protocol['fold']}" if "fold" in protocol else ""
    return " ".join(filter(None, (str(protocol.get("corpus")), types, fold, f"seed {metrics.get('seed')}")))


def _predictions(run: RunFolder, split: str) -> Path:
    path = run.path / f"predictions.{split}.jsonl"
    if path.parent != run.path or not path.is_file():
        writes = f"`mnerkit {'validate' if split == 'dev' else 'test'} --ckpt_path {run.best}` writes them"
        raise DataError(f"{run.path} has no predictions of {split!r}; {writes}")
    return path
