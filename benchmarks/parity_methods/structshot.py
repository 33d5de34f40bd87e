"""NNShot and StructShot (asappresearch/structshot): the heads `nearest` and `struct`, which have no weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch, TextBatch
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.methods.heads.head import pad_to_words
from mnerkit.methods.heads.nearest import NearestHead
from mnerkit.methods.heads.struct import StructHead
from mnerkit.nn.abstract_transitions import FLOOR, shares_of
from mnerkit.nn.linear_chain import crf_score
from mnerkit.nn.prototypes import distances
from mnerkit.towers.interface import WordStates
from parity_methods.base import ParityMethod, padded
from parity_methods.case import Case
from parity_methods.comparing import At, Ours

LEFT_OUT = -100_000.0  # the released score of a tag that nothing is left of
READINGS = {"zero_distance": "drop", "one_type": "released", "floor": "zeros"}


class Method(ParityMethod):
    def __init__(self, case: Case, sane: bool = False) -> None:
        self.case, self.sane = case, sane
        self.readings: dict[str, Any] = {} if sane else dict(READINGS)
        self.taus: list[float] = case.about["taus"]

    def compute(self) -> dict[str, Ours]:
        results: dict[str, Ours] = {}
        for episode, about in self.case.about["episodes"].items():
            results |= {
                f"output/{episode}/{name}": value for name, value in self.of_episode(episode, about, "io").items()
            }
            if not self.sane:
                counted = self.of_episode(episode, about, "bio")
                results |= {f"output/{episode}/{name}": value for name, value in counted.items() if "_bio" in name}
                kept = self.of_episode(episode, about, "io", zero_distance="keep")
                results |= {f"variant/{episode}/zero_kept/{name}": value for name, value in kept.items()}
        for name in self.case.below("output/floor/"):
            _, _, kind, types = name.split("_")
            head = self.head_of(1)
            head.counts.copy_(self.case[f"input/floor/counts_{kind}"])
            results[f"output/floor/{name}"] = self.tables(head, int(types[1:]))
        return results

    def head_of(self, types: int, **options: Any) -> StructHead:
        """The head `struct`, built for source types."""
        head = StructHead(tau=0.05, **{**self.readings, **options})
        head.build(1, TagSet(tuple(f"t{number}" for number in range(types))))
        return head

    def tables(self, head: StructHead, types: int) -> Tensor:
        """(taus, 2 + N, 2 + N), from row to column over START, O and types; nothing leads to START."""
        tables = []
        for tau in self.taus:
            start, transitions, _ = head.scores(types, tau)
            table = torch.cat([start.unsqueeze(0), transitions])
            tables.append(torch.cat([torch.full((len(table), 1), math.log(FLOOR)), table], 1))
        return torch.stack(tables)

    def episode(self, name: str, types: int) -> tuple[Batch, WordStates]:
        """A support and queries as the heads read them: their states, and tags of the support."""
        given = self.case.below(f"input/{name}/")
        lengths = [*given["support_lengths"].tolist(), *given["query_mask"].sum(1).tolist()]
        support = len(given["support_lengths"])
        mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
        states = torch.zeros(*mask.shape, given["support_states"].shape[-1])
        tags = torch.zeros(mask.shape, dtype=torch.long)
        states[:support][mask[:support]] = given["support_states"]
        tags[:support][mask[:support]] = given["support_tags_bio"]
        states[support:][mask[support:]] = given["query_states"][given["query_mask"].bool()]
        words = [("word",) * length for length in lengths]
        posts = [Post(str(row), each) for row, each in enumerate(words)]
        tagset = TagSet(tuple(f"t{number}" for number in range(1, types + 1)))
        query = torch.arange(len(posts)) >= support
        return Batch(posts, TextBatch(words, mask), tagset, query, tags=tags), WordStates(states.unsqueeze(0))

    def of_episode(self, name: str, about: dict[str, Any], counting: str, **options: Any) -> dict[str, Ours]:
        """What both heads compute in an episode."""
        case, types = self.case, about["types"]
        batch, encoded = self.episode(name, types)
        source = TagSet(tuple(about["source_types"]))
        head = self.head_of(len(source.types), counting=counting, **options)
        rows = [row[row >= 0].tolist() for row in case[f"input/{name}/train_tags_bio"]]
        posts = [
            Post(str(place), ("word",) * len(row), tuple(source.tags[number] for number in row))
            for place, row in enumerate(rows)
        ]
        head.prepare(posts, source)
        mask = case[f"input/{name}/query_mask"].bool()
        width = mask.shape[1]
        similarity = head.similarity(encoded, batch)[0, :, :width]
        emissions = head._emissions(encoded, batch)[:, :width]
        nearest = NearestHead(zero_distance=head.options.zero_distance)
        paths, scores = [], []
        for tau in self.taus:
            numbers = pad_to_words(head._chain(emissions_of(emissions, batch), batch, encoded, tau).decode(), batch)
            paths.append(io_numbers(numbers, mask.shape))
            scores.append(crf_score(emissions, paths[-1].clamp_min(0), mask, head.scores(types, tau)))
        log_p = similarity.log_softmax(-1)
        start = torch.full_like(log_p[..., :1], math.log(FLOOR))
        support, query = case[f"input/{name}/support_states"], case[f"input/{name}/query_states"]
        unit = [torch.nn.functional.normalize(each, dim=-1) for each in (query, support)]
        return {
            "minus_squared_distance": At(-distances(unit[0].flatten(0, 1), unit[1]).unflatten(0, mask.shape), mask),
            "emissions": similarity.masked_fill(similarity == -torch.inf, LEFT_OUT),
            "nearest_tags": io_numbers(nearest.decode(encoded, batch), mask.shape),
            "log_softmax_with_start": At(torch.cat([start, log_p], -1), mask),
            f"abstract_{counting}": shares_of(head.counts).float(),
            f"log_transitions_{counting}": self.tables(head, types),
            f"viterbi_tags_{counting}": torch.stack(paths),
            f"viterbi_scores_{counting}": torch.stack(scores),
        }

    def apart(self) -> Iterator[tuple[str, str]]:
        """Each reading by itself: in how many words of all episodes and taus its default tags otherwise."""
        for name in READINGS:
            kept = {each: value for each, value in READINGS.items() if each != name}
            self.readings = kept
            results, different, total = self.compute(), 0, 0
            for each, value in results.items():
                if re.fullmatch(r"output/\w+/viterbi_tags_io", each) and isinstance(value, Tensor):
                    different += int((value != self.case[each]).sum())
                    total += int((value >= 0).sum())
            self.readings = {}
            yield f"{name}: default", f"{different} of {total} tags differ"


def emissions_of(emissions: Tensor, batch: Batch) -> Tensor:
    """Emissions of the query rows as wide as the batch."""
    missing = batch.text.word_mask.shape[1] - emissions.shape[1]
    return torch.nn.functional.pad(emissions, (0, 0, 0, missing))


def io_numbers(tags: list[list[int]], shape: torch.Size) -> Tensor:
    """BIO numbers of rows of words as one tensor of IO numbers, -1 behind."""
    numbers = padded(tags, tuple(shape))
    return torch.where(numbers < 0, numbers, (numbers + 1) // 2)
