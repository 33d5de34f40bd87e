"""Write the golden values anew: all of them, or those of the cases that are named.

    python tests/golden/write.py [--changed-case] [CASE ...]

A case is named in full, or by its beginning (`hvpnet/`); `report` stands for the report's tables. Prints how the new
values differ from the old ones. Values that differ are only written where the behaviour number of the core, the plugin
or the head was raised; `--changed-case` is for another case under the same name. A commit that changes values says why.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import shutil
import sys
import tempfile
from pathlib import Path

from cases import CASES
from golden_files import TABLES, VALUES, computed, differences, raised, read, write
from harness import write_bert
from report_runs import write_report


def main() -> None:
    """Run the cases and write their values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--changed-case", action="store_true", help="the case runs something else than before")
    options = parser.parse_args()
    asked, refused = tuple(options.cases), []
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
            print(case, *(news or ["as before"]), sep="\n  ", flush=True)
            new = case not in golden or (news and options.changed_case)
            if new or (news and raised(golden[case]["behaviour"], found["behaviour"])):
                golden[case] = found
                write(golden)
            elif news:
                refused.append(case)
        write(golden)
        if not asked or "report" in asked:
            tables = write_report(folder / "report")
            shutil.rmtree(TABLES, ignore_errors=True)
            for place, text in tables.items():
                (TABLES / place).parent.mkdir(parents=True, exist_ok=True)
                (TABLES / place).write_text(text, "utf-8")
    if refused:
        sys.exit(f"not written, since no behaviour number was raised: {', '.join(refused)}")


if __name__ == "__main__":
    main()
