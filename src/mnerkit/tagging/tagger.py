"""The tagger: an encoder and a head, trained and scored. Every method is a subclass with two or three short methods."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import Tensor

from mnerkit.data.batch import Batch
from mnerkit.data.facts import CorpusFacts
from mnerkit.data.post import Post
from mnerkit.data.spans import entities
from mnerkit.data.tagset import TagSet
from mnerkit.data.views import Needs
from mnerkit.encoders import text_tower, vision_tower
from mnerkit.encoders.base import Encoder, TextTower, VisionTower
from mnerkit.encoders.sight import CAPTIONS, Sight
from mnerkit.encoders.text import PieceTower
from mnerkit.encoders.towers import has_weights_of, tower_from_state, tower_state
from mnerkit.errors import CheckpointError, TowerError
from mnerkit.ranges import POSITIVE, WEIGHT, Range, check
from mnerkit.tagging.heads.base import Head
from mnerkit.tagging.metrics import EntityScores
from mnerkit.tagging.optimiser import Schedule, adamw, parameter_groups


@dataclass
class Prediction:
    """What a tagger says of one post.

    Attributes:
        post: the post.
        tags: predicted BIO tags, one a word.
        types: the types that could be predicted: the corpus's, or those in play in the episode.
        episode: number of the episode, or None.
        support: ids of the episode's support posts.
        ignored: words of the post whose tags do not count (`--data.out_of_play ignore`).
        traces: per-post arrays to draw or to measure, by the names of the encoder's trace (attention (W, R) ...), when
            asked for.
    """

    post: Post
    tags: list[str]
    types: tuple[str, ...]
    episode: int | None = None
    support: tuple[str, ...] = ()
    ignored: tuple[int, ...] = ()
    traces: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def gold(self) -> list[str]:
        """The post's own tags, types that are not in play made O."""
        tagset = TagSet(self.types)
        return tagset.decode(tagset.encode(self.post.tags or ["O"] * len(self.post.words), out_of_play="O"))

    @property
    def scored(self) -> list[str]:
        """The predicted tags that are scored: an entity with an ignored word is neither right nor wrong, so O."""
        tags = list(self.tags)
        for span in entities(tags) if self.ignored else ():
            if any(span.start <= word < span.end for word in self.ignored):
                tags[span.start : span.end] = ["O"] * (span.end - span.start)
        return tags


class Tagger(lightning.LightningModule):
    """An encoder, a head, optimiser groups and metrics.

    A method subclasses it: `__init__` keeps the method's options, `make_encoder` builds the encoder from towers that
    `self.text_tower` and `self.vision_tower` hand out, `needs` says what the batches must hold, and, where the paper
    weighs its losses, `loss_weights`. Made in two steps: options first (the command line), then `build` with what is
    known of the corpus, or `restore` from a checkpoint.

    Attributes:
        head: made from its own options (`--model.head NAME --model.head.X VALUE`).
        encoder: made by `build`.
        towers: the towers by name; their states go into checkpoints.
        tracing: names of the traces that predictions carry, where the encoder has them.
        measured: named scalars of the last batch that training logs beside its losses.
        trained_on: keys of the training posts (`mnerkit.data.identity`).
        predicted: predictions of the last `Trainer.predict` on this rank.
        noted: plain data about its training that the run's metrics tell.
    """

    plugin: str = ""
    encoder: Encoder

    def __init__(
        self,
        head: Head,
        lr: float = 1e-3,
        tower_lr: float | None = None,
        head_lr: float | None = None,
        weight_decay: float = 0.01,
        schedule: Schedule = "linear",
        warmup: float = 0.06,
    ) -> None:
        """Keep the options of training.

        Args:
            head: turns word states into tags, by name (see `mnerkit plugins`).
            lr: learning rate of the method's own modules.
            tower_lr: learning rate of towers that are not frozen; default: `lr`.
            head_lr: learning rate of the head; default: `lr`.
            weight_decay: AdamW's decay of matrices (biases and norms do not decay).
            schedule: decay of the learning rates after the warm-up.
            warmup: share of all steps in which the learning rates rise from zero.
        """
        super().__init__()
        check("model", POSITIVE, lr=lr, tower_lr=tower_lr, head_lr=head_lr)
        check("model", WEIGHT, weight_decay=weight_decay)
        check("model", Range(0, 1, below=True), warmup=warmup)
        self.head = head
        self.lr, self.tower_lr, self.head_lr = lr, tower_lr, head_lr
        self.weight_decay, self.schedule, self.warmup = weight_decay, schedule, warmup
        self.towers: dict[str, TextTower | VisionTower] = {}
        self.facts = CorpusFacts(())
        self.seed = 0
        self.tracing: tuple[str, ...] = ()
        self.measured: dict[str, Tensor] = {}
        self.config: dict[str, Any] = {}
        self.support: list[Post] = []
        self.trained_on: list[int] = []
        self.predicted: list[Prediction] = []
        self.noted: dict[str, Any] = {}
        self._saved_towers: dict[str, Any] | None = None
        self._tower_dir: str | None = None
        # frozen towers from outside are not in the state dict; `load_weights` checks what must be there
        self.strict_loading = False

    # ------------------------------------------------------------------ what a method writes

    def make_encoder(self) -> Encoder:
        """Build the encoder; towers come from `self.text_tower` and `self.vision_tower`."""
        raise NotImplementedError

    def needs(self) -> Needs:
        """What the batches must hold; called after `build`."""
        raise NotImplementedError

    def loss_weights(self) -> dict[str, float]:
        """Weights of the named losses (`head` and the encoder's own); 1 where not named."""
        return {}

    def other_rates(self) -> dict[str, tuple[list[torch.nn.Module], float]]:
        """Towers or modules of the encoder with a learning rate of their own, by the name of their group."""
        return {}

    # ------------------------------------------------------------------ made in two steps

    def text_tower(self, name: str, spec: str, **options: Any) -> TextTower:
        """The text tower called `name`: new from `spec`, or as the checkpoint has it."""
        if self._saved_towers is None:
            tower = text_tower(spec, facts=self.facts, **options)
        else:
            tower = tower_from_state(self._saved(name), tower_dir=self._tower_dir)
        self.towers[name] = tower
        return tower

    def vision_tower(self, name: str, spec: str, **options: Any) -> VisionTower:
        """The vision tower called `name`: new from `spec`, or as the checkpoint has it."""
        if self._saved_towers is None:
            tower = vision_tower(spec, **options)
        else:
            tower = tower_from_state(self._saved(name), tower_dir=self._tower_dir)
        self.towers[name] = tower
        return tower

    def sight(
        self, name: str, spec: str, text: TextTower, freeze: bool = False, augment: bool = False, **options: Any
    ) -> Sight:
        """What sees the pictures: the vision tower called `name`, or a copy of `text` that reads captions.

        Args:
            name: of the tower.
            spec: a vision tower, or `captions`.
            text: the method's text tower. A copy of one from a hub or folder is frozen; one that has new weights would
                know nothing then, and trains along.
            freeze: fix the weights of the tower.
            augment: mirror and shift pictures in training, where the tower is not frozen.
            options: of a vision tower.
        """
        if spec != CAPTIONS:
            return Sight(self.vision_tower(name, spec, freeze=freeze, **options), augment)
        own = {**text.options, **({"max_tokens": text.reader.max_tokens} if isinstance(text, PieceTower) else {})}
        return Sight(self.text_tower(name, text.spec, freeze=freeze or text.loaded, **own))

    def _saved(self, name: str) -> Any:
        if name not in (self._saved_towers or {}):
            raise CheckpointError(f"the checkpoint holds no tower {name!r}; was it written by another plugin?")
        return self._saved_towers[name]  # type: ignore[index]

    def build(
        self,
        facts: CorpusFacts,
        n_way: int = 2,
        towers: dict[str, Any] | None = None,
        tower_dir: str | None = None,
    ) -> None:
        """Create encoder and head for a corpus.

        Args:
            facts: entity types and training words.
            n_way: types of an episode, for episodic heads.
            towers: saved states of the towers, when the weights come from a checkpoint.
            tower_dir: folder of a frozen tower's weights, where its own name can't be reached.
        """
        self.facts, self._saved_towers, self._tower_dir = facts, towers, tower_dir
        self.encoder = self.make_encoder()
        # plain heads number the types of the training batches, episodic ones those of an episode
        episodic = self.head.train_mode == "episodic"
        types = tuple(f"type{number}" for number in range(n_way)) if episodic else facts.types
        self.head.build(self.encoder.width, TagSet(types))
        # pretrained networks arrive in eval mode and the Trainer keeps modes: without this they would train without
        # dropout. Frozen towers stay in eval mode
        self.train()

    # ------------------------------------------------------------------ training

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted losses of a batch."""
        encoded = self.encoder(batch)
        self.measured = encoded.logged
        return {"head": self.head.loss(encoded, batch), **encoded.losses}

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Weighted sum of the losses."""
        losses, weights = self.losses(batch), self.loss_weights()
        total = torch.stack([weights.get(name, 1.0) * value for name, value in losses.items()]).sum()
        logged = {f"train/{name}": value.detach() for name, value in losses.items()}
        logged["train/loss"] = total.detach()
        logged |= {f"train/{name}": value for name, value in self.measured.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=len(batch), sync_dist=True)
        return total

    def on_train_epoch_start(self) -> None:
        """Derive all random state from (seed, epoch, rank): a resumed run draws what an undisturbed one draws."""
        state = np.random.SeedSequence([self.seed, self.current_epoch, self.global_rank]).generate_state(3)
        torch.manual_seed(int(state[0]))
        np.random.seed(int(state[1]))
        random.seed(int(state[2]))
        self.encoder.begin_epoch(self.current_epoch + 1)

    def on_train_epoch_end(self) -> None:
        """Write the features that frozen towers computed: for the workers, other ranks, and a run after a kill."""
        for tower in self.towers.values():
            if tower.memory is not None:
                tower.memory.flush()

    def configure_optimizers(self) -> Any:
        """AdamW in groups (towers, the method's own modules, head, others) and a schedule that moves every step."""
        groups = parameter_groups(self.rate_groups(), self, self.weight_decay)
        optimiser, schedule = adamw(groups, self.schedule, self.warmup, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def rate_groups(self) -> dict[str, tuple[list[torch.nn.Module], float]]:
        """Modules and learning rate of each group; each trainable tensor is in one."""
        others = self.other_rates()
        taken = {id(each) for modules, _ in others.values() for module in modules for each in module.parameters()}
        towers = [tower for tower in self.towers.values() if not all(id(each) in taken for each in tower.parameters())]
        taken |= {id(each) for tower in towers for each in tower.parameters()}
        own = torch.nn.ParameterList(each for each in self.encoder.parameters() if id(each) not in taken)
        modules: dict[str, list[torch.nn.Module]] = {"towers": [*towers], "encoder": [own], "head": [self.head]}
        rates = {"towers": self.tower_lr, "encoder": None, "head": self.head_lr}
        named = {name: (modules[name], self.lr if rate is None else rate) for name, rate in rates.items()}
        return {**named, **others}

    # ------------------------------------------------------------------ scoring

    def tag(self, batch: Batch) -> list[Prediction]:
        """Predictions for the query rows of a batch."""
        with self.head.adapted(self.encoder, batch, trace=bool(self.tracing), seed=self.seed) as (head, encoded):
            decoded = head.decode(encoded, batch)
        rows = torch.nonzero(batch.query).flatten().tolist()
        predictions = predictions_of(batch, decoded)
        for name in self.tracing:
            if name not in encoded.trace:
                continue
            arrays = encoded.trace[name].float().cpu().numpy()
            for row, prediction in zip(rows, predictions, strict=True):
                # attention is one row a word, without the padding
                prediction.traces[name] = arrays[row, : len(prediction.tags)] if name == "attention" else arrays[row]
        return predictions

    def on_validation_epoch_start(self) -> None:
        """Fresh counts, for each setting of the decoding from which dev chooses."""
        self.scores = [EntityScores().to(self.device) for _ in self.head.choices or (None,)]

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Count entities of the dev posts."""
        with self.head.adapted(self.encoder, batch, seed=self.seed) as (head, encoded):
            decodings = head.decodings(encoded, batch)
        for scores, decoded in zip(self.scores, decodings, strict=True):
            predictions = predictions_of(batch, decoded)
            scores.update([each.gold for each in predictions], [each.scored for each in predictions])

    def on_validation_epoch_end(self) -> None:
        """Log F1 over all ranks; `dev/f1` (lenient) selects the checkpoint, and the setting of the decoding in it."""
        found = [scores.compute() for scores in self.scores]
        best = max(range(len(found)), key=lambda place: found[place]["f1"])  # the first of equals
        self.head.choose(best)
        scores = found[best]
        shown = {f"dev/{name}": float(scores[name]) for name in ("f1", "precision", "recall", "f1_strict")}
        self.log_dict(shown, prog_bar=False, rank_zero_only=False, sync_dist=False)
        self.log("dev_f1", shown["dev/f1"], prog_bar=True, logger=False)

    def predict_step(self, batch: Batch, _index: int) -> None:
        """Add the predictions of a batch to `predicted`, which whoever calls `Trainer.predict` empties before."""
        self.predicted.extend(self.tag(batch))

    def on_predict_epoch_end(self) -> None:
        """As after an epoch of training."""
        self.on_train_epoch_end()

    # ------------------------------------------------------------------ checkpoints

    def stored_elsewhere(self) -> tuple[str, ...]:
        """Prefixes of the state dict that a checkpoint leaves out: frozen towers with weights in a hub or folder."""
        outside = {id(tower) for tower in self.towers.values() if tower.external}
        return tuple(f"{name}." for name, module in self.named_modules() if id(module) in outside)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trainable weights and, as plain data, all that rebuilds the rest."""
        left_out = self.stored_elsewhere()
        checkpoint["state_dict"] = {
            name: value for name, value in checkpoint["state_dict"].items() if not name.startswith(left_out or ("\0",))
        }
        checkpoint["mnerkit"] = self.record()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to continue a run with other weights of a frozen tower than those that it began with.

        Raises:
            TowerError: naming the tower.
        """
        for name, state in checkpoint["mnerkit"]["towers"].items():
            if name in self.towers and not has_weights_of(self.towers[name], state):
                raise TowerError(
                    f"tower {state['spec']}: its weights are not those that this run began with; give back the former"
                    " ones, or train anew with --overwrite"
                )

    def record(self) -> dict[str, Any]:
        """Plain data beside the weights: plugin, configuration, types and words, towers, support, training posts."""
        from mnerkit import __version__
        from mnerkit.tagging.support import support_state

        return {
            "version": __version__,
            "plugin": self.plugin,
            "config": self.config,
            "facts": self.facts.state(),
            "towers": {name: tower_state(tower) for name, tower in self.towers.items()},
            "support": support_state(self.support),
            "trained_on": torch.tensor(self.trained_on, dtype=torch.int64),
        }

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Load a checkpoint's state dict; every tensor that it must hold is there, and no other.

        Raises:
            CheckpointError: tensors are missing, unknown or of another shape.
        """
        own = self.state_dict()
        left_out = self.stored_elsewhere()
        wanted = {name for name in own if not name.startswith(left_out or ("\0",))}
        if wrong := sorted(wanted ^ set(state)):
            raise CheckpointError(
                f"the checkpoint does not fit the model: {len(wrong)} tensors differ, first {wrong[0]}"
            )
        for name, value in state.items():
            if own[name].shape != value.shape:
                shapes = f"{tuple(value.shape)}, not {tuple(own[name].shape)}"
                raise CheckpointError(f"the checkpoint does not fit the model: {name} is {shapes}")
        self.load_state_dict(state, strict=False)

    def trainable_parameters(self) -> int:
        """How many numbers are learnt."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)


def predictions_of(batch: Batch, decoded: Sequence[Sequence[int]]) -> list[Prediction]:
    """Predictions for the query rows of a batch, whose tag numbers are `decoded`."""
    rows = torch.nonzero(batch.query).flatten().tolist()
    predictions = [
        Prediction(batch.posts[row], batch.tagset.decode(numbers), batch.tagset.types, batch.episode)
        for row, numbers in zip(rows, decoded, strict=True)
    ]
    support = () if batch.episode is None else tuple(post.id for row, post in enumerate(batch.posts) if row not in rows)
    for row, prediction in zip(rows, predictions, strict=True):
        prediction.support = support
        if batch.play_mask is not None:
            counts = batch.play_mask[row, : len(prediction.tags)]
            prediction.ignored = tuple(torch.nonzero(~counts).flatten().tolist())
    return predictions


def gather(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Predictions of all ranks, in an order that does not depend on the number of ranks."""
    mine = list(predictions)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        parts: list[list[Prediction] | None] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, mine)
        mine = [prediction for part in parts for prediction in part or []]
    return sorted(mine, key=lambda each: (each.episode if each.episode is not None else -1, each.post.id))
