"""The base class of all methods, which train, save checkpoints and answer for posts. Nearly all are taggers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import lightning.pytorch as lightning
import numpy as np
import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.errors import CheckpointError, TowerError
from mnerkit.methods.finite_loss import FiniteLosses
from mnerkit.methods.former_interface import adopt, former_attribute, options_of, takes_arguments
from mnerkit.methods.optimiser import adamw, bert_adam, parameter_groups
from mnerkit.methods.options import MethodOptions
from mnerkit.options import Options, make
from mnerkit.release import RELEASE
from mnerkit.towers.owner import TowerOwner
from mnerkit.towers.saved_state import has_weights_of, tower_state

if TYPE_CHECKING:
    from mnerkit.data.datamodule import MnerData


class Method(TowerOwner, lightning.LightningModule):
    """Base class of every plugin's method: towers, a network over them, optimiser groups and checkpoints.

    A subclass declares its inputs (`needs`), builds its network (`make_encoder`), computes its losses (`losses`) and
    its answers for each post (`answers`), selects the checkpoint on dev (`validation_step`, `monitor`), and turns
    answers into scores and records (`figures`, `rows`). `mnerkit.methods.tagger.Tagger` implements all but the first
    two for methods that tag words.

    A method is created in two steps: first from its options (the command line), then by `build` with the facts of the
    corpus, or by `mnerkit.methods.checkpoint.restore`.

    Attributes:
        plugin: name of the plugin.
        options_class: declares the options (`--model.X`).
        options: an object of that class.
        monitor: the dev score that selects the checkpoint; the largest is best.
        train_mode: whether it trains on plain batches or on episodes; the datamodule follows it.
        reads_support: whether it answers from a support, so that dev and test are episodes.
        tunes: whether answering needs gradients.
        tags_words: whether its answers are the tags of words (`mnerkit.methods.prediction.Prediction`).
        encoder: the network, made by `build`.
        tracing: names of the traces that answers include, if the encoder has them.
        can_score_entities: whether answers can hold a probability for each entity.
        scores_entities: whether they do.
        logged_scalars: named scalars of the last batch that training logs beside the losses.
        notes: plain data about the training for the run's metrics.
        support, support_types: labelled posts from which a method answers by default, and the types in play there.
        trained_on, repeats: keys (`data.corpus.same_post`) of training posts; of dev and test posts that are like one.
        predicted: answers of the last `Trainer.predict` on this rank.
        scored_pass: what `Trainer.predict` is scoring: a split, and which pictures where these are not the posts' own.
        finite_losses: counts the training steps of the epoch with finite losses.
    """

    plugin: str = ""
    options_class: ClassVar[type[MethodOptions]] = MethodOptions
    monitor: ClassVar[str] = "dev/f1"
    train_mode: Literal["plain", "episodic"] = "plain"
    reads_support: bool = False
    tunes: bool = False
    tags_words: bool = False
    can_score_entities: bool = False
    encoder: nn.Module
    noted = former_attribute("noted", "notes")
    measured = former_attribute("measured", "logged_scalars")

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Declare the options of a class that takes them as arguments, as plugins of release 0.1.0 do."""
        super().__init_subclass__(**keywords)
        adopt(cls, {"leave": "export"})
        if takes_arguments(cls):
            cls.options_class = cast(type[MethodOptions], options_of(cls, cls.options_class))

    def __init__(self, options: MethodOptions | None = None, **values: Any) -> None:
        """Store the options.

        Args:
            options: an object of `options_class`; default: made from `values`.
            values: single options by name.

        Raises:
            UsageError: an option is unknown or has an invalid value.
        """
        super().__init__()
        # a class of an earlier release may pass something else as the first argument
        if not isinstance(options, Options | None):
            raise TypeError(
                f"expected {self.options_class.__name__} first, got {type(options).__name__}; pass a head as head=..."
            )
        kind: Any = next(each for each in type(self).__mro__ if not takes_arguments(each))
        self.options: Any = make(kind.options_class, values) if options is None else options
        self._training: Any = self.options
        self.facts, self.seed = CorpusFacts(()), 0
        self.tracing: tuple[str, ...] = ()
        self.scores_entities = False
        self.logged_scalars: dict[str, Tensor] = {}
        self.notes: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.support: list[Post] = []
        self.support_types: tuple[str, ...] = ()
        self.trained_on, self.repeats = list[int](), list[int]()
        self.predicted: list[Any] = []
        self.scored_pass = ""
        self.finite_losses = FiniteLosses()
        # frozen pretrained towers are not in the state dict; `load_weights` checks the rest
        self.strict_loading = False

    # ------------------------------------------------------------------ hooks of a method

    def make_encoder(self) -> nn.Module:
        """Build the network; get towers from `self.text_tower` and `self.vision_tower`."""
        raise NotImplementedError

    def needs(self) -> Needs:
        """What the batches must contain; called after `build`."""
        raise NotImplementedError

    def reading(self) -> str | None:
        """One line that says which reading of its paper is trained, printed as training begins; None prints nothing."""
        return None

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted losses of a batch."""
        raise NotImplementedError

    def loss_weights(self) -> dict[str, float]:
        """Weights of the named losses; the default is 1."""
        return {}

    def other_rates(self) -> dict[str, tuple[list[nn.Module], float | None]]:
        """Towers or modules with their own learning rate, by the name of their group."""
        return {}

    def prepare(self, data: MnerData) -> None:
        """Read the training posts, once before training."""

    def cost(self, data: MnerData, splits: Sequence[str]) -> str:
        """What scoring these splits costs besides time, in a line that is reported before; empty where nothing."""
        return ""

    def answers(self, batch: Batch) -> list[Any]:
        """An answer for each query row, with the attributes `post` and `episode` (or None)."""
        raise NotImplementedError

    def figures(self, answers: Sequence[Any]) -> dict[str, Any]:
        """The scores of the answers for a split."""
        raise NotImplementedError

    def rows(self, answers: Iterator[Any] | Sequence[Any]) -> Iterator[dict[str, Any]]:
        """One plain record for each answer, as `predictions.<split>.jsonl` and `mnerkit predict` write it."""
        raise NotImplementedError

    def export(self, trainer: lightning.Trainer, data: MnerData, folder: Path) -> None:
        """Write additional files into the folder of a finished run; called on every rank, with the best weights."""

    # ------------------------------------------------------------------ construction

    def build(
        self,
        facts: CorpusFacts,
        n_way: int = 2,
        towers: dict[str, Any] | None = None,
        tower_dir: str | None = None,
    ) -> None:
        """Create the network.

        Args:
            facts: types and training words of the corpus.
            n_way: number of types of an episode, for methods that answer by episodes.
            towers: saved states of the towers, when the weights come from a checkpoint.
            tower_dir: folder with the weights of a frozen tower, if the place that its name refers to can't be reached.
        """
        self.facts, self._saved_towers, self._tower_dir = facts, towers, tower_dir
        self.encoder = self.make_encoder()
        self.prepare_layers(self.options)
        # pretrained networks are loaded in eval mode, and the Trainer does not change modes: without this they would
        # be trained without dropout. Frozen towers stay in eval mode
        self.train()

    # ------------------------------------------------------------------ training

    def setup(self, stage: str) -> None:
        """Let the towers' layers suit the device, and compile those that are to be trained."""
        self.fit_layers(self.trainer.strategy.root_device, stage == "fit" and getattr(self.options, "compile", False))

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Weighted sum of the losses."""
        losses, weights = self.losses(batch), self.loss_weights()
        weighted = torch.stack([weights.get(name, 1.0) * value for name, value in losses.items()])
        self.finite_losses.count(tuple(losses), weighted, index)
        total = weighted.sum()
        logged = {f"train/{name}": value.detach() for name, value in losses.items()}
        logged["train/loss"] = total.detach()
        logged |= {f"train/{name}": value for name, value in self.logged_scalars.items()}
        self.log_dict(logged, on_step=False, on_epoch=True, batch_size=len(batch), sync_dist=True)
        return total

    def on_train_epoch_start(self) -> None:
        """Derive all random state from (seed, epoch, rank), so that a resumed run equals an uninterrupted one."""
        state = np.random.SeedSequence([self.seed, self.current_epoch, self.global_rank]).generate_state(3)
        torch.manual_seed(int(state[0]))
        np.random.seed(int(state[1]))
        random.seed(int(state[2]))

    def trained_modules(self) -> dict[str, tuple[list[nn.Module], float | None]]:
        """Groups of modules with their learning rates (None: `lr`); every trainable tensor is in exactly one."""
        groups = self.other_rates()
        grouped = {id(weight) for modules, _ in groups.values() for module in modules for weight in module.parameters()}
        towers = [
            tower for tower in self.towers.values() if not all(id(weight) in grouped for weight in tower.parameters())
        ]
        grouped |= {id(weight) for tower in towers for weight in tower.parameters()}
        rest = nn.ParameterList(weight for weight in self.encoder.parameters() if id(weight) not in grouped)
        return {"towers": ([*towers], self._training.tower_lr), "encoder": ([rest], None), **groups}

    def rate_groups(self) -> dict[str, tuple[list[nn.Module], float]]:
        """`trained_modules` with the default learning rate filled in."""
        return {
            name: (modules, self._training.lr if rate is None else rate)
            for name, (modules, rate) in self.trained_modules().items()
        }

    def configure_optimizers(self) -> Any:
        """Parameter groups (towers, the method's own modules ...) and a schedule that changes each step."""
        o, steps = self._training, int(self.trainer.estimated_stepping_batches)
        first = getattr(self.options, "optimiser", "adamw") == "bert_adam"
        groups = parameter_groups(self.rate_groups(), self, o.weight_decay, "all_but_bias" if first else o.decay)
        made = bert_adam(groups, o.warmup, steps) if first else adamw(groups, o.schedule, o.warmup, steps)
        optimiser, schedule = made
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ------------------------------------------------------------------ answering

    def predict_step(self, batch: Batch, _index: int) -> None:
        """Add the answers for a batch to `predicted`; callers of `Trainer.predict` empty the list first."""
        self.predicted.extend(self.answers(batch))

    def on_predict_epoch_end(self) -> None:
        """The same as after an epoch of training."""
        self.on_train_epoch_end()

    # ------------------------------------------------------------------ checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the trainable weights and, as plain data, everything that is needed to rebuild the rest."""
        external = self.stored_elsewhere()
        checkpoint["state_dict"] = {
            name: value for name, value in checkpoint["state_dict"].items() if not name.startswith(external or ("\0",))
        }
        checkpoint["mnerkit"] = self.record()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to continue a run if the weights of a frozen tower have changed.

        Raises:
            TowerError: a tower has other weights; the message names it.
        """
        for name, state in checkpoint["mnerkit"]["towers"].items():
            if name in self.towers and not has_weights_of(self.towers[name], state):
                raise TowerError(
                    f"tower {state['spec']}: its weights have changed since this run began; restore the former"
                    " weights, or start the run again with --overwrite"
                )

    def record(self) -> dict[str, Any]:
        """Plain data beside the weights: plugin, configuration, types and words, towers, support, training posts."""
        from mnerkit.methods.support import support_state

        return {
            "version": RELEASE,
            "plugin": self.plugin,
            "config": self.config,
            "facts": self.facts.state(),
            "towers": {name: tower_state(tower) for name, tower in self.towers.items()},
            "support": support_state(self.support),
            "support_types": list(self.support_types),
            "trained_on": torch.tensor(self.trained_on, dtype=torch.int64),
            "repeats": torch.tensor(self.repeats, dtype=torch.int64),
        }

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Load a checkpoint's state dict, which must have exactly the tensors that checkpoints of this model store.

        Raises:
            CheckpointError: tensors are missing, unexpected or of another shape.
        """
        current = self.state_dict()
        external = self.stored_elsewhere()
        expected = {name for name in current if not name.startswith(external or ("\0",))}
        if different := sorted(expected ^ set(state)):
            raise CheckpointError(
                f"the checkpoint does not fit the model: {len(different)} tensors differ, first {different[0]}"
            )
        for name, value in state.items():
            if current[name].shape != value.shape:
                shapes = f"{tuple(value.shape)}, not {tuple(current[name].shape)}"
                raise CheckpointError(f"the checkpoint does not fit the model: {name} is {shapes}")
        self.load_state_dict(state, strict=False)

    def trainable_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
