"""The datamodule: a corpus, and from it the batches that a method needs, plain or as episodes."""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch

from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.loading import (
    BatchLoader,
    EpisodeBatches,
    EvaluationBatchSampler,
    EvaluationEpisodeSampler,
    LengthBatchSampler,
    PostBatches,
    RankSampler,
    TrainEpisodeSampler,
    auto_workers,
    batch_loader,
)
from mnerkit.data.batches.needs import Needs
from mnerkit.data.batches.run_inputs import RunInputs, posts_of_episodes
from mnerkit.data.batches.truncation import Truncation, truncation
from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.episodes.sampling import Episodes
from mnerkit.data.episodes.split_episodes import SplitEpisodes
from mnerkit.data.features.cache_folder import FEATURES, cache_folder
from mnerkit.data.options import DataOptions, Pictures, TrainMode
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.data.pictures.picture_cache import PICTURES, PictureCache
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.split_posts import SplitPosts
from mnerkit.errors import UsageError
from mnerkit.options import make

_log = logging.getLogger("mnerkit.data")


class MnerData(lightning.LightningDataModule):
    """A corpus and its batches.

    Made from its options alone; the corpus is read when it is first needed. `connect` sets what the method needs and
    whether its head trains on plain batches or on episodes. Dev and test are episodes when the head trains on episodes
    or reads a support (`reads_support`), or when `train_types` is given; dev episodes are of the training types unless
    `dev_types` says otherwise, so that selection sees no test type.

    Attributes:
        options: corpus, pictures, batches and episodes.
        seed: of batches, episodes and samples.
        split_posts: the posts of each split.
        train_mode: whether the head trains on plain batches or on episodes.
        windows: whether evaluation reads posts in windows that are longer than the text tower reads.
        inputs: the inputs of frozen towers in the posts that the loaders read.
        reads_support: whether the head tags from a support: then it is scored on episodes, however it trains. Set
            before anything is read.
    """

    def __init__(self, options: DataOptions | None = None, *, seed: int = 0, **given: Any) -> None:
        """Keep the options; nothing is read yet.

        Args:
            options: corpus, pictures, batches and episodes; default: made of `given`.
            seed: of batches, episodes and samples.
            given: single options by name.

        Raises:
            UsageError: an unknown option, or a value that one does not take.
        """
        super().__init__()
        self.options = make(DataOptions, given) if options is None else options
        self.seed = seed
        self.split_posts = SplitPosts(self.options, seed, self._warn_once)
        self.train_mode: TrainMode = "plain"
        self.reads_support = self.windows = False
        self.inputs = RunInputs()
        self._needs: Needs | None = None
        self._types: tuple[str, ...] | None = None
        self._cached_pictures: Container[str] | None = None
        self._keyed = False
        self._warned: set[str] = set()

    def connect(
        self,
        needs: Needs,
        train_mode: TrainMode = "plain",
        types: Sequence[str] | None = None,
        known: Container[str] | None = None,
        keyed: bool = False,
    ) -> None:
        """Set what a method needs; there are no batches before this.

        Args:
            needs: what the batches must hold.
            train_mode: whether the head trains on plain batches or on episodes.
            types: entity types of plain batches, in the order that the head numbers them; default: the corpus's, or in
                a few-shot run the training types.
            known: digests of pictures that need not be decoded (see `Collator`).
            keyed: whether a frozen tower asks for digests of texts (see `Collator`).

        Raises:
            UsageError: frozen episodes for plain training without `train_types`.
        """
        if train_mode == "plain" and self.options.episode_file and self.options.train_types is None:
            raise UsageError("--data.episode_file needs --data.train_types: the types that are learnt from plain posts")
        self._needs, self.train_mode, self._cached_pictures, self._keyed = needs, train_mode, known, keyed
        self.inputs.clear()
        self._types = None if types is None else tuple(types)
        self.split_posts.connect(needs)

    def _ranks(self) -> tuple[int, int]:
        """World size and rank: the Trainer's, where one is attached."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def _warn_once(self, key: str, text: str) -> None:
        if key not in self._warned:
            self._warned.add(key)
            if self._ranks()[1] == 0:
                _log.warning("%s", text)

    # ------------------------------------------------------------------ posts

    @property
    def content(self) -> Corpus:
        """The corpus, read on first use; a corpus whose train and test share ids is refused."""
        return self.split_posts.corpus

    @cached_property
    def facts(self) -> CorpusFacts:
        """Types (in a few-shot run the training types) and training words."""
        return CorpusFacts.of(self._plain_types, self.posts("train"))

    @property
    def _plain_types(self) -> tuple[str, ...]:
        return self.split_episodes.protocol.train_types if self.few_shot else self.content.types

    def posts(self, split: str, pictures: Pictures | None = None) -> list[Post]:
        """The posts of a split that the options leave, with the pictures that `pictures` says (`SplitPosts.of`).

        Raises:
            DataError: the split is empty.
        """
        return self.split_posts.of(split, pictures)

    def train_with(self, train: list[Post], selection: list[Post]) -> None:
        """Train on posts that a method made of the training split, and select the checkpoint on others in place of dev.

        Args:
            train: what `train` is from now on.
            selection: what the checkpoint is selected on; `dev` stays what it is.
        """
        self.split_posts.replace(train, selection)

    # ------------------------------------------------------------------ few-shot

    @property
    def few_shot(self) -> bool:
        """Whether dev and test are episodes."""
        return self.reads_support or self.train_mode == "episodic" or self.options.train_types is not None

    @cached_property
    def split_episodes(self) -> SplitEpisodes:
        """The episodes of each split."""
        return SplitEpisodes(self.options, self.seed, self.split_posts)

    def episodes(self, split: str, pictures: Pictures | None = None) -> Episodes:
        """The episodes of a split: of the file that names it, else drawn."""
        return self.split_episodes.of(split, pictures)

    def plain_posts(self) -> list[Post]:
        """Training posts of plain batches: in a few-shot run with `drop_sentence`, those of the training types alone.

        Raises:
            DataError: none is left.
        """
        if not self.few_shot:
            return self.posts("train")
        return self.split_episodes.plain_posts(self._types or self._plain_types)

    def own_support(self) -> tuple[tuple[str, ...], list[Post]]:
        """The types in play and the support of the first training episode: for a model that predicts alone."""
        return self.split_episodes.own_support(self.train_mode)

    def rehearse(self, train_mode: TrainMode) -> None:
        """Draw an episode of each split where the head reads a support (`SplitEpisodes.rehearse`)."""
        if self.reads_support:
            self.split_episodes.rehearse(train_mode)

    def protocol(self) -> dict[str, Any]:
        """What a score must name: the corpus and, in a few-shot run, how episodes are drawn; plain data."""
        record = {**self.split_posts.record(), "episodic": self.few_shot}
        if self.few_shot:
            if self.train_mode == "plain":
                record["train_posts"] = len(self.plain_posts())
            record |= self.split_episodes.record(self.train_mode)
            if record["dev_selects_on_test_types"]:
                self._warn_once("dev_types", "dev selects on the test types (--data.dev_types)")
        return record

    def truncation(self, split: str) -> Truncation:
        """The words and entities of a split that the text tower does not read, since posts exceed its length limit.

        Of a few-shot split each post of its episodes counts once, with the entities of types that are in play.
        """
        if self._needs is None:
            raise RuntimeError("call MnerData.connect with the needs of a method before counting what it reads")
        if self.few_shot and split != "train":
            posts, types = self.split_episodes.posts_in_play(split)
            return truncation(posts, self._needs, self.windows, types)
        posts = self.plain_posts() if split == "train" and self.train_mode == "plain" else self.posts(split)
        return truncation(posts, self._needs, self.windows and split != "train", self._plain_types)

    # ------------------------------------------------------------------ the cache folder

    @property
    def cache_root(self) -> Path | None:
        """The cache folder of this run; None where nothing is kept outside the run's own folder."""
        if self.options.cache == "none":
            return None
        return cache_folder() if self.options.cache is None else Path(self.options.cache).expanduser()

    @property
    def feature_folder(self) -> Path | None:
        """Where outputs of frozen towers are kept on disk; None where they are not."""
        root = self.cache_root
        return None if root is None else root / FEATURES

    def _workers(self) -> int:
        """How many processes build batches for this one."""
        if self.options.workers != "auto":
            return self.options.workers
        return auto_workers(getattr(self.trainer, "num_devices", 1)) if self._on_gpu else 0

    @property
    def _on_gpu(self) -> bool:
        """Whether batches are read on a GPU: the Trainer's, where one is attached."""
        device = getattr(getattr(self.trainer, "strategy", None), "root_device", None)
        return torch.cuda.is_available() if device is None else device.type == "cuda"

    def _picture_cache(self, picture: PictureFormat) -> PictureCache | None:
        root, most = self.cache_root, int(self.options.picture_cache * 1e9)
        return PictureCache(root / PICTURES, picture, most) if root is not None and most else None

    # ------------------------------------------------------------------ batches

    def collator(self, windows: bool = False, split: str = "train") -> Collator:
        """The collator of a split's batches (in a few-shot run tags of types that are not in play are O, or ignored).

        `windows`: whether long posts are read in windows.
        """
        if self._needs is None:
            raise RuntimeError("call MnerData.connect with the needs of a method before asking for batches")
        picture = self._needs.picture
        loader = None
        if picture is not None:
            loader = PictureLoader(picture, self.options.missing_images, self._picture_cache(picture))
        out_of_play = "ignore" if self.options.out_of_play_in(split)[1] == "ignore" else "O"
        return Collator(
            self._needs,
            loader,
            TagSet(self._types or self._plain_types),
            out_of_play=out_of_play if self.few_shot else "error",
            known=self._cached_pictures,
            windows=windows,
            keyed=self._keyed,
            as_bytes=self._on_gpu,
        )

    def train_dataloader(self) -> BatchLoader:
        """Plain batches of similar length, or training episodes."""
        world, rank = self._ranks()
        collator, o = self.collator(), self.options
        if self.train_mode == "episodic":
            numbers = TrainEpisodeSampler(o.episodes_per_epoch, world, rank)
            # other epochs have other episodes
            epochs = max(1, getattr(self.trainer, "max_epochs", None) or 1)
            read = range(epochs * o.episodes_per_epoch)
            return self._episode_loader(self.episodes("train"), collator, numbers, read)
        posts = self.plain_posts()
        lengths = [collator.length(post) for post in posts]
        batches = LengthBatchSampler(lengths, o.batch_size, self.seed, world, rank)
        return self._post_loader(posts, collator, batches)

    def loader(self, split: str, pictures: Pictures | None = None, share: bool = True) -> BatchLoader:
        """Evaluation batches of a split, every post or query once; also outside a Trainer.

        Args:
            split: `train`, `dev` or `test`.
            pictures: instead of the option's, to measure how much the pictures are used.
            share: split the work among the Trainer's ranks; else this process gets all of it.
        """
        world, rank = self._ranks() if share else (1, 0)
        o, collator = self.options, self.collator(self.windows, "dev" if split == "train" else split)
        if self.few_shot and split != "train":
            episodes = self.episodes(split, pictures)
            numbers = self.split_episodes.evaluation_numbers(split, episodes)
            return self._episode_loader(episodes, collator, EvaluationEpisodeSampler(numbers, world, rank))
        posts = self.posts(split, pictures)
        lengths = [collator.length(post) for post in posts]
        return self._post_loader(posts, collator, EvaluationBatchSampler(lengths, o.eval_batch_size, world, rank))

    def _post_loader(self, posts: list[Post], collator: Collator, batches: RankSampler) -> BatchLoader:
        if self._reads_all(batches):
            self.inputs.add(posts, collator, lambda: posts)
        return batch_loader(PostBatches(posts, collator), batches, self._workers(), self.seed)

    def _episode_loader(
        self, episodes: Episodes, collator: Collator, numbers: RankSampler, read: Sequence[int] | None = None
    ) -> BatchLoader:
        """Batches of episodes; `read` are the numbers of all that the run reads, default: those of the sampler."""
        if self._reads_all(numbers):
            k_shot, read = self.options.k_shot, numbers.items if read is None else read
            self.inputs.add(episodes, collator, lambda: posts_of_episodes(episodes, read, k_shot))
        return batch_loader(EpisodeBatches(episodes, collator), numbers, self._workers(), self.seed)

    def _reads_all(self, sampler: RankSampler) -> bool:
        """Whether an epoch reads all batches: not where the Trainer ends it early, for a quick try."""
        self.inputs.ranks, self.inputs.rank = self._ranks()
        if self.trainer is None:
            return True
        training = isinstance(sampler, LengthBatchSampler | TrainEpisodeSampler)
        limits = ("limit_train_batches",) if training else ("limit_val_batches", "limit_predict_batches")
        return all(getattr(self.trainer, name, 1.0) in (1.0, 0) for name in limits)

    def val_dataloader(self) -> BatchLoader:
        """What selects the checkpoint: the dev split, or what `train_with` gave."""
        return self.loader("selection" if self.split_posts.replacements else "dev")

    def test_dataloader(self) -> BatchLoader:
        """The test split."""
        return self.loader("test")

    def predict_dataloader(self) -> BatchLoader:
        """The test split."""
        return self.loader("test")
