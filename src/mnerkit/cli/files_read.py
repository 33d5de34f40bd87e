"""The files that a run reads beside its corpus: noted in `env.json` with what they hold, so that a change is noticed.

Frozen episodes are not among them: their digest stands in the configuration. A run folder without the note, of an older
version, is taken as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mnerkit.errors import UsageError
from mnerkit.runs import RunFolder

if TYPE_CHECKING:
    from mnerkit.cli.assembly import Assembly

OPTIONS = ("data.captions", "data.boxes", "data.relevance", "model.rankings")
# options of data that say where files are looked for that no option names
PLACES = ("data.corpus", "data.root", "data.variant")


class Note(NamedTuple):
    """A file or folder that a run reads: the option that names it, or would; its path; the digest of what it holds."""

    option: str
    file: str
    content: str


def files_of(assembly: Assembly) -> list[Note]:
    """Notes of what options name, and of the captions and boxes below the root where the method reads these."""
    from mnerkit.reproduce.identity import content_now

    named = {option: str(value) for option in OPTIONS if isinstance(value := _value(assembly.config, option), str)}
    corpus, views = assembly.data.content, assembly.method.needs().views
    if corpus.captions is not None and views & {"captions", "second"}:
        named.setdefault("data.captions", str(corpus.captions))
    if corpus.root is not None and "objects" in views:
        named.setdefault("data.boxes", str(corpus.root / "boxes" / f"{corpus.name}.jsonl"))
    notes = [Note(option, file, content_now(file)) for option, file in named.items()]
    return [note for note in notes if note.content != note.file]  # else neither file nor folder


def check_resumed(folder: RunFolder, now: list[Note]) -> None:
    """Refuse to continue a run with other files than it began with.

    Raises:
        UsageError: one holds something else, has gone, or was not there.
    """
    before = _notes(folder)
    if before is None:
        return
    then, here = ({(note.option, note.content) for note in notes} for notes in (before, now))
    for note in [*now, *before]:
        if (note.option, note.content) not in then & here:
            raise _other(folder, note)


def check_finished(folder: RunFolder) -> None:
    """Refuse to take a finished run for one with the files as they are now.

    Raises:
        UsageError: one holds something else.
    """
    for note in changed(folder):
        raise _other(folder, note)


def changed(folder: RunFolder, *configs: Mapping[str, Any]) -> list[Note]:
    """Files that a run noted and that hold something else now; one that has gone is not among them.

    Args:
        folder: the run's.
        configs: leave out the files about which these configurations do not say the same.
    """
    from mnerkit.reproduce.identity import content_now

    found = []
    for note in _notes(folder) or ():
        now = content_now(note.file)
        said = [[_value(config, option) for option in (note.option, *PLACES)] for config in configs]
        if now not in (note.content, note.file) and all(each == said[0] for each in said):
            found.append(note._replace(content=now))
    return found


def _other(folder: RunFolder, note: Note) -> UsageError:
    return UsageError(
        f"{folder.path}: {note.file} (--{note.option}) is not what it was when this run began; "
        "put it back, or give --overwrite or another --name"
    )


def _notes(folder: RunFolder) -> list[Note] | None:
    """What a run noted; None where it did not."""
    try:
        content = json.loads((folder.path / "env.json").read_text(encoding="utf-8"))
        return [Note(*(str(row[key]) for key in Note._fields)) for row in content["files"]]
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return None


def _value(config: Mapping[str, Any], option: str) -> Any:
    section, _, name = option.partition(".")
    return (config.get(section) or {}).get(name)
