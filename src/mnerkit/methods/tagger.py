"""The tagger: an encoder and a head, trained and scored. Nearly every method is one, in two or three short methods.

A `PictureTagger` has a text tower and a vision tower.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.data.corpus.tags import TagSet
from mnerkit.methods.heads import load_head_class
from mnerkit.methods.heads.head import Head
from mnerkit.methods.method import Method
from mnerkit.methods.options import ObjectOptions, PictureOptions, TaggerOptions
from mnerkit.methods.post_states import PostStates
from mnerkit.methods.prediction import Prediction, predictions_of, rows, scores
from mnerkit.scoring.metrics import EntityScores
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import Encoder, TextTower, WordStates

if TYPE_CHECKING:
    from mnerkit.data.datamodule import MnerData


class Tagger(Method):
    """An encoder, a head, optimiser groups and metrics.

    A method subclasses it: `options_class` declares its options, `make_encoder` builds the encoder from towers that
    `self.text_tower` and `self.vision_tower` hand out, `needs` says what the batches must hold, and, where the paper
    weighs its losses, `loss_weights`.

    Attributes:
        head: made from its own options (`--model.head NAME --model.head.X VALUE`).
        encoder: made by `build`.
    """

    options_class: ClassVar[type[TaggerOptions]] = TaggerOptions
    encoder: Encoder

    def __init__(self, options: TaggerOptions | None = None, head: Head | None = None, **given: Any) -> None:
        """Keep the options.

        Args:
            options: an object of `options_class`; default: made of `given`.
            head: turns word states into tags; default: a `crf`.
            given: single options by name.
        """
        super().__init__(options, **given)
        self.head = load_head_class("crf")() if head is None else head
        self._known: PostStates | None = None

    @property
    def train_mode(self) -> Literal["plain", "episodic"]:  # type: ignore[override]
        """Whether the head trains on plain batches or on episodes."""
        return self.head.train_mode

    @property
    def reads_support(self) -> bool:  # type: ignore[override]
        """Whether the head tags from a support."""
        return self.head.reads_support

    @property
    def tunes(self) -> bool:  # type: ignore[override]
        """Whether tagging takes gradients."""
        return self.head.tunes

    def make_encoder(self) -> Encoder:
        """Build the encoder; towers come from `self.text_tower` and `self.vision_tower`."""
        raise NotImplementedError

    def build(
        self,
        facts: CorpusFacts,
        n_way: int = 2,
        towers: dict[str, Any] | None = None,
        tower_dir: str | None = None,
    ) -> None:
        """Create encoder and head; see `Method.build`."""
        super().build(facts, n_way, towers, tower_dir)
        # plain heads number the types of the training batches, episodic ones those of an episode
        episodic = self.train_mode == "episodic"
        types = tuple(f"type{number}" for number in range(n_way)) if episodic else facts.types
        self.head.build(self.encoder.width, TagSet(types))
        self.train()

    def prepare(self, data: MnerData) -> None:
        """Keep a support for a model that predicts alone, and let the head look at the training posts."""
        if self.reads_support:
            self.support_types, self.support = data.own_support()
        self.head.prepare(data.plain_posts(), TagSet(self.facts.types), data.options.out_of_play == "ignore")

    # ------------------------------------------------------------------ training

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted losses of a batch."""
        encoded = self.encoder(batch)
        self.measured = encoded.logged
        return self.losses_of(encoded, batch)

    def losses_of(self, encoded: WordStates, batch: Batch) -> dict[str, Tensor]:
        """Those of states that are known: the head's and the encoder's own."""
        return {"head": self.head.loss(encoded, batch), **encoded.losses}

    def on_train_epoch_start(self) -> None:
        """As every method; and the encoder hears which epoch it is."""
        super().on_train_epoch_start()
        self.encoder.begin_epoch(self.current_epoch + 1)

    def trained_modules(self) -> dict[str, tuple[list[nn.Module], float | None]]:
        """Towers, the encoder's own modules, and the head."""
        return {**super().trained_modules(), "head": ([self.head], self._training.head_lr)}

    # ------------------------------------------------------------------ scoring

    @property
    def _reader(self) -> Encoder | PostStates:
        """What encodes posts to be scored: while a Trainer scores a split, it knows those that it has met."""
        # a pass that was broken off ended without a word
        running = self._trainer is not None and self._trainer.state.status == TrainerStatus.RUNNING
        return self._known if running and self._known is not None else self.encoder

    def _begin_reading(self) -> None:
        known = self.reads_support and self.encoder.by_post and not self.head.tunes_encoder
        self._known = PostStates(self.encoder) if known else None

    def on_predict_epoch_start(self) -> None:
        """The weights stay for this pass: no post need be encoded twice."""
        self._begin_reading()

    def on_predict_epoch_end(self) -> None:
        """As every method."""
        super().on_predict_epoch_end()
        self._known = None

    def tag(self, batch: Batch) -> list[Prediction]:
        """Predictions for the query rows of a batch."""
        with self.head.adapted(self._reader, batch, trace=bool(self.tracing), seed=self.seed) as (head, encoded):
            decoded = head.decode(encoded, batch)
        queries = torch.nonzero(batch.query).flatten().tolist()
        predictions = predictions_of(batch, decoded)
        for name in self.tracing:
            if name not in encoded.trace:
                continue
            arrays = encoded.trace[name].float().cpu().numpy()
            for row, prediction in zip(queries, predictions, strict=True):
                # attention is one row a word, without the padding
                prediction.traces[name] = arrays[row, : len(prediction.tags)] if name == "attention" else arrays[row]
        return predictions

    def answers(self, batch: Batch) -> list[Prediction]:
        """What `tag` says."""
        return self.tag(batch)

    def figures(self, answers: Sequence[Prediction]) -> dict[str, Any]:
        """Lenient and strict micro P/R/F1, and per type (`mnerkit.methods.prediction.scores`)."""
        return scores(answers)

    def rows(self, answers: Iterator[Prediction] | Sequence[Prediction]) -> Iterator[dict[str, Any]]:
        """Words and entities of each post (`mnerkit.methods.prediction.rows`)."""
        return rows(answers)

    def on_validation_epoch_start(self) -> None:
        """Fresh counts, for each setting of the decoding from which dev chooses."""
        self._begin_reading()
        self.scores = [EntityScores().to(self.device) for _ in self.head.choices or (None,)]

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Count entities of the dev posts."""
        with self.head.adapted(self._reader, batch, seed=self.seed) as (head, encoded):
            decodings = head.decodings(encoded, batch)
        for found, decoded in zip(self.scores, decodings, strict=True):
            predictions = predictions_of(batch, decoded)
            found.update([each.gold for each in predictions], [each.scored for each in predictions])

    def on_validation_epoch_end(self) -> None:
        """Log F1 over all ranks; `dev/f1` (lenient) selects the checkpoint, and the setting of the decoding in it."""
        self._known = None
        found = [each.compute() for each in self.scores]
        best = max(range(len(found)), key=lambda place: found[place]["f1"])  # the first of equals
        self.head.choose(best)
        shown = {f"dev/{name}": float(found[best][name]) for name in ("f1", "precision", "recall", "f1_strict")}
        self.log_dict(shown, prog_bar=False, rank_zero_only=False, sync_dist=False)
        self.log("dev_f1", shown["dev/f1"], prog_bar=True, logger=False)


class PictureTagger(Tagger):
    """Towers, freezing, limits and views of a method that reads a post and looks at its pictures.

    A method builds its encoder from `make_text` and `make_sight`; the encoder keeps the sight as its `sight`, None
    where it looks at nothing. `views` says what of the pictures it looks at.
    """

    options_class: ClassVar[type[PictureOptions]] = PictureOptions
    encoder: Any

    def make_text(self) -> TextTower:
        """The text tower, as the options `text`, `freeze_text`, `max_tokens` and `word_pool` have it."""
        o = self.options
        return self.text_tower("text", o.text, freeze=o.freeze_text, max_tokens=o.max_tokens, word_pool=o.word_pool)

    def make_sight(self, text: TextTower) -> Sight:
        """The vision tower, or a copy of `text` that reads captions, as `vision` and `freeze_vision` have it."""
        o = self.options
        return self.sight("vision", o.vision, text, freeze=o.freeze_vision, augment=getattr(o, "augment", False))

    def views(self) -> tuple[str, ...]:
        """What is looked at: `whole`, `objects`, or both."""
        return ("whole",)

    def needs(self) -> Needs:
        """The views, of so many images and objects, with their relevance where the encoder reads it."""
        reader, sight = self.towers["text"].reader, self.encoder.sight
        if sight is None:
            return Needs(reader=reader)
        o, relevance = self.options, getattr(self.encoder, "relevance", "") == "given"
        needs = sight.needs(reader, self.views(), relevance=relevance, max_images=o.max_images)
        return replace(needs, max_objects=o.max_objects) if isinstance(o, ObjectOptions) else needs

    def prepare(self, data: MnerData) -> None:
        """As every tagger; and posts without a relevance score that the encoder reads are refused before training.

        Raises:
            DataError: a training post has a picture without a score.
        """
        super().prepare(data)
        needs = self.needs()
        if not needs.relevance:
            return
        for post in data.posts("train"):
            if any(ref.relevance is None for ref in post.images[: needs.max_images]):
                data.collator()([post])  # refuses, naming the picture
