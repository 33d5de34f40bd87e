"""Frozen towers: nothing changes them, and what they returned once is not computed again."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.data.features.table_files import folder_digest
from mnerkit.towers.by_name import text_tower, vision_tower
from mnerkit.towers.frozen.memory import FeatureMemory, freeze, input_digest, weight_digest
from mnerkit.towers.frozen.reading import Reading
from mnerkit.towers.interface import Tower

Folder = Callable[[str], str]
FACTS = CorpusFacts((), ("the", "cat"))
ROWS = [["the", "cat", "sat"], ["a", "dog"], []]


class Whole(nn.Module):
    """A method with a frozen tower and a layer of its own."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.tower, self.own, self.dropout = tower, nn.Linear(3, 3), nn.Dropout()


def test_a_frozen_tower_stays_in_eval_mode_when_the_method_trains() -> None:
    whole = Whole(freeze(vision_tower("random:resnet18"))).train()
    assert whole.training and whole.dropout.training
    assert not any(module.training for module in whole.tower.modules())
    assert not any(parameter.requires_grad for parameter in whole.tower.parameters())


def test_batch_statistics_of_a_frozen_tower_are_fixed() -> None:
    tower = vision_tower("random:resnet18")
    pixels = torch.randn(4, 3, 64, 64)
    before = weight_digest(tower)
    tower.train()(pixels)
    assert weight_digest(tower) != before, "an unfrozen tower counts"
    before = weight_digest(freeze(tower))
    tower.train()(pixels)
    assert weight_digest(tower) == before


def test_no_gradient_enters_a_frozen_tower_but_passes_beyond_it(folder_of: Folder) -> None:
    tower = text_tower(folder_of("bert"), facts=FACTS, freeze=True)
    head = nn.Linear(tower.width, 2)
    head(tower(tower.reader.collate(ROWS)).words).sum().backward()
    assert head.weight.grad is not None and all(parameter.grad is None for parameter in tower.parameters())


def test_the_digest_tells_weights_apart_and_nothing_else() -> None:
    layer = nn.Linear(3, 2)
    same = copy.deepcopy(layer)
    assert weight_digest(layer) == weight_digest(same)
    with torch.no_grad():
        same.weight[0, 0] += 1e-6
    assert weight_digest(layer) != weight_digest(same)
    assert weight_digest(layer) != weight_digest(copy.deepcopy(layer).to(torch.bfloat16))


def test_every_part_of_a_reading_makes_another_folder_and_every_input_another_key() -> None:
    reading = Reading("w", "text", "p")
    changes = {
        "weights": "x",
        "view": "whole",
        "preprocessing": "q",
        "length_limit": 9,
        "layers": 2,
        "pooling": "mean",
        "projection": True,
        "dtype": "bfloat16",
        "kept": "half",
    }
    folders = {folder_digest(asdict(replace(reading, **{name: value}))) for name, value in changes.items()}
    folders.add(folder_digest(asdict(reading)))
    assert len(folders) == len(changes) + 1 and set(changes) == set(Reading.__dataclass_fields__)
    assert input_digest(("a b",)) != input_digest(("a", "b"))
    assert input_digest(torch.zeros(2, 3)) != input_digest(torch.zeros(3, 2))


def counted(tower: Tower) -> list[int]:
    """Rows of every run of the tower's model."""
    runs: list[int] = []
    tower.model.register_forward_pre_hook(lambda _, args: runs.append(len(args[0])))
    return runs


@pytest.mark.parametrize("name", ["bert", "roberta", "clip"])
def test_a_row_is_computed_once(folder_of: Folder, name: str) -> None:
    tower = text_tower(folder_of(name), facts=FACTS, freeze=True)
    free = text_tower(folder_of(name), facts=FACTS).eval()
    inner = tower.model.text_model if name == "clip" else tower.model
    runs: list[int] = []
    inner.register_forward_pre_hook(lambda _, args: runs.append(len(args[0])))
    for rows in (ROWS, ROWS[::-1], [ROWS[1], ["new"]]):
        for _ in range(2):
            batch = tower.reader.collate(rows)
            mine, theirs = tower(batch), free(batch)
            torch.testing.assert_close(mine.words, theirs.words, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(mine.pooled, theirs.pooled, atol=1e-5, rtol=1e-4)
    assert runs == [1, 1, 1, 1], "each of four rows once, alone"


def test_what_is_remembered_does_not_depend_on_batch_mates(folder_of: Folder) -> None:
    towers = [text_tower(folder_of("bert"), facts=FACTS, freeze=True) for _ in range(2)]
    first = towers[0](towers[0].reader.collate([["cat"], ["the", "dog", "sat", "on", "the", "mat"]])).words[0, 0]
    alone = towers[1](towers[1].reader.collate([["cat"]])).words[0, 0]
    assert torch.equal(first, alone), "bit for bit, or a resumed run drifts"


def test_the_second_segment_is_part_of_the_input(folder_of: Folder) -> None:
    tower = text_tower(folder_of("bert"), facts=FACTS, freeze=True)
    plain = tower(tower.reader.collate([["the", "cat"]])).words
    other = tower(tower.reader.collate([["the", "cat"]], [["dog"]])).words
    assert not torch.allclose(plain, other)


def test_pictures_are_computed_once(folder_of: Folder) -> None:
    tower, free = (vision_tower(folder_of("vit"), freeze=freezing).eval() for freezing in (True, False))
    runs = counted(tower)
    pixels = torch.randn(3, 3, 24, 24)
    for order in ([0, 1, 2], [2, 0, 1]):
        torch.testing.assert_close(tower(pixels[order]).regions, free(pixels[order]).regions, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(tower(pixels[order]).pooled, free(pixels[order]).pooled, atol=1e-5, rtol=1e-4)
    assert runs == [1, 1, 1]


def test_changed_weights_are_not_answered_from_memory(folder_of: Folder) -> None:
    tower = text_tower(folder_of("bert"), facts=FACTS, freeze=True)
    batch = tower.reader.collate([["cat"]])
    before = tower(batch).words
    changed = {name: value + 0.1 for name, value in tower.state_dict().items()}
    tower.load_state_dict(changed)
    assert not torch.allclose(tower(batch).words, before)


def test_memory_is_bounded_and_stays_out_of_copies(folder_of: Folder) -> None:
    tower = text_tower(folder_of("bert"), facts=FACTS, freeze=True)
    tower.memory = FeatureMemory(limit=300)
    for row in range(20):
        tower(tower.reader.collate([["cat"] * (row + 1)]))
    assert len(tower.memory) == 2
    assert len(copy.deepcopy(tower).memory) == 0
    assert len(pickle.loads(pickle.dumps(tower.memory))) == 0


def test_what_was_remembered_in_evaluation_serves_training(folder_of: Folder) -> None:
    text, vision = text_tower(folder_of("bert"), facts=FACTS, freeze=True), vision_tower(folder_of("vit"), freeze=True)
    batch, pixels = text.reader.collate(ROWS), torch.randn(2, 3, 24, 24)
    with torch.inference_mode():
        text(batch), vision(pixels)
    for tower, given in ((text, batch), (vision, pixels)):
        own = nn.Linear(tower.width, 2)
        own(tower(given).pooled).sum().backward()
        assert own.weight.grad is not None


def test_another_precision_is_another_output(folder_of: Folder) -> None:
    tower = text_tower(folder_of("bert"), facts=FACTS, freeze=True)
    batch = tower.reader.collate([["cat"]])
    full = tower(batch).words
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(tower(batch).words, full)
    assert torch.equal(tower(batch).words, full)
