"""A `DataLoader` of whole batches: the samplers choose posts or episodes, the data set collates them.

Samplers depend on (seed, epoch) alone and share the work among ranks. All are given to a `DataLoader` as `sampler` with
`batch_size=None`, so that the data set is asked for whole batches. There Lightning finds `set_epoch` (it does not look
at a custom `batch_sampler` itself) and, since they are `DistributedSampler`s, replaces none of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import Post
from mnerkit.data.episodes.sampling import Episodes
from mnerkit.data.random_draws import permutation, stream
from mnerkit.errors import DataError, MnerkitError, UsageError

# how many batches are sorted together: the padding of a full sort and batches that change from epoch to epoch
POOL_BATCHES = 100
MOST_WORKERS = 8  # of a process that trains, where nobody says how many


class RankSampler(DistributedSampler[Any]):
    """The share of one rank: every `num_replicas`-th item, from `rank` on; nothing is padded or repeated.

    Attributes:
        done: epoch -> how many of this rank's items a former process was done with; they are left out.
    """

    def __init__(self, items: Sequence[Any], world_size: int, rank: int) -> None:
        super().__init__(items, num_replicas=world_size, rank=rank, shuffle=False)  # type: ignore[arg-type]
        self.items, self.done = items, dict[int, int]()

    def order(self) -> Sequence[Any]:
        """The items of all ranks in this epoch."""
        return self.items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.order()[self.rank :: self.num_replicas][self.done.get(self.epoch, 0) :])

    def __len__(self) -> int:
        return len(range(self.rank, len(self.items), self.num_replicas))


def _even_cuts(order: Sequence[int], batch_size: int, world_size: int) -> list[list[int]]:
    """Cut `order` into batches of `batch_size` or a little less, sizes within 1, as many batches for each rank.

    Where `batch_size` leaves no such cut (3 posts in batches of 1 for 2 ranks), batches are larger; with fewer posts
    than ranks some ranks get none.
    """
    count = -(-len(order) // batch_size)
    count = -(-count // world_size) * world_size
    if count > len(order):
        count = len(order) // world_size * world_size or len(order)
    edges = [len(order) * cut // count for cut in range(count + 1)] if count else []
    return [list(order[start:end]) for start, end in pairwise(edges)]


class LengthBatchSampler(RankSampler):
    """Shuffled training batches of similar length: every post once an epoch, as many batches on each rank.

    The posts are shuffled, each pool of `POOL_BATCHES` batches is sorted by length and cut, and the batches are
    shuffled; posts of equal length stay in shuffled order. Yields lists of indices.

    Args:
        lengths: length of each post.
        batch_size: posts a batch and rank, at most (batches are made even, so that none is tiny).
        seed: with the epoch, the only source of randomness.
        world_size: number of ranks.
        rank: this rank.

    Raises:
        DataError: there are fewer posts than ranks.
    """

    def __init__(
        self, lengths: Sequence[int], batch_size: int, seed: int = 0, world_size: int = 1, rank: int = 0
    ) -> None:
        if len(lengths) < world_size:
            raise DataError(f"{len(lengths)} training posts are too few for {world_size} ranks")
        super().__init__(_even_cuts(range(len(lengths)), batch_size, world_size), world_size, rank)
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed

    def order(self) -> list[list[int]]:
        shuffled = permutation(len(self.lengths), "posts", self.seed, self.epoch)
        pool = POOL_BATCHES * self.batch_size
        pools = max(1, round(len(shuffled) / pool))
        edges = [len(shuffled) * cut // pools for cut in range(pools + 1)]
        ordered: list[int] = []
        for number, (start, end) in enumerate(pairwise(edges)):
            # up in one pool and down in the next, so that a batch across two pools holds neighbours too
            ordered += sorted(shuffled[start:end], key=lambda post: self.lengths[post], reverse=number % 2 == 1)
        batches = _even_cuts(ordered, self.batch_size, self.num_replicas)
        stream("batches", self.seed, self.epoch).shuffle(batches)
        return batches


class EvaluationBatchSampler(RankSampler):
    """Batches of similar length, longest first (memory runs out at once or never); every post exactly once.

    Yields lists of indices; the ranks have as many batches each unless there are fewer posts than ranks.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, world_size: int = 1, rank: int = 0) -> None:
        order = sorted(range(len(lengths)), key=lambda post: -lengths[post])
        super().__init__(_even_cuts(order, batch_size, world_size), world_size, rank)


class TrainEpisodeSampler(RankSampler):
    """Numbers of training episodes: `epoch * episodes_per_epoch + i`, so that no epoch repeats another's.

    Raises:
        UsageError: the ranks do not divide `episodes_per_epoch` (padding would repeat episodes).
    """

    def __init__(self, episodes_per_epoch: int, world_size: int = 1, rank: int = 0) -> None:
        if episodes_per_epoch < 1 or episodes_per_epoch % world_size:
            raise UsageError(
                f"--data.episodes_per_epoch {episodes_per_epoch} can't be shared by {world_size} ranks: "
                f"give a positive multiple of {world_size}"
            )
        super().__init__(range(episodes_per_epoch), world_size, rank)

    def order(self) -> range:
        first = self.epoch * len(self.items)
        return range(first, first + len(self.items))


class EvaluationEpisodeSampler(RankSampler):
    """The given episode numbers, each exactly once, whatever the number of ranks (which may differ by one)."""


_log = logging.getLogger("mnerkit.data")
# names of broken pictures, and remarks, that were reported already: the same posts are read every epoch
_reported: set[str] = set()


class PostBatches(Dataset[Any]):
    """Indices of posts -> their batch; `notes["index"]` holds the indices."""

    def __init__(self, posts: Sequence[Post], collator: Collator) -> None:
        self.posts, self.collator = posts, collator

    def __len__(self) -> int:
        return len(self.posts)

    def __getitem__(self, index: Sequence[int]) -> Batch | MnerkitError:
        def collate() -> Batch:
            batch = self.collator([self.posts[place] for place in index])
            batch.notes["index"] = list(index)
            return batch

        return _or_mistake(collate)


class EpisodeBatches(Dataset[Any]):
    """Number of an episode -> its batch.

    `notes["index"]` holds the places of its query posts, `notes["rows"]` which post each row is: the same key in other
    episodes is the same post.
    """

    def __init__(self, source: Episodes, collator: Collator) -> None:
        self.source, self.collator = source, collator

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, number: int) -> Batch | MnerkitError:
        def collate() -> Batch:
            episode, source = self.source.episode(number), self.source
            support = [source.support_posts[place] for place in episode.support]
            query = [source.posts[place] for place in episode.query]
            batch = self.collator.episode(support, query, episode.types, number)
            batch.notes["index"] = list(episode.query)
            pool = "query" if source.support_posts is source.posts else "support"
            batch.notes["rows"] = [(pool, place) for place in episode.support]
            batch.notes["rows"] += [("query", place) for place in episode.query]
            return batch

        return _or_mistake(collate)


def _or_mistake(collate: Callable[[], Batch]) -> Batch | MnerkitError:
    """A user's mistake travels from a worker as a value: raised there, it would arrive as text with a traceback."""
    try:
        return collate()
    except MnerkitError as mistake:
        return mistake


def _same(batch: Any) -> Any:
    return batch


class BatchLoader(DataLoader[Any]):
    """A `DataLoader` that raises a user's mistake in the main process, and says once which pictures are broken."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        broken: dict[str, str] = {}
        for batch in super().__iter__():
            if isinstance(batch, MnerkitError):
                try:
                    raise batch
                finally:
                    # else the mistake's traceback holds this frame and the frame the mistake: a cycle, and collecting
                    # it waits five seconds for workers whose queues are gone
                    del batch
            broken |= batch.notes.pop("broken", {})
            remark = batch.notes.pop("picture_cache", "")
            if remark and remark not in _reported:
                _reported.add(remark)
                _log.warning("%s", remark)
            yield batch
        new = broken.keys() - _reported
        if new:
            _reported.update(new)
            first = min(new)
            _log.warning("%d pictures are broken and count as missing; one of them: %s", len(new), broken[first])


def auto_workers(processes: int) -> int:
    """How many workers each of some processes on this machine gets: they share its CPUs."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    cpus = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return min(MOST_WORKERS, cpus // max(1, processes))


def batch_loader(dataset: Dataset[Any], sampler: Sampler[Any], workers: int = 0, seed: int = 0) -> BatchLoader:
    """Load the batches that `sampler` names; nothing in the workers is random.

    Args:
        dataset: `PostBatches` or `EpisodeBatches`.
        sampler: yields its keys.
        workers: processes that collate; 0 collates in this one.
        seed: of the loader's own generator, so that it draws nothing from the global one.
    """
    if workers:
        # the tokenizer library warns, and falls back to this, when a process that used it forks
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return BatchLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=_same,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(seed),
    )
