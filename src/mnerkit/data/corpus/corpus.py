"""A corpus: its posts with their pictures and captions, what was counted on the way, and whose release it is."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.catalogue import Place, find_corpus
from mnerkit.data.corpus.corpus_files import SPLITS, ImageFolders, crop_folder, image_folders
from mnerkit.data.corpus.post import PictureObject, Post
from mnerkit.data.corpus.readers import lines, read_posts
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.data.corpus.releases import matching_release
from mnerkit.data.corpus.tags import orphans, switches
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


@dataclass
class Corpus:
    """The posts of a corpus, and what is known of them.

    Attributes:
        name: a name of `CORPORA`, or a folder's.
        variant: whose release of the labels it is (`default` where none was named), or the preset of `probe`.
        digest: SHA-256 over the annotation content of all its files, whichever splits were read.
        release: the known release that this content is, or None.
        types: entity types, in a fixed order.
        splits: posts of each split that was read.
        counts: of those posts, by the names of `COUNTS`.
        digests: SHA-256 of each split's annotation content.
        files: annotation file of each split.
        folders: folders where its pictures are looked up.
        crops: the folder of grounded crops, where there is one.
        captions: the file of captions that is in use.
        root: the folder that holds it; None for a generated one.
        pictures: names of the pictures of all its posts, whichever splits were read; None where not all are known.
        ids: ids of these posts, as the files have them; None likewise.
        split_ids: the same by split; empty where not all are known.
        remarks: lines for the user about how its files were read, none of them a fault.
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
    root: Path | None = None
    pictures: frozenset[str] | None = None
    ids: frozenset[str] | None = None
    split_ids: dict[str, frozenset[str]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    @property
    def header(self) -> dict[str, Any]:
        """What the first line of a file that is made for this corpus says of it."""
        return {"corpus": self.name, "variant": self.variant, "release": self.release, "digest": self.digest}

    def unlike(self, header: Mapping[str, Any]) -> str:
        """The corpus that a file's first line names, and this one, where they differ; empty where they do not.

        Keys that the line lacks are not compared. The digest of generated posts is that of those which `limit` left, so
        they are compared by their release where the line names one.
        """
        content = "release" if self.root is None and header.get("release") is not None else "digest"
        if all(header.get(key) in (None, self.header[key]) for key in ("corpus", content)):
            return ""

        def named(header: Mapping[str, Any]) -> str:
            name, variant, digest = (str(header.get(key, "?"))[:40] for key in ("corpus", "variant", "digest"))
            return f"{name} ({variant}, digest {digest[:12]})"

        return f"of {named(header)}, and this is {named(self.header)}"


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
    folders = image_folders(place.name, place.folder, place.root, place.own)
    files, notes = ImageFolders(folders), RecordNotes()
    known_types = None if place.own else (*TYPES, *LABELS)
    posts = {split: read_posts(file, known_types, files, notes) for split, file in place.files.items()}
    digests = {split: content_digest(posts[split]) for split in posts}
    every_post = [post for each in posts.values() for post in each]
    types = {LABELS.get(tag[2:], tag[2:]) for post in every_post for tag in post.tags or () if tag != "O"}
    corpus = Corpus(
        name=place.name,
        variant=variant or "default",
        digest=combined_digest(digests),
        release=matching_release(digests),
        types=(*(kind for kind in TYPES if kind in types), *sorted(types.difference(TYPES))) if place.own else TYPES,
        splits={},
        digests=digests,
        files=place.files,
        folders=folders,
        crops=crop_folder(place.name, place.folder, place.root),
        root=place.root,
        pictures=frozenset(ref.name for post in every_post for ref in post.images),
        ids=frozenset(post.id for post in every_post),
        split_ids={split: frozenset(post.id for post in each) for split, each in posts.items()},
        remarks=[f"{place.folder}: {remark}" for remark in notes.remarks()],
    )
    counts: Counter[str] = Counter()
    texts, corpus.captions = _captions(captions, place)
    for split in splits:
        corpus.splits[split] = [
            _completed(post, files, texts, counts, captions != "none") for post in _usable(posts[split][:limit], counts)
        ]
    if captions not in (None, "none") and counts["without_caption"]:
        refs = (ref for each in corpus.splits.values() for post in each for ref in post.images)
        first = next(ref.name for ref in refs if ref.caption is None)
        raise DataError(
            f"{captions} lacks the captions of {counts['without_caption']} pictures of {name}, the first is {first!r}."
            "\nIts lines must be '<picture> :<caption>', one for each picture."
        )
    corpus.counts = {key: counts[key] for key in COUNTS}
    return corpus


def content_digest(posts: Iterable[Post]) -> str:
    """SHA-256 of the content of posts: ids, words, tags as the file has them, picture names and what is said of them.

    Line ends, blank lines and the file format do not matter, so the digest also certifies the reading.
    """
    whole = hashlib.sha256()
    for post in posts:
        content: list[Any] = [post.id, post.words, post.tags, [ref.name for ref in post.images]]
        annotations = [[ref.caption, ref.relevance, [_object(each) for each in ref.objects]] for ref in post.images]
        if any(part for each in annotations for part in each) or any(ref.relevance == 0 for ref in post.images):
            content.append(annotations)
        whole.update(json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    return whole.hexdigest()


def _object(each: PictureObject) -> list[Any]:
    return [each.box, each.score, each.label]


def combined_digest(digests: dict[str, str]) -> str:
    """One digest from those of the splits."""
    return hashlib.sha256("".join(f"{split} {digests[split]}\n" for split in sorted(digests)).encode()).hexdigest()


def check_disjoint(train: Iterable[Post], test: Iterable[Post]) -> None:
    """Refuse posts that are trained on and tested on: the id of a post is its picture's, and unique in a corpus.

    Equal texts under different ids do not matter here (the public sets have some; `mnerkit data stats` counts them).

    Raises:
        DataError: an id is in both, with the number of such ids and the first.
    """
    train_ids = {post.id for post in train}
    common = [post.id for post in test if post.id in train_ids]
    if common:
        raise DataError(
            f"{len(common)} ids of the test posts are also in training, the first is {common[0]!r}.\n"
            "Take these posts out of one of the splits; a test figure with them means nothing."
        )


def _probe(preset: str, splits: Sequence[str], limit: int | None) -> Corpus:
    from mnerkit.data import probe  # here: generated only when it is needed

    types = probe.types_of(preset)
    sizes = {split: min(probe.SIZES[split], limit or probe.SIZES[split]) for split in splits}
    posts = {split: probe.generate(preset, split, size=sizes[split]) for split in splits}
    digests = {split: probe.digest(posts[split]) for split in posts}
    every_post = [post for each in posts.values() for post in each]
    return Corpus(
        name="probe",
        variant=preset,
        digest=combined_digest(digests),
        release=f"probe-{preset} version {probe.VERSION}",
        types=types,
        splits=posts,
        counts={"images": sum(len(post.images) for post in every_post)},
        digests=digests,
        pictures=None if limit else frozenset(ref.name for post in every_post for ref in post.images),
        ids=None if limit else frozenset(post.id for post in every_post),
    )


def _usable(posts: Iterable[Post], counts: Counter[str]) -> Iterable[Post]:
    """Posts with words, under ids that are unique within the split."""
    id_counts: Counter[str] = Counter()
    for post in posts:
        if not post.words:
            counts["without_words"] += 1
            continue
        id_counts[post.id] += 1
        if id_counts[post.id] > 1:
            counts["repeated_ids"] += 1
            post = replace(post, id=f"{post.id}#{id_counts[post.id]}")
        yield post


def renamed_types(post: Post) -> Post:
    """The post with the types of its tags under our names (`LABELS`)."""
    return replace(post, tags=tuple(renamed_type(tag) for tag in post.tags or ()))


def renamed_type(tag: str) -> str:
    """A BIO tag with its type under our name."""
    return f"{tag[:2]}{LABELS.get(tag[2:], tag[2:])}" if tag != "O" else tag


def _completed(
    post: Post, files: ImageFolders, captions: dict[str, str], counts: Counter[str], own_captions: bool
) -> Post:
    """The post with mapped labels, and with files and captions of its pictures: a file's, else its own."""
    tags = renamed_types(post).tags or ()
    images = tuple(
        replace(
            ref,
            path=files.find(ref.name),
            caption=_caption(ref.name, captions, ref.caption if own_captions else None),
        )
        for ref in post.images
    )
    counts["orphans"] += orphans(tags)
    counts["switches"] += switches(tags)
    counts["mapped_labels"] += sum(new != old for new, old in zip(tags, post.tags or (), strict=True))
    counts["images"] += len(images)
    counts["missing_images"] += sum(not ref.present for ref in images)
    counts["without_caption"] += sum(ref.caption is None for ref in images)
    return replace(post, tags=tags, images=images)


def _caption(name: str, captions: dict[str, str], default: str | None) -> str | None:
    # A caption file of Twitter-2017 also serves the merged release, which marks those names.
    return captions.get(name, captions.get(name.removeprefix("twitter2017-"), default))


def _captions(given: str | Path | None, place: Place) -> tuple[dict[str, str], Path | None]:
    """Captions by picture, and their file."""
    if given == "none":
        return {}, None
    path = Path(given) if given is not None else place.root / "captions" / f"{place.name}.txt"
    if given is None and not path.is_file():
        return {}, None
    texts: dict[str, str] = {}
    for number, text in lines(path):
        name, separator, caption = text.partition(" :")
        if text.strip() and not separator:
            raise DataError(f"{path}:{number}: expected '<picture> :<caption>', found {text[:60]!r}.")
        if separator and texts.setdefault(name, caption) != caption:
            raise DataError(f"{path}:{number}: another caption of {name[:80]!r} than above; keep one.")
    return texts, path
