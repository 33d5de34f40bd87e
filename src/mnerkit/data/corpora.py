"""Corpora by name, or a user's own folder: which files belong to one, whose release it is, and its posts.

A corpus is looked up below a root folder as

- `<root>/<name>/`, `<root>/variants/<name>-<variant>/`, `<root>/variants/<variant>/` with `train`, `valid` (or `val`,
  `dev`) and `test` as `.txt`, `.json` or `.jsonl`;
- `MNER-MI_*.txt` and `MNER-UNI_*.txt` (MNER-MI-Plus) in `<root>`, `<root>/text`, or the corpus's own folder;
- the root itself, where it bears the corpus's name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mnerkit.data.layout import SPLITS, ImageFolders, crop_folder, image_folders, split_files
from mnerkit.data.post import Post
from mnerkit.data.readers import lines, read_posts
from mnerkit.data.releases import matching_release
from mnerkit.data.spans import orphans, switches
from mnerkit.errors import DataError, UsageError, did_you_mean

TYPES = ("PER", "LOC", "ORG", "MISC")
LABELS = {"OTHER": "MISC", "MIS": "MISC"}  # names that releases give to one type
COUNTS = {
    "orphans": "`I-` tags after O",
    "switches": "`I-` tags after another type",
    "mapped_labels": "tags renamed after `LABELS`",
    "images": "pictures named",
    "missing_images": "pictures without a file",
    "without_caption": "pictures without a caption",
    "without_words": "posts without words, left out",
    "repeated_ids": "posts whose id repeats within a split, renamed",
}


@dataclass(frozen=True)
class Entry:
    """A corpus that is known by name.

    Attributes:
        about: one line for a list of corpora.
        prefix: what its file names begin with in its own release.
    """

    about: str
    prefix: str = ""


CORPORA = {
    "probe": Entry("generated posts and pictures; needs no files"),
    "twitter2015": Entry("8,257 tweets with one picture each (Zhang et al. 2018)"),
    "twitter2017": Entry("4,819 tweets with one picture each (Lu et al. 2018, Yu et al. 2020)"),
    "mner-mi": Entry("8,576 tweets with several pictures (Huang et al. 2024)", "MNER-MI_"),
    "mner-mi-plus": Entry("MNER-MI and Twitter-2017 together (Huang et al. 2024)", "MNER-UNI_"),
}


@dataclass
class Corpus:
    """The posts of a corpus, and what is known of them.

    Attributes:
        name: a name of `CORPORA`, or a folder's.
        variant: whose release of the labels was asked for (`default` where none), or the preset of `probe`.
        digest: SHA-256 over the annotation content of all its files, whichever splits were asked for.
        release: the known release that this content is, or None.
        types: entity types, in a fixed order.
        splits: posts of each split that was asked for.
        counts: of those posts, by the names of `COUNTS`.
        digests: SHA-256 of each split's annotation content.
        files: annotation file of each split.
        folders: folders where its pictures are looked up.
        crops: the folder of grounded crops, where there is one.
        captions: the file of captions that is in use.
    """

    name: str
    variant: str
    digest: str
    release: str | None
    types: tuple[str, ...]
    splits: dict[str, list[Post]]
    counts: dict[str, int] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)
    crops: Path | None = None
    captions: Path | None = None


def load_corpus(
    name: str,
    root: str | Path | None = None,
    variant: str | None = None,
    captions: str | Path | None = None,
    splits: Sequence[str] = SPLITS,
    limit: int | None = None,
) -> Corpus:
    """Read a corpus.

    Args:
        name: a name of `CORPORA`, or the path of a folder with annotation files.
        root: the folder that holds the corpora; `$MNERKIT_DATA`, else `data`, where None.
        variant: a release below `<root>/variants`, or the preset of `probe`.
        captions: a file of `<picture> :<caption>` lines. Where None, `<root>/captions/<name>.txt` is used if it is
            there; `none` uses no captions.
        splits: the splits to return.
        limit: at most this many posts of each split.

    Raises:
        UsageError: no such corpus, variant or split.
        DataError: files that are missing, malformed, ambiguous or empty; a given caption file that lacks pictures.
    """
    for split in splits:
        if split not in SPLITS:
            raise UsageError(f"no split {split!r}: {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}")
    if name == "probe":
        return _probe(variant or "default", splits, limit)
    place = find_corpus(name, root, variant)
    absent = [split for split in splits if split not in place.files]
    if absent:
        raise DataError(
            f"{place.folder} has no {' and no '.join(absent)} split.\n"
            f"Its files are to be called train, valid (or dev) and test, with .txt, .json or .jsonl."
        )
    posts = {split: read_posts(file, None if place.own else (*TYPES, *LABELS)) for split, file in place.files.items()}
    digests = {split: content_digest(posts[split]) for split in posts}
    found = {tag[2:] for each in posts.values() for post in each for tag in post.tags or () if tag != "O"}
    corpus = Corpus(
        name=place.name,
        variant=variant or "default",
        digest=combined_digest(digests),
        release=matching_release(digests),
        types=_ordered({LABELS.get(kind, kind) for kind in found}) if place.own else TYPES,
        splits={},
        digests=digests,
        files=place.files,
        folders=image_folders(place.name, place.folder, place.root, place.own),
        crops=crop_folder(place.name, place.folder, place.root),
    )
    counts: Counter[str] = Counter()
    known, corpus.captions = _captions(captions, place)
    finder = ImageFolders(corpus.folders)
    for split in splits:
        corpus.splits[split] = [_completed(post, finder, known, counts) for post in _kept(posts[split][:limit], counts)]
    if captions not in (None, "none") and counts["without_caption"]:
        refs = (ref for each in corpus.splits.values() for post in each for ref in post.images)
        first = next(ref.name for ref in refs if ref.caption is None)
        raise DataError(
            f"{captions} lacks the captions of {counts['without_caption']} pictures of {name}, the first is {first!r}."
            "\nIts lines must be '<picture> :<caption>', one for each picture."
        )
    corpus.counts = {key: counts[key] for key in COUNTS}
    return corpus


@dataclass(frozen=True)
class Place:
    """Where a corpus was found: its folder, the root, its annotation files, and whether it is a user's own folder."""

    name: str
    folder: Path
    root: Path
    files: dict[str, Path]
    own: bool


def find_corpus(name: str, root: str | Path | None = None, variant: str | None = None) -> Place:
    """Find the annotation files of a corpus.

    Raises:
        UsageError: no such corpus or variant.
        DataError: no such folder, no annotation files in it, or two files for one split.
    """
    base = Path(root) if root is not None else Path(os.environ.get("MNERKIT_DATA") or "data")
    if name not in CORPORA:
        return _own(name, base if root is not None else None, variant)
    if root is not None and not base.is_dir():
        raise DataError(f"there is no folder {base}.\nGive the folder that holds {name} (--root, --data.root).")
    prefix = CORPORA[name].prefix
    if variant is not None:
        tried = [base / "variants" / f"{name}-{variant}", base / "variants" / variant]
        _check_variant(name, variant, base, tried)
    else:
        tried = [base / name]
        if prefix:
            tried += [base / name / "text", base / "text", base]
        if base.name == name:
            tried.append(base)
    for folder in tried:
        # Only a folder that bears the corpus's name may hold files without its prefix.
        prefixes = [prefix, ""] if prefix and folder.name.startswith(name) else [prefix]
        for each in prefixes:
            files = split_files(folder, each)
            if files:
                return Place(name, folder, base.parent if folder == base and base.name == name else base, files, False)
    where = ", ".join(str(folder) for folder in tried)
    raise DataError(
        f"no annotation files of {name} in {where}.\n"
        "Give the folder that holds them (--root, --data.root, or MNERKIT_DATA), or use the corpus probe,"
        " which needs no files."
    )


def content_digest(posts: Iterable[Post]) -> str:
    """SHA-256 of what posts say: ids, words, tags as the file has them, names of pictures.

    Line ends, blank lines and the file format do not matter, so the digest also certifies the reading.
    """
    whole = hashlib.sha256()
    for post in posts:
        said = [post.id, post.words, post.tags, [ref.name for ref in post.images]]
        whole.update(json.dumps(said, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    return whole.hexdigest()


def combined_digest(digests: dict[str, str]) -> str:
    """One digest from those of the splits."""
    return hashlib.sha256("".join(f"{split} {digests[split]}\n" for split in sorted(digests)).encode()).hexdigest()


def check_disjoint(train: Iterable[Post], test: Iterable[Post]) -> None:
    """Refuse posts that are trained on and tested on: the id of a post is its picture's, and unique in a corpus.

    Equal texts under different ids do not matter here (the public sets have some; `mnerkit data stats` counts them).

    Raises:
        DataError: an id is in both, with the number of such ids and the first.
    """
    seen = {post.id for post in train}
    common = [post.id for post in test if post.id in seen]
    if common:
        raise DataError(
            f"{len(common)} ids of the test posts are also in training, the first is {common[0]!r}.\n"
            "Take these posts out of one of the splits; a test figure with them means nothing."
        )


def _own(name: str, base: Path | None, variant: str | None) -> Place:
    """A user's own folder: a path, or a folder below the root."""
    paths = [Path(name)] if base is None else [base / name, Path(name)]
    folder = next((path for path in paths if path.is_dir()), None)
    if folder is None:
        if any(path.is_file() for path in paths):
            raise UsageError(f"{name} is a file.\nGive the folder that holds train, valid and test.")
        if len(Path(name).parts) > 1:
            raise DataError(f"there is no folder {name}.\nGive a corpus ({', '.join(CORPORA)}) or an existing folder.")
        raise UsageError(
            f"no corpus {name!r}: {', '.join(CORPORA)}, or the path of a folder.{did_you_mean(name, CORPORA)}"
        )
    if variant is not None:
        raise UsageError(
            f"a folder has no variants, but variant {variant!r} was given.\nGive the variant's own folder."
        )
    for prefix in ("", *(entry.prefix for entry in CORPORA.values() if entry.prefix)):
        files = split_files(folder, prefix)
        if files:
            name = folder.resolve().name
            return Place(name, folder, base if base is not None else folder.parent, files, True)
    raise DataError(
        f"no annotation files in {folder}.\n"
        "They are to be called train, valid (or dev) and test, with .txt, .json or .jsonl."
    )


def _check_variant(name: str, variant: str, base: Path, tried: list[Path]) -> None:
    if Path(variant).name != variant or variant in (".", ".."):
        raise UsageError(f"variant {variant!r} is not a name.\nIt is a folder below {base / 'variants'}.")
    if not any(folder.is_dir() for folder in tried):
        inside = base / "variants"
        there = sorted(path.name for path in inside.iterdir() if path.is_dir()) if inside.is_dir() else []
        names = [each.removeprefix(f"{name}-") for each in there if each.startswith(f"{name}-")]
        known = f"there are {', '.join(names)}" if names else f"{inside} holds none of {name}"
        raise UsageError(f"no variant {variant!r} of {name}: {known}.{did_you_mean(variant, names)}")


def _probe(preset: str, splits: Sequence[str], limit: int | None) -> Corpus:
    from mnerkit.data import probe  # here: generated only when asked for

    types = probe.types_of(preset)
    sizes = {split: min(probe.SIZES[split], limit or probe.SIZES[split]) for split in splits}
    posts = {split: probe.generate(preset, split, size=sizes[split]) for split in splits}
    digests = {split: probe.digest(posts[split]) for split in posts}
    images = sum(len(post.images) for each in posts.values() for post in each)
    return Corpus(
        name="probe",
        variant=preset,
        digest=combined_digest(digests),
        release=f"probe-{preset} version {probe.VERSION}",
        types=types,
        splits=posts,
        counts={"images": images},
        digests=digests,
    )


def _ordered(types: set[str]) -> tuple[str, ...]:
    """The usual types in the usual order, then others by name."""
    return (*(kind for kind in TYPES if kind in types), *sorted(types - set(TYPES)))


def _kept(posts: Iterable[Post], counts: Counter[str]) -> Iterable[Post]:
    """Posts with words, under ids that are unique within the split."""
    seen: Counter[str] = Counter()
    for post in posts:
        if not post.words:
            counts["without_words"] += 1
            continue
        seen[post.id] += 1
        if seen[post.id] > 1:
            counts["repeated_ids"] += 1
            post = replace(post, id=f"{post.id}#{seen[post.id]}")
        yield post


def _completed(post: Post, finder: ImageFolders, captions: dict[str, str], counts: Counter[str]) -> Post:
    """The post with mapped labels, and with files and captions of its pictures."""
    tags = tuple(f"{tag[:2]}{LABELS.get(tag[2:], tag[2:])}" if tag != "O" else tag for tag in post.tags or ())
    images = tuple(
        replace(ref, path=finder.find(ref.name), caption=_caption(ref.name, captions)) for ref in post.images
    )
    counts["orphans"] += orphans(tags)
    counts["switches"] += switches(tags)
    counts["mapped_labels"] += sum(new != old for new, old in zip(tags, post.tags or (), strict=True))
    counts["images"] += len(images)
    counts["missing_images"] += sum(not ref.present for ref in images)
    counts["without_caption"] += sum(ref.caption is None for ref in images)
    return replace(post, tags=tags, images=images)


def _caption(name: str, captions: dict[str, str]) -> str | None:
    # A caption file of Twitter-2017 also serves the merged release, which marks those names.
    return captions.get(name, captions.get(name.removeprefix("twitter2017-")))


def _captions(given: str | Path | None, place: Place) -> tuple[dict[str, str], Path | None]:
    """Captions by picture, and their file."""
    if given == "none":
        return {}, None
    path = Path(given) if given is not None else place.root / "captions" / f"{place.name}.txt"
    if given is None and not path.is_file():
        return {}, None
    found: dict[str, str] = {}
    for number, text in lines(path):
        name, separator, caption = text.partition(" :")
        if text.strip() and not separator:
            raise DataError(f"{path}:{number}: expected '<picture> :<caption>', found {text[:60]!r}.")
        if separator:
            found[name] = caption
    return found, path
