"""Write the golden values anew: all of them, or those of the cases that are named.

    python tests/golden/write.py [CASE ...]

A case is named in full, or by its beginning (`hvpnet/`); `report` stands for the report's tables. Prints how the new
values differ from the old ones. A commit that changes them says why.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import tempfile
from pathlib import Path

from cases import CASES
from golden_files import TABLES, VALUES, computed, differences, read, write
from harness import write_bert
from report_runs import write_report

# of the core, the plugin and the head: raised by whoever changes what a run computes
FIRST = {"core": 1, "plugin": 1, "head": 1}


def main() -> None:
    """Run the cases and write their values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    asked = tuple(parser.parse_args().cases)
    before = read() if VALUES.exists() else {}
    golden = {name: content for name, content in before.items() if name in CASES}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache, bert = folder / "cache", write_bert(folder / "bert")
        for number, case in enumerate(CASES):
            if asked and not case.startswith(asked):
                continue
            with contextlib.redirect_stdout(io.StringIO()):
                found = computed(case, folder / str(number), cache, bert)
            news = [*differences(golden[case], found, CASES[case].tolerance)] if case in golden else ["new"]
            golden[case] = {"behaviour": golden.get(case, {}).get("behaviour", FIRST), **found}
            print(case, *(news or ["as before"]), sep="\n  ", flush=True)
            write(golden)
        write(golden)
        if not asked or "report" in asked:
            tables = write_report(folder / "report")
            shutil.rmtree(TABLES, ignore_errors=True)
            for place, text in tables.items():
                (TABLES / place).parent.mkdir(parents=True, exist_ok=True)
                (TABLES / place).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
