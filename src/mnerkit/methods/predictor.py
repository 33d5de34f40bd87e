"""Posts in, entities (or scores) out: `mnerkit.load(checkpoint).predict(posts)` and `mnerkit predict`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.inputs import input_post
from mnerkit.data.corpus.corpus_files import ImageFolders
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet, entities
from mnerkit.data.pictures.objects import surest
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.errors import DataError, UsageError
from mnerkit.methods import checkpoint
from mnerkit.methods.method import Method
from mnerkit.towers.frozen.memory import FeatureMemory

_log = logging.getLogger("mnerkit.methods")


class Predictor:
    """A method of a checkpoint with what it needs to read posts.

    Args:
        method: a built method with its weights.
        support: labelled posts that take the place of the checkpoint's own support (methods that read one only).
        batch_size: posts a step; memory does not grow with the number of posts.
    """

    def __init__(self, method: Method, support: Sequence[Post] | None = None, batch_size: int = 32) -> None:
        self.method, self.batch_size = method.eval(), batch_size
        for tower in method.towers.values():
            # posts to predict are seen once: nothing to remember, and memory stays flat
            if tower.memory is not None:
                tower.memory = FeatureMemory(limit=0)
        needs = method.needs()
        self.loader = PictureLoader(needs.picture, policy="blank") if needs.picture else None
        # words out of play count in a support as they did in training
        options = method.config.get("data") or {}
        ignored = method.reads_support and options.get("out_of_play") == "ignore"
        # likewise the objects that count
        self._least_score, self._most_objects = options.get("object_score") or 0.0, options.get("max_objects")
        self.collator = Collator(
            needs, self.loader, TagSet(method.facts.types), out_of_play="ignore" if ignored else "O"
        )
        self._forget()
        self.support: list[Post] = []
        self.types = method.facts.types
        if method.reads_support:
            self.support = [self._limited(post) for post in (method.support if support is None else support)]
            own = method.support_types if support is None and self.support else ()
            self.types = own or _types_of(self.support)
        elif support is not None:
            raise UsageError(f"plugin {method.plugin!r} takes no support: its head knows its types")

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, tower_dir: str | None = None, support: Sequence[Post] | None = None
    ) -> Predictor:
        """The predictor of a checkpoint."""
        return cls(checkpoint.load(path, tower_dir), support)

    def stream(self, posts: Iterable[Post]) -> Iterator[Any]:
        """Answers in the order of `posts`, a batch at a time."""
        source = map(self._limited, self._counted(posts))
        while chunk := list(islice(source, self.batch_size)):
            batch = self.collator.episode(self.support, chunk, self.types) if self.support else self.collator(chunk)
            # a method that tunes needs gradients
            with torch.no_grad() if self.method.tunes else torch.inference_mode():
                yield from self.method.answers(batch.to(self.method.device))
            self._note_pictures(batch)

    def _forget(self) -> None:
        self._posts, self._set_places, self._more = 0, 0, 0
        self._missing, self._broken, self._first_lost = 0, 0, ""

    def _counted(self, posts: Iterable[Post]) -> Iterator[Post]:
        """The posts as they come; counts pictures without objects, and posts with more than the method looks at."""
        most = self.collator.needs.max_images
        for post in posts:
            self._posts += 1
            self._more += len(post.images) > most
            self._set_places += sum(
                ref.present and all(each.score < self._least_score for each in ref.objects)
                for ref in post.images[:most]
            )
            yield post

    def _limited(self, post: Post) -> Post:
        """The post with those objects in its pictures that counted in training."""
        images = tuple(
            replace(ref, objects=surest(ref.objects, self._least_score, self._most_objects)) for ref in post.images
        )
        return replace(post, images=images)

    def _note_pictures(self, batch: Batch) -> None:
        """Count the pictures of a batch that were missing or broken; of the names only the first is kept."""
        broken = batch.notes.pop("broken", {})
        missing = self.loader.missing if self.loader is not None else {}
        self._missing += len(missing)  # once a batch, whatever views asked for it
        self._broken += len(broken)
        said = [problem.splitlines()[0] for problem in broken.values()] + [f"{name} is missing" for name in missing]
        self._first_lost = self._first_lost or next(iter(said), "")
        missing.clear()

    def remarks(self) -> Iterator[str]:
        """What was made of the pictures until now, where it was not the plain thing; a line each."""
        needs = self.collator.needs
        if self._first_lost:
            counts = f"{self._missing} pictures missing, {self._broken} broken"
            yield f"{counts}: their posts were tagged without them; the first: {self._first_lost}"
        if "objects" in needs.views and self._set_places:
            yield f"{self._set_places} pictures without 'boxes' in the input were seen at set places"
        if needs.views and self._more:
            which = f"the first {needs.max_images} were" if needs.max_images > 1 else "the first one was"
            yield f"{self._more} of {self._posts} posts have more pictures than the method looks at; {which} seen"

    def predict(self, posts: Iterable[Mapping[str, Any]], images: str | Path | None = None) -> list[dict[str, Any]]:
        """Entities of posts given as records.

        Args:
            posts: `{"words": [...]}` or `{"text": "..."}`, with `id` and `images` (file names) where there are any, and
                `captions`, `boxes` and `relevance`, one value for each image, where they are known (see `input_post`).
            images: folder of the pictures; default: the working folder.

        Returns:
            One record a post: id, words, text where given, and `entities` with type, word offsets (`start`, `end`),
            character offsets (`char_start`, `char_end`) and text.

        Raises:
            DataError: a post is not what it should be, with its number; or the method needs relevance and it has none.
        """
        folders = ImageFolders([Path(images) if images is not None else Path()])
        read = (input_post(record, f"post {number}", str(number), folders) for number, record in enumerate(posts))
        self._forget()  # of a call before
        found = list(self.method.rows(self.stream(read)))
        for remark in self.remarks():
            _log.warning("%s", remark)
        return found


def _types_of(support: Sequence[Post]) -> tuple[str, ...]:
    if not support:
        raise DataError("this method tags by a support set and the checkpoint holds none; give --support FILE")
    types = sorted({span.type for post in support for span in entities(post.tags or ())})
    if not types:
        raise DataError("no post of the support has an entity; label at least one a type")
    return tuple(types)
