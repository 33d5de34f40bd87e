"""`mnerkit runs repeat RUN`: train a run again from its own record, and say whether the figures are the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mnerkit.cli.arguments import Parser, refuse
from mnerkit.errors import DataError, UsageError
from mnerkit.runs import configuration, read_files
from mnerkit.runs.configuration import Request
from mnerkit.runs.run_folder import RunFolder, deciding

ABOUT = """Train a run again, from the configuration in its folder, into a new folder beside it; compare the figures.
It ends with 0 where all figures are the same, and with 1 where one is not; what else differs (versions, device,
threads) is said then. The same command continues a repetition that was cut off."""

TOLD = 8  # differing figures that are shown


def main(argv: list[str]) -> int:
    """Repeat a run; return 0 if its figures are the same, 1 if not.

    Raises:
        UsageError: an option that does not exist, or defaults that have changed since the run.
        DataError: no such run, or it is not finished or damaged.
    """
    parser = Parser("mnerkit runs repeat", description=ABOUT, allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--dry-run", "--dry_run", action="store_true", help="print the command, and train nothing")
    parser.add_argument(
        "--runs_dir", "--runs-dir", metavar="DIR", help="where run folders lie (default: the run's own)"
    )
    parser.add_argument("--name", metavar="NAME", help="name of the new folder (default: the run's, and -repeat)")
    asked, rest = parser.parse_known_args(argv)
    refuse(parser, rest)
    run = RunFolder(Path(asked.run))
    request = request_of(run, asked.runs_dir, asked.name)
    print(command_of(request), flush=True)
    if asked.dry_run:
        return 0
    before = run.metrics()
    from mnerkit.runs import fit

    fit.quiet()
    fit.fit(request)
    again = fit.folder_of(request)
    found = differences(before, again.metrics())
    if found:
        print("\n".join([f"not the same figures as {run.path}:", *found[:TOLD]]))
        if len(found) > TOLD:
            print(f"  and {len(found) - TOLD} more")
        print("\n".join(_surroundings(run, again) or ["  versions, device and source are the same"]))
        return 1
    print(f"the same figures as {run.path}{_predictions(run, again)}")
    return 0


def request_of(run: RunFolder, runs_dir: str | None = None, name: str | None = None) -> Request:
    """The `fit` that repeats a run.

    Raises:
        UsageError: the run's configuration no longer means what it did: another default, option or plugin.
        DataError: no such run, or it is not finished.
    """
    if not run.started:
        raise DataError(f"no run {run.path}; `mnerkit runs --json` tells their paths")
    if not run.finished:
        raise DataError(f"run {run.path} is not finished; the command that began it continues it")
    metrics, config = run.metrics(), run.config()
    if not isinstance(config, dict):
        raise DataError(f"{run.config_file}: not a configuration")
    folder = Path(runs_dir) if runs_dir else run.path.resolve().parents[2]
    flags: dict[str, Any] = {"config": [str(run.config_file)], "runs_dir": str(folder)}
    flags["name"] = name or f"{run.path.resolve().name}-repeat"
    if "test" in metrics:
        flags["test"] = True
    request = configuration.resolve(Request("fit", flags))
    wanted, found = (dict(_leaves(deciding(each))) for each in (config, request.config))
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            raise UsageError(
                f"{run.config_file} no longer means what it did: {key} was {wanted.get(key, 'not there')}, and is "
                f"{found.get(key, 'not there')} now; the defaults of {config.get('plugin')} have changed"
            )
    from mnerkit.runs.fit import folder_of

    if folder_of(request).path.resolve() == run.path.resolve():
        raise UsageError(f"--name {flags['name']}: that is the run itself; give another name")
    return request


def command_of(request: Request) -> str:
    """The command line of a `fit`."""
    words = ["mnerkit", "fit"]
    for name, value in request.flags.items():
        for each in value if isinstance(value, list) else [value]:
            words += [f"--{name}"] if each is True else [f"--{name}", str(each)]
    return shlex.join(words)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Figures that are not exactly the same in two `metrics.json`, a line each; times and looks at test are none."""
    # scores that were added later (`test` on another corpus) are not repeated
    kept = [key for key in before if key in after and key not in ("seconds", "looks_at_test")]
    kept += [key for key in before if key not in after and "@" not in key and key not in ("seconds", "looks_at_test")]
    of_before, of_after = (dict(_leaves({key: each.get(key) for key in kept})) for each in (before, after))
    return [
        f"  {key}: {of_before.get(key, 'none')} before, {of_after.get(key, 'none')} now"
        for key in sorted(of_before.keys() | of_after.keys())
        if of_before.get(key) != of_after.get(key)
    ]


def _leaves(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, content


def _surroundings(run: RunFolder, again: RunFolder) -> list[str]:
    """What else differs between two runs: versions, device, threads, source, files that both noted; a line each."""
    found = []
    for folder in (run, again):
        try:
            content = json.loads((folder.path / "env.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return [f"  the environment of {folder.path} was not kept"]
        found.append({key: value for key, value in _leaves(content) if key not in ("command", "files")})
    one, other = found
    before, now = read_files.notes_of(run), read_files.notes_of(again)
    if before is not None and now is not None:  # else one is of an older version
        one |= {note.option: note.content for note in before}
        other |= {note.option: note.content for note in now}
    return [
        f"  {key}: {str(one.get(key, 'none'))[:60]} before, {str(other.get(key, 'none'))[:60]} now"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


def _predictions(run: RunFolder, again: RunFolder) -> str:
    """What is to be said of the predictions of two runs with the same figures."""
    files = sorted(path.name for path in run.path.glob("predictions.*.jsonl") if "@" not in path.name)
    both = [name for name in files if (again.path / name).is_file()]
    other = [name for name in both if (run.path / name).read_bytes() != (again.path / name).read_bytes()]
    if other:
        return f", but other predictions: {', '.join(other)}"
    return ", and the same predictions" if both else ""
