"""Does ours compute what the authors' released code computes? `make parity`, or one method's cases by hand.

    python benchmarks/parity.py hvpnet ../shared/parity/hvpnet/case0.json ../shared/parity/hvpnet/case1.json
    python benchmarks/parity.py --all ../shared/parity
    python benchmarks/parity.py hvpnet CASE.json --sane

A case holds small random weights, inputs, and what the released model class computed from them. Ours is built at the
same sizes, loads the weights by the table in `plugins/METHOD/released.py`, and runs with that module's readings. Each
tensor is printed with its largest |a - b| / (1 + |b|) and passes if that is within the tolerance: 2e-5 for states and
emissions, 1e-4 for losses and gradients, else what `parity_methods/METHOD.py` says with its reason. Exit code 1 if one
fails, if a case cannot be run, or if there is none. `--sane` runs the plugin's defaults instead and prints where, and
by how much, they differ.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from parity_methods.base import ParityMethod
from parity_methods.case import Case

HERE = Path(__file__).resolve().parent / "parity_methods"
SHARED = ("__init__", "base", "case", "comparing")
METHODS = tuple(sorted(path.stem for path in HERE.glob("*.py") if path.stem not in SHARED))


def method_class(name: str) -> type[ParityMethod]:
    """The class in `parity_methods` that compares a method."""
    module: Any = importlib.import_module(f"parity_methods.{name}")
    return module.Method


def compare(name: str, path: Path, sane: bool = False) -> int:
    """Print the table of a case; the number of tensors that fail (with `sane`: 0)."""
    case = Case(path)
    if (of := case.about.get("method", name)) != name:
        raise ValueError(f"the case is of {of}; give that METHOD, or a case of {name}")
    rows, left_out = method_class(name)(case, sane).rows()
    if not rows:
        raise ValueError("the case holds no tensor to compare")
    print(f"\n{name}, {path.name}{': the defaults' if sane else ''}")
    width = max((len(each.name) for each in rows), default=0)
    for each in rows:
        verdict = ("same" if each.passes else "differs") if sane else ("ok" if each.passes else "FAIL")
        print(
            f"{each.name:{width}}  {each.difference:8.1e}  {each.tolerance:7.0e}  {verdict:4}  {each.remark}".rstrip()
        )
    for reason in dict.fromkeys(left_out.values()) if not sane else ():
        names = [tensor for tensor, why in left_out.items() if why == reason]
        listed = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        print(f"not compared: {listed}: {reason}")
    if sane:
        print("each default by itself, all else as released:")
        for reading, gaps in method_class(name)(Case(path)).apart():
            print(f"  {reading:30}  {gaps}")
    failed = sum(not each.passes for each in rows)
    print(
        f"{len(rows) - failed} of {len(rows)} within tolerance"
        + (f", {len(left_out)} not compared" if left_out else "")
    )
    return 0 if sane else failed


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("method", nargs="?", choices=METHODS, metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("cases", nargs="*", type=Path, metavar="FILE.json")
    parser.add_argument("--all", type=Path, metavar="DIR", help="all cases in DIR/METHOD, of all methods or of METHOD")
    parser.add_argument("--sane", action="store_true", help="print how far the defaults are off")
    given = parser.parse_args(arguments)
    if given.all is None and (given.method is None or not given.cases):
        parser.error("give a METHOD and its cases, or --all DIR")
    torch.manual_seed(0)
    logging.getLogger("mnerkit").setLevel(logging.ERROR)  # variants warn that they are nobody's model
    failed, seen = 0, 0
    for name in METHODS if given.method is None else (given.method,):
        cases = given.cases if given.all is None else sorted((given.all / name).glob("*.json"))
        if not cases:
            print(f"{name}: no cases in {given.all / name}; give the folder of the cases, or none is compared")
        for path in cases:
            if not path.is_file():
                parser.error(f"there is no case {path}")
            seen += 1
            failed += tried(name, path, given.sane)
    if given.method is None:
        for name in sorted({path.parent.name for path in given.all.glob("*/*.json")} - {*METHODS}):
            failed += 1
            print(f"{name}: FAIL  nothing compares the cases in {given.all / name}; methods are {', '.join(METHODS)}")
    if not given.sane:
        outcome = f"{failed} FAIL" if failed else "nothing fails"
        print(f"\n{seen} cases, {outcome}" if seen else "\nno case, so nothing is shown")
    return 1 if failed or not seen else 0


def tried(name: str, path: Path, sane: bool) -> int:
    """What `compare` returns; a case that cannot be run fails in one line, and the others go on."""
    try:
        return compare(name, path, sane)
    except Exception as problem:
        reason = f"it has no {problem}" if isinstance(problem, KeyError) else f"{type(problem).__name__}: {problem}"
        print(f"\n{name}, {path}: FAIL  {' '.join(reason.split())}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
