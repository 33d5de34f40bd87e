"""What all methods share: build ours from a case, load the released weights, run it, and compare every tensor."""

from __future__ import annotations

import fnmatch
import importlib
import re
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mnerkit import registry
from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.data.corpus.tags import TagSet
from mnerkit.errors import UsageError
from mnerkit.methods.heads.head import words_of
from mnerkit.methods.released import ReleasedWeights, tag_order
from mnerkit.methods.tagger import Tagger, make_method
from mnerkit.nn.linear_chain import crf_log_partition, crf_score
from mnerkit.options import declared
from mnerkit.scoring.counts import entity_scores
from mnerkit.towers.interface import VisionTower
from parity_methods.case import Case, types_of
from parity_methods.comparing import At, Ours, Row, compared, difference

NEVER_READ = ("input/*",)


class ParityMethod:
    """A method and one of its cases. A subclass says what is the method's own; see `hvpnet.py` for a short one.

    Attributes:
        plugin: name of the plugin; its module `released` has the table `WEIGHTS` and the options `READINGS`.
        head: the head's name and options.
        groups: what stands before the name of a computed tensor in the case -> options that differ from `READINGS`.
        main: the group that the method's own run is compared with, and `--sane`.
        gradients: group of gradients -> the group whose total loss they are of.
        structural: readings that `--sane` keeps, since the released weights or tags fit no others.
        tolerances: pattern of names -> tolerance and its reason, where it is not the usual one.
        not_ours: pattern of names -> why ours has no such tensor. They are printed, not compared.
        group: the group that is being computed.
    """

    plugin: ClassVar[str]
    head: ClassVar[dict[str, Any]] = {"name": "crf"}
    groups: ClassVar[dict[str, dict[str, Any]]] = {"output": {}}
    main: ClassVar[str] = "output"
    gradients: ClassVar[dict[str, str]] = {"grad": "output"}
    structural: ClassVar[tuple[str, ...]] = ("subword",)
    tolerances: ClassVar[dict[str, tuple[float, str]]] = {}
    not_ours: ClassVar[dict[str, str]] = {}

    def __init__(self, case: Case, sane: bool = False) -> None:
        """Read the plugin's table.

        Args:
            case: the case.
            sane: run with the plugin's defaults, apart from `structural`, in place of `READINGS`.
        """
        released = importlib.import_module(f"mnerkit_plugins.{self.plugin}.released")
        self.case, self.sane = case, sane
        self.table: ReleasedWeights = released.WEIGHTS
        self.sizes: dict[str, Any] = released.sizes(case.weights) if hasattr(released, "sizes") else {}
        readings: dict[str, Any] = released.READINGS
        self.readings = {name: value for name, value in readings.items() if not sane or name in self.structural}
        self.types = types_of(case.tags)
        self.group = self.main

    # ------------------------------------------------------------------ what a subclass says

    @abstractmethod
    def options(self, folder: Path) -> dict[str, Any]:
        """Options that `sizes` does not tell; `folder` is empty and takes files of towers."""

    def vision(self) -> VisionTower | None:
        """The vision tower that stands for the method's; None if the options make one."""
        return None

    @abstractmethod
    def batch(self) -> Batch:
        """The case's posts, with words."""

    @abstractmethod
    def results(self, method: Tagger, batch: Batch) -> dict[str, Ours]:
        """Our tensors by the case's names without the group; and `total`, the loss that gradients are of."""

    def extra(self) -> dict[str, Ours]:
        """Further tensors by their full names, of groups that are no run of the method."""
        return {}

    # ------------------------------------------------------------------ building and running

    def method(self, group: str) -> Tagger:
        """Ours, with the readings of a group and the released weights, in eval mode."""
        readings = {**self.readings, **({} if self.sane else self.groups[group])}
        with tempfile.TemporaryDirectory() as folder:
            model = {"dropout": 0.0, **self.sizes, **self.options(Path(folder)), **readings}
            method = make_method({"plugin": self.plugin, "model": {**model, "head": self.head}})
            assert isinstance(method, Tagger)
            if (vision := self.vision()) is not None:

                def given(name: str, *_: Any, **__: Any) -> VisionTower:
                    return method.towers.setdefault(name, vision)  # type: ignore[return-value]

                object.__setattr__(method, "vision_tower", given)
            method.build(CorpusFacts(self.types))
        self.table.load(method, self.case.weights, self.order(method))
        for tower in method.towers.values():
            network: Any = getattr(tower, "model", None)
            if hasattr(network, "set_attn_implementation"):
                network.set_attn_implementation("eager")  # the only one that returns attention
        return method.eval()

    def released_tags(self, method: Tagger) -> tuple[str, ...]:
        """The released tags under the names of ours."""
        return self.case.tags

    def order(self, method: Tagger) -> Tensor:
        """For each of our tags the number of the released one."""
        kinds = method.piece_tags
        return tag_order(TagSet(self.types, () if kinds is None else kinds.names).tags, self.released_tags(method))

    def tagged(self, method: Tagger, batch: Batch) -> dict[str, Any]:
        """Encode, tag and decode a batch.

        Returns:
            states (B, n, d), emissions (B, n, K) in the released order of tags, log_partition and gold_score (B,) of a
            CRF, losses by name (`head` is the head's), total, decoded (B, n) released numbers, -1 behind; units, the
            batch of what is tagged; encoded, the encoder's output; mask (B, n).
        """
        head: Any = method.head
        units, order = method.units(batch), self.order(method)
        encoded = method.encoder(units, trace=True)
        words = words_of(encoded, units)
        emissions = head.emissions(words, encoded).mean(0)
        losses = method.losses_of(encoded, units)
        weights = method.loss_weights()
        results: dict[str, Any] = {
            "units": units,
            "encoded": encoded,
            "mask": words.mask,
            "states": encoded.states[0],
            "emissions": torch.zeros_like(emissions).index_copy(-1, order, emissions),
            "losses": losses,
            "total": torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum(),
            "decoded": padded([order[row].tolist() for row in head.decode(encoded, units)], words.mask.shape),
        }
        if head.name == "crf":
            scores = head.crf.scores(len(self.types))
            results["log_partition"] = crf_log_partition(emissions, words.mask, scores)
            results["gold_score"] = crf_score(emissions, words.tags(units), words.mask, scores)
        return results

    def apart(self) -> Iterator[tuple[str, str]]:
        """Each reading by itself: how far emissions and losses are off with its default and all else as released."""
        options = declared(registry.get(self.plugin).options_class)
        released = dict(self.readings)
        for name, value in released.items():
            default = options[name].default
            if name in self.structural or value == default:
                continue
            self.readings = {**released, name: default}
            try:
                results = self.results(self.method(self.main), self.batch())
            except UsageError as problem:
                yield f"{name}: {default}", f"not by itself: {problem}"
                continue
            finally:
                self.readings = released
            theirs = self.case.below(f"{self.main}/")
            gaps = [
                f"{each} {difference(results[each], theirs[each]):.1e}"
                for each in sorted(results.keys() & theirs.keys())
                if re.search("emissions$|loss$|loss_", each)
            ]
            yield f"{name}: {default}", ", ".join(gaps)

    def compute(self) -> dict[str, Ours]:
        """Every tensor of the case that ours computes, by its full name."""
        everything: dict[str, Ours] = {}
        for group in (self.main,) if self.sane else self.groups:
            self.group = group
            method, batch = self.method(group), self.batch()
            results = self.results(method, batch)
            total = results.pop("total")
            everything |= {f"{group}/{name}": value for name, value in results.items()}
            for gradient_group, of in self.gradients.items():
                if of == group:
                    assert isinstance(total, Tensor)
                    total.backward()
                    gradients = self.table.gradients(method, self.case.weights, self.order(method))
                    everything |= {f"{gradient_group}/{name}": value for name, value in gradients.items()}
        return everything if self.sane else everything | self.extra()

    def rows(self) -> tuple[list[Row], dict[str, str]]:
        """Every tensor of the case but its inputs: compared, or with the reason why ours has none."""
        ours, left_out = self.compute(), dict[str, str]()
        rows = []
        for name, theirs in sorted(self.case.tensors.items()):
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in NEVER_READ) or (self.sane and name not in ours):
                continue
            reason = next((why for each, why in self.not_ours.items() if fnmatch.fnmatchcase(name, each)), None)
            if name not in ours and reason is not None:
                left_out[name] = reason
                continue
            rows.append(compared(name, ours.get(name), theirs, self.tolerances))
        return [*rows, *self.f1(ours)], left_out

    # names of Viterbi's tags of pieces in the cases
    decoded_names: ClassVar[tuple[str, ...]] = ("decoded", "tags")

    def f1(self, ours: Mapping[str, Ours]) -> list[Row]:
        """F1 of the words' entities by our tags, beside that by the released ones."""
        names = [f"{self.main}/{each}" for each in self.decoded_names]
        name = next((name for name in names if name in ours and name in self.case.tensors), None)
        if name is None:
            return []
        value, batch = ours[name], self.batch()
        decoded = value.values if isinstance(value, At) else value
        scores = [
            entity_scores([[*post.tags] for post in batch.posts if post.tags], self.words(each, batch))
            for each in (decoded, self.case[name])
        ]
        gap = max(abs(scores[0][key] - scores[1][key]) for key in ("f1", "precision", "recall"))
        return [Row(f"F1 of {name}", gap, 0.0, f"{scores[0]['f1']:.2f}, released {scores[1]['f1']:.2f}")]

    def words(self, decoded: Tensor, batch: Batch) -> list[list[str]]:
        """Tags of words from released tag numbers of pieces (B, n): a first piece's, O where it belongs to no type."""
        assert batch.text.first_piece is not None
        entity_tags = TagSet(self.types).tags
        rows = []
        for numbers, places, mask in zip(decoded, batch.text.first_piece, batch.text.word_mask, strict=True):
            tags = [self.case.tags[int(number)] for number in numbers[places[mask]]]
            rows.append([tag if tag in entity_tags else "O" for tag in tags])
        return rows


def of_first_pieces(decoded: Tensor, starts: Tensor) -> Tensor:
    """Numbers of words (B, W) from those of pieces (B, n) at places `starts` (B, W), -1 behind."""
    return decoded.gather(1, starts.long().clamp_min(0)).masked_fill(starts < 0, -1)


def padded(rows: Sequence[Sequence[int]], shape: tuple[int, ...]) -> Tensor:
    """Rows of numbers as one tensor, -1 behind."""
    numbers = torch.full(shape, -1)
    for row, values in enumerate(rows):
        numbers[row, : len(values)] = torch.tensor(values, dtype=torch.long)
    return numbers
