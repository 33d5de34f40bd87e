"""The datamodule: a corpus, and from it the batches that a method needs, plain or as episodes."""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning

from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.loading import BatchLoader, EpisodeBatches, PostBatches, batch_loader
from mnerkit.data.batches.needs import Needs
from mnerkit.data.batches.samplers import (
    EvaluationBatchSampler,
    EvaluationEpisodeSampler,
    LengthBatchSampler,
    TrainEpisodeSampler,
)
from mnerkit.data.corpus.corpus import Corpus, check_disjoint, load_corpus
from mnerkit.data.corpus.corpus_facts import CorpusFacts
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tagset import TagSet
from mnerkit.data.corpus.train_parts import part_of
from mnerkit.data.episodes.episode_file import EpisodeFile, FrozenEpisodes, read_episode_files
from mnerkit.data.episodes.rules import DRAWING, EpisodeRules
from mnerkit.data.episodes.sampling import Episodes
from mnerkit.data.features.cache_folder import FEATURES, cache_folder
from mnerkit.data.options import DataOptions, Pictures, Queries
from mnerkit.data.pictures import coverage
from mnerkit.data.pictures.controls import with_pictures
from mnerkit.data.pictures.objects import Objects, find_objects
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.pictures.relevance_scores import Relevance
from mnerkit.data.random_draws import permutation
from mnerkit.errors import DataError, UsageError
from mnerkit.options import make

_log = logging.getLogger("mnerkit.data")


class MnerData(lightning.LightningDataModule):
    """A corpus and its batches.

    Made from its options alone; the corpus is read when something of it is first asked for. `connect` tells what the
    method needs and whether its head trains on plain batches or on episodes. Dev and test are episodes when the head
    trains on episodes or reads a support (`reads_support`), or when `train_types` is given; dev episodes are of the
    training types unless `dev_types` says otherwise, so that selection sees no test type.
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
        self.rules = EpisodeRules(self.options, seed)
        self.train_mode: Literal["plain", "episodic"] = "plain"
        # set before anything is read: a head that tags from a support is scored on episodes, however it trains
        self.reads_support = False
        self._needs: Needs | None = None
        self._known: Container[str] | None = None
        self._content: Corpus | None = None
        self._objects: Objects | None = None
        self._relevance: Relevance | None = None
        self._posts: dict[tuple[str, Pictures], list[Post]] = {}
        self._own: dict[str, list[Post]] = {}
        self._types: tuple[str, ...] | None = None
        self._facts: CorpusFacts | None = None
        self._files: dict[str, EpisodeFile] | None = None
        self._told: set[str] = set()

    # ------------------------------------------------------------------ the corpus

    @property
    def content(self) -> Corpus:
        """The corpus, read on first use; a corpus whose train and test share ids is refused."""
        if self._content is None:
            o = self.options
            content = load_corpus(o.corpus, root=o.root, variant=o.variant, captions=o.captions, limit=o.limit)
            check_disjoint(content.splits["train"], content.splits["test"])
            self._content = content
        return self._content

    @property
    def objects(self) -> Objects | None:
        """Where the objects in the pictures come from; None until a method has looked at some."""
        return self._objects

    @property
    def facts(self) -> CorpusFacts:
        """Types (in a few-shot run the training types) and training words."""
        if self._facts is None:
            types = self.train_types if self.few_shot else self.content.types
            self._facts = CorpusFacts.of(types, self.posts("train"))
        return self._facts

    def posts(self, split: str, pictures: Pictures | None = None) -> list[Post]:
        """Posts of `train`, `dev` or `test`: those that `train_on`, `missing_images` and `train_limit` or so leave.

        Their pictures are those that `pictures` says. `all_train` is the training split, whatever part is trained on.

        Raises:
            DataError: the split is empty.

        """
        if split in self._own:
            return self._own[split]
        pictures = pictures or self.options.pictures
        if (split, pictures) not in self._posts:
            posts = self.content.splits.get("train" if split == "all_train" else split, [])
            if split == "train":
                posts = part_of(posts, self.options.train_on, self.options.dis_fraction, self.options.dis_seed)
            posts = self._usable(split, posts)
            most = self._most_training_posts(len(posts)) if split == "train" else None
            if most is not None:
                kept = sorted(permutation(len(posts), "train_limit", self.seed)[:most])
                posts = [posts[place] for place in kept]
            if not posts:
                raise DataError(f"corpus {self.options.corpus} has no posts in its split {split!r}{self._skipped()}")
            if self._needs is not None:
                captions = "none" if self.options.captions == "none" else self.content.captions
                for remark in coverage.remarks(
                    split, posts, self._needs, self.options.missing_images, captions, pictures
                ):
                    self._say(*remark)
            posts = with_pictures(self._annotated(split, posts), pictures, self.seed)
            self._posts[split, pictures] = posts
        return self._posts[split, pictures]

    def check_seen(self) -> None:
        """Refuse, before hours of training, what would end it later or make nothing of it.

        Raises:
            DataError: under `missing_images: error` a picture of any split without a file; a method that reads
                captions, and training posts without one.
        """
        if self._needs is None or self.options.pictures == "blank":
            return
        if self.options.missing_images == "error":
            for split in (name for name, posts in self.content.splits.items() if posts):
                coverage.check_pictures(split, self.posts(split), self._needs)
        if self.options.captions != "none":
            coverage.check_captions("train", self.posts("train"), self._needs)

    def _most_training_posts(self, count: int) -> int | None:
        """How many of `count` posts to train on; None: all."""
        if self.options.train_fraction is None:
            return self.options.train_limit
        return max(1, round(self.options.train_fraction * count))

    def train_with(self, train: list[Post], selection: list[Post]) -> None:
        """Train on posts that a method made of the training split, and select the checkpoint on others in place of dev.

        Args:
            train: what `train` is from now on.
            selection: what the checkpoint is selected on; `dev` stays what it is.
        """
        self._own = {"train": train, "selection": selection}

    def _usable(self, split: str, posts: list[Post]) -> list[Post]:
        """The posts that `missing_images` leaves; says once a split how many that are."""
        if self._needs is None or self._needs.picture is None or self.options.missing_images != "skip":
            return posts
        kept = coverage.usable(posts, self._needs)
        left_out = f"{len(posts) - len(kept)} of {len(posts)} posts are left out, their pictures are missing or broken"
        self._say(split, left_out, "missing_images", self.options.missing_images)
        return kept

    def _annotated(self, split: str, posts: list[Post]) -> list[Post]:
        """The posts with the objects in their pictures, where the method looks at them, and with relevance scores."""
        if self._needs is not None and "objects" in self._needs.views:
            if self._objects is None:
                self._objects = find_objects(self.content, self.options.boxes)
            posts = self._objects.annotated(split, posts, self.options.object_score, self.options.max_objects)
            counts = self._objects.counts[split]
            if self.options.missing_images == "error" and counts["missing_crops"]:
                raise DataError(
                    f"{self._objects.path}: {counts['missing_crops']} crops of the {split} split are missing.\n"
                    "Under --data.missing_images blank or skip the others are used without them."
                )
            self._say(f"{split} objects", self._objects.said(split), "boxes", self.options.boxes or self._objects.kind)
        if self.options.relevance is not None:
            if self._relevance is None:
                found = Relevance.of(self.options.relevance)
                found.check_corpus(self.content)
                self._relevance = found
            posts = self._relevance.annotated(posts)
        return posts

    def _say(self, split: str, what: str, option: str = "", value: str = "") -> None:
        if what and split not in self._told:
            self._told.add(split)
            if self._ranks()[1] == 0:
                by = f" (--data.{option} {value})" if option else ""
                _log.warning("%s %s: %s%s", self.options.corpus, split, what, by)

    def _skipped(self) -> str:
        return " whose pictures are there (--data.missing_images skip)" if self.options.missing_images == "skip" else ""

    # ------------------------------------------------------------------ what the method needs

    def connect(
        self,
        needs: Needs,
        train_mode: Literal["plain", "episodic"] = "plain",
        types: Sequence[str] | None = None,
        known: Container[str] | None = None,
    ) -> None:
        """Say what a method needs; before this no batch can be had.

        Args:
            needs: what the batches must hold.
            train_mode: whether the head trains on plain batches or on episodes.
            types: entity types of plain batches, in the order that the head numbers them; default: the corpus's, or in
                a few-shot run the training types.
            known: digests of pictures that need not be decoded (see `Collator`).

        Raises:
            UsageError: frozen episodes for plain training of which no types are said to be unseen.

        """
        if train_mode == "plain" and self.options.episode_file and self.options.train_types is None:
            raise UsageError("--data.episode_file needs --data.train_types: the types that are learnt from plain posts")
        self._needs, self.train_mode, self._known = needs, train_mode, known
        self._types = None if types is None else tuple(types)
        # which posts are left out depends on whether pictures are seen
        self._posts.clear()

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

    @property
    def few_shot(self) -> bool:
        """Whether dev and test are episodes."""
        return self.reads_support or self.train_mode == "episodic" or self.options.train_types is not None

    @property
    def train_types(self) -> tuple[str, ...]:
        """Types of training (and, by default, of dev) episodes."""
        return self.rules.source_types(self.content.types)

    @property
    def test_types(self) -> tuple[str, ...]:
        """Types of test episodes.

        Raises:
            UsageError: one of them is a training type, or none is left.

        """
        return self.rules.target_types(self.content.types)

    def collator(self) -> Collator:
        """The collator of plain batches (tags of other than the training types are O in a few-shot run)."""
        if self._needs is None:
            raise RuntimeError("MnerData.connect must say what the method needs before batches are asked for")
        picture = self._needs.picture
        loader = None if picture is None else PictureLoader(picture, policy=self.options.missing_images)
        types = self._types or (self.train_types if self.few_shot else self.content.types)
        out_of_play = "ignore" if self.options.out_of_play == "ignore" else "O"
        return Collator(
            self._needs,
            loader,
            TagSet(types),
            out_of_play=out_of_play if self.few_shot else "error",
            known=self._known,
        )

    @property
    def frozen(self) -> dict[str, EpisodeFile]:
        """The episode files by split, read on first use.

        Raises:
            DataError: a file is damaged, of another corpus, or not the one that `episode_digest` names.
            UsageError: two are of one split.

        """
        if self._files is None:
            self._files = read_episode_files(self.options.episode_file, self.content)
            found = ",".join(file.sha256 for file in self._files.values())
            if self.options.episode_digest is not None and found != self.options.episode_digest:
                raise DataError(
                    f"--data.episode_file {self.options.episode_file}: another content than the run was started with "
                    "(--data.episode_digest); bring the file back, or give another --name"
                )
        return self._files

    def episodes(self, split: str, pictures: Pictures | None = None) -> Episodes:
        """The episodes of a split: of the file that names it, else drawn."""
        posts = partial(self.posts, pictures=pictures)
        file = self.frozen.get(split)
        if file is None:
            return self.rules.source(split, posts, self.content.types)
        return FrozenEpisodes(
            file,
            posts(split),
            posts(file.support_split),
            types=self.rules.types(split, self.content.types),
            n_way=self.options.n_way,
            source_types=self.train_types,
            drop_sentence=self.options.out_of_play == "drop_sentence",
        )

    def plain_posts(self) -> list[Post]:
        """Training posts of plain batches: in a few-shot run with `drop_sentence`, those of the training types alone.

        Raises:
            DataError: none is left.

        """
        posts = self.posts("train")
        if not self.few_shot or self.options.out_of_play != "drop_sentence":
            return posts
        known = TagSet(self._types or self.train_types)
        kept = [post for post in posts if all(known.in_play(post.tags or ()))]
        if not kept:
            raise DataError(f"--data.out_of_play drop_sentence leaves no training post of {', '.join(known.types)}")
        return kept

    def own_support(self) -> tuple[tuple[str, ...], list[Post]]:
        """The types in play and the support of the first training episode: for a model that predicts alone.

        Where training is plain and knows fewer types than an episode has, all of them are in play. The posts keep the
        tags of types that are not in play: the collator knows what becomes of them.
        """
        source = self._training_episodes(self.train_mode)
        episode = source.episode(0)
        return episode.types, [source.support_posts[place] for place in episode.support]

    def _training_episodes(self, train_mode: Literal["plain", "episodic"]) -> Episodes:
        """The training episodes; of fewer types than `n_way` where none is trained on and there are no more."""
        few = len(self.train_types) < self.options.n_way
        if train_mode == "episodic" or not few:
            return self.episodes("train")
        return self.rules.with_ways(len(self.train_types)).source("train", self.posts, self.content.types)

    # ------------------------------------------------------------------ batches

    def _ranks(self) -> tuple[int, int]:
        """World size and rank: the Trainer's, where one is attached."""
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)

    def train_dataloader(self) -> BatchLoader:
        """Plain batches of similar length, or training episodes."""
        world, rank = self._ranks()
        collator = self.collator()
        if self.train_mode == "episodic":
            numbers = TrainEpisodeSampler(self.options.episodes_per_epoch, world, rank)
            return batch_loader(
                EpisodeBatches(self.episodes("train"), collator), numbers, self.options.workers, self.seed
            )
        posts = self.plain_posts()
        sampler = LengthBatchSampler(
            [collator.length(post) for post in posts], self.options.batch_size, self.seed, world, rank
        )
        return batch_loader(PostBatches(posts, collator), sampler, self.options.workers, self.seed)

    def loader(self, split: str, pictures: Pictures | None = None, share: bool = True) -> BatchLoader:
        """Evaluation batches of a split, every post or query once; also outside a Trainer.

        Args:
            split: `train`, `dev` or `test`.
            pictures: instead of the option's, to measure how much the pictures are used.
            share: split the work among the Trainer's ranks; else this process gets all of it.

        """
        world, rank = self._ranks() if share else (1, 0)
        if self.few_shot and split != "train":
            source = self.episodes(split, pictures)
            sampler = EvaluationEpisodeSampler(source.numbers(self._limit(split)), world, rank)
            return batch_loader(EpisodeBatches(source, self.collator()), sampler, self.options.workers, self.seed)
        posts, collator = self.posts(split, pictures), self.collator()
        lengths = [collator.length(post) for post in posts]
        batches = EvaluationBatchSampler(lengths, self.options.eval_batch_size, world, rank)
        return batch_loader(PostBatches(posts, collator), batches, self.options.workers, self.seed)

    def _limit(self, split: str) -> Queries:
        return self.options.dev_episodes if split == "dev" else self.options.eval_episodes

    def val_dataloader(self) -> BatchLoader:
        """What selects the checkpoint: the dev split, or what `train_with` gave."""
        return self.loader("selection" if self._own else "dev")

    def test_dataloader(self) -> BatchLoader:
        """The test split."""
        return self.loader("test")

    def predict_dataloader(self) -> BatchLoader:
        """The test split."""
        return self.loader("test")

    # ------------------------------------------------------------------ for the record

    def protocol(self) -> dict[str, Any]:
        """What a score must name: the corpus and, in a few-shot run, how episodes are drawn; plain data."""
        corpus = self.content
        said: dict[str, Any] = {
            "corpus": corpus.name,
            "variant": corpus.variant,
            "digest": corpus.digest,
            "release": corpus.release,
            "types": list(corpus.types),
            "pictures": self.options.pictures,
            "missing_images": self.options.missing_images,
            "limit": self.options.limit,
            "train_posts": len(self.posts("train")),
            "episodic": self.few_shot,
        }
        if self.options.train_on != "all_train":
            said |= {
                "train_on": self.options.train_on,
                "dis_fraction": self.options.dis_fraction,
                "dis_seed": self.options.dis_seed,
            }
        if self._needs is not None and self._needs.views:
            said["max_images"] = self._needs.max_images
        if self._needs is not None and self.options.pictures != "blank":
            said |= coverage.record(corpus.splits, self._needs)
        if self._objects is not None:
            limits = {"max_objects": self.options.max_objects, "object_score": self.options.object_score}
            said["objects"] = {**self._objects.record(), **limits}
        if self._relevance is not None:
            said["relevance"] = self._relevance.record()
        if self.few_shot:
            if self.train_mode == "plain":
                said["train_posts"] = len(self.plain_posts())
            said |= {"train_mode": self.train_mode, **self._used_rules()}
            if said["dev_selects_on_test_types"] and "dev_types" not in self._told and self._ranks()[1] == 0:
                self._told.add("dev_types")
                _log.warning("dev selects on the test types (--data.dev_types)")
            said["queries"] = {split: len(self._tried(split)) for split in ("dev", "test")}
            said["episode_files"] = {
                split: {"file": file.path.name, "sha256": file.sha256, "protocol": file.header["protocol"]}
                for split, file in self.frozen.items()
            }
        return said

    def _used_rules(self) -> dict[str, Any]:
        """The rules as far as something was drawn by them: an episode file's own stand beside its name."""
        drawn = ["train"] if self.train_mode == "episodic" else []
        drawn = [split for split in [*drawn, "dev", "test"] if split not in self.frozen]
        said = self.rules.record(self.content.types)
        for split in {"dev", "test"} & self.frozen.keys():
            played = {kind for row in self.frozen[split].rows for kind in row.types}
            said[f"{split}_types"] = [kind for kind in said[f"{split}_types"] if kind in played]
        said["dev_selects_on_test_types"] = not set(said["dev_types"]).isdisjoint(said["test_types"])
        kept = {name: value for name, value in said.items() if drawn or name not in DRAWING}
        return {**kept, "drawn_splits": drawn}

    def rehearse(self, train_mode: Literal["plain", "episodic"]) -> None:
        """Draw an episode of each split that will be drawn from, so that what can't be had is said before all else.

        Raises:
            DataError: too few posts for K, or a damaged episode file.
            UsageError: types or numbers that can't be.
        """
        if not self.reads_support:
            return
        for split in ("dev", "test"):
            self._tried(split)
        self._training_episodes(train_mode).episode(0)

    def _tried(self, split: str) -> list[int]:
        """Numbers of a split's evaluation episodes, one of which is drawn: a K too large shows before the training."""
        episodes = self.episodes(split)
        numbers = episodes.numbers(self._limit(split))
        episodes.episode(numbers[0])
        return numbers
