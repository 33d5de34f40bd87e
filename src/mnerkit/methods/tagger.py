"""The tagger: an encoder and a head, trained and scored; most plugins subclass it with two or three short methods.

A `PictureTagger` has a text tower and a vision tower.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from lightning.pytorch.trainer.states import TrainerStatus
from torch import Tensor, nn

from mnerkit import registry
from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.data.batches.piece_words import PieceTags, as_pieces, first_pieces, of_words
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.data.corpus.tags import TagSet, entities
from mnerkit.errors import UsageError
from mnerkit.methods import former_interface
from mnerkit.methods.former_interface import takes_arguments
from mnerkit.methods.heads import head_options, load_head_class
from mnerkit.methods.heads.head import Head, pad_to_words
from mnerkit.methods.method import Method
from mnerkit.methods.options import (
    AbsentOptions,
    ObjectOptions,
    PictureOptions,
    TaggerOptions,
    TrunkOptions,
    WordVectorOptions,
)
from mnerkit.methods.post_states import PostStates
from mnerkit.methods.prediction import Prediction, predictions_of, rows, scores
from mnerkit.options import in_its_time, make
from mnerkit.scoring.metrics import EntityScores
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.interface import Encoder, TextTower, WordStates
from mnerkit.towers.text.piece_tower import PieceTower

if TYPE_CHECKING:
    from mnerkit.data.datamodule import MnerData


class Tagger(Method):
    """An encoder, a head, optimiser groups and metrics.

    A subclass declares its options (`options_class`), builds the encoder from towers (`make_encoder`, with
    `self.text_tower` and `self.vision_tower`), declares what the batches must contain (`needs`) and, if the paper
    weighs its losses, returns `loss_weights`.

    Attributes:
        head: made from its own options (`--model.head NAME --model.head.X VALUE`).
        encoder: made by `build`.
        released_tags: tags of pieces that begin no word, with the option `subword` (`SubwordOptions`).
    """

    options_class: ClassVar[type[TaggerOptions]] = TaggerOptions
    released_tags: ClassVar[PieceTags] = PieceTags(unused=("PAD",))
    tags_words = True
    encoder: Encoder

    def __init__(self, options: TaggerOptions | None = None, head: Head | None = None, **values: Any) -> None:
        """Store the options.

        Args:
            options: an object of `options_class`; default: made from `values`.
            head: turns word states into tags; default: a `crf`.
            values: single options by name.
        """
        super().__init__(options, **values)
        self.head = load_head_class("crf")() if head is None else head
        self._post_states: PostStates | None = None

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
        """Whether tagging needs gradients."""
        return self.head.tunes

    @property
    def can_score_entities(self) -> bool:  # type: ignore[override]
        """Whether entities can get a probability: the head has a chain of scores, and words are tagged, not pieces."""
        return type(self.head).chain is not Head.chain and self.piece_tags is None

    @property
    def piece_tags(self) -> PieceTags | None:
        """Tags of the pieces that begin no word, if every piece is tagged; None if words are."""
        how = getattr(self.options, "subword", "first")
        kinds = self.released_tags
        if how == "copy":
            return replace(kinds, later=None, unused=tuple(filter(None, (*kinds.unused, kinds.later))))
        return kinds if how == "X" else None

    def units(self, batch: Batch) -> Batch:
        """The batch of what encoder and head tag: words, or every piece as a word (`subword`)."""
        return batch if self.piece_tags is None else as_pieces(batch, self.piece_tags)

    def make_encoder(self) -> Encoder:
        """Build the encoder; get towers from `self.text_tower` and `self.vision_tower`."""
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
        # plain heads are built for the types of the corpus, episodic ones for the types of an episode
        episodic = self.train_mode == "episodic"
        types = tuple(f"type{number}" for number in range(n_way)) if episodic else facts.types
        self.head.build(self.encoder.width, TagSet(types, self._other_tags()))
        self.train()

    def _other_tags(self) -> tuple[str, ...]:
        """Tags of the head that belong to no type.

        Raises:
            UsageError: pieces are to be tagged, and the head or another option can't.
        """
        if self.piece_tags is None:
            return ()
        if not isinstance(self.towers.get("text"), PieceTower):
            raise UsageError(
                f"--model.subword {self.options.subword}: the text tower reads whole words; give first, or "
                "a tower of pieces such as tiny-bert as --model.text"
            )
        options: Any = self.head.options
        tied = getattr(options, "constrain_bio", False) or getattr(options, "transitions", "full") == "tied"
        if self.head.name not in ("softmax", "crf") or tied:
            reason = f"the head {self.head.name} tags words" if not tied else "transitions of BIO hold between words"
            raise UsageError(
                f"--model.subword {self.options.subword}: {reason}; give --model.subword first, or --model.head "
                "softmax, or crf with transitions full and constrain_bio false"
            )
        if getattr(self.options, "long_posts", "cut") == "windows":
            raise UsageError(
                f"--model.subword {self.options.subword}: windows are of words; give --model.long_posts cut"
            )
        return self.piece_tags.names

    def prepare(self, data: MnerData) -> None:
        """Store a support for prediction from the checkpoint, and let the head read the training posts."""
        if self.reads_support:
            self.support_types, self.support = data.own_support()
        ignored = data.options.out_of_play_in("train")[1] == "ignore"
        self.head.prepare(data.plain_posts(), TagSet(self.facts.types), ignored)

    # ------------------------------------------------------------------ training

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted losses of a batch."""
        batch = self.units(batch)
        encoded = self.encoder(batch)
        self.logged_scalars = encoded.logged
        return self.losses_of(encoded, batch)

    def losses_of(self, encoded: WordStates, batch: Batch) -> dict[str, Tensor]:
        """Named losses of encoded states: the head's, and the encoder's auxiliary ones."""
        return {"head": self.head.loss(encoded, batch), **encoded.losses}

    def on_train_epoch_start(self) -> None:
        """Extend `Method`: pass the number of the epoch to the encoder."""
        super().on_train_epoch_start()
        self.encoder.begin_epoch(self.current_epoch + 1)

    def trained_modules(self) -> dict[str, tuple[list[nn.Module], float | None]]:
        """Towers, the encoder's own modules, and the head."""
        return {**super().trained_modules(), "head": ([self.head], self._training.head_lr)}

    # ------------------------------------------------------------------ scoring

    @property
    def _reader(self) -> Encoder | PostStates:
        """The encoder for scoring: with cached states of posts while a Trainer scores a split."""
        # an interrupted epoch does not run its end hook, so its cache may still be there
        running = self._trainer is not None and self._trainer.state.status == TrainerStatus.RUNNING
        return self._post_states if running and self._post_states is not None else self.encoder

    def _start_cache(self) -> None:
        cacheable = self.reads_support and self.encoder.by_post and not self.head.tunes_encoder
        self._post_states = PostStates(self.encoder) if cacheable else None

    def on_predict_epoch_start(self) -> None:
        """Start a cache of encoder states: the weights do not change during the epoch."""
        self._start_cache()

    def on_predict_epoch_end(self) -> None:
        """Extend `Method`: drop the cache of encoder states."""
        super().on_predict_epoch_end()
        self._post_states = None

    def tag(self, batch: Batch) -> list[Prediction]:
        """Predictions for the query rows of a batch."""
        units = self.units(batch)
        with self.head.adapted(self._reader, units, trace=bool(self.tracing), seed=self.seed) as (head, encoded):
            chain = head.chain(encoded, units) if self.scores_entities else None
            if chain is None or type(head).decode is not Head.decode:  # a head may decode in its own way
                decoded = head.decode(encoded, units)
            else:
                decoded = pad_to_words(chain.decode(), units)
        queries = batch.places.queries
        predictions = predictions_of(batch, decoded if units is batch else of_words(decoded, batch))
        if chain is not None:
            spans = [entities(prediction.tags) for prediction in predictions]
            for prediction, probabilities in zip(predictions, chain.probabilities(decoded, spans), strict=True):
                prediction.probabilities = probabilities
        for name in self.tracing:
            if name not in encoded.trace:
                continue
            values = encoded.trace[name].float()
            if name == "attention" and units is not batch:
                values = first_pieces(values, batch)
            arrays = values.cpu().numpy()
            for row, prediction in zip(queries, predictions, strict=True):
                # attention has one row for each word, without padding
                prediction.traces[name] = arrays[row, : len(prediction.tags)] if name == "attention" else arrays[row]
        return predictions

    def answers(self, batch: Batch) -> list[Prediction]:
        """The predictions of `tag`."""
        return self.tag(batch)

    def figures(self, answers: Sequence[Prediction]) -> dict[str, Any]:
        """Lenient and strict micro P/R/F1, and per type (`mnerkit.methods.prediction.scores`)."""
        return scores(answers)

    def rows(self, answers: Iterator[Prediction] | Sequence[Prediction]) -> Iterator[dict[str, Any]]:
        """Words and entities of each post (`mnerkit.methods.prediction.rows`)."""
        return rows(answers)

    def on_validation_epoch_start(self) -> None:
        """Start new counts, for each decoding setting from which dev chooses."""
        self._start_cache()
        self.scores = [EntityScores().to(self.device) for _ in self.head.choices or (None,)]

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Count entities of the dev posts."""
        units = self.units(batch)
        with self.head.adapted(self._reader, units, seed=self.seed) as (head, encoded):
            decodings = head.decodings(encoded, units)
        for metric, decoded in zip(self.scores, decodings, strict=True):
            predictions = predictions_of(batch, decoded if units is batch else of_words(decoded, batch))
            metric.update([each.gold for each in predictions], [each.scored for each in predictions])

    def on_validation_epoch_end(self) -> None:
        """Log F1 over all ranks; `dev/f1` (lenient) selects the checkpoint and its decoding setting."""
        self._post_states = None
        computed = [metric.compute() for metric in self.scores]
        best = max(range(len(computed)), key=lambda place: computed[place]["f1"])  # the first of equals
        self.head.choose(best)
        figures = {f"dev/{name}": float(computed[best][name]) for name in ("f1", "precision", "recall", "f1_strict")}
        self.log_dict(figures, prog_bar=False, rank_zero_only=False, sync_dist=False)
        self.log("dev_f1", figures["dev/f1"], prog_bar=True, logger=False)


class PictureTagger(Tagger):
    """Base of methods that read a post and its pictures: towers, freezing, limits and views.

    A subclass builds its encoder from `make_text` and `make_sight`; the encoder stores the sight as `sight`, None if it
    uses no pictures. `views` returns the views of the pictures that it reads.
    """

    options_class: ClassVar[type[PictureOptions]] = PictureOptions
    encoder: Any

    def make_text(self) -> TextTower:
        """The text tower of the options `text`, `freeze_text`, `max_tokens` and `word_pool`; of `WordVectorOptions`."""
        o = self.options
        words = o.of_bilstm() if o.text == "bilstm" and isinstance(o, WordVectorOptions) else {}
        return self.text_tower(
            "text", o.text, freeze=o.freeze_text, max_tokens=o.max_tokens, word_pool=o.word_pool, **words
        )

    def make_sight(self, text: TextTower) -> Sight:
        """The vision tower of the options `vision` and `freeze_vision`, or a copy of `text` that reads captions."""
        o = self.options
        sight = self.sight("vision", o.vision, text, freeze=o.freeze_vision, augment=getattr(o, "augment", False))
        if isinstance(o, AbsentOptions):
            self._follow(sight, o)
        return sight

    @staticmethod
    def _follow(sight: Sight, o: AbsentOptions) -> None:
        """Let a sight read pictures as the options say.

        Raises:
            UsageError: the options are about pixels, and the sight reads captions.
        """
        others = {"absent": "mask", "picture_fit": "squeeze", "trunk_norm": "eval"}
        if sight.kind == "captions":
            for name, value in others.items():
                if getattr(o, name, value) != value:
                    raise UsageError(
                        f"--model.{name} {getattr(o, name)}: captions have no pixels; give {value} or a vision tower"
                    )
            return
        sight.absent = o.absent
        if not isinstance(o, TrunkOptions):
            return
        sight.tower.picture = replace(sight.tower.picture, fit=o.picture_fit)
        sight.tower.drifting = o.trunk_norm == "train"

    def views(self) -> tuple[str, ...]:
        """Views of the pictures: `whole`, `objects`, or both."""
        return ("whole",)

    def needs(self) -> Needs:
        """The views, with the limits of images and objects, and the relevance of images if the encoder reads it."""
        reader, sight = self.towers["text"].reader, self.encoder.sight
        if sight is None:
            return Needs(reader=reader)
        o, relevance = self.options, getattr(self.encoder, "relevance", "") == "given"
        needs = sight.needs(reader, self.views(), relevance=relevance, max_images=o.max_images)
        return replace(needs, max_objects=o.max_objects) if isinstance(o, ObjectOptions) else needs

    def prepare(self, data: MnerData) -> None:
        """Extend `Tagger`: if the encoder reads relevance, check before training that every picture has a score.

        Raises:
            DataError: a training post has a picture without a relevance score.
        """
        super().prepare(data)
        needs = self.needs()
        if not needs.relevance:
            return
        for post in data.posts("train"):
            if any(ref.relevance is None for ref in post.images[: needs.max_images]):
                data.collator()([post])  # raises an error that names the picture


def make_method(config: Mapping[str, Any]) -> Method:
    """Create a method, not yet built, from a checked configuration."""
    plugin, model = registry.get(config["plugin"]), dict(config.get("model") or {})
    head = dict(model.pop("head", None) or {"name": "crf"})
    method_class = plugin.load()
    create: Any = partial(former_interface.create, method_class) if takes_arguments(method_class) else method_class
    options = make(plugin.options_class, in_its_time(plugin.options_class, model))
    if not issubclass(method_class, Tagger):
        return create(options)
    name = head.pop("name")
    head_class = head_options(name)
    return create(options, head=load_head_class(name)(make(head_class, in_its_time(head_class, head))))
