"""Few-shot tagging by distances to the prototypes of a support set (ProtoBERT)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.tags import TagSet
from mnerkit.methods.heads.head import (
    ABSENT,
    Head,
    add_boundary,
    as_long_as_posts,
    cross_entropy,
    from_io,
    in_rows,
    likeliest,
    support_of,
    words_of,
)
from mnerkit.methods.heads.options import PrototypeOptions
from mnerkit.nn.prototypes import distances, nearest, prototypes
from mnerkit.towers.interface import WordStates


class PrototypeHead(Head):
    """Prototypes of the support words, and a softmax over the distances of each query word to them.

    Prototypical networks (Snell et al., 2017) over words, O a class like any other (ProtoBERT; MOUSING, Eq. 10-11).
    Only words are seen, never image nodes. The prototypes of an environment come from its own states. In the loss, a
    gold tag of which the support says nothing counts as O.
    """

    name: ClassVar[str] = "prototype"
    options_class = PrototypeOptions
    train_mode: ClassVar[Literal["plain", "episodic"]] = "episodic"
    reads_support: ClassVar[bool] = True
    reads_probabilities: bool = False  # in place of their logarithms

    def build(self, width: int, tagset: TagSet) -> None:
        """Set the scale of the distances; `tagset` is not used."""
        usual = {"sq_euclid": width**-0.5, "euclid": 1.0, "cosine": 10.0}
        self.scale = usual[self.options.distance] if self.options.dist_scale is None else self.options.dist_scale
        if self.options.o_proto == "learned_bias":
            self.o_bias = nn.Parameter(torch.tensor(0.5).log())

    # ------------------------------------------------------------------ emissions

    def _centres(self, support: Tensor, tags: Tensor, num_tags: int) -> tuple[Tensor, Tensor, Tensor]:
        """Prototypes (E, C, d), which of them the support knows (C,), and the support words that are O (m,)."""
        io = self.options.proto_classes == "io"
        classes = (tags + 1) // 2 if io else tags
        centres, counts = prototypes(support, classes, (num_tags + 1) // 2 if io else num_tags)
        known = counts > 0
        if not io:
            begin, inside = slice(1, None, 2), slice(2, None, 2)
            # an orphan I-x may be all that the support has of a type, so B-x borrows, too
            borrowed = [(begin, inside), (inside, begin)] if self.options.missing_I == "from_B" else [(begin, inside)]
            own, had = centres, known
            centres, known = own.clone(), had.clone()
            for to, source in borrowed:
                centres[:, to] = torch.where(had[to].unsqueeze(-1), own[:, to], own[:, source])
                known[to] = had[to] | had[source]
        outside = classes == 0
        if not known[0]:
            # a support without O words: O is then what lies between the entities
            centres = torch.cat((support.mean(1, keepdim=True), centres[:, 1:]), dim=1)
            outside = torch.ones_like(outside)
        known[0] = True
        return centres, known, outside

    def _logits(self, support: Tensor, tags: Tensor, query: Tensor, num_tags: int) -> tuple[Tensor, Tensor]:
        """Negative scaled distances (E, n, C) of query words to classes, and which classes the support knows (C,).

        Args:
            support: (E, m, d) states of the support words.
            tags: (m,) their tags.
            query: (E, n, d) states of the query words.
            num_tags: K.
        """
        centres, known, outside = self._centres(support, tags, num_tags)
        apart = distances(query, centres, self.options.distance)  # (E, n, C)
        if self.options.o_proto != "mean":
            others, entities = support[:, outside], centres[:, 1:][:, known[1:]]
            if self.options.o_proto == "nearest":
                to_o = nearest(query, others, self.options.distance)  # (E, n)
            elif entities.shape[1]:
                usual = nearest(others, entities, self.options.distance).mean(1, keepdim=True)  # (E, 1)
                to_o = (self.o_bias.exp() * usual).expand_as(apart[..., 0])
            else:  # no entity in the support, so O is certain whatever its distance
                to_o = self.o_bias.expand_as(apart[..., 0])
            apart = torch.cat((to_o.unsqueeze(-1), apart[..., 1:]), -1)
        return -self.scale * apart, known

    def emissions(self, encoded: WordStates, batch: Batch) -> tuple[Tensor, Tensor]:
        """Emissions of the query words in each environment (MOUSING, Eq. 11), an encoder's boundary emissions added.

        Returns:
            (E, Q, W, K) float32, `ABSENT` for tags of which the support says nothing and 0 in the padding, and (K,)
            bool, the tags of which it says something.

        Raises:
            DataError: there is no support, or it carries no tags.
        """
        support, tags = support_of(encoded, batch, self.name)
        query, num_tags = words_of(encoded, batch), len(batch.tagset)
        with torch.autocast(query.states.device.type, enabled=False):
            logits, known = self._logits(support, tags, query.states[:, query.mask], num_tags)
            log_p = logits.masked_fill(~known, -torch.inf).log_softmax(-1)
            scores = (log_p.exp() if self.reads_probabilities else log_p).masked_fill(~known, ABSENT)
            if self.options.proto_classes == "io":
                of_tag = (torch.arange(num_tags, device=scores.device) + 1) // 2
                scores, known = scores[..., of_tag], known[of_tag]
            return add_boundary(in_rows(scores, query), encoded, query), known

    # ------------------------------------------------------------------ loss and tags

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Cross-entropy: mean over the words of all query rows, summed over environments."""
        words = words_of(encoded, batch)
        log_p, known = self.emissions(encoded, batch)
        if encoded.boundary is not None:
            log_p = log_p.log_softmax(-1)
        gold = words.tags(batch)
        return cross_entropy(log_p, gold * known[gold], words.play)

    def decode(self, encoded: WordStates, batch: Batch) -> list[list[int]]:
        """The likeliest tag of each word, under the mean of the environments' log-probabilities.

        Where `B-` and `I-` share prototypes, neighbouring words of one type are one entity.
        """
        words = words_of(encoded, batch)
        best = likeliest(self.emissions(encoded, batch)[0].mean(0), words)
        if self.options.proto_classes == "io" and encoded.boundary is None:
            best = from_io([(tag + 1) // 2 for tag in row] for row in best)
        return as_long_as_posts(best, batch, words)
