"""`mnerkit predict` against a plain loop of the same work."""

from __future__ import annotations

import mnerkit  # noqa: F401  # first: it prepares torch for torchvision, which lightning imports

# isort: split
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from mnerkit.data.corpus.tweet_tokenizer import split_text
from mnerkit.methods import checkpoint
from mnerkit.methods.tagger import Tagger
from mnerkit.nn.linear_chain import viterbi
from mnerkit.runs.predict import predict_file

BATCH = 32  # posts


def plain_predict(run: Path, source: Path, target: Path) -> None:
    """Tag posts with a tower and our CRF, in batches of like length, and write words and entities."""
    method: Any = checkpoint.load(run / "best.ckpt").eval()
    tower, head, types = method.towers["text"], method.head, method.facts.types
    with source.open(encoding="utf-8") as stream:
        posts = [json.loads(line) for line in stream]
    rows = [split_text(post["text"])[0] for post in posts]
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    with torch.inference_mode():
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            text = tower.reader.collate([rows[place] for place in places])
            emissions = head.linear(tower(text).words)
            for place, path in zip(places, viterbi(emissions, text.read_mask, head.crf.scores()), strict=True):
                posts[place] = {"id": posts[place]["id"], "words": rows[place], "entities": entities(path, types)}
    with target.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(post, ensure_ascii=False) + "\n" for post in posts)


def entities(path: list[int], types: tuple[str, ...]) -> list[dict[str, Any]]:
    """Entities of the BIO tag numbers of a post: O is 0, then B and I of each type."""
    spans, start = [], -1
    for place, tag in enumerate([*path, 0]):
        if start >= 0 and (tag % 2 or (tag + 1) // 2 != (path[start] + 1) // 2):
            spans.append({"type": types[(path[start] - 1) // 2], "start": start, "end": place})
            start = -1
        if tag and start < 0:
            start = place
    return spans


def against_plain(run: Path, source: Path, posts: int, folder: Path, turns: int = 5) -> dict[str, Any]:
    """CPU seconds of both, and of the command without scores of entities, in turns; medians of the turns' ratios."""
    some, ours, plain = (folder / name for name in ("plain-in.jsonl", "ours.jsonl", "plain.jsonl"))
    with source.open("rb") as stream:
        some.write_bytes(b"".join(line for _, line in zip(range(posts), stream, strict=False)))

    def unscored() -> None:
        with patch.object(Tagger, "can_score_entities", False):
            predict_file(run, some, folder / "unscored.jsonl", overwrite=True)

    ways: dict[str, Callable[[], Any]] = {
        "mnerkit": lambda: predict_file(run, some, ours, overwrite=True),
        "plain": lambda: plain_predict(run, some, plain),
        "unscored": unscored,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            started = time.process_time()
            way()
            if turn:  # the first one warms up
                seconds[name].append(round(time.process_time() - started, 3))
    answers = [[json.loads(line)["entities"] for line in file.open(encoding="utf-8")] for file in (ours, plain)]
    spans = [[[(each["type"], each["start"], each["end"]) for each in post] for post in file] for file in answers]
    return {
        "posts": len(spans[0]),
        "entities": sum(map(len, spans[0])),
        "posts_tagged_alike": sum(map(list.__eq__, *spans)),
        "cpu_seconds": seconds,
        "ratio": _median(seconds["mnerkit"], seconds["plain"]),
        "ratio_without_scores": _median(seconds["unscored"], seconds["plain"]),
        "share_of_scores": round(1 - _median(seconds["unscored"], seconds["mnerkit"]), 3),
    }


def _median(ours: list[float], others: list[float]) -> float:
    return round(statistics.median(our / other for our, other in zip(ours, others, strict=True)), 3)
