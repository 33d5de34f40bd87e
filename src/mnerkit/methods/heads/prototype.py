"""Few-shot tagging by distances to the prototypes of a support set (ProtoBERT)."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.tags import TagSet
from mnerkit.methods.heads.chain import Chain
from mnerkit.methods.heads.head import (
    ABSENT,
    Head,
    add_boundary,
    cross_entropy,
    in_rows,
    support_of,
    words_of,
)
from mnerkit.methods.heads.options import PrototypeOptions
from mnerkit.nn.prototypes import distances, nearest, prototypes
from mnerkit.towers.interface import WordStates


class PrototypeHead(Head):
    """Prototypes of the support words, and a softmax over the distances of each query word to them.

    Prototypical networks (Snell et al., 2017) over words, with O as a class of its own (ProtoBERT; MOUSING, Eq. 10-11).
    Only words are used, never image nodes. Each environment computes prototypes from its own states. In the loss, a
    gold tag that does not occur in the support counts as O.
    """

    name: ClassVar[str] = "prototype"
    options_class = PrototypeOptions
    calibrated: ClassVar[bool] = False
    train_mode: ClassVar[Literal["plain", "episodic"]] = "episodic"
    reads_support: ClassVar[bool] = True
    reads_probabilities: bool = False  # instead of their logarithms

    def build(self, width: int, tagset: TagSet) -> None:
        """Set the scale of the distances; `tagset` is not used."""
        defaults = {"sq_euclid": width**-0.5, "euclid": 1.0, "cosine": 10.0}
        self.scale = defaults[self.options.distance] if self.options.dist_scale is None else self.options.dist_scale
        if self.options.o_proto == "learned_bias":
            self.o_bias = nn.Parameter(torch.tensor(0.5).log())

    # ------------------------------------------------------------------ emissions

    def _centres(self, support: Tensor, tags: Tensor, num_tags: int) -> tuple[Tensor, Tensor, Tensor]:
        """Prototypes (E, C, d), which of them the support defines (C,), and which support words are O (m,)."""
        io = self.options.proto_classes == "io"
        classes = (tags + 1) // 2 if io else tags
        centres, counts = prototypes(support, classes, (num_tags + 1) // 2 if io else num_tags)
        defined = counts > 0
        if not io:
            begin, inside = slice(1, None, 2), slice(2, None, 2)
            # B-x also borrows, since an orphan I-x may be the only word of a type in the support
            borrowed = [(begin, inside), (inside, begin)] if self.options.missing_I == "from_B" else [(begin, inside)]
            means, present = centres, defined
            centres, defined = means.clone(), present.clone()
            for target, source in borrowed:
                centres[:, target] = torch.where(present[target].unsqueeze(-1), means[:, target], means[:, source])
                defined[target] = present[target] | present[source]
        # without O words in the support, O is the mean of all words
        outside = (classes == 0) | ~defined[0]
        mean_of_o = torch.where(defined[0], centres[:, :1], support.mean(1, keepdim=True))
        centres = torch.cat((mean_of_o, centres[:, 1:]), dim=1)
        defined = torch.cat((torch.ones_like(defined[:1]), defined[1:]))
        return centres, defined, outside

    def _logits(self, support: Tensor, tags: Tensor, query: Tensor, num_tags: int) -> tuple[Tensor, Tensor]:
        """Negative scaled distances (E, n, C) of query words to classes, and which classes the support defines (C,).

        Args:
            support: (E, m, d) states of the support words.
            tags: (m,) their tags.
            query: (E, n, d) states of the query words.
            num_tags: K.
        """
        centres, defined, outside = self._centres(support, tags, num_tags)
        to_centres = distances(query, centres, self.options.distance)  # (E, n, C)
        if self.options.o_proto != "mean":
            o_words, entities = support[:, outside], centres[:, 1:][:, defined[1:]]
            if self.options.o_proto == "nearest":
                to_o = nearest(query, o_words, self.options.distance)  # (E, n)
            elif entities.shape[1]:
                mean = nearest(o_words, entities, self.options.distance).mean(1, keepdim=True)  # (E, 1)
                to_o = (self.o_bias.exp() * mean).expand_as(to_centres[..., 0])
            else:  # without an entity in the support, O is certain at any distance
                to_o = self.o_bias.expand_as(to_centres[..., 0])
            to_centres = torch.cat((to_o.unsqueeze(-1), to_centres[..., 1:]), -1)
        return -self.scale * to_centres, defined

    def emissions(self, encoded: WordStates, batch: Batch) -> tuple[Tensor, Tensor]:
        """Emissions of the query words in each environment (MOUSING, Eq. 11), plus an encoder's boundary emissions.

        Returns:
            (E, Q, W, K) float32, `ABSENT` for tags that the support does not define and 0 in the padding, and (K,)
            bool, the tags that it defines.

        Raises:
            DataError: there is no support, or it has no tags.
        """
        support, tags = support_of(encoded, batch, self.name)
        query, num_tags = words_of(encoded, batch), len(batch.tagset)
        with torch.autocast(query.states.device.type, enabled=False):
            logits, defined = self._logits(support, tags, query.flat(), num_tags)
            log_p = logits.masked_fill(~defined, -torch.inf).log_softmax(-1)
            scores = (log_p.exp() if self.reads_probabilities else log_p).masked_fill(~defined, ABSENT)
            if self.options.proto_classes == "io":
                class_of_tag = (torch.arange(num_tags, device=scores.device) + 1) // 2
                scores, defined = scores[..., class_of_tag], defined[class_of_tag]
            return add_boundary(in_rows(scores, query), encoded, query), defined

    # ------------------------------------------------------------------ loss and tags

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Cross-entropy: mean over the words of all query rows, summed over environments."""
        words = words_of(encoded, batch)
        log_p, defined = self.emissions(encoded, batch)
        if encoded.boundary is not None:
            log_p = log_p.log_softmax(-1)
        gold = words.tags(batch)
        return cross_entropy(log_p, gold * defined[gold], words.play)

    def chain(self, encoded: WordStates, batch: Batch) -> Chain:
        """The mean of the environments' log-probabilities of each word's tags.

        If `B-` and `I-` share prototypes, adjacent words of one type are one entity.
        """
        emissions, mask = self.emissions(encoded, batch)[0].mean(0), words_of(encoded, batch).mask
        if self.options.proto_classes == "io" and encoded.boundary is None:
            classes = [0, *range(1, emissions.shape[-1], 2)]
            return Chain(emissions[..., classes], mask, io=True)
        return Chain(emissions, mask)
