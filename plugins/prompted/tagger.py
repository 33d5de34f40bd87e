"""Plugin `prompted`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.tags import tags_of
from mnerkit.data.datamodule import MnerData
from mnerkit.data.features.cache_folder import cache_folder
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.errors import UsageError
from mnerkit.methods.method import Method
from mnerkit.methods.prediction import Prediction, predictions_of, rows, scores
from mnerkit.towers.text.vocabulary import VocabularyReader
from mnerkit_plugins.prompted.endpoint import Endpoint
from mnerkit_plugins.prompted.model import PromptedModel
from mnerkit_plugins.prompted.options import PromptedOptions
from mnerkit_plugins.prompted.parsing import Parsed, parsed
from mnerkit_plugins.prompted.prompt import Prompt
from mnerkit_plugins.prompted.replies import Reply, ReplyCache

REPLIES = "replies"  # below the cache folder
SMALL = 32  # pixels of the pictures of a batch, from which nothing is read: questions hold the files
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

    def make_encoder(self) -> PromptedModel:
        """The prompt, the replies on disk, and the model.

        Raises:
            UsageError: no model is named, or nobody to ask.
            DataError: the prompt's file is missing or malformed.
        """
        o = self.options
        if o.llm is None:
            raise UsageError("--model.llm NAME is missing: the model that is asked, since scores are of that model")
        if o.endpoint is None:
            raise UsageError(f"--model.llm {o.llm}: give the server to ask as --model.endpoint URL")
        prompt = Prompt(o.prompt, o.reasons, o.pictures, o.max_images, o.max_new_tokens)
        return PromptedModel(prompt, ReplyCache(self._folder(), o.llm), Endpoint(o), o.parallel)

    def _folder(self) -> Path | None:
        """Where replies are kept: below the run's cache folder, if it has one."""
        named = (self.config.get("data") or {}).get("cache")
        return None if named == "none" else (cache_folder() if named is None else Path(named).expanduser()) / REPLIES

    def needs(self) -> Needs:
        o, reader = self.options, VocabularyReader(())
        views = {"captions": frozenset({"captions"}), "pixels": frozenset({"whole"}), "none": frozenset[str]()}
        picture = PictureFormat(SMALL) if o.pictures == "pixels" else None
        caption_reader = reader if o.pictures == "captions" else None
        return Needs(reader, views[o.pictures], picture, caption_reader=caption_reader, max_images=o.max_images)

    def prepare(self, data: MnerData) -> None:
        """Note which model is asked, and what that means for the scores."""
        o = self.options
        self.notes["language_model"] = {"name": o.llm, "endpoint": o.endpoint, "caution": CAUTION}
        self.notes["language_model"] |= {"prompt": self.encoder.prompt.digest, "requests": self.encoder.requests}

    def answers(self, batch: Batch) -> list[Answered]:
        """The predictions of the replies to a question about each query row."""
        types, queries = batch.tagset.types, batch.places.queries
        questions = [self.encoder.prompt.question(batch.posts[row], types) for row in queries]
        replies = self.encoder.replies(questions)
        read = [parsed(reply.text, batch.posts[row].words, types) for row, reply in zip(queries, replies, strict=True)]
        tags = [tags_of(each.spans, len(batch.posts[row].words)) for row, each in zip(queries, read, strict=True)]
        predictions = predictions_of(batch, [batch.tagset.encode(each) for each in tags])
        return [
            Answered(**vars(prediction), parsed=each, reply=reply)
            for prediction, each, reply in zip(predictions, read, replies, strict=True)
        ]

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Ask nothing: there is nothing to select."""

    def figures(self, answers: Sequence[Answered]) -> dict[str, Any]:
        """The scores of a tagger, and under `replies` what could not be read or placed, and tokens."""
        read = [each.parsed for each in answers]
        usage = [each.reply for each in answers]
        counts = {
            "replies": len(read),
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
