"""A method: what is trained, kept in checkpoints and run, whatever it says of a post. Nearly every one is a tagger."""

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
from mnerkit.methods.constructor_options import options_of, takes_arguments
from mnerkit.methods.optimiser import adamw, parameter_groups
from mnerkit.methods.options import MethodOptions
from mnerkit.options import Options, make
from mnerkit.release import RELEASE
from mnerkit.towers import text_tower, vision_tower
from mnerkit.towers.fusion.sight import CAPTIONS, Sight
from mnerkit.towers.interface import TextTower, VisionTower
from mnerkit.towers.saved_state import has_weights_of, tower_from_state, tower_state
from mnerkit.towers.text.piece_tower import PieceTower

if TYPE_CHECKING:
    from mnerkit.data.datamodule import MnerData


class Method(lightning.LightningModule):
    """Towers, a network over them, optimiser groups and checkpoints: what every plugin's class is.

    A subclass says what it needs (`needs`), builds its network (`make_encoder`), what it is trained by (`losses`), what
    it says of each post (`answers`), how dev selects its checkpoint (`validation_step`, `monitor`), and what figures
    and records its answers become (`figures`, `rows`). `mnerkit.methods.tagger.Tagger` does all but the first two for
    methods that tag words.

    Made in two steps: options first (the command line), then `build` with what is known of the corpus, or
    `mnerkit.methods.checkpoint.restore`.

    Attributes:
        plugin: its name.
        options_class: declares its options (`--model.X`).
        options: an object of that class.
        monitor: the figure of dev that selects the checkpoint; the largest is best.
        train_mode: whether it trains on plain batches or on episodes; the datamodule follows.
        reads_support: whether it answers from a support, so that dev and test are episodes.
        tunes: whether answering takes gradients.
        encoder: its network, made by `build`.
        towers: the towers by name; their states go into checkpoints.
        tracing: names of the traces that answers carry, where the encoder has them.
        measured: named scalars of the last batch that training logs beside its losses.
        noted: plain data about its training that the run's metrics tell.
        support: labelled posts by which a method that reads a support answers where no other ones are given.
        support_types: the types that are in play in it.
        trained_on: keys of the training posts (`mnerkit.data.corpus.same_post`).
        predicted: answers of the last `Trainer.predict` on this rank.
    """

    plugin: str = ""
    options_class: ClassVar[type[MethodOptions]] = MethodOptions
    monitor: ClassVar[str] = "dev/f1"
    train_mode: Literal["plain", "episodic"] = "plain"
    reads_support: bool = False
    tunes: bool = False
    encoder: nn.Module

    def __init_subclass__(cls, **more: Any) -> None:
        """Declare the options of a class that takes them as arguments, as plugins of release 0.1.0 do."""
        super().__init_subclass__(**more)
        if takes_arguments(cls):
            cls.options_class = cast(type[MethodOptions], options_of(cls, cls.options_class))

    def __init__(self, options: MethodOptions | None = None, **given: Any) -> None:
        """Keep the options.

        Args:
            options: an object of `options_class`; default: made of `given`.
            given: single options by name.

        Raises:
            UsageError: an unknown option, or a value that one does not take.
        """
        super().__init__()
        # `options` is the method's own: a class of an earlier release may keep something else under that name
        if not isinstance(options, Options | None):
            raise TypeError(
                f"expected {self.options_class.__name__} first, got {type(options).__name__}; pass a head as head=..."
            )
        kind: Any = next(each for each in type(self).__mro__ if not takes_arguments(each))
        self.options: Any = make(kind.options_class, given) if options is None else options
        self._training: Any = self.options
        self.towers: dict[str, TextTower | VisionTower] = {}
        self.facts = CorpusFacts(())
        self.seed = 0
        self.tracing: tuple[str, ...] = ()
        self.measured: dict[str, Tensor] = {}
        self.noted: dict[str, Any] = {}
        self.config: dict[str, Any] = {}
        self.support: list[Post] = []
        self.support_types: tuple[str, ...] = ()
        self.trained_on: list[int] = []
        self.predicted: list[Any] = []
        self._saved_towers: dict[str, Any] | None = None
        self._tower_dir: str | None = None
        # frozen towers from outside are not in the state dict; `load_weights` checks what must be there
        self.strict_loading = False

    # ------------------------------------------------------------------ what a method writes

    def make_encoder(self) -> nn.Module:
        """Build the network; towers come from `self.text_tower` and `self.vision_tower`."""
        raise NotImplementedError

    def needs(self) -> Needs:
        """What the batches must hold; called after `build`."""
        raise NotImplementedError

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted losses of a batch."""
        raise NotImplementedError

    def loss_weights(self) -> dict[str, float]:
        """Weights of the named losses; 1 where not named."""
        return {}

    def other_rates(self) -> dict[str, tuple[list[nn.Module], float | None]]:
        """Towers or modules of the network with a learning rate of their own, by the name of their group."""
        return {}

    def prepare(self, data: MnerData) -> None:
        """Look at the training posts, once before training."""

    def answers(self, batch: Batch) -> list[Any]:
        """What it says of each row that is asked about; each answer has a `post`, and an `episode` or None."""
        raise NotImplementedError

    def figures(self, answers: Sequence[Any]) -> dict[str, Any]:
        """The scores of the answers to a split."""
        raise NotImplementedError

    def rows(self, answers: Iterator[Any] | Sequence[Any]) -> Iterator[dict[str, Any]]:
        """One plain record an answer, as `predictions.<split>.jsonl` and `mnerkit predict` write it."""
        raise NotImplementedError

    def leave(self, trainer: lightning.Trainer, data: MnerData, folder: Path) -> None:
        """Write what others read into the folder of a run that is over; on every rank, with the best weights."""

    # ------------------------------------------------------------------ made in two steps

    def text_tower(self, name: str, spec: str, **options: Any) -> TextTower:
        """The text tower called `name`: new from `spec`, or as the checkpoint has it."""
        if self._saved_towers is None:
            tower = text_tower(spec, facts=self.facts, word_pieces=self._training.word_pieces, **options)
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
            freeze: fix the weights of a vision tower.
            augment: mirror and shift pictures in training, where the tower is not frozen.
            options: of a vision tower.
        """
        if spec != CAPTIONS:
            return Sight(self.vision_tower(name, spec, freeze=freeze, **options), augment)
        own = {**text.options, **({"max_tokens": text.reader.max_tokens} if isinstance(text, PieceTower) else {})}
        return Sight(self.text_tower(name, text.spec, freeze=text.loaded, **own))

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
        """Create the network.

        Args:
            facts: types and training words of the corpus.
            n_way: types of an episode, for methods that answer by episodes.
            towers: saved states of the towers, when the weights come from a checkpoint.
            tower_dir: folder of a frozen tower's weights, where its own name can't be reached.
        """
        self.facts, self._saved_towers, self._tower_dir = facts, towers, tower_dir
        self.encoder = self.make_encoder()
        # pretrained networks arrive in eval mode and the Trainer keeps modes: without this they would train without
        # dropout. Frozen towers stay in eval mode
        self.train()

    # ------------------------------------------------------------------ training

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

    def on_train_epoch_end(self) -> None:
        """Write the features that frozen towers computed: for the workers, other ranks, and a run after a kill."""
        for tower in self.towers.values():
            if tower.memory is not None:
                tower.memory.flush()

    def trained_modules(self) -> dict[str, tuple[list[nn.Module], float | None]]:
        """Groups of modules with their learning rates (None: `lr`); every trainable tensor is in exactly one."""
        others = self.other_rates()
        taken = {id(each) for modules, _ in others.values() for module in modules for each in module.parameters()}
        towers = [tower for tower in self.towers.values() if not all(id(each) in taken for each in tower.parameters())]
        taken |= {id(each) for tower in towers for each in tower.parameters()}
        own = nn.ParameterList(each for each in self.encoder.parameters() if id(each) not in taken)
        return {"towers": ([*towers], self._training.tower_lr), "encoder": ([own], None), **others}

    def rate_groups(self) -> dict[str, tuple[list[nn.Module], float]]:
        """`trained_modules` with their learning rates as they are."""
        return {
            name: (modules, self._training.lr if rate is None else rate)
            for name, (modules, rate) in self.trained_modules().items()
        }

    def configure_optimizers(self) -> Any:
        """AdamW in groups (towers, the method's own modules ...) and a schedule that moves every step."""
        groups = parameter_groups(self.rate_groups(), self, self._training.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        optimiser, schedule = adamw(groups, self._training.schedule, self._training.warmup, steps)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # ------------------------------------------------------------------ answering

    def predict_step(self, batch: Batch, _index: int) -> None:
        """Add the answers of a batch to `predicted`, which whoever calls `Trainer.predict` empties before."""
        self.predicted.extend(self.answers(batch))

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
