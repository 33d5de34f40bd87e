"""The objects in the pictures of a corpus: where they come from, and what is shown of a picture."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.corpus_files import merged_mark
from mnerkit.data.corpus.post import ImageRef, PictureObject, Post
from mnerkit.data.pictures.boxes import BoxFile, PictureBoxes, placed, read_box_lines, surest
from mnerkit.data.pictures.crops import CropDict, find_dicts, read_dicts
from mnerkit.data.pictures.voc import read_voc
from mnerkit.errors import DataError, UsageError

Kind = Literal["truth", "records", "boxes", "voc", "crops", "none"]

# of a picture without known objects: its centre, then its quarters, from corner to opposite corner
FALLBACK = tuple(
    PictureObject(box, score=0.0)
    for box in (
        (0.25, 0.25, 0.75, 0.75),
        (0.0, 0.0, 0.5, 0.5),
        (0.5, 0.5, 1.0, 1.0),
        (0.5, 0.0, 1.0, 0.5),
        (0.0, 0.5, 0.5, 1.0),
    )
)
# counts of `Objects`, and how a warning words them
COUNTS = {
    "fallback": "pictures without objects are seen at set places",
    "unlisted": "of these are not in the file",
    "clipped": "boxes clipped to their picture",
    "missing_crops": "crops without a file",
    "unsure_crops": "of these lie in a folder of several splits, under a name that two of their dicts use",
    "unplaced": "boxes of missing pictures",
}


def shown_objects(ref: ImageRef, most: int) -> tuple[PictureObject, ...]:
    """The surest `most` objects of a picture that can be had; of one without any, the first `most` of `FALLBACK`."""
    objects = tuple(each for each in ref.objects if each.crop is None or each.crop.present)
    return objects[:most] or FALLBACK[:most]


@dataclass
class Objects:
    """What is known of the objects in a corpus's pictures.

    Attributes:
        kind: true boxes of the probe corpus, boxes of its own records, a file of boxes, a folder of VOC files, a folder
            of crops, or none.
        path: the file or folder.
        sha256: of the content of the files.
        about: what a file of boxes says of itself: detector, revision, threshold ...
        unknown: names in the file that no picture or post of the corpus has.
        counts: by split, of the pictures that a method looks at; by the names of `COUNTS`, and `pictures`.
    """

    kind: Kind
    path: Path | None = None
    sha256: str | None = None
    about: dict[str, Any] = field(default_factory=dict)
    unknown: int = 0
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    _boxes: BoxFile = field(default_factory=BoxFile, repr=False)
    _dicts: dict[str, CropDict] = field(default_factory=dict, repr=False)

    def annotated(self, split: str, posts: Sequence[Post], score: float = 0.0, most: int | None = None) -> list[Post]:
        """The posts with the objects in their pictures, the surest first.

        Args:
            split: of the posts.
            posts: the posts.
            score: leave out objects below it.
            most: at most this many of a picture.

        Raises:
            DataError: a box outside its picture, a box of a post with several pictures, no crop that has a file.
        """
        counts = self.counts[split] = Counter()
        done = [
            replace(post, images=tuple(self._with_objects(split, post, ref, score, most) for ref in post.images))
            for post in posts
        ]
        if counts["crops"] and counts["missing_crops"] == counts["crops"]:
            crops = self._dicts[split]
            if counts["unsure_crops"] == counts["crops"]:
                raise DataError(
                    f"{crops.path}: other dicts use the names of all its {counts['crops']} crops.\n"
                    "Give each split's crops a folder: train/crops, val/crops and test/crops, beside the dicts."
                )
            where = ", ".join(map(str, crops.files.folders)) or "any folder"
            raise DataError(
                f"{crops.path}: none of its {counts['crops']} crops is in {where}.\n"
                "Give the folder of the crops as --data.boxes, or none to do without."
            )
        return done

    def _with_objects(self, split: str, post: Post, ref: ImageRef, score: float, most: int | None) -> ImageRef:
        counts = self.counts[split]
        listed, objects = self._listed(split, post, ref)
        shown = surest((each for each in objects if each.crop is None or each.crop.present), score, most)
        ref = replace(ref, objects=shown)
        counts["pictures"] += ref.present
        if ref.present and not shown:
            counts["fallback"] += 1
            counts["unlisted"] += not listed and self.kind != "none"
        return ref

    def _listed(self, split: str, post: Post, ref: ImageRef) -> tuple[bool, Sequence[PictureObject]]:
        """Whether the file lists a picture, and its objects."""
        counts = self.counts[split]
        if self.kind == "truth":
            return True, ref.objects
        if self.kind == "records":
            return bool(ref.objects), ref.objects
        if self.kind == "crops":
            known_crops = self._dicts[split].crops if split in self._dicts else {}
            key = next((key for key in _keys(ref.name) if key in known_crops), "")
            crops = [self._crop(split, name) for name in known_crops.get(key, ())]
            counts["crops"] += len(crops)
            counts["missing_crops"] += sum(not each.present for each in crops)
            return key in known_crops, [PictureObject(None, crop=each) for each in crops]
        boxes = self._boxes_of(post, ref)
        objects = [] if boxes is None else placed(boxes, ref, counts)
        counts["unplaced"] += objects.count(None)
        return boxes is not None, [each for each in objects if each is not None]

    def _boxes_of(self, post: Post, ref: ImageRef) -> PictureBoxes | None:
        key = next((key for key in _keys(ref.name, stem=self.kind == "voc") if key in self._boxes.images), None)
        of_post = self._boxes.posts.get(post.id)
        if of_post is None:
            return None if key is None else self._boxes.images[key]
        if len(post.images) > 1:
            raise DataError(
                f"{of_post.where}: post {post.id} has {len(post.images)} pictures.\n"
                "Say which one has the boxes: 'image' in place of 'id'."
            )
        if key is not None:
            raise DataError(
                f"{of_post.where}: boxes of post {post.id}, whose picture {ref.name} has boxes by its "
                f"name, too ({self._boxes.images[key].where}).\nPut all boxes of a picture together."
            )
        return of_post

    def _crop(self, split: str, name: str) -> ImageRef:
        path = self._dicts[split].files.find(name)
        if path is not None and name in self._dicts[split].unsure:
            self.counts[split]["unsure_crops"] += 1
            path = None
        return ImageRef(name, path=path)

    @property
    def crop_folders(self) -> list[Path]:
        """Where crops are looked up; none where the objects are boxes."""
        return sorted({folder for crops in self._dicts.values() for folder in crops.files.folders})

    def summary(self, split: str) -> str:
        """The counts of a split in a line; empty where there is nothing to report."""
        counts = self.counts.get(split, Counter())
        parts = [f"{counts[name]:,} {meaning}" for name, meaning in COUNTS.items() if counts[name]]
        if self.unknown:
            parts.append(f"{self.unknown:,} names in {self.path} are of no picture of the corpus")
        if self._boxes.misnamed and split == next(iter(self.counts), split):  # once, and not for each split
            parts.append(
                f"{self._boxes.misnamed:,} files in {self.path} name another picture inside; they are read as those of "
                "the pictures that they are called like"
            )
        return "; ".join(parts)

    def record(self) -> dict[str, Any]:
        """Plain data for the record of a run."""
        about = {key: value for key, value in self.about.items() if key not in ("format", "version")}
        return {
            "source": self.kind,
            "file": None if self.path is None else self.path.name,
            "sha256": self.sha256,
            "about": about,
            "counts": {split: dict(counts) for split, counts in self.counts.items()},
        }


def find_objects(corpus: Corpus, given: str | Path | None = None) -> Objects:
    """The objects of a corpus.

    Args:
        corpus: the corpus.
        given: a file of boxes, a folder of VOC files, a folder of crops or of their dicts, or `none`. Where None: the
            truth of the probe corpus; else the boxes of its records, `<root>/boxes/<name>.jsonl`, or the released
            crops, where they are there.

    Raises:
        DataError: no such file, a file that is none of these, or that is of another corpus.
        UsageError: a folder that holds none of these.
    """
    if given == "none":
        return Objects("none")
    if given is None:
        if corpus.name == "probe":
            return Objects("truth")
        if any(ref.objects for posts in corpus.splits.values() for post in posts for ref in post.images):
            return Objects("records")
        usual = corpus.root / "boxes" / f"{corpus.name}.jsonl" if corpus.root is not None else None
        if usual is not None and usual.is_file():
            return _of_boxes(corpus, usual, "boxes")
        dicts = find_dicts(_near(corpus), corpus.name) if corpus.crops is not None else {}
        return _of_crops(corpus, corpus.crops, dicts) if dicts else Objects("none")
    path = Path(given).expanduser()
    if path.is_dir():
        dicts = find_dicts([path, *([path.parent] if path.name == "crops" else [])], corpus.name)
        if dicts:
            inside = next((each for each in (path / "crops", path / "train", path) if each.is_dir()), path)
            crops = corpus.crops if inside == path and corpus.crops is not None else path
            return _of_crops(corpus, crops, dicts)
        if any(each.suffix.lower() == ".xml" for each in path.iterdir()):
            return _of_boxes(corpus, path, "voc")
        if dicts := find_dicts([path.parent, *_near(corpus)], corpus.name):
            return _of_crops(corpus, path, dicts)
        raise UsageError(
            f"--data.boxes {path}: the folder holds neither VOC's .xml files nor {corpus.name}_train_dict.pth and crops"
        )
    if not path.is_file():
        raise DataError(f"--data.boxes {path}: there is no such file or folder.")
    return _of_boxes(corpus, path, "boxes")


def _near(corpus: Corpus) -> list[Path]:
    """Folders where the dicts of a corpus's crops may lie."""
    folders = [file.parent for file in corpus.files.values()]
    folders += [each.parent for each in folders] + [each for each in (corpus.root,) if each is not None]
    if corpus.crops is not None:
        folders += [corpus.crops, corpus.crops.parent]
    return list(dict.fromkeys(folders))


def _of_crops(corpus: Corpus, crops: Path | None, dicts: dict[str, Path]) -> Objects:
    read = read_dicts(dicts, crops)
    names = {key: str(each.path) for each in read.values() for key in each.crops}
    unknown = _unknown(corpus, names, stem=False)
    return Objects("crops", crops, _sha256(dicts.values()), unknown=unknown, _dicts=read)


def _of_boxes(corpus: Corpus, path: Path, kind: Literal["boxes", "voc"]) -> Objects:
    file = read_box_lines(path) if kind == "boxes" else read_voc(path)
    named = file.about.get("corpus")
    if named is not None and named != corpus.name:
        raise DataError(f"{path}: boxes of the corpus {str(named)[:40]!r}, not of {corpus.name!r}.")
    if not file.images and not file.posts:
        raise DataError(f"{path}: holds no boxes.")
    unknown = _unknown(corpus, {name: each.where for name, each in file.images.items()}, stem=kind == "voc")
    unknown += _unknown(corpus, {id_: each.where for id_, each in file.posts.items()}, stem=False, ids=True)
    files = [path] if kind == "boxes" else sorted(path.glob("*.[xX][mM][lL]"))
    return Objects(kind, path, _sha256(files), file.about, unknown, _boxes=file)


def _unknown(corpus: Corpus, places: dict[str, str], stem: bool, ids: bool = False) -> int:
    """How many names are of no picture (or post) of the corpus; a file is refused of which none is.

    Args:
        corpus: the corpus.
        places: where a file has each name, for the message.
        stem: names are without endings.
        ids: they are ids of posts.
    """
    names = corpus.ids if ids else corpus.pictures
    if names is None or not places:
        return 0
    keys = names if ids else {key for name in names for key in _keys(name, stem)}
    unknown = [name for name in places if name not in keys]
    if len(unknown) == len(places):
        raise DataError(
            f"{places[unknown[0]]}: {len(unknown)} of {len(places)} names are of no {'post' if ids else 'picture'} of "
            f"{corpus.name}, the first is {unknown[0][:80]!r}.\nIs it of another corpus?"
        )
    return len(unknown)


def _keys(name: str, stem: bool = False) -> list[str]:
    """What a file may call a picture: its name, without the mark of a merged release, for VOC without its ending."""
    names = [name, name.removeprefix(merged_mark(name))]
    return list(dict.fromkeys(names + ([Path(each).stem for each in names] if stem else [])))


def _sha256(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
