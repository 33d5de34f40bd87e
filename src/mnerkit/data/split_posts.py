"""The posts of each split of a corpus, as a method gets to see them: with their own pictures, others' or grey ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Literal, get_args

from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.corpus import Corpus, check_disjoint, load_corpus
from mnerkit.data.corpus.folds import folded
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.same_post import check_unseen, counts_by_kind, described, keys_of, repeats_of, trained_posts
from mnerkit.data.options import DataOptions, Pictures
from mnerkit.data.pictures import coverage
from mnerkit.data.pictures.objects import Objects, find_objects
from mnerkit.data.pictures.relevance_scores import Relevance
from mnerkit.data.pictures.written_words import WrittenWords
from mnerkit.data.random_draws import permutation, stream
from mnerkit.errors import DataError, UsageError, did_you_mean

BLANK_SIZE = 16
BLANK_GREY = 128


def with_pictures(posts: Sequence[Post], pictures: Pictures, seed: int = 0) -> list[Post]:
    """Return `posts` with their own pictures (`right`), with others' (`shuffled`) or with grey ones (`blank`)."""
    if pictures == "right":
        return list(posts)
    if pictures == "shuffled":
        return shuffled(posts, seed)
    if pictures == "blank":
        return blanked(posts)
    choices = get_args(Pictures)
    raise UsageError(f"no pictures {pictures!r}: choose {', '.join(choices)}.{did_you_mean(pictures, choices)}")


def shuffled(posts: Sequence[Post], seed: int = 0) -> list[Post]:
    """Give each post the pictures (and captions) of another one; no post keeps its own.

    Posts without pictures stay as they are; the ground truth goes on telling of the post's own picture.
    """
    holders = [number for number, post in enumerate(posts) if post.images]
    order = [holders[place] for place in permutation(len(holders), "pictures", seed)]
    changed = list(posts)
    for receiver, giver in zip(order, order[1:] + order[:1], strict=True):
        changed[receiver] = replace(posts[receiver], images=posts[giver].images)
    return changed


def blanked(posts: Sequence[Post]) -> list[Post]:
    """Replace every picture by an evenly grey one without a caption; a missing picture becomes grey too.

    It keeps the name and the relevance score of the picture.
    """
    import numpy as np

    grey = np.full((BLANK_SIZE, BLANK_SIZE, 3), BLANK_GREY, dtype=np.uint8)
    return [
        replace(
            post, images=tuple(ImageRef(image.name, pixels=grey, relevance=image.relevance) for image in post.images)
        )
        for post in posts
    ]


TrainOn = Literal["all_train", "d_model", "d_dis"]


def part_of(posts: Sequence[Post], part: TrainOn, fraction: float, seed: int = 0) -> list[Post]:
    """The posts of one part, in their order (GIFR: D_dis ranks images, D_model trains the tagger).

    The parts are disjoint and together all of `posts`. Where a post belongs depends on the seed and the ids alone, not
    on the order of the posts.

    Args:
        posts: the training split; ids are unique.
        part: all of it, the tagger's part, or the discriminator's.
        fraction: share of the discriminator's part.
        seed: of the draw.
    """
    if part == "all_train":
        return list(posts)
    order = sorted((stream("d_dis", seed, post.id).random(), post.id) for post in posts)
    chosen = {name for _, name in order[: round(fraction * len(posts))]}
    return [post for post in posts if (post.id in chosen) == (part == "d_dis")]


class SplitPosts:
    """Posts by split, with limits, parts, pictures, objects and relevance scores applied.

    The corpus is read when it is first needed; a split is prepared once for each choice of pictures.

    Args:
        options: what is read, and what is left out.
        seed: of the sample of training posts and of shuffled pictures.
        warn: logs a text, unless it has logged one under the same key before.

    Attributes:
        objects: where the objects in the pictures come from; None until a method has looked at some.
        relevance: the relevance scores of the pictures; None until they are read, or without any.
        written: the words that are written in the pictures; likewise.
        replacements: posts that a method has put in place of a split (`replace`).
        trained_on: keys of the posts that the model was trained on (`same_post`); None: it is trained on `train`.
        trained_counts: dev and test posts that were trained on, counted by kind of key.
        left_out: ids of those that `drop_trained` left out, by split.
    """

    def __init__(self, options: DataOptions, seed: int, warn: Callable[[str, str], None]) -> None:
        self.options, self.seed = options, seed
        self.objects: Objects | None = None
        self.relevance: Relevance | None = None
        self.written: WrittenWords | None = None
        self.replacements: dict[str, list[Post]] = {}
        self.trained_on: frozenset[int] | None = None
        self.trained_counts: dict[str, dict[str, int]] = {}
        self.left_out: dict[str, set[str]] = {}
        self._trained_posts: dict[tuple[str, frozenset[int]], dict[str, str]] = {}
        self._warn = warn
        self._needs: Needs | None = None
        self._prepared: dict[tuple[str, Pictures], list[Post]] = {}

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus, read on first use.

        Raises:
            DataError: train and test share ids, and these posts are not to be left out; or posts that can't be folded.
        """
        o = self.options
        corpus = load_corpus(
            o.corpus, root=o.root, variant=o.variant, captions=o.captions, limit=o.limit, columns=o.columns
        )
        if not o.drop_trained:
            check_disjoint(corpus.splits["train"], corpus.splits["test"])
        for remark in corpus.remarks:
            self._warn(remark, remark)
        return corpus if o.folds is None or o.fold is None else folded(corpus, o.folds, o.fold)

    def connect(self, needs: Needs) -> None:
        """Prepare posts for a method from now on: which ones are left out depends on what it looks at."""
        self._needs = needs
        self._prepared.clear()

    def replace(self, train: list[Post], selection: list[Post]) -> None:
        """Put a method's own posts in place of the training split, and set others apart to select the checkpoint on."""
        self.replacements = {"train": train, "selection": selection}

    def of(self, split: str, pictures: Pictures | None = None) -> list[Post]:
        """The posts of a split.

        Args:
            split: `train`, `dev` or `test`; `all_train` is the training split, whatever part of it is trained on.
            pictures: instead of the option's.

        Raises:
            DataError: no posts are left, or objects or relevance scores that do not fit them.
        """
        if split in self.replacements:
            return self.replacements[split]
        pictures = pictures or self.options.pictures
        if (split, pictures) not in self._prepared:
            posts = self._selected(split)
            if not posts:
                skip = self.options.missing_images == "skip"
                there = " whose pictures are there (--data.missing_images skip)" if skip else ""
                raise DataError(f"corpus {self.options.corpus} has no posts in its split {split!r}{there}")
            if self._needs is not None:
                captions = self.corpus.captions
                texts = coverage.warnings(split, posts, self._needs, self.options, captions, pictures)
                for key, text in texts.items():
                    self._report(key, text)
            posts = self._with_written_words(self._with_relevance(self._with_objects(split, posts)))
            self._prepared[split, pictures] = with_pictures(posts, pictures, self.seed)
        return self._prepared[split, pictures]

    def _selected(self, split: str) -> list[Post]:
        """The posts that `train_on`, `missing_images` and the size of the training sample leave."""
        o = self.options
        posts = self.corpus.splits.get("train" if split == "all_train" else split, [])
        if split == "train":
            posts = part_of(posts, o.train_on, o.dis_fraction, o.dis_seed)
        if self._needs is not None and self._needs.picture is not None and o.missing_images == "skip":
            usable = coverage.usable(posts, self._needs)
            left_out = f"{len(posts) - len(usable)} of {len(posts)} posts are left out"
            text = f"{left_out}, their pictures are missing or broken (--data.missing_images skip)"
            self._report(split, text)
            posts = usable
        size = o.train_limit
        if o.train_fraction is not None:
            size = max(1, round(o.train_fraction * len(posts)))
        if split == "train" and size is not None:
            sample = sorted(permutation(len(posts), "train_limit", self.seed)[:size])
            posts = [posts[place] for place in sample]
        if split in ("dev", "test") and o.drop_trained and posts:
            posts = self._untrained(split, posts)
        return posts

    def training_keys(self) -> list[int]:
        """Keys of the training posts, whatever a method puts in their place."""
        return keys_of(self._selected("train"), self.corpus.name)

    def repeats(self, trained_on: frozenset[int]) -> list[int]:
        """`repeats_of` dev and test."""
        keys: set[int] = set()
        for split in ("dev", "test"):
            keys |= repeats_of(self.corpus.splits.get(split, []), self.corpus.name, self._trained(split, trained_on))
        return sorted(keys)

    def _trained(self, split: str, trained_on: frozenset[int]) -> dict[str, str]:
        """`trained_posts` of all posts of a split."""
        if (split, trained_on) not in self._trained_posts:
            posts = self.corpus.splits.get(split, [])
            self._trained_posts[split, trained_on] = trained_posts(posts, self.corpus.name, trained_on)
        return self._trained_posts[split, trained_on]

    def _untrained(self, split: str, posts: list[Post]) -> list[Post]:
        """The posts of a split that the model was not trained on; the others are counted."""
        keys = frozenset(self.training_keys()) if self.trained_on is None else self.trained_on
        train_ids = {post.id for post in self.corpus.splits["train"]}  # `check_disjoint` refuses these
        matches = self._trained(split, keys)
        trained = {post.id: matches[post.id] for post in posts if post.id in matches}
        trained |= {post.id: "id" for post in posts if post.id in train_ids}
        self.trained_counts[split] = counts = counts_by_kind(trained)
        self.left_out[split] = set(trained)
        if trained:
            text = f"{len(trained)} of {len(posts)} {split} posts are left out: the model was trained on them"
            self._warn(f"{split} trained", f"{self.corpus.name}: {text} ({described(counts)}; --data.drop_trained)")
        if len(trained) == len(posts):
            raise DataError(f"--data.drop_trained leaves no {split} post: the model was trained on all of them")
        return [post for post in posts if post.id not in trained]

    def check_unseen(self, split: str, trained_on: frozenset[int], repeats: Collection[int]) -> None:
        """Refuse dev or test posts that the model was trained on, and count those among its corpus's own repeats.

        Args:
            split: `dev` or `test`.
            trained_on: keys of the training posts.
            repeats: `repeats_of` the corpus that was trained on: the public sets hold some texts twice.

        Raises:
            DataError: there are such posts, and they are not to be left out.
        """
        posts = self.corpus.splits.get(split, [])
        if self.options.drop_trained or not posts:
            return
        trained = self._trained(split, trained_on)
        check_unseen(posts, self.corpus.name, trained, split, repeats)
        self.trained_counts[split] = counts = counts_by_kind(trained)
        if counts:
            text = f"{len(trained)} of {len(posts)} {split} posts are like a training post ({described(counts)})"
            self._warn(f"{split} trained", f"{self.corpus.name}: {text}; --data.drop_trained true leaves them out")

    def _with_objects(self, split: str, posts: list[Post]) -> list[Post]:
        """The posts with the objects in their pictures, where the method looks at them."""
        if self._needs is None or not self._needs.reads_objects:
            return posts
        if self.objects is None:
            self.objects = find_objects(self.corpus, self.options.boxes)
            if self.objects.kind == "crops" and self.options.folds is not None:
                raise UsageError(
                    "--data.folds: grounded crops are listed by the released splits.\n"
                    "Give boxes as a file (--data.boxes FILE), or none to do without."
                )
        posts = self.objects.annotated(split, posts, self.options.object_score, self.options.max_objects)
        missing = self.objects.counts[split]["missing_crops"]
        if self.options.missing_images == "error" and missing:
            raise DataError(
                f"{self.objects.path}: {missing} crops of the {split} split are missing.\n"
                "Under --data.missing_images blank or skip the others are used without them."
            )
        if summary := self.objects.summary(split):
            self._report(f"{split} objects", f"{summary} (--data.boxes {self.options.boxes or self.objects.kind})")
        return posts

    def _with_relevance(self, posts: list[Post]) -> list[Post]:
        """The posts with the relevance scores of their pictures, where there are such scores."""
        if self.options.relevance is None:
            return posts
        if self.relevance is None:
            scores = Relevance.of(self.options.relevance)
            scores.check_corpus(self.corpus)
            self.relevance = scores
        return self.relevance.annotated(posts)

    def _with_written_words(self, posts: list[Post]) -> list[Post]:
        """The posts with the words that are written in their pictures, where the method reads them."""
        if self.options.ocr is None or self._needs is None or "ocr" not in self._needs.parts:
            return posts
        if self.written is None:
            self.written = WrittenWords(self.options.ocr, self.corpus)
        return self.written.annotated(posts)

    def _report(self, key: str, text: str) -> None:
        self._warn(key, f"{self.options.corpus} {key}: {text}")

    def check_pictures_and_captions(self) -> None:
        """Refuse, before hours of training, what would end it later or make it pointless.

        Raises:
            DataError: under `missing_images: error` a picture of any split without a file; a method that reads
                captions, and training posts without one.
        """
        if self._needs is None or self.options.pictures == "blank":
            return
        if self.options.missing_images == "error":
            for split in (name for name, posts in self.corpus.splits.items() if posts):
                coverage.check_pictures(split, self.of(split), self._needs)
        if self.options.captions != "none":
            coverage.check_captions("train", self.of("train"), self._needs)

    def record(self) -> dict[str, Any]:
        """Corpus and pictures as a score must name them: plain data."""
        o, corpus = self.options, self.corpus
        record: dict[str, Any] = {
            "corpus": corpus.name,
            "variant": corpus.variant,
            "digest": corpus.digest,
            "release": corpus.release,
            "types": list(corpus.types),
            "pictures": o.pictures,
            "missing_images": o.missing_images,
            "limit": o.limit,
            "train_posts": len(self.of("train")),
        }
        if o.folds is not None:
            record |= {"folds": o.folds, "fold": o.fold}
        if o.train_on != "all_train":
            record |= {"train_on": o.train_on, "dis_fraction": o.dis_fraction, "dis_seed": o.dis_seed}
        if counts := {split: each for split, each in self.trained_counts.items() if each}:
            record["trained_on"] = {"left_out": o.drop_trained, **counts}
        if self._needs is not None and self._needs.views:
            record["max_images"] = self._needs.max_images
        if self._needs is not None and o.pictures != "blank":
            record |= coverage.record(corpus.splits, self._needs)
        if self.objects is not None:
            limits = {"max_objects": o.max_objects, "object_score": o.object_score}
            record["objects"] = {**self.objects.record(), **limits}
        if self.relevance is not None:
            record["relevance"] = self.relevance.record()
        return record
