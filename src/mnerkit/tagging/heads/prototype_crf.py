"""Few-shot tagging: distances to the prototypes of a support set, and a CRF over them."""

from __future__ import annotations

import random
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batch import Batch
from mnerkit.data.tagset import TagSet
from mnerkit.encoders.base import WordStates
from mnerkit.errors import DataError, UsageError
from mnerkit.nn.crf import CRF, Scores, TiedCRF, crf_nll, viterbi
from mnerkit.nn.prototypes import distances, nearest, prototypes
from mnerkit.ranges import POSITIVE, check
from mnerkit.tagging.heads.base import Head
from mnerkit.tagging.heads.rows import as_long_as_posts, mean_over_rows, words_of

# emission of a tag that the support says nothing of: finite, so that nothing turns into NaN, and out of reach
ABSENT = -1e4


class PrototypeCRFHead(Head):
    """Prototypes of the support words, distances as emissions, one CRF for all environments (MOUSING, Eq. 10-12).

    Only words are seen, never image nodes. The prototypes of an environment come from its own states. In the loss, a
    gold tag of which the support says nothing counts as O.
    """

    name: ClassVar[str] = "prototype_crf"
    train_mode: ClassVar[Literal["plain", "episodic"]] = "episodic"

    def __init__(
        self,
        transitions: Literal["tied", "full"] = "tied",
        slot_shuffle: bool = True,
        constrain_bio: bool = True,
        distance: Literal["sq_euclid", "euclid", "cosine"] = "sq_euclid",
        dist_scale: float | None = None,
        emission: Literal["logp", "p"] = "logp",
        proto_classes: Literal["bio", "io"] = "bio",
        missing_I: Literal["from_B", "absent"] = "from_B",
        o_proto: Literal["mean", "nearest", "learned_bias"] = "mean",
    ) -> None:
        """Keep the options.

        Args:
            transitions: `tied` scores roles of tags and serves any number of types; `full` scores pairs of tags, so
                that episodes must have as many types as the model was built for.
            slot_shuffle: with `full`, deal the types to the tags anew in each episode (drawn from its number).
            constrain_bio: never decode an `I-x` at the start, after O or after another type; the loss is the same.
            distance: of a word to a prototype; `cosine` is one minus the cosine.
            dist_scale: factor of the distance before the softmax; default: 1 / sqrt(width) for `sq_euclid`, 1 for
                `euclid`, 10 for `cosine`.
            emission: what the CRF reads, log-probabilities or probabilities.
            proto_classes: a prototype for each BIO tag, or one for each type that `B-` and `I-` share.
            missing_I: where the support has no `I-x`, its prototype is that of `B-x`, or the tag is out of reach.
            o_proto: the distance to O is that to the mean of the support's O words, that to the nearest of them, or
                a learnt share, at first half, of how far those are on average from the nearest entity prototype.
        """
        super().__init__()
        check("model.head", POSITIVE, dist_scale=dist_scale)
        self.transitions, self.slot_shuffle, self.constrain_bio = transitions, slot_shuffle, constrain_bio
        self.distance, self.dist_scale, self.emission = distance, dist_scale, emission
        self.proto_classes, self.missing_I, self.o_proto = proto_classes, missing_I, o_proto

    def build(self, width: int, tagset: TagSet) -> None:
        """Create the CRF; of `tagset`, `full` transitions use the number of types, nothing else is used."""
        self.num_types = len(tagset.types)
        self.crf = CRF(len(tagset), batch_first=True) if self.transitions == "full" else TiedCRF()
        usual = {"sq_euclid": width**-0.5, "euclid": 1.0, "cosine": 10.0}
        self.scale = usual[self.distance] if self.dist_scale is None else self.dist_scale
        if self.o_proto == "learned_bias":
            self.o_bias = nn.Parameter(torch.tensor(0.5).log())

    # ------------------------------------------------------------------ emissions

    def _centres(self, support: Tensor, tags: Tensor, num_tags: int) -> tuple[Tensor, Tensor, Tensor]:
        """Prototypes (E, C, d), which of them the support knows (C,), and the support words that are O (m,)."""
        io = self.proto_classes == "io"
        classes = (tags + 1) // 2 if io else tags
        centres, counts = prototypes(support, classes, (num_tags + 1) // 2 if io else num_tags)
        known = counts > 0
        if not io:
            begin, inside = slice(1, None, 2), slice(2, None, 2)
            # an orphan I-x may be all that the support has of a type, so B-x borrows, too
            borrowed = [(begin, inside), (inside, begin)] if self.missing_I == "from_B" else [(begin, inside)]
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
        apart = distances(query, centres, self.distance)  # (E, n, C)
        if self.o_proto != "mean":
            others, entities = support[:, outside], centres[:, 1:][:, known[1:]]
            if self.o_proto == "nearest":
                to_o = nearest(query, others, self.distance)  # (E, n)
            elif entities.shape[1]:
                usual = nearest(others, entities, self.distance).mean(1, keepdim=True)  # (E, 1)
                to_o = (self.o_bias.exp() * usual).expand_as(apart[..., 0])
            else:  # no entity in the support, so O is certain whatever its distance
                to_o = self.o_bias.expand_as(apart[..., 0])
            apart = torch.cat((to_o.unsqueeze(-1), apart[..., 1:]), -1)
        return -self.scale * apart, known

    def emissions(self, encoded: WordStates, batch: Batch) -> tuple[Tensor, Tensor]:
        """Emissions of the query words in each environment (MOUSING, Eq. 11).

        Returns:
            (E, Q, W, K) float32, `ABSENT` for tags of which the support says nothing and 0 in the padding, and (K,)
            bool, the tags of which it says something.

        Raises:
            DataError: there is no support, or it carries no tags.
        """
        support, query = words_of(encoded, batch, query=False), words_of(encoded, batch)
        num_tags = len(batch.tagset)
        if not support.mask.any():
            raise DataError("prototype_crf learns the types from support posts, and the batch holds none with words")
        with torch.autocast(query.states.device.type, enabled=False):
            logits, known = self._logits(
                support.states[:, support.mask],
                support.tags(batch)[support.mask],
                query.states[:, query.mask],
                num_tags,
            )
            log_p = logits.masked_fill(~known, -torch.inf).log_softmax(-1)
            scores = (log_p if self.emission == "logp" else log_p.exp()).masked_fill(~known, ABSENT)
            if self.proto_classes == "io":
                of_tag = (torch.arange(num_tags, device=scores.device) + 1) // 2
                scores, known = scores[..., of_tag], known[of_tag]
            padded = scores.new_zeros(*query.states.shape[:-1], num_tags)
            padded[:, query.mask] = scores
        return padded, known

    def _scores(self, batch: Batch) -> Scores:
        """The CRF's scores of the episode's tags."""
        num_types = len(batch.tagset.types)
        scores = self.crf.scores(num_types)
        if self.transitions == "tied":
            return scores
        if num_types != self.num_types:
            raise UsageError(
                f"transitions: full was built for {self.num_types} types, an episode has {num_types}; use tied"
            )
        if not self.slot_shuffle:
            return scores
        slots = random.Random(batch.episode or 0).sample(range(num_types), num_types)
        order = [0, *(2 * slot + 1 + role for slot in slots for role in (0, 1))]
        return scores.permuted(torch.tensor(order, device=scores.start.device))

    # ------------------------------------------------------------------ loss and tags

    def loss(self, encoded: WordStates, batch: Batch) -> Tensor:
        """Negative log-likelihood of the gold tags (MOUSING, Eq. 12): mean over query rows, sum over environments."""
        words = words_of(encoded, batch)
        emissions, known = self.emissions(encoded, batch)
        gold = words.tags(batch)
        gold = gold * known[gold]
        worlds = len(emissions)
        losses = crf_nll(
            emissions.flatten(0, 1), gold.repeat(worlds, 1), words.mask.repeat(worlds, 1), self._scores(batch)
        )
        return mean_over_rows(losses.view(worlds, -1), words.mask)

    def decode(self, encoded: WordStates, batch: Batch) -> list[list[int]]:
        """Viterbi over the mean of the environments' emissions."""
        words = words_of(encoded, batch)
        emissions, _ = self.emissions(encoded, batch)
        scores = self._scores(batch)
        decoded = viterbi(emissions.mean(0), words.mask, scores.constrained() if self.constrain_bio else scores)
        return as_long_as_posts(decoded, batch, words)
