"""`mnerkit runs repeat RUN`: train a run again from its own record, and print whether the figures are the same."""

from __future__ import annotations

from pathlib import Path

from mnerkit.cli.arguments import Parser, read
from mnerkit.printable import show
from mnerkit.runs.fit import fit_configured
from mnerkit.runs.repeat import command_of, compared_predictions, differences, other_data, repetition, surroundings
from mnerkit.runs.run_folder import RunFolder

ABOUT = """Train a run again, from the configuration in its folder, into a new folder beside it; compare the figures.
The exit code is 0 where all figures are the same. Where one differs it is 1, and other differences (versions, device,
threads) are printed. The same command continues a repetition that was cut off."""

MOST_SHOWN = 8  # differing figures


def main(argv: list[str]) -> int:
    """Repeat a run; return 0 if its figures are the same, 1 if not.

    Raises:
        UsageError: an option that does not exist.
        DataError: no such run, or it is not finished or damaged.
    """
    parser = Parser("mnerkit runs repeat", description=ABOUT, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--dry-run", "--dry_run", action="store_true", help="print the command, and train nothing")
    parser.add_argument(
        "--runs_dir", "--runs-dir", metavar="DIR", help="where run folders lie (default: the run's own)"
    )
    parser.add_argument("--name", metavar="NAME", help="name of the new folder (default: the run's, and -repeat)")
    options = read(parser, argv)
    run = RunFolder(Path(options.run))
    configuration, place = repetition(run, options.runs_dir, options.name)
    show(command_of(run, configuration, place))
    if options.dry_run:
        return 0
    before = run.metrics()
    again = fit_configured(configuration, place, show).folder
    differing = differences(before, again.metrics())
    if differing:
        show(f"not the same figures as {run.path}:", *differing[:MOST_SHOWN])
        if len(differing) > MOST_SHOWN:
            show(f"  and {len(differing) - MOST_SHOWN} more")
        show(*(surroundings(run, again) or ["  versions and device are the same"]))
        return 1
    show(f"the same figures as {run.path}{compared_predictions(run, again)}")
    if lines := other_data(run, again):
        show("but not the same data:", *lines)
    return 0
