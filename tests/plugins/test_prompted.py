"""`prompted`: a scripted server in place of a language model, whose scores are computed here by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_llm import ScriptedLlm, scripted_llm

import mnerkit
from mnerkit.data.corpus.post import Entity, Post
from mnerkit.data.corpus.tags import entities
from mnerkit.data.datamodule import MnerData
from mnerkit.scoring.counts import entity_scores
from mnerkit_plugins.prompted.parsing import parsed

DATA = {"limit": 30, "eval_batch_size": 8}


def posts_of(split: str) -> list[Post]:
    """The posts of the probe that the tests ask about."""
    return MnerData(limit=DATA["limit"]).posts(split)


def listed(post: Post) -> list[dict[str, str]]:
    """A post's entities as a reply lists them."""
    spans = entities(post.tags or ())
    return [{"text": " ".join(post.words[span.start : span.end]), "type": span.type} for span in spans]


@pytest.fixture(scope="module")
def truth() -> dict[str, Post]:
    """The posts of dev and test by their text, which no two share."""
    posts = [post for split in ("dev", "test") for post in posts_of(split)]
    by_text = {" ".join(post.words): post for post in posts}
    assert len(by_text) == len(posts)
    return by_text


@pytest.fixture
def server(truth: dict[str, Post]) -> Iterator[ScriptedLlm]:
    """Answers each post with its own entities."""
    with scripted_llm(lambda text, _: json.dumps({"entities": listed(truth[text])})) as running:
        yield running


def fit(server: ScriptedLlm, folder: Path, **model: Any) -> mnerkit.Run:
    """A run that asks the server."""
    data = {**DATA, "cache": str(folder / "cache")}
    settings = {"llm": "scripted", "endpoint": server.url, "backoff": 0.01, **model}
    trainer = {"accelerator": "cpu", "enable_progress_bar": False}
    return mnerkit.fit("prompted", model=settings, data=data, trainer=trainer, test=True, runs_dir=folder)


def test_spoilt_broken_and_failing_replies_score_as_computed_by_hand(
    server: ScriptedLlm, truth: dict[str, Post], tmp_path: Path
) -> None:
    """Every fifth reply lacks an entity and has a wrong one, every seventh is no JSON, every third request fails."""
    numbers = {text: number for number, text in enumerate(truth)}
    failed = set[str]()

    def say(text: str, _: Any) -> Any:
        number, items = numbers[text], listed(truth[text])
        if number % 3 == 0 and text not in failed:
            failed.add(text)
            return (503, b"busy") if number % 2 else None
        if number % 7 == 0:
            return '{"entities": [{"text": "Jor'
        if number % 5 == 0:
            items = [*items[1:], {"text": truth[text].words[0], "type": "MISC"}, {"text": "not there", "type": "PER"}]
        return "```json\n" + json.dumps({"entities": items}) + "\n```"

    server.say = say
    run = fit(server, tmp_path)
    for split in ("dev", "test"):
        gold, predicted, unplaced, unreadable = [], [], 0, 0
        for post in posts_of(split):
            number = numbers[" ".join(post.words)]
            spans = entities(post.tags or ())
            gold.append(list(post.tags or ()))
            if number % 7 == 0:
                unreadable += 1
                spans = []
            elif number % 5 == 0:
                unplaced += 1
                spans = spans[1:]
                if any(span.start == 0 for span in spans):
                    unplaced += 1
                else:
                    spans = [Entity(0, 1, "MISC"), *spans]
            tags = ["O"] * len(post.words)
            for span in spans:
                tags[span.start : span.end] = [f"B-{span.type}", *[f"I-{span.type}"] * (span.end - span.start - 1)]
            predicted.append(tags)
        figures = run.metrics[split]
        assert figures["f1"] == pytest.approx(entity_scores(gold, predicted)["f1"]) and 50 < figures["f1"] < 95
        assert (figures["replies/unreadable"], figures["replies/unplaced"]) == (unreadable, unplaced)
    assert len(server.requests) == len(truth) + len(failed)
    assert run.metrics["language_model"]["name"] == "scripted"
    assert sorted(server.replied) == sorted(truth)


def test_a_second_run_makes_no_request(server: ScriptedLlm, truth: dict[str, Post], tmp_path: Path) -> None:
    run = fit(server, tmp_path)
    assert run.metrics["test"]["f1"] == 100 and len(server.requests) == len(truth)
    assert run.metrics["language_model"]["requests"] == {"made": len(truth)}
    again = mnerkit.fit(
        "prompted", config=run.path / "config.yaml", test=True, runs_dir=tmp_path, overwrite=True, name="again"
    )
    assert len(server.requests) == len(truth) and again.metrics["language_model"]["requests"] == {"made": 0}
    assert again.metrics["test"] == run.metrics["test"]
    files = [path for path in (tmp_path / "cache" / "replies").iterdir()]
    rows = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert {row["id"] for row in rows} == {post.id for post in truth.values()} and len(rows) == len(truth)
    assert all({"id", "model", "prompt_digest", "reply"} <= row.keys() for row in rows)


def test_entities_are_matched_with_words_in_their_order() -> None:
    words, types = ["Paris", "met", "Paris", "Hilton", "in", "new", "york"], ("PER", "LOC")

    def spans(*items: tuple[str, str]) -> list[tuple[int, int, str]]:
        reply = json.dumps({"entities": [{"text": text, "type": kind} for text, kind in items]})
        return [(span.start, span.end, span.type) for span in parsed(reply, words, types).spans]

    assert spans(("Paris", "LOC"), ("Paris Hilton", "PER")) == [(0, 1, "LOC"), (2, 4, "PER")]
    assert spans(("Paris", "LOC"), ("Paris", "PER")) == [(0, 1, "LOC"), (2, 3, "PER")]
    assert spans(("New York", "LOC"), ("Paris", "LOC")) == [(0, 1, "LOC"), (5, 7, "LOC")]
    assert spans(("Par", "LOC"), ("Hilton in Paris", "PER")) == []
