"""Few-shot tagging by nearest support words and counted transitions (StructShot)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.methods.heads.chain import Chain
from mnerkit.methods.heads.head import ABSENT, pad_to_words, words_of
from mnerkit.methods.heads.nearest import NearestHead
from mnerkit.methods.heads.options import StructOptions
from mnerkit.nn.abstract_transitions import ABSTRACT, count_transitions, spread
from mnerkit.nn.linear_chain import Scores
from mnerkit.towers.interface import WordStates

TAUS = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
# the authors' default, until dev selects another
DEFAULT = TAUS.index(0.1)


class StructHead(NearestHead):
    """`nearest` with transitions: a softmax over the scores of IO tags, and Viterbi with counted transitions.

    StructShot (Yang and Katiyar, 2020). Seven abstract transitions (`nn.abstract_transitions`) are counted on the
    training posts of the source types and spread over the types in play; `tau` is the power of their probabilities.
    Counts and the selected `tau` are buffers, so checkpoints contain them.
    """

    name: ClassVar[str] = "struct"
    options_class = StructOptions
    counts: Tensor
    chosen: Tensor

    def __init__(self, options: StructOptions | None = None, **values: Any) -> None:
        super().__init__(options, **values)
        self.choices = TAUS if self.options.tau is None else ()

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the softmax for the source types, and the buffers."""
        super().build(width, tagset)
        # integers, which the Trainer's precision does not change
        self.register_buffer("counts", torch.zeros(len(ABSTRACT), dtype=torch.long))
        self.register_buffer("chosen", torch.tensor(DEFAULT))

    def prepare(self, posts: Sequence[Post], tagset: TagSet, ignore: bool = False) -> None:
        """Count the abstract transitions of the training posts."""
        bio = self.options.counting == "bio"
        self.counts.copy_(torch.tensor(count_transitions(_classes(post, tagset, ignore, bio) for post in posts)))

    @property
    def tau(self) -> float:
        """The power in use."""
        return TAUS[int(self.chosen)] if self.options.tau is None else self.options.tau

    def choose(self, place: int) -> None:
        """Use `choices[place]` from now on."""
        if self.choices:
            self.chosen.fill_(place)

    def _emissions(self, encoded: WordStates, batch: Batch) -> Tensor:
        """(Q, W, 1 + N) mean of the environments' log-probabilities; `ABSENT` for tags that no support word has.

        The paper's softmax shifts the scores of all tags of a word equally, so it does not change the best path.
        """
        log_p = self.similarity(encoded, batch).log_softmax(-1).mean(0)
        return log_p.masked_fill(~(log_p > -torch.inf), ABSENT)  # NaN where no tag is left

    def scores(self, num_types: int, tau: float) -> Scores:
        """Log probabilities of transitions between O and the types in play."""
        return spread(self.counts.cpu(), num_types, tau, self.options.floor, self.options.one_type)

    def _chain(self, emissions: Tensor, batch: Batch, encoded: WordStates, tau: float) -> Chain:
        scores = Scores(*(part.to(emissions.device) for part in self.scores(len(batch.tagset.types), tau)))
        return Chain(emissions, words_of(encoded, batch).mask, scores, io=True)

    def chain(self, encoded: WordStates, batch: Batch) -> Chain:
        """Log-probabilities of IO classes, and counted transitions: adjacent words of one type are one entity."""
        return self._chain(self._emissions(encoded, batch), batch, encoded, self.tau)

    def decodings(self, encoded: WordStates, batch: Batch) -> list[list[list[int]]]:
        """Decode the same emissions with each tau of `choices`."""
        emissions = self._emissions(encoded, batch)
        chains = (self._chain(emissions, batch, encoded, tau) for tau in self.choices or (self.tau,))
        return [pad_to_words(chain.decode(), batch) for chain in chains]


def _classes(post: Post, tagset: TagSet, ignore: bool, bio: bool) -> list[int | None]:
    """IO classes of a post (or its BIO tags): 0 for O and for other types, or with `ignore` None for other types."""
    place = {kind: number for number, kind in enumerate(tagset.types, start=1)}
    if bio:
        place = {tag: number for number, tag in enumerate(tagset.tags) if number}
    return [0 if tag == "O" else place.get(tag if bio else tag[2:], None if ignore else 0) for tag in post.tags or ()]
