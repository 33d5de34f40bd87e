"""A corpus: its posts with their pictures and captions, what was counted on the way, and whose release it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.catalogue import CORPORA, Place, find_corpus
from mnerkit.data.corpus.corpus_files import SPLIT_WORDS, SPLITS, ImageFolders, crop_folder, image_folders
from mnerkit.data.corpus.dataset_folders import stem
from mnerkit.data.corpus.foreign_columns import Columns
from mnerkit.data.corpus.picture_texts import PictureTexts
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.readers import stream_posts
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.data.corpus.releases import ContentDigest, combined_digest, matching_release
from mnerkit.data.corpus.tags import orphans_and_switches
from mnerkit.errors import DataError, UsageError, did_you_mean

TYPES = ("PER", "LOC", "ORG", "MISC")
LABELS = {"OTHER": "MISC", "MIS": "MISC"}  # names that releases give to one type
_RENAMED = {f"{role}-{label}" for role in "BI" for label in LABELS}
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
    columns: str | None = None,
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
        columns: which columns of the files of a user's own folder are read, `word,_,_,tag`; recognised where None.

    Raises:
        UsageError: no such corpus, variant or split; `columns` are malformed, or the corpus is no user's own folder.
        DataError: files that are missing, malformed, ambiguous or empty; a given caption file that lacks pictures.
    """
    for split in splits:
        if split not in SPLITS:
            raise UsageError(f"no split {split!r}: {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}")
    if name == "probe" and columns is None:
        return _probe(variant or "default", splits, limit)
    reading = CorpusReading(name, root, variant, captions, splits, columns)
    posts = {split: list(reading.posts(split)) for split in reading.place.files}
    every_post = [post for each in posts.values() for post in each]
    corpus = reading.corpus()
    corpus.pictures = frozenset(ref.name for post in every_post for ref in post.images)
    corpus.ids = frozenset(post.id for post in every_post)
    corpus.split_ids = {split: frozenset(post.id for post in each) for split, each in posts.items()}
    corpus.splits = {split: list(reading.completed(posts[split][:limit])) for split in splits}
    corpus.counts = reading.checked_counts()
    return corpus


class CorpusReading:
    """One reading of a corpus's files, post by post: nothing of a post is kept.

    Attributes:
        place: where they are.
        counts: of the posts that were completed, by the names of `COUNTS`.
        captions: the file of captions that is in use.
    """

    def __init__(
        self,
        name: str,
        root: str | Path | None = None,
        variant: str | None = None,
        captions: str | Path | None = None,
        splits: Sequence[str] = (),
        columns: str | None = None,
        place: Place | None = None,
    ) -> None:
        """Find the files; the arguments are those of `load_corpus`, and its errors. `place`: where they were found.

        Raises:
            UsageError: no such corpus or variant; `columns` are malformed, or given for another than a user's folder.
            DataError: there are none, or none of one of `splits`; the captions are malformed.
        """
        self._name, self._variant = name, variant
        self._columns = None if columns is None else Columns.parse(columns)
        if columns is not None and name in CORPORA:
            raise UsageError(f"the columns of {name} are known.\nGive columns for a folder of your own.")
        self.place = place or find_corpus(name, root, variant)
        absent = [split for split in splits if split not in self.place.files]
        if absent:
            raise DataError(
                f"{self.place.folder} has no {' and no '.join(absent)} split.\n"
                "Its files are to be called train, valid (or validation, dev) and test, with .txt, .json or .jsonl."
            )
        self._folders = image_folders(self.place.name, self.place.folder, self.place.root, self.place.own)
        self._files, self._notes = ImageFolders(self._folders), RecordNotes()
        for split, file in self.place.files.items() if self.place.own and place is None else ():
            if not stem(file).endswith(SPLIT_WORDS[split]):
                self._notes.take(f"{file.name} was read as the {split} split")
        self._given_captions = captions
        self._texts = _captions(captions, self.place)
        self.captions = None if self._texts is None else self._texts.path
        self._without_caption = ""  # the first such picture
        self._tags: set[str] = set()
        self._digests: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def posts(self, split: str) -> Iterator[Post]:
        """The posts of a split as its file has them.

        Raises:
            DataError: with file and line: it is malformed, or empty.
        """
        known_types = None if self.place.own else (*TYPES, *LABELS)
        digest = ContentDigest()
        notes = RecordNotes() if split in self._digests else self._notes  # a second reading counts nothing twice
        for post in stream_posts(self.place.files[split], known_types, self._files, notes, self._columns):
            digest.add(post)
            self._tags.update(post.tags or ())
            yield post
        self._digests[split] = digest.hexdigest()

    def completed(self, posts: Iterable[Post]) -> Iterator[Post]:
        """Posts of one split with what the file does not say: labels mapped, ids unique, pictures and captions."""
        for post in _usable(posts, self.counts):
            yield self._completed(post)

    def _completed(self, post: Post) -> Post:
        """The post with mapped labels, and with files and captions of its pictures: a file's, else its own."""
        counts, tags = self.counts, post.tags or ()
        if not _RENAMED.isdisjoint(tags):
            tags = tuple(map(renamed_type, tags))
            counts["mapped_labels"] += sum(new != old for new, old in zip(tags, post.tags or (), strict=True))
        images = []
        for ref in post.images:
            path, own = self._files.find(ref.name), ref.caption if self._given_captions != "none" else None
            caption = own if self._texts is None else self._texts.of(ref.name, own)
            images.append(ImageRef(ref.name, path, ref.pixels, caption, ref.objects, ref.relevance))
            counts["missing_images"] += not images[-1].present
            if caption is None:
                counts["without_caption"] += 1
                self._without_caption = self._without_caption or ref.name
        orphans, switches = orphans_and_switches(tags)
        counts["orphans"] += orphans
        counts["switches"] += switches
        counts["images"] += len(images)
        return Post(post.id, post.words, tags, tuple(images), post.text, post.offsets, post.truth)

    def checked_counts(self) -> dict[str, int]:
        """The counts of the posts that were completed.

        Raises:
            DataError: the captions were given, and lack pictures.
        """
        lacking = self.counts["without_caption"]
        if self._given_captions not in (None, "none") and lacking:
            raise DataError(
                f"{self._given_captions} lacks the captions of {lacking} pictures of {self._name}, the first is "
                f"{self._without_caption!r}.\nIts lines must be '<picture> :<caption>', one for each picture."
            )
        return {key: self.counts[key] for key in COUNTS}

    def corpus(self) -> Corpus:
        """What is known when the posts of all splits have been read: a corpus without posts."""
        types = {LABELS.get(tag[2:], tag[2:]) for tag in self._tags if tag != "O"}
        place = self.place
        return Corpus(
            name=place.name,
            variant=self._variant or "default",
            digest=combined_digest(self._digests),
            release=matching_release(self._digests),
            types=(*(kind for kind in TYPES if kind in types), *sorted(types.difference(TYPES)))
            if place.own
            else TYPES,
            splits={},
            digests=self._digests,
            files=place.files,
            folders=self._folders,
            crops=crop_folder(place.name, place.folder, place.root),
            captions=self.captions,
            root=place.root,
            remarks=self.remarks(),
        )

    def remarks(self) -> list[str]:
        """Lines for the user about how the files were read so far."""
        return [f"{self.place.folder}: {remark}" for remark in self._notes.remarks()]


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


def _usable(posts: Iterable[Post], counts: Counter[str]) -> Iterator[Post]:
    """Posts with words, under ids that are unique within the split."""
    ids: set[str] = set()
    repeats: Counter[str] = Counter()  # of ids, few of which repeat
    for post in posts:
        if not post.words:
            counts["without_words"] += 1
            continue
        if post.id in ids:
            repeats[post.id] += 1
            counts["repeated_ids"] += 1
            post = replace(post, id=f"{post.id}#{repeats[post.id] + 1}")
        else:
            ids.add(post.id)
        yield post


def renamed_types(post: Post) -> Post:
    """The post with the types of its tags under our names (`LABELS`)."""
    return replace(post, tags=tuple(renamed_type(tag) for tag in post.tags or ()))


def renamed_type(tag: str) -> str:
    """A BIO tag with its type under our name."""
    return f"{tag[:2]}{LABELS.get(tag[2:], tag[2:])}" if tag != "O" else tag


def _captions(given: str | Path | None, place: Place) -> PictureTexts | None:
    """The captions, from the file that was given or the corpus's own."""
    path = Path(given) if given is not None else place.root / "captions" / f"{place.name}.txt"
    if given == "none" or (given is None and not path.is_file()):
        return None
    return PictureTexts(path, " :", "caption")
