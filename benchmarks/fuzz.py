"""Mutated files against every reader of users' files: `make fuzz` (`FUZZ_N=` for more inputs, `FUZZ_SEED=` for others).

Each input is made from its reader's name and a number: a valid file, most of them with one to four changes of bytes,
lines, tokens or structure. The reader must then either refuse it with an error of mnerkit's, in a line or two, or read
what a plain reader of few lines reads. A valid file must be read. A failure is

- any other exception, or a process that dies or hangs;
- more than 2 seconds of CPU time, or 1 GiB of memory, for one input;
- a silent change: posts, words, entities, figures or weights that differ from what stands in the file.

Exit code 1 where there is one; its bytes are then in `--out`, and a command that tries it alone is printed. A new
reader joins by a line in the table of its module in `fuzzing/`; `tests/test_fuzz.py` finds those that are missing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fuzzing.table import READERS
from fuzzing.trials import Outcome, quiet, run, trial, written

from mnerkit.text_table import table

INPUTS = 20_000
SHOWN = 200  # failures that are printed


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=INPUTS, help="number of inputs, of all readers together")
    parser.add_argument("--seed", type=int, default=0, help="the first seed of each reader")
    parser.add_argument("--reader", action="append", choices=[reader.name for reader in READERS], help="only this one")
    parser.add_argument("--one", action="store_true", help="try the input of --seed alone, in this process")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="folder for inputs that fail")
    options = parser.parse_args(argv)
    readers = [reader for reader in READERS if not options.reader or reader.name in options.reader]
    if options.one:
        return one(readers, options.seed, options.out)
    rounds, rest = divmod(options.inputs, len(readers))
    jobs = [(reader, options.seed + number) for number in range(rounds) for reader in readers]
    jobs += [(reader, options.seed + rounds) for reader in readers[:rest]]
    outcomes: list[Outcome] = []
    begin = time.monotonic()
    run(jobs, options.processes, outcomes.append)
    seconds = time.monotonic() - begin
    print(summary(outcomes))
    failures = sorted((outcome for outcome in outcomes if outcome.fault), key=lambda each: (each.reader, each.seed))
    by_name = {reader.name: reader for reader in readers}
    for failure in failures[:SHOWN]:
        folder = options.out / f"{failure.reader.replace(' ', '-')}-{failure.seed}"
        written(by_name[failure.reader], by_name[failure.reader].input(failure.seed).content, folder)
        print(f"\n{printable(failure.fault)}")
        print(f"  python benchmarks/fuzz.py --reader '{failure.reader}' --one --seed {failure.seed}")
    print(f"\n{len(outcomes)} inputs in {seconds:.0f} s, {len(failures)} failures")
    return 1 if failures or len(outcomes) != len(jobs) else 0


def one(readers: Sequence, seed: int, out: Path) -> int:
    """Try one input of each of these readers in this process."""
    failed = False
    for reader in readers:
        path = written(reader, reader.input(seed).content, out / f"{reader.name.replace(' ', '-')}-{seed}")
        with quiet():
            outcome = trial(reader, seed)
        failed = failed or bool(outcome.fault)
        verdict = printable(outcome.fault) or ("accepted" if outcome.accepted else "refused")
        print(f"{path}: {verdict}; {outcome.seconds:.2f} s, {outcome.peak >> 20} MiB")
    return 1 if failed else 0


def summary(outcomes: Sequence[Outcome]) -> str:
    """A line a reader."""
    rows = []
    for name in dict.fromkeys(reader.name for reader in READERS):
        of_reader = [outcome for outcome in outcomes if outcome.reader == name]
        if of_reader:
            counts = Counter("failed" if each.fault else "read" if each.accepted else "refused" for each in of_reader)
            slowest = max(each.seconds for each in of_reader)
            largest = max(each.peak for each in of_reader) >> 20
            figures = [counts[kind] for kind in ("read", "refused", "failed")]
            rows.append([name, len(of_reader), *figures, f"{slowest:.2f}", largest])
    return table(["reader", "inputs", "read", "refused", "failed", "slowest (s)", "largest (MiB)"], rows)


def printable(text: str) -> str:
    """The text without what a terminal would act on."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


if __name__ == "__main__":
    sys.exit(main())
