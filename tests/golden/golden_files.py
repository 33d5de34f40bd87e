"""The golden values: where they lie, how they are written, and how a case is run and compared with them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cases import CASES
from harness import CAP, fit, values

HERE = Path(__file__).parent
VALUES = HERE / "golden.json"
TABLES = HERE / "report"
# losses that differ by no more than this are the same, however small they are
ABSOLUTE = 1e-5
# tags are compared where they were chosen by more than this
CLEAR = 1e-3


def read() -> dict[str, dict[str, Any]]:
    """The golden values of each case by its name: `behaviour`, `losses` and, by split, posts."""
    return json.loads(VALUES.read_text("utf-8"))


def write(golden: dict[str, dict[str, Any]]) -> None:
    """Write the golden values, a line for each loss and each post, so that a change shows in a few lines."""
    cases = []
    for name in sorted(golden):
        lines = [f'  "behaviour": {json.dumps(golden[name]["behaviour"])}']
        for part, content in golden[name].items():
            if isinstance(content, dict) and part != "behaviour":
                inner = ",\n".join(f"   {json.dumps(key)}: {json.dumps(each)}" for key, each in content.items())
                lines.append(f"  {json.dumps(part)}: {{\n{inner}\n  }}")
            elif isinstance(content, list):
                inner = ",\n".join(f"   {json.dumps(each)}" for each in content)
                lines.append(f"  {json.dumps(part)}: [\n{inner}\n  ]")
        body = ",\n".join(lines)
        cases.append(f" {json.dumps(name)}: {{\n{body}\n }}")
    VALUES.write_text("{\n" + ",\n".join(cases) + "\n}\n", "utf-8")


def computed(name: str, folder: Path, cache: Path, bert: Path) -> dict[str, Any]:
    """Run a case, and return what it computed.

    Args:
        name: of the case.
        folder: for its run folder; empty.
        cache: folder of trained tiny towers, shared by all cases.
        bert: the two-layer BERT.
    """
    case = CASES[name]
    run, record = fit(folder, case.all_options(bert), cache)
    return values(run, record, case.splits)


def differences(golden: dict[str, Any], found: dict[str, Any], tolerance: float = 1e-3) -> Iterator[str]:
    """One line for each thing in which two records of a case differ by more than rounding.

    Args:
        golden: what it computed once.
        found: what it computes.
        tolerance: relative, of losses; tags and margins follow from it.
    """
    if golden["behaviour"] != found["behaviour"]:
        yield f"behaviour numbers: {golden['behaviour']}, now {found['behaviour']}"
    if golden["losses"].keys() != found["losses"].keys():
        yield f"losses: {', '.join(golden['losses'])} were logged, now {', '.join(found['losses'])}"
    for name, before in golden["losses"].items():
        now = found["losses"].get(name, [])
        if not near(before, now, tolerance):
            yield f"{name}: {before} by step, now {now}"
    for split in golden.keys() - {"behaviour", "losses"}:
        for before, now in zip(golden[split], found[split], strict=True):
            yield from (f"{split}, post {before['id']}: {each}" for each in _of_posts(before, now, tolerance))


def raised(before: dict[str, int], now: dict[str, int]) -> bool:
    """Whether one of a run's behaviour numbers is higher than it was.

    Raises:
        ValueError: one is lower.
    """
    for name in before.keys() & now.keys():
        if now[name] < before[name]:
            raise ValueError(f"the behaviour number of the {name} was {before[name]} and is {now[name]}")
    return any(now[name] > before[name] for name in before.keys() & now.keys())


def near(before: Any, now: Any, tolerance: float = 1e-3, absolute: float = ABSOLUTE) -> bool:
    """Whether two numbers, or two nested lists of them, are the same but for rounding."""
    if isinstance(before, list) and isinstance(now, list):
        return len(before) == len(now) and all(
            near(*pair, tolerance, absolute) for pair in zip(before, now, strict=True)
        )
    if before is None or now is None:
        return before is now
    return math.isclose(before, now, rel_tol=tolerance, abs_tol=absolute)


def _of_posts(before: dict[str, Any], now: dict[str, Any], tolerance: float) -> Iterator[str]:
    if (before["id"], before.get("episode")) != (now["id"], now.get("episode")):
        yield f"of episode {before.get('episode')}, now {now['id']} of episode {now.get('episode')}"
    elif "tags" in before:
        tags, margins = before["tags"].split(), before["margins"]
        said, said_margins = now["tags"].split(), now["margins"]
        # scores are as exact as the largest of them
        exact = CLEAR + tolerance * max((each for each in margins if each < CAP), default=0.0)
        # whether a tag is B- or I- may hang on the word before
        clear = [min(margins[max(0, word - 1) : word + 1]) > exact for word in range(len(tags))]
        if len(tags) != len(said) or any(
            old != new for old, new, certain in zip(tags, said, clear, strict=True) if certain
        ):
            yield f"tags {before['tags']}, now {now['tags']} (margins {margins})"
        if not all(abs(old - new) <= 3 * exact for old, new in zip(margins, said_margins, strict=True)):
            yield f"margins {margins}, now {said_margins}"
    else:
        for name in (before.keys() | now.keys()) - {"id"}:
            if not near(before.get(name), now.get(name), tolerance, CLEAR + tolerance):
                yield f"{name} {before.get(name)}, now {now.get(name)}"
