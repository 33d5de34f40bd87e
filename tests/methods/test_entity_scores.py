"""Probabilities of entities: against enumeration of all tag sequences, and in the records of predictions."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mnerkit
from mnerkit.cli import main
from mnerkit.data.corpus.tags import TagSet, entities
from mnerkit.methods.heads.chain import Chain
from mnerkit.nn.linear_chain import Scores

TYPES = ("LOC", "PER")
TAGS = TagSet(TYPES)


def random_chain(seed: int, lengths: list[int], io: bool, spread: float) -> Chain:
    draw = torch.Generator().manual_seed(seed)
    tags = 1 + len(TYPES) if io else len(TAGS)
    width = max(lengths)
    mask = torch.arange(width) < torch.tensor(lengths).unsqueeze(1)
    emissions = torch.randn(len(lengths), width, tags, generator=draw) * 2
    emissions[~mask] = math.nan
    shapes = ((tags,), (tags, tags), (tags,))
    return Chain(emissions, mask, Scores(*(torch.randn(*shape, generator=draw) * spread for shape in shapes)), io)


def entities_of(decoded: list[list[int]]) -> list[list[Any]]:
    return [entities(TAGS.decode(row)) for row in decoded]


def enumerated(chain: Chain, row: int) -> dict[tuple[int, ...], float]:
    """The probability of every sequence of BIO tag numbers (or of IO classes)."""
    assert chain.transitions is not None
    start, transitions, end = chain.transitions
    emissions = chain.emissions[row][chain.mask[row]].double()
    found = {}
    for path in itertools.product(range(emissions.shape[1]), repeat=len(emissions)):
        total = start[path[0]].double() + end[path[-1]] + sum(emissions[word, tag] for word, tag in enumerate(path))
        found[path] = float(total + sum(transitions[pair].double() for pair in itertools.pairwise(path)))
    log_z = torch.logsumexp(torch.tensor(list(found.values()), dtype=torch.float64), 0)
    return {path: math.exp(value - float(log_z)) for path, value in found.items()}


def spans(path: tuple[int, ...], io: bool) -> list[Any]:
    if io:
        path = tuple(kind and 2 * kind - (kind != before) for before, kind in itertools.pairwise((0, *path)))
    return entities(TAGS.decode(path))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    io=st.booleans(),
    constrained=st.booleans(),
    spread=st.sampled_from([1.0, 15.0]),  # sweeps by probabilities, and by logarithms
)
def test_probability_of_an_entity_is_that_of_all_tag_sequences_that_contain_it(
    seed: int, lengths: list[int], io: bool, constrained: bool, spread: float
) -> None:
    chain = random_chain(seed, lengths, io, spread)
    if constrained and not io:
        assert chain.transitions is not None
        chain = Chain(chain.emissions, chain.mask, chain.transitions.constrained())
    decoded = chain.decode()
    for row, (tags, values) in enumerate(zip(decoded, chain.probabilities(decoded, entities_of(decoded)), strict=True)):
        own = entities(TAGS.decode(tags))
        assert len(own) == len(values)
        paths = enumerated(chain, row)
        for span, value in zip(own, values, strict=True):
            # an entity that begins with I- counts as these tags
            first = tags[span.start] % 2 == 0
            expected = sum(
                weight
                for path, weight in paths.items()
                if span in spans(path, io) and (io or (path[span.start] % 2 == 0) == first)
            )
            if not first or constrained or io:
                assert value == pytest.approx(expected, abs=1e-5)
            else:  # B-x before it would make one entity of both, and the tags would be the same
                assert value >= expected - 1e-5


def test_without_transitions_it_is_the_product_over_the_words() -> None:
    chain = random_chain(3, [4, 2], False, 1.0)
    alone = Chain(chain.emissions, chain.mask)
    decoded = [[1, 2, 0, 3], [0, 0]]
    p = chain.emissions.softmax(-1)
    (first, second), none = alone.probabilities(decoded, entities_of(decoded))
    assert first == pytest.approx(float(p[0, 0, 1] * p[0, 1, 2])) and second == pytest.approx(float(p[0, 3, 3]))
    assert none == [] and alone.probabilities([[0, 0, 0, 0], [0, 0]], [[], []]) == [[], []]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each head that scores in another way."""
    folder = tmp_path_factory.mktemp("heads")
    few = ["--data.variant", "fewshot", "--data.dev_episodes", "2", "--data.episodes_per_epoch", "2"]
    found = {}
    for head, own in (("crf", []), ("softmax", []), ("nearest", few)):
        command = ["fit", "--plugin", "bert", "--model.head", head, "--data.limit", "120", "--trainer.max_epochs", "8"]
        command += ["--model.lr", "0.01", "--data.batch_size", "4", "--trainer.enable_progress_bar", "false"]
        command += ["--runs_dir", str(folder), "--name", head, *own]
        assert main(command) == 0
        (found[head],) = folder.glob(f"bert/*/{head}/best.ckpt")
    return found


@pytest.mark.parametrize("head", ["crf", "softmax", "nearest"])
def test_every_entity_has_a_score_and_a_threshold_leaves_out_the_lower_ones(
    head: str, checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dev = (checkpoints[head].parent / "predictions.dev.jsonl").read_text("utf-8").splitlines()
    posts = [{"words": json.loads(line)["words"]} for line in dev[:40]]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts), "utf-8")
    command = ["predict", "--ckpt_path", str(checkpoints[head]), "--input", str(tmp_path / "in.jsonl"), "--output"]
    assert main([*command, str(tmp_path / "all.jsonl")]) == 0
    assert ("uncalibrated" in capsys.readouterr().err) == (head == "nearest")
    records = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text("utf-8").splitlines()]
    values = sorted(entity["score"] for record in records for entity in record["entities"])
    assert values and all(0 <= value <= 1 for value in values)
    middle = values[len(values) // 2]
    assert main([*command, str(tmp_path / "some.jsonl"), "--threshold", str(middle)]) == 0
    kept = [json.loads(line) for line in (tmp_path / "some.jsonl").read_text("utf-8").splitlines()]
    for record in records:
        record["entities"] = [entity for entity in record["entities"] if entity["score"] >= middle]
    assert kept == records
    assert mnerkit.load(checkpoints[head]).predict(posts, threshold=middle)[0]["entities"] == kept[0]["entities"]


@pytest.mark.parametrize("value", ["-0.1", "1.5", "nan", "much"])
def test_a_threshold_that_is_no_probability_is_refused(
    value: str, checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n', "utf-8")
    command = ["predict", "--ckpt_path", str(checkpoints["crf"]), "--input", str(tmp_path / "in.jsonl"), "--output"]
    assert main([*command, str(tmp_path / "out.jsonl"), f"--threshold={value}"]) in (1, 2)
    assert "--threshold" in capsys.readouterr().err
