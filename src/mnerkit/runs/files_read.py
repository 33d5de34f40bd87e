"""The files that a run reads: what they held when it began, and whether they are still the same.

The splits of the corpus and the files that a run reads are noted in `env.json` with digests of what they held when it
began, so that a change is noticed. A folder of VOC files or of crops is known by its boxes or dicts as they were read.
The pictures of each split, and all crops, are noted where the method looks at them. Not noted are weights of towers,
nor frozen episodes, whose digest stands in the configuration. A run folder without notes, of an older version, is taken
as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mnerkit.data.corpus.corpus_files import SPLITS
from mnerkit.errors import DataError, MnerkitError, UsageError
from mnerkit.runs.identity import PATHS, content_now, sees_pixels
from mnerkit.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from mnerkit.data.corpus.corpus import Corpus
    from mnerkit.data.corpus.post import ImageRef
    from mnerkit.data.pictures.objects import Objects
    from mnerkit.runs.build import Assembly

# options of `PATHS` that are known by other means, and those without which a file is looked for
OTHERWISE = ("model.text", "model.vision", "model.llm", "data.episode_file")
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

    @property
    def began(self) -> str:
        """That it has changed since a run began."""
        return f"{self.file} (--{self.option}) is not what it was when this run began"


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
    captions, reads_captions = data.content.captions, assembly.method.needs().reads_captions
    if captions is not None and (reads_captions or _value(config, "data.captions") is not None):
        files["data.captions"] = str(captions)
    notes = []
    objects = data.split_posts.objects
    if objects is not None and objects.path is not None:
        if objects.kind == "boxes":
            files["data.boxes"] = str(objects.path)
        else:
            notes.append(Note("data.boxes", str(objects.path), _content_of(objects)))
    notes += [Note(option, file, _content(option, file)) for option, file in files.items()]
    return [note for note in notes if note.content != GONE]


def pictures_of(assembly: Assembly) -> dict[str, str]:
    """Digests of the pictures of each split and, as `crops`, of all crops; none where the method looks at none."""
    if not _sees_pictures(assembly.config):
        return {}
    return _digests_of_pictures(assembly.data.content, assembly.data.split_posts.objects)


def check_resumed(folder: RunFolder, now: list[Note], corpus: Corpus, pictures: Mapping[str, str]) -> list[Note]:
    """Refuse to continue a run with other files, or other posts to train on and to select by, than it began with.

    Returns:
        Posts and pictures of the other split that are not what they were: nothing has read them yet.

    Raises:
        UsageError: one holds something else, has gone, or was not there.
    """
    before = notes_of(folder)
    changes = _changes(folder, corpus, pictures, ("train", "dev", "crops"))
    for note in (*changes, *(_changed(before, now) if before is not None else ())):
        raise _other(folder, note)
    return _changes(folder, corpus, pictures, ("test",))


def check_finished(folder: RunFolder, test: bool = False) -> list[Note]:
    """Refuse to take a finished run for one with the corpus and the files as they are now.

    A corpus that has gone altogether is no change. A single file that has gone counts where no option names it, so that
    a run would do without, and where the root in which it lay is still there.

    Args:
        folder: the run's.
        test: whether its test posts count though it has no scores of them yet.

    Returns:
        Posts and pictures of test that are not what they were, where they do not count.

    Raises:
        UsageError: one holds something else, or has gone.
        DataError: one can't be read.
    """
    config, seen, notes, others = folder.config(), _noted(folder, "pictures"), notes_of(folder) or [], list[Note]()
    of_folder = [note for note in notes if not note.content.startswith(FILE)]  # VOC files, or crops
    corpus = _corpus_now(config, bool(seen)) if splits_of(folder) else None
    if corpus is not None:
        objects = _objects_now(corpus, _value(config, "data.boxes")) if of_folder or "crops" in seen else None
        scored = ("train", "dev", "crops", *(["test"] if test or "test" in folder.metrics() else []))
        pictures = _digests_of_pictures(corpus, objects) if seen else {}
        changes = _changes(folder, corpus, pictures, scored)
        changes += [note for note in of_folder if objects is not None and _content_of(objects) != note.content]
        for note in changes:
            raise _other(folder, note)
        others = _changes(folder, corpus, pictures, ("test",))
    for note in notes:
        if note in of_folder:
            continue
        now = _content(note.option, note.file)
        if now == GONE and (_value(config, note.option) is not None or not Path(note.file).parent.parent.is_dir()):
            continue
        if now != note.content:
            raise _other(folder, note)
    return others


def has_other_pictures(config: Mapping[str, Any], noted: Any) -> bool:
    """Whether a run noted other pictures (`env.json`) than are there now; a corpus that has gone is no change."""
    if not isinstance(noted, dict) or not noted:
        return False
    options = ("data.corpus", "data.root", "data.variant", "data.limit", "data.boxes")
    now = _pictures_now(*(_value(config, option) for option in options), crops="crops" in noted)
    return any(noted.get(part) != digest for part, digest in now.items())


@cache  # many runs of a sweep look at the same pictures
def _pictures_now(
    name: str | None, root: str | None, variant: str | None, limit: int | None, boxes: str | None, crops: bool
) -> dict[str, str]:
    data = {"corpus": name, "root": root, "variant": variant, "limit": limit, "boxes": boxes}
    corpus = _corpus_now({"data": data}, pictures=True)
    return {} if corpus is None else _digests_of_pictures(corpus, _objects_now(corpus, boxes) if crops else None)


def _objects_now(corpus: Corpus, boxes: str | None) -> Objects | None:
    """Objects in a corpus's pictures; None where their files have gone."""
    from mnerkit.data.pictures.objects import find_objects

    try:
        return find_objects(corpus, boxes)
    except MnerkitError:
        return None


def changed(folder: RunFolder, assembly: Assembly, own: Mapping[str, Any], split: str) -> tuple[list[Note], list[Note]]:
    """Files of the data, and posts of a split, that an assembly reads, where they are not those that the run noted.

    A file that has gone, or that the run had not, is among them; files of the model have no say in scores. Posts have
    the option `data.corpus`, pictures `data.root`, and the digest of the split.

    Args:
        folder: the run's.
        assembly: see `files_of`; what its configuration and the run's do not name alike is left out.
        own: the run's configuration.
        split: which posts.

    Returns:
        What has a say in the scores of the split, and posts and pictures of other splits.
    """

    def named_alike(option: str) -> bool:
        return all(_value(own, name) == _value(assembly.config, name) for name in (option, *CORPUS))

    before = notes_of(folder)
    if before is not None:
        before = [note for note in before if note.option.startswith("data.")]
    files = [] if before is None else _changed(before, files_of(assembly, ["data"]))
    notes = [note for note in files if named_alike(note.option)]
    if not named_alike("data.limit"):
        return notes, []
    corpus = assembly.data.content
    pictures = pictures_of(assembly) if _noted(folder, "pictures") and named_alike("data.pictures") else {}
    others = [each for each in SPLITS if each != split]
    scored = _changes(folder, corpus, pictures, (split, *(["crops"] if named_alike("data.boxes") else [])))
    return [*notes, *scored], _changes(folder, corpus, pictures, others)


def notes_of(folder: RunFolder) -> list[Note] | None:
    """What a run noted of its files; None where it did not."""
    try:
        return [Note(*(str(row[key]) for key in Note._fields)) for row in folder.environment()["files"]]
    except (TypeError, KeyError):
        return None


def splits_of(folder: RunFolder) -> dict[str, str]:
    """The digests of its corpus's splits that a run noted; empty where it did not."""
    return _noted(folder, "corpus")


def _noted(folder: RunFolder, name: str) -> dict[str, str]:
    digests = folder.environment().get(name)
    return {str(split): str(digest) for split, digest in digests.items()} if isinstance(digests, dict) else {}


def _content_of(objects: Objects) -> str:
    """What is noted of a folder of VOC files or of crops."""
    return f"{objects.kind} {objects.sha256}"


def _corpus_now(config: Mapping[str, Any], pictures: bool = False) -> Corpus | None:
    """The corpus of a run, without its posts unless `pictures` are wanted; None where it is generated or not there."""
    from mnerkit.data.corpus.catalogue import find_corpus
    from mnerkit.data.corpus.corpus import load_corpus

    name, root, variant = (_value(config, option) for option in CORPUS)
    if (name or "probe") == "probe":
        return None
    try:
        find_corpus(name, root, variant)
    except MnerkitError:
        return None
    limit, columns = _value(config, "data.limit"), _value(config, "data.columns")
    return load_corpus(name, root, variant, "none", SPLITS if pictures else (), limit, columns)


def _sees_pictures(config: Mapping[str, Any]) -> bool:
    corpus = _value(config, "data.corpus") or "probe"
    return corpus != "probe" and _value(config, "data.pictures") != "blank" and sees_pixels(config)


def _digests_of_pictures(corpus: Corpus, objects: Objects | None) -> dict[str, str]:
    """By split, a digest of the names and the content of its pictures; as `crops` one of all crops, if any."""
    digests = {
        split: _digest_of([ref.name, _picture(ref)] for post in posts for ref in post.images)
        for split, posts in corpus.splits.items()
    }
    crops = [content_now(str(folder)) for folder in objects.crop_folders] if objects is not None else []
    return digests | ({"crops": _digest_of(crops)} if crops else {})


def _picture(ref: ImageRef) -> str:
    """A digest of a picture's file; what is wrong with it where it can't be read."""
    from mnerkit.data.pictures.picture_loader import content_digest

    try:
        return content_digest(ref)
    except DataError as problem:
        return str(problem).replace(str(ref.path), ref.name)


def _digest_of(content: Iterable[Any]) -> str:
    return hashlib.sha256(json.dumps(list(content)).encode()).hexdigest()


def _changes(folder: RunFolder, corpus: Corpus, pictures: Mapping[str, str], parts: Iterable[str]) -> list[Note]:
    """Posts and pictures of some splits that a run noted, and `crops`, where they are not the same now."""
    notes, posts, seen = list[Note](), splits_of(folder), _noted(folder, "pictures")
    folders = " or ".join(map(str, corpus.folders)) or str(corpus.root)
    for part in parts:
        if posts.get(part) not in (None, now := corpus.digests.get(part)):
            notes.append(Note("data.corpus", str(corpus.files.get(part, f"split {part} of {corpus.name}")), str(now)))
        elif part in pictures and seen.get(part) not in (None, pictures[part]):
            place = str(corpus.crops) if part == "crops" else f"a picture of {part} in {folders}"
            notes.append(Note("data.boxes" if part == "crops" else "data.root", place, pictures[part]))
    return notes


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
    return UsageError(f"{folder.path}: {note.began}; put it back, or give --overwrite or another --name")


def _value(config: Mapping[str, Any], option: str) -> Any:
    section, _, name = option.partition(".")
    return (config.get(section) or {}).get(name)
