"""What a reader wants to know first: what is best, by how much, is it sure, does it look at the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnerkit import registry
from mnerkit.atomic_files import is_figure
from mnerkit.errors import DataError
from mnerkit.printable import counted
from mnerkit.report.folders import Record, mapping
from mnerkit.report.posts.answers import Library, file_of
from mnerkit.report.tables.run_tables import options
from mnerkit.report.tables.sweeps import LOSS, epochs
from mnerkit.report.tables.tables import Figure, Filled
from mnerkit.runs.run_folder import dotted
from mnerkit.scoring.intervals import f1_interval

# what is left out of a method, by the names that ablations have for its pictures
WITHOUT_PICTURES = ("no_image", "text_only")
# of each epoch, in a run's log
LEARNING = ("dev/f1", LOSS)
Interval = tuple[float, float]


def overview(board: Filled | None, number: Mapping[Path, int], library: Library) -> list[dict[str, Any]]:
    """The configurations of each protocol, the best first, and answers to the four questions.

    Args:
        board: the table of all runs that say something, from `run_tables.of_runs`.
        number: place of each run in the page's list.
        library: predictions of the runs.
    """
    groups: dict[Any, list[int]] = {}
    for (row, column), figure in board.figures.items() if board else ():
        if board and figure.mean is not None and figure.cell.metric == "f1":
            groups.setdefault((board.table.columns[column].split, figure.evaluations), []).append(row)
    return [_group(board, split, rows, number, library) for (split, _), rows in groups.items() if board]


def _group(board: Filled, split: str, rows: list[int], number: Mapping[Path, int], library: Library) -> dict[str, Any]:
    column = next(place for place, kind in enumerate(board.table.columns) if (kind.split, kind.metric) == (split, "f1"))
    figures = {row: board.figures[row, column] for row in rows}
    order = sorted(rows, key=lambda row: -(figures[row].mean or 0.0))
    names = [row.name for row in board.table.rows]
    entries = [
        {
            "name": names[row],
            "mean": figures[row].mean,
            "seeds": interval if (interval := figures[row].interval) is None else list(interval),
            "posts": interval_over_posts(figures[row].records, split, library),
            "n": figures[row].n,
            "images": image_use(figures[row].records, split),
            "learning": [epochs(figures[row], name) for name in LEARNING],
            "runs": [number[record.path.resolve()] for record in figures[row].records],
        }
        for row in order
    ]
    best = order[0]
    images = image_use(figures[best].records, split)
    return {
        "corpus": board.about["corpus"][best],
        "protocol": board.about["protocol"][best],
        "split": split,
        "rows": entries,
        "answers": _answers(figures, order, names, images),
    }


def interval_over_posts(records: Sequence[Record], split: str, library: Library) -> Interval | None:
    """The 95 % interval over posts (or episodes) of a single run; over seeds says more where there are several."""
    if len(records) != 1:
        return None
    scores = mapping(records[0].metrics.get(split))
    low, high = scores.get("f1_low"), scores.get("f1_high")
    if is_figure(low) and is_figure(high):
        return low, high
    try:
        posts = library.of(records[0].path, split)
        return f1_interval(posts.counts(file_of(records[0].path, split)), posts.units)
    except DataError:
        return None


def image_use(records: Sequence[Record], split: str) -> dict[str, float] | None:
    """F1 with the right pictures and with other posts', means over runs; None where it was not measured.

    `right` and `other` are of all entities, `right_unclear` and `other_unclear` of those that only the picture tells.
    """
    found: dict[str, list[float]] = {}
    for record in records:
        use = mapping(record.metrics.get(f"{split}:image_use"))
        for name, which in (("right", "right"), ("other", "shuffled")):
            for suffix, part in (("", "all"), ("_unclear", "ambiguous")):
                if is_figure(value := mapping(use.get(which)).get(part)):
                    found.setdefault(name + suffix, []).append(value)
    whole = {name: sum(values) / len(values) for name, values in found.items() if len(values) == len(records)}
    return whole if {"right", "other"} <= whole.keys() else None


# ------------------------------------------------------------------ answers in words

Answer = tuple[str, str, str]  # question, answer, what it rests on


def _answers(
    figures: Mapping[int, Figure], order: Sequence[int], names: Sequence[str], images: dict[str, float] | None
) -> list[Answer]:
    """The four questions, each with its answer."""
    best, figure = order[0], figures[order[0]]
    seeds = f"mean of {figure.n} seeds" if figure.n > 1 else "one seed"
    looks = ("Does it look at the picture?", *_looks(figures, order, names, images))
    if len(order) == 1:
        alone = "nothing else was scored on the same posts"
        return [("What is there?", names[best], f"F1 {figure.mean:.2f}, {seeds}; {alone}"), looks]
    second = figures[order[1]]
    margin = (figure.mean or 0.0) - (second.mean or 0.0)
    return [
        ("What is best?", names[best], f"F1 {figure.mean:.2f}, {seeds}"),
        ("By how much?", f"{margin:.2f} points", f"over {names[order[1]]}, F1 {second.mean:.2f}"),
        ("Is it sure?", *_sure(figure, figures.get(figure.against) if figure.against is not None else None, names)),
        looks,
    ]


def _sure(best: Figure, other: Figure | None, names: Sequence[str]) -> tuple[str, str]:
    test = best.test
    if test is None or other is None or best.against is None:
        return "Not tested", best.untested or "there are no predictions"
    p = "p < 0.001" if test.p_holm < 0.001 else f"p = {test.p_holm:.3f}"
    name, shared = names[best.against], len(best.values.keys() & other.values.keys())
    seeds = f" and the {counted(shared, 'seed')} that both have" if shared < max(best.n, other.n) else ""
    basis = f"against {name} on the same posts{seeds}, {p}, corrected for all tests"
    if test.mark == "worse":
        return "No", f"{basis}: there {name} is better"
    if not test.mark:
        return "No", f"{basis}: the difference may be chance"
    if best.interval is None or other.interval is None:
        return "Yes, for this seed", f"{basis}; with another seed it may differ"
    if best.interval[0] <= other.interval[1]:
        return "Yes, for these seeds", f"{basis}; but the intervals over seeds overlap, so others may differ"
    return "Yes", basis


def _looks(
    figures: Mapping[int, Figure], order: Sequence[int], names: Sequence[str], images: dict[str, float] | None
) -> tuple[str, str]:
    best = figures[order[0]]
    if images is not None:
        basis = f"with other posts' pictures, {images['right']:.2f} to {images['other']:.2f}"
        if {"right_unclear", "other_unclear"} <= images.keys():
            unclear = f"{images['right_unclear']:.2f} to {images['other_unclear']:.2f}"
            basis += f"; on entities that only the picture tells, {unclear}"
        return _change(images["right"], images["other"]), basis
    [record, *_] = best.records
    if record.origin != "foreign" and record.protocol.get("max_images") is None:
        return "It reads none", ""
    for row in order:
        other = figures[row]
        [first, *_] = other.records
        if first.ablation in WITHOUT_PICTURES and _is_ablation_of(first, record):
            change = _change(best.mean or 0.0, other.mean or 0.0)
            return change, f"trained without pictures ({names[row]}), {best.mean:.2f} to {other.mean:.2f}"
    return "Not measured", "it is for generated posts; elsewhere an ablation without pictures shows it"


def _is_ablation_of(part: Record, full: Record) -> bool:
    """Whether a run differs from another one only in what its ablation leaves out."""
    if part.plugin != full.plugin or full.ablation or part.plugin not in registry.plugins():
        return False
    overrides = dotted(registry.get(part.plugin).ablations.get(part.ablation or "", {}))
    one, other = options(part), options(full)
    return all(one.get(key) == other.get(key) for key in (one.keys() | other.keys()) - overrides.keys())


def _change(before: float, after: float) -> str:
    return f"{abs(before - after):.2f} points {'lost' if after <= before else 'gained'}"
