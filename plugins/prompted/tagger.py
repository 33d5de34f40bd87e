"""Plugin `prompted`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.tags import tags_of
from mnerkit.data.datamodule import MnerData
from mnerkit.data.features.cache_folder import cache_folder
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.errors import DataError, UsageError, shown
from mnerkit.methods.method import Method
from mnerkit.methods.prediction import Prediction, predictions_of, rows, scores
from mnerkit.printable import counted
from mnerkit.towers.text.vocabulary import VocabularyReader
from mnerkit_plugins.prompted.endpoint import Endpoint
from mnerkit_plugins.prompted.local_model import LocalModel
from mnerkit_plugins.prompted.model import Asked, PromptedModel
from mnerkit_plugins.prompted.options import PromptedOptions
from mnerkit_plugins.prompted.parsing import Parsed, parsed
from mnerkit_plugins.prompted.prompt import Prompt, Question
from mnerkit_plugins.prompted.replies import Reply
from mnerkit_plugins.prompted.reply_file import ReplyFile

REPLIES = "replies"  # below the cache folder
SMALL = 32  # pixels of the pictures of a batch, from which nothing is read: questions hold the files
CHARACTERS = 4  # of a token, about
CAUTION = "test labels that are public may be in what this model was trained on"


@dataclass
class Answered(Prediction):
    """A prediction that was read from a reply.

    Attributes:
        parsed: what the reply says.
        reply: the reply.
    """

    parsed: Parsed = field(default_factory=Parsed)
    reply: Reply = field(default_factory=lambda: Reply(""))


class PromptedTagger(Method):
    """A language or vision-language model that is asked for the entities; nothing is trained."""

    plugin = "prompted"
    options_class = PromptedOptions
    tags_words = True
    encoder: PromptedModel

    @property
    def reads_support(self) -> bool:  # type: ignore[override]
        """Whether the examples are the support of an episode."""
        return bool(self.options.examples == "support")

    def make_encoder(self) -> PromptedModel:
        """The prompt, whoever answers, and the tower that chooses examples.

        Raises:
            UsageError: no model is named.
            DataError: the prompt's or the replies' file is missing or malformed.
            TowerError: the model can't be had.
        """
        o = self.options
        prompt = Prompt(o.prompt, o.reasons, o.pictures, o.max_images, o.max_new_tokens)
        tower = None
        if o.examples == "nearest":
            tower = self.text_tower("text", o.text, freeze=True, max_tokens=o.max_tokens)
        return PromptedModel(prompt, self._source(), tower)

    def _source(self) -> Asked | ReplyFile:
        o = self.options
        if o.replies is not None:
            return ReplyFile(o.replies, o.llm)
        if o.llm is None:
            raise UsageError(
                "--model.llm NAME is missing: the model that is asked, here or at --model.endpoint URL; scores are of "
                "that model"
            )
        if o.endpoint is not None:
            return Endpoint(o)
        return LocalModel(o.llm, o.pictures == "pixels", o.max_new_tokens, o.batch)

    def _folder(self) -> Path | None:
        """Where replies are kept: below the run's cache folder, if it has one."""
        named = (self.config.get("data") or {}).get("cache")
        return None if named == "none" else (cache_folder() if named is None else Path(named).expanduser()) / REPLIES

    def needs(self) -> Needs:
        o = self.options
        reader = VocabularyReader(()) if self.encoder.text is None else self.encoder.text.reader
        views = {"captions": frozenset({"captions"}), "pixels": frozenset({"whole"}), "none": frozenset[str]()}
        picture = PictureFormat(SMALL) if o.pictures == "pixels" else None
        caption_reader = VocabularyReader(()) if o.pictures == "captions" else None
        return Needs(reader, views[o.pictures], picture, caption_reader=caption_reader, max_images=o.max_images)

    def prepare(self, data: MnerData) -> None:
        """Note which model is asked, choose what examples come from, and check a file of replies.

        Raises:
            DataError: replies of other posts, or with other types.
        """
        o, source, content = self.options, self.encoder.source, data.content
        self.notes["language_model"] = {"name": source.name, "endpoint": o.endpoint, "caution": CAUTION}
        self.notes["language_model"] |= {"prompt": self.encoder.prompt.digest, "requests": self.encoder.requests}
        if self.reads_support:
            self.support_types, self.support = data.own_support()
        elif o.examples == "nearest":
            self.support = [_without_pictures(post) for post in data.plain_posts()]
        if isinstance(source, ReplyFile):
            ids = {post.id for posts in content.splits.values() for post in posts}
            source.check(ids.union(*content.split_ids.values()), content.types)

    def answers(self, batch: Batch) -> list[Answered]:
        """The predictions of the replies to a question about each query row."""
        types, posts = batch.tagset.types, [batch.posts[row] for row in batch.places.queries]
        replies = self.encoder.replies(self._questions(batch), self._folder(), self.device)
        self._check_missing(posts, replies)
        read = [
            Parsed(missing=True) if reply is None else parsed(reply.text, post.words, types)
            for post, reply in zip(posts, replies, strict=True)
        ]
        tags = [tags_of(each.spans, len(post.words)) for post, each in zip(posts, read, strict=True)]
        predictions = predictions_of(batch, [batch.tagset.encode(each) for each in tags])
        return [
            Answered(**vars(prediction), parsed=each, reply=reply or Reply(""))
            for prediction, each, reply in zip(predictions, read, replies, strict=True)
        ]

    def _questions(self, batch: Batch) -> list[Question]:
        """What is asked about each query row."""
        rows = zip(batch.places.queries, self._examples(batch), strict=True)
        types = batch.tagset.types
        return [self.encoder.prompt.question(batch.posts[row], types, examples) for row, examples in rows]

    def cost(self, data: MnerData, splits: Sequence[str]) -> str:
        """Questions about the splits, replies that are there, and what the others take."""
        batches = (batch for split in splits for batch in data.loader(split, share=False))
        questions = [each for batch in batches for each in self._questions(batch)]
        asked, source = f"{counted(len(questions), 'question')} about {' and '.join(splits)}", self.encoder.source
        if isinstance(source, ReplyFile):
            there = sum(source.get(each) is not None for each in questions)
            return f"{asked}, of which {there:,} have a reply in the file"
        cache, most = self.encoder.cache(self._folder()), self.options.max_new_tokens
        left = [each for each in questions if cache.get(each.id, each.digest) is None]
        read = sum(each.characters for each in left) // CHARACTERS
        pictures = ", pictures apart" if self.options.pictures == "pixels" else ""
        return (
            f"{asked} to {source.name}, of which {len(questions) - len(left):,} are answered; "
            f"{counted(len(left), 'request')}: some {read:,} tokens to read{pictures}, and at most "
            f"{most * len(left):,} to write"
        )

    def _examples(self, batch: Batch) -> list[list[Post]]:
        """The posts that the prompt of each query row shows."""
        queries, o = batch.places.queries, self.options
        if o.examples == "support":
            support = [post for row, post in enumerate(batch.posts) if row not in set(queries)]
            return [support for _ in queries]
        if o.examples == "none":
            return [[] for _ in queries]
        text = batch.text.select(torch.tensor(queries, device=self.device))
        near = self.encoder.nearest(text, self.support, o.shots + 1, self.device)
        own = [batch.posts[row].id for row in queries]
        others = [[each for each in row if each.id != post] for row, post in zip(near, own, strict=True)]
        return [row[-o.shots :] for row in others]

    def _check_missing(self, posts: Sequence[Post], replies: Sequence[Reply | None]) -> None:
        """Refuse to tag new posts for which a file has no reply; those of a split that is scored are counted."""
        lacking = [post.id for post, reply in zip(posts, replies, strict=True) if reply is None]
        if lacking and not self.scored_pass:
            raise DataError(f"{self.options.replies} has no reply about post {shown(lacking[0])}")

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Ask nothing: there is nothing to select."""

    def figures(self, answers: Sequence[Answered]) -> dict[str, Any]:
        """The scores of a tagger, and under `replies` what could not be read or placed, and tokens."""
        read = [each.parsed for each in answers]
        usage = [each.reply for each in answers]
        counts = {
            "missing": sum(each.missing for each in read),
            "unreadable": sum(not each.readable for each in read),
            "entities": sum(len(each.spans) for each in read),
            "malformed": sum(each.malformed for each in read),
            "unknown_type": sum(len(each.unknown_types) for each in read),
            "unplaced": sum(each.unplaced for each in read),
            "prompt_tokens": sum(each.prompt_tokens or 0 for each in usage),
            "completion_tokens": sum(each.completion_tokens or 0 for each in usage),
            "uncounted": sum(each.prompt_tokens is None for each in usage),
        }
        return {**scores(answers), **{f"replies/{name}": count for name, count in counts.items()}}

    def rows(self, answers: Iterator[Prediction] | Sequence[Prediction]) -> Iterator[dict[str, Any]]:
        """Words and entities of each post (`mnerkit.methods.prediction.rows`)."""
        return rows(answers)


def _without_pictures(post: Post) -> Post:
    """The post with its captions alone, as examples show them."""
    return replace(post, images=tuple(ImageRef(ref.name, caption=ref.caption) for ref in post.images), truth=None)
