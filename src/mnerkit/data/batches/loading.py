"""A `DataLoader` of whole batches: the sampler says which posts or episode, the data set collates them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import Post
from mnerkit.data.episodes.sampling import Episodes
from mnerkit.errors import MnerkitError

_log = logging.getLogger("mnerkit.data")
# names of broken pictures that were reported already: the same posts are read every epoch
_told: set[str] = set()


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
            yield batch
        new = broken.keys() - _told
        if new:
            _told.update(new)
            first = min(new)
            _log.warning("%d pictures are broken and count as missing; one of them: %s", len(new), broken[first])


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
