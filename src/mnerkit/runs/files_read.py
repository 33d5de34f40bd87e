"""The files that a run reads: what they held when it began, and whether they are still the same.

The splits of the corpus and the files that a run reads are noted in `env.json` with digests of what they held when it
began, so that a change is noticed. A folder of VOC files or of crops is known by its boxes or dicts as they were read.
Not noted are weights of towers, nor frozen episodes, whose digest stands in the configuration. A run folder without
notes, of an older version, is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mnerkit.errors import DataError, MnerkitError, UsageError
from mnerkit.runs.identity import PATHS, content_now
from mnerkit.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from mnerkit.data.corpus.corpus import Corpus
    from mnerkit.runs.build import Assembly

# options of `PATHS` that are known by other means, and those without which a file is looked for
OTHERWISE = ("model.text", "model.vision", "data.episode_file")
LOOKED_FOR = ("data.captions", "data.boxes")
# options of data that say where the files lie that no option names
CORPUS = ("data.corpus", "data.root", "data.variant")
FILE = "file "  # how the content of a single file begins
GONE = "none"  # the content of what is not read, or not there


class Note(NamedTuple):
    """A file or folder that a run reads: the option that names it, or would; its path; the digest of what it holds."""

    option: str
    file: str
    content: str


def files_of(assembly: Assembly, sections: Sequence[str] = ("model", "data")) -> list[Note]:
    """Notes of what options name, and of the captions, boxes and crops below the root that the method reads.

    Args:
        assembly: its data have read posts, and so the objects in their pictures.
        sections: of which options.

    Raises:
        DataError: a file can't be read.
    """
    config, data = assembly.config, assembly.data
    options = [f"{section}.{name}" for section in sections for name in PATHS[section]]
    files = {
        option: str(value)
        for option in options
        if option not in (*OTHERWISE, *LOOKED_FOR) and isinstance(value := _value(config, option), str)
    }
    captions, views = data.content.captions, assembly.method.needs().views
    if captions is not None and (views & {"captions", "second"} or _value(config, "data.captions") is not None):
        files["data.captions"] = str(captions)
    notes = []
    objects = data.split_posts.objects
    if objects is not None and objects.path is not None:
        if objects.kind == "boxes":
            files["data.boxes"] = str(objects.path)
        else:
            notes.append(Note("data.boxes", str(objects.path), f"{objects.kind} {objects.sha256}"))
    notes += [Note(option, file, _content(option, file)) for option, file in files.items()]
    return [note for note in notes if note.content != GONE]


def check_resumed(folder: RunFolder, now: list[Note], corpus: Corpus) -> None:
    """Refuse to continue a run with other files, or other posts to train on and to select by, than it began with.

    Raises:
        UsageError: one holds something else, has gone, or was not there.
    """
    _check_splits(folder, corpus, ("train", "dev"))
    before = notes_of(folder)
    for note in _changed(before, now) if before is not None else ():
        raise _other(folder, note)


def check_finished(folder: RunFolder, test: bool = False) -> None:
    """Refuse to take a finished run for one with the corpus and the files as they are now.

    A corpus that has gone altogether is no change. Of other files only single ones are looked at. One that has gone
    counts where no option names it, so that a run would do without, and where the root in which it lay is still there.

    Args:
        folder: the run's.
        test: whether its test posts count though it has no scores of them yet.

    Raises:
        UsageError: one holds something else, or has gone.
        DataError: one can't be read.
    """
    config = folder.config()
    if splits_of(folder) and (corpus := _corpus_now(config)) is not None:
        _check_splits(folder, corpus, ("train", "dev", *(["test"] if test or "test" in folder.metrics() else [])))
    for note in notes_of(folder) or ():
        if not note.content.startswith(FILE):
            continue
        now = _content(note.option, note.file)
        if now == GONE and (_value(config, note.option) is not None or not Path(note.file).parent.parent.is_dir()):
            continue
        if now != note.content:
            raise _other(folder, note)


def changed(folder: RunFolder, assembly: Assembly, own: Mapping[str, Any], split: str) -> list[Note]:
    """Files of the data, and posts of a split, that an assembly reads, where they are not those that the run noted.

    A file that has gone, or that the run had not, is among them; files of the model have no say in scores. Posts have
    the option `data.corpus`, and the digest of the split.

    Args:
        folder: the run's.
        assembly: see `files_of`; what its configuration and the run's do not name alike is left out.
        own: the run's configuration.
        split: which posts.
    """

    def named_alike(option: str) -> bool:
        return all(_value(own, name) == _value(assembly.config, name) for name in (option, *CORPUS))

    before = notes_of(folder)
    if before is not None:
        before = [note for note in before if note.option.startswith("data.")]
    files = [] if before is None else _changed(before, files_of(assembly, ["data"]))
    notes = [note for note in files if named_alike(note.option)]
    corpus, noted = assembly.data.content, splits_of(folder).get(split)
    now = corpus.digests.get(split)
    if named_alike("data.limit") and now is not None and noted not in (None, now):
        notes.append(Note("data.corpus", str(corpus.files.get(split, split)), now))
    return notes


def notes_of(folder: RunFolder) -> list[Note] | None:
    """What a run noted of its files; None where it did not."""
    try:
        return [Note(*(str(row[key]) for key in Note._fields)) for row in folder.environment()["files"]]
    except (TypeError, KeyError):
        return None


def splits_of(folder: RunFolder) -> dict[str, str]:
    """The digests of its corpus's splits that a run noted; empty where it did not."""
    digests = folder.environment().get("corpus")
    return {str(split): str(digest) for split, digest in digests.items()} if isinstance(digests, dict) else {}


def _corpus_now(config: Mapping[str, Any]) -> Corpus | None:
    """The corpus of a run, without its posts; None where it is generated, or is not there."""
    from mnerkit.data.corpus.catalogue import find_corpus
    from mnerkit.data.corpus.corpus import load_corpus

    name, root, variant = (_value(config, option) for option in CORPUS)
    if (name or "probe") == "probe":
        return None
    try:
        find_corpus(name, root, variant)
    except MnerkitError:
        return None
    return load_corpus(name, root, variant, "none", splits=())


def _check_splits(folder: RunFolder, corpus: Corpus, splits: Sequence[str]) -> None:
    noted = splits_of(folder)
    for split in splits:
        if split in noted and corpus.digests.get(split) != noted[split]:
            file = corpus.files.get(split, f"split {split} of {corpus.name}")
            raise _other(folder, Note("data.corpus", str(file), ""))


def _changed(before: list[Note], now: list[Note]) -> list[Note]:
    """What differs, by option, with its content now."""
    then, here = ({note.option: note for note in notes} for notes in (before, now))
    gone = [note._replace(content=GONE) for option, note in then.items() if option not in here]
    return [note for note in now if note.option not in then or then[note.option].content != note.content] + gone


def _content(option: str, file: str) -> str:
    """A digest of a single file; `GONE` of anything else."""
    try:
        return content_now(file) if Path(file).expanduser().is_file() else GONE
    except OSError as problem:
        raise DataError(f"--{option} {file} can't be read: {problem.strerror}.") from None


def _other(folder: RunFolder, note: Note) -> UsageError:
    return UsageError(
        f"{folder.path}: {note.file} (--{note.option}) is not what it was when this run began; "
        "put it back, or give --overwrite or another --name"
    )


def _value(config: Mapping[str, Any], option: str) -> Any:
    section, _, name = option.partition(".")
    return (config.get(section) or {}).get(name)
