"""The golden values: where they lie, how they are written, and how a case is run and compared with them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cases import CASES
from harness import fit, values

HERE = Path(__file__).parent
VALUES = HERE / "golden.json"
TABLES = HERE / "report"
# losses of two machines differ by less, and are told apart from zero by more
RELATIVE, ABSOLUTE = 1e-3, 1e-5
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


def differences(golden: dict[str, Any], found: dict[str, Any]) -> Iterator[str]:
    """One line for each thing in which two records of a case differ by more than rounding."""
    if golden["losses"].keys() != found["losses"].keys():
        yield f"losses: {', '.join(golden['losses'])} were logged, now {', '.join(found['losses'])}"
    for name, before in golden["losses"].items():
        now = found["losses"].get(name, [])
        if len(before) != len(now) or not all(map(near, before, now)):
            yield f"{name}: {before} by step, now {now}"
    for split in golden.keys() - {"behaviour", "losses"}:
        for before, now in zip(golden[split], found[split], strict=True):
            yield from (f"{split}: {each}" for each in _of_posts(before, now))


def near(before: float, now: float) -> bool:
    """Whether two losses are the same but for rounding."""
    return math.isclose(before, now, rel_tol=RELATIVE, abs_tol=ABSOLUTE)


def _of_posts(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    place = [before["id"], before.get("episode")]
    if place != [now["id"], now.get("episode")]:
        yield f"post {before['id']} of episode {before.get('episode')}, now {now['id']} of {now.get('episode')}"
    elif "tags" in before:
        tags, margins = before["tags"].split(), before["margins"]
        # whether a tag is B- or I- may hang on the word before
        clear = [min(margins[max(0, word - 1) : word + 1]) > CLEAR for word in range(len(tags))]
        said = now["tags"].split()
        if [each for each, keep in zip(tags, clear, strict=True) if keep] != [
            each for each, keep in zip(said, clear, strict=True) if keep
        ]:
            yield f"post {before['id']}: tags {before['tags']}, now {now['tags']} (margins {margins})"
        pairs = zip(margins, now["margins"], strict=True)
        if not all(abs(old - new) <= CLEAR + 10 * RELATIVE * abs(old) for old, new in pairs):
            yield f"post {before['id']}: margins {margins}, now {now['margins']}"
    else:
        for name in before.keys() - {"id"}:
            if len(flat(before[name])) != len(flat(now[name])) or not all(
                map(near, flat(before[name]), flat(now[name]))
            ):
                yield f"post {before['id']}: {name} {before[name]}, now {now[name]}"


def flat(value: Any) -> list[float]:
    """All numbers in nested lists; a missing one is -1."""
    if isinstance(value, list):
        return [number for each in value for number in flat(each)]
    return [-1.0 if value is None else float(value)]
