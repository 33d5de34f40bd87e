"""Prediction on new posts: `mnerkit.load(checkpoint).predict(posts)` and `mnerkit predict`."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.truncation import Truncation, losses
from mnerkit.data.corpus.corpus_files import ImageFolders
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.records import RecordNotes, post_of
from mnerkit.data.corpus.tags import TagSet, entities
from mnerkit.data.pictures.boxes import surest
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.errors import DataError, UsageError, first_line
from mnerkit.methods import checkpoint, model_card, model_folder, model_hub
from mnerkit.methods.evaluation import reads_windows
from mnerkit.methods.figures import maps
from mnerkit.methods.former_interface import former_attribute
from mnerkit.methods.method import Method
from mnerkit.methods.tagged_posts import TaggedPosts
from mnerkit.methods.tagger import make_method
from mnerkit.printable import counted
from mnerkit.towers.frozen.memory import FeatureMemory


class Predictor:
    """Predicts entities (or scores) of posts with a trained method.

    Args:
        method: a built method with its weights.
        support: labelled posts that replace the checkpoint's own support (only for methods that read a support).
        batch_size: posts in a batch; memory does not grow with the number of posts.

    Raises:
        UsageError: a support is given and the method reads none.
        DataError: the support is missing or has no entities.
    """

    remarks = former_attribute("remarks", "warnings")

    def __init__(self, method: Method, support: Sequence[Post] | None = None, batch_size: int = 32) -> None:
        self.method, self.batch_size = method.eval(), batch_size
        self._record: dict[str, Any] = {}
        self._path: Path | None = None
        method.scores_entities, self._threshold = method.can_score_entities, 0.0
        for tower in method.towers.values():
            # each post is predicted once: a cache would only use memory
            if tower.memory is not None:
                tower.memory = FeatureMemory(limit=0)
        needs = method.needs()
        self.loader = PictureLoader(needs.picture, policy="blank") if needs.picture else None
        # words of types out of play count in a support as they did in training
        options = method.config.get("data") or {}
        out_of_play = options.get("train_out_of_play") or options.get("out_of_play")
        ignored = method.reads_support and out_of_play == "ignore"
        # the limits of objects are those of training, too
        self._least_score, self._most_objects = options.get("object_score") or 0.0, options.get("max_objects")
        self.collator = Collator(
            needs,
            self.loader,
            TagSet(method.facts.types),
            out_of_play="ignore" if ignored else "O",
            windows=reads_windows(method, predicting=True),
        )
        self._reset_counts()
        self.support: list[Post] = []
        self.types = method.facts.types
        if method.reads_support:
            self.support = [self._limited(post) for post in (method.support if support is None else support)]
            stored = method.support_types if support is None and self.support else ()
            self.types = stored or _types_of(self.support)
        elif support is not None:
            raise UsageError(f"plugin {method.plugin!r} takes no support: its head was trained for fixed types")

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, tower_dir: str | None = None, support: Sequence[Post] | None = None
    ) -> Predictor:
        """Create the predictor of a checkpoint, or of what else `checkpoint.read` takes."""
        content = checkpoint.read(path)
        made = cls(checkpoint.restore(make_method(content["mnerkit"]["config"]), content, tower_dir), support)
        made._record, made._path = content["mnerkit"], Path(path)
        return made

    def save_pretrained(
        self, folder: str | Path, *, copy_towers: bool = False, overwrite: bool = False, name: str | None = None
    ) -> Path:
        """Write the model into a folder that `mnerkit.load` reads anywhere, with a model card and without pickles.

        Frozen towers that the hub has are named with their revision; those of local folders are copied.

        Args:
            folder: a new or empty folder.
            copy_towers: copy the hub's towers, too, so that the folder needs no network.
            overwrite: replace a saved model in the folder.
            name: of the model on its card; default: the folder's.

        Raises:
            UsageError: the folder is not free.
        """
        scores = self._record.get("scores") or (model_card.scores_beside(self._path) if self._path else None)
        about = {"scores": scores, "imported": self._record.get("imported")}
        content = model_folder.content_of(self.method, copy_towers, **about)
        return model_folder.write(content, Path(folder), name=name, overwrite=overwrite)

    def push_to_hub(self, name: str, *, private: bool = False, copy_towers: bool = False) -> str:
        """Save the model and commit it to the Hugging Face hub, as whoever is logged in there.

        Args:
            name: `owner/name`; the repository is made if there is none.
            private: make a new repository private.
            copy_towers: copy the hub's towers, too.

        Returns:
            The name with the commit, which `mnerkit.load` takes: `owner/name@revision`.

        Raises:
            UsageError: it is no name, or nobody is logged in.
            CheckpointError: the hub refused it, or can't be reached.
        """
        model_hub.check_name(name)
        with tempfile.TemporaryDirectory() as folder:
            saved = self.save_pretrained(Path(folder) / "model", copy_towers=copy_towers, name=name)
            return model_hub.push(saved, name, private)

    def stream(self, posts: Iterable[Post]) -> Iterator[Any]:
        """Yield answers in the order of `posts`, computed batch by batch."""
        source = map(self._limited, self._counted(posts))
        while chunk := list(islice(source, self.batch_size)):
            batch = self._batch(chunk)
            with self._without_gradients():
                yield from self.method.answers(batch.to(self.method.device))
            self._count_pictures(batch, chunk)

    def maps(self, kind: str, post: Post) -> Iterator[dict[str, Any]]:
        """Maps of a post (`mnerkit.methods.figures.maps.posts`), of as many of its words as a tower reads at once.

        Raises:
            UsageError: the method traces nothing of the kind.
        """
        windows, self.collator.windows = self.collator.windows, False
        try:
            batch = self._batch([self._limited(post)])
        finally:
            self.collator.windows = windows
        with self._without_gradients():
            yield from maps.posts(kind, self.method, batch.to(self.method.device))

    def _batch(self, posts: Sequence[Post]) -> Batch:
        return self.collator.episode(self.support, posts, self.types) if self.support else self.collator(posts)

    def _without_gradients(self) -> AbstractContextManager[Any]:
        # a method that tunes needs gradients within
        return torch.no_grad() if self.method.tunes else torch.inference_mode()

    @property
    def characters(self) -> bool:
        """Whether each Chinese character or kana of a text is a word, as in the training posts."""
        return self.method.facts.characters

    @property
    def threshold(self) -> float:
        """Least score of an entity in the records, from 0 to 1."""
        return self._threshold

    @threshold.setter
    def threshold(self, value: float) -> None:
        if not 0 <= value <= 1:
            raise UsageError(f"threshold {value}: give a number from 0 to 1")
        if value and not self.method.scores_entities:
            raise UsageError(
                f"threshold {value}: this method's entities have no scores (pieces are tagged, the head decodes in its "
                "own way, or nothing is tagged)"
            )
        self._threshold = value

    def rows(self, answers: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """One record for each answer, with the entities whose score reaches the threshold."""
        for row in self.method.rows(iter(answers)):
            if self._threshold:
                row["entities"] = [entity for entity in row["entities"] if entity["score"] >= self._threshold]
            yield row

    def _reset_counts(self) -> None:
        self._default_crops, self._truncated = 0, 0
        limit = getattr(self.collator.needs.reader, "max_tokens", None)
        self._lengths = Truncation(limit, self.collator.windows)
        self._missing, self._broken, self._first_problem = 0, 0, ""

    def _counted(self, posts: Iterable[Post]) -> Iterator[Post]:
        """Yield the posts; count those with more words or pictures than are read."""
        limit = self.collator.needs.max_images
        for post in posts:
            self._lengths.add(post, self.collator.needs)
            self._truncated += len(post.images) > limit
            yield post

    def _limited(self, post: Post) -> Post:
        """The post with only those objects in its pictures that would have been used in training."""
        if not any(ref.objects for ref in post.images):
            return post
        images = tuple(
            replace(ref, objects=surest(ref.objects, self._least_score, self._most_objects)) for ref in post.images
        )
        return replace(post, images=images)

    def _count_pictures(self, batch: Batch, posts: Sequence[Post]) -> None:
        """Count the pictures of a batch that are missing, broken, or lack objects; only the first problem is stored."""
        broken = batch.notes.pop("broken", {})
        missing = self.loader.missing if self.loader is not None else {}
        self._missing += len(missing)  # once a batch, however many views need it
        self._broken += len(broken)
        problems = [first_line(problem) for problem in broken.values()]
        problems += [f"{name} is missing" for name in missing]
        self._first_problem = self._first_problem or next(iter(problems), "")
        missing.clear()
        read = [ref for post in posts for ref in post.images[: self.collator.needs.max_images] if ref.present]
        self._default_crops += sum(not ref.objects and ref.name not in broken for ref in read)

    def warnings(self) -> Iterator[str]:
        """Warnings about the posts so far, one line each: pictures missing, broken, without boxes, too many; length."""
        needs = self.collator.needs
        if self._first_problem:
            counts = f"{counted(self._missing, 'picture')} missing, {self._broken} broken"
            yield f"{counts}: their posts were tagged without them; the first: {self._first_problem}"
        if "objects" in needs.views and self._default_crops:
            have = f"{counted(self._default_crops, 'picture')} {'has' if self._default_crops == 1 else 'have'}"
            yield f"{have} no 'boxes' in the input; crops at fixed places were used"
        if needs.views and self._truncated:
            used = f"the first {needs.max_images} were" if needs.max_images > 1 else "the first one was"
            posts = f"{self._truncated} of {self._lengths.posts} posts"
            yield f"{posts} have more pictures than the method reads; {used} used"
        head = getattr(self.method, "head", None)
        if self.method.scores_entities and head is not None and not head.calibrated:
            yield f"scores are uncalibrated (head {head.name}: by distances), so only their order means something"
        if text := losses(self._lengths.record()):
            can = self._lengths.words_unread and hasattr(self.method.options, "long_posts")
            cut = " (--model.long_posts auto reads them in windows)" if can else ""
            yield f"longer than {self._lengths.limit} pieces: {text}{cut}"

    def tag(self, post: Post) -> tuple[TaggedPosts, list[str]]:
        """Tag one post, whose pictures may have no files; return its record and the warnings about it.

        Raises:
            DataError: the post lacks what the method needs.
        """
        self._reset_counts()
        self.collator.check(post)
        torch.manual_seed(self.method.seed)  # of heads that tune on their support
        rows = TaggedPosts(self.rows(self.stream([post])), self.types)
        return rows, list(self.warnings())

    def predict(
        self, posts: Iterable[Mapping[str, Any]], images: str | Path | None = None, threshold: float = 0.0
    ) -> TaggedPosts:
        """Predict the entities of posts given as records; what is wrong with their pictures is warned of (`warnings`).

        Args:
            posts: `{"words": [...]}` or `{"text": "..."}`, optionally with `id` and `images` (file names), and with
                `captions`, `boxes` and `relevance`, one value for each image (see
                `mnerkit.data.corpus.records.post_of`).
            images: folder of the pictures; default: the working folder.
            threshold: least score of an entity, from 0 to 1.

        Returns:
            A list of one record for each post: id, words, text if given, and `entities` with type, word offsets
            (`start`, `end`), character offsets (`char_start`, `char_end`), text and score. Printed, it is a line a
            post; in a notebook, coloured text.

        Raises:
            UsageError: the threshold is no probability, or the method gives no scores.
            DataError: a post is invalid (the message has its number), or lacks the relevance that the method needs.
        """
        folders = ImageFolders([Path(images) if images is not None else Path()])
        notes = RecordNotes()
        numbers: dict[int, int] = {}  # ids that are numbers, by place

        def read() -> Iterator[Post]:
            for number, record in enumerate(posts):
                post = post_of(record, f"post {number}", str(number), folders, notes, self.characters)
                if post.numbered:
                    numbers[number] = int(post.id)
                yield post

        self._reset_counts()
        self.threshold = threshold
        rows = TaggedPosts(self.rows(self.stream(read())), self.types)
        for place, number in numbers.items():
            rows[place]["id"] = number
        for warning in (*self.warnings(), *notes.remarks()):
            warnings.warn(warning, stacklevel=2)
        return rows


def _types_of(support: Sequence[Post]) -> tuple[str, ...]:
    if not support:
        raise DataError("this method tags from a support set and the checkpoint contains none; give --support FILE")
    types = sorted({span.type for post in support for span in entities(post.tags or ())})
    if not types:
        raise DataError("no post of the support has an entity; label at least one entity of each type")
    return tuple(types)
