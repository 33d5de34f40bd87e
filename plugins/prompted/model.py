"""Asking a model about posts: the replies that are known, and those of a server, a model here, or somebody's file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnerkit.data.batches.batch import TextBatch
from mnerkit.data.corpus.post import Post
from mnerkit.towers.interface import TextTower
from mnerkit_plugins.prompted.prompt import Prompt, Question
from mnerkit_plugins.prompted.replies import Reply, ReplyCache
from mnerkit_plugins.prompted.reply_file import ReplyFile


class Asked(Protocol):
    """A language model."""

    requests: int

    @property
    def name(self) -> str:
        """The model's."""
        ...

    def ask_all(
        self, questions: Sequence[Question], keep: Callable[[Question, Reply], None], device: torch.device
    ) -> None:
        """Ask; `keep` gets each reply as soon as it is there."""
        ...


class PromptedModel(nn.Module):
    """A prompt, somebody who answers, and a text tower if examples are chosen by text.

    Args:
        prompt: makes questions of posts.
        source: who is asked, or the file that holds all replies.
        tower: frozen, says which posts are near; None: no such examples.

    Attributes:
        requests: `made` by this process.
    """

    def __init__(self, prompt: Prompt, source: Asked | ReplyFile, tower: TextTower | None = None) -> None:
        super().__init__()
        self.prompt, self.source, self.text = prompt, source, tower
        self.requests = {"made": 0}
        self._cache: ReplyCache | None = None
        self._vectors: Tensor | None = None

    def cache(self, folder: Path | None) -> ReplyCache:
        """The replies of the model that are on disk, read once."""
        if self._cache is None:
            self._cache = ReplyCache(folder, self.source.name)
        return self._cache

    def replies(self, questions: Sequence[Question], folder: Path | None, device: torch.device) -> list[Reply | None]:
        """The reply to each question; each new one is on disk in `folder` as soon as it is there."""
        if isinstance(self.source, ReplyFile):
            return [self.source.get(each) for each in questions]
        cache = self.cache(folder)
        missing = [each for each in questions if cache.get(each.id, each.digest) is None]
        if missing:
            try:
                self.source.ask_all(missing, lambda each, reply: cache.add(each.id, each.digest, reply), device)
            finally:
                self.requests["made"] = self.source.requests
        return [cache.get(each.id, each.digest) for each in questions]

    @torch.no_grad()
    def nearest(self, batch: TextBatch, posts: Sequence[Post], shots: int, device: torch.device) -> list[list[Post]]:
        """For each row of a batch the posts with the nearest texts, the nearest last.

        Args:
            batch: the rows.
            posts: the posts to choose from, always the same.
            shots: how many are chosen.
            device: where the tower is.
        """
        if self._vectors is None:
            assert self.text is not None
            words = [post.words for post in posts]
            blocks = [words[start : start + 64] for start in range(0, len(words), 64)]
            vectors = [self._vectors_of(self.text.reader.collate(block).to(device)) for block in blocks]
            self._vectors = torch.cat(vectors)  # (P, d)
        similar = self._vectors_of(batch) @ self._vectors.to(device).T  # (B, P)
        order = similar.argsort(dim=1, descending=True, stable=True)[:, :shots].flip(1)
        return [[posts[place] for place in row] for row in order.tolist()]

    def _vectors_of(self, batch: TextBatch) -> Tensor:
        """(B, d): the mean of the words' states, of length one."""
        assert self.text is not None
        words = self.text.eval()(batch).words
        return functional.normalize(words.sum(1) / batch.word_mask.sum(1, keepdim=True).clamp_min(1), dim=1)
