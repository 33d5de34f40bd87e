"""The discriminator of GIFR's first stage, and the rankings that it learns from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.datamodule import MnerData
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.probe import generate, types_of
from mnerkit.errors import DataError, UsageError
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.text.tiny import TinyText
from mnerkit.towers.vision.tiny_cnn import TinyVision
from mnerkit_plugins.relevance import preference
from mnerkit_plugins.relevance.method import RelevanceMethod
from mnerkit_plugins.relevance.model import RelevanceEncoder, blank_pixels
from mnerkit_plugins.relevance.options import RelevanceOptions
from mnerkit_plugins.relevance.ranking import PairRankLoss
from mnerkit_plugins.relevance.ranking_scores import against_truth, spread
from mnerkit_plugins.relevance.utility import Trial, utility

POSTS = generate("multi", "train", 24)
TYPES = types_of("multi")
FACTS = CorpusFacts.of(TYPES, POSTS)


def encoder(**options: Any) -> RelevanceEncoder:
    torch.manual_seed(0)
    return RelevanceEncoder(
        TinyText(FACTS), Sight(TinyVision()), RelevanceOptions(joint=16, hidden=16, **options)
    ).eval()


def collator(made: RelevanceEncoder, max_images: int = 4) -> Collator:
    needs = made.sight.needs(made.text.reader, max_images=max_images)
    return Collator(needs, PictureLoader(made.sight.picture), TagSet(TYPES))


def test_a_score_depends_on_its_own_post_and_image_alone() -> None:
    made = encoder()
    together = made(collator(made)(POSTS[:8]))
    for row, post in enumerate(POSTS[:8]):
        alone = made(collator(made)([post]))
        count = len(post.images)
        torch.testing.assert_close(together.images[row, :count], alone.images[0, :count], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.blank[row], alone.blank[0], atol=1e-5, rtol=1e-4)
        assert not together.relevance[row, count:].any()


@pytest.mark.parametrize("blank", ["zeros", "white", "black"])
def test_the_blank_image_has_relevance_one_half(blank) -> None:
    made = encoder(blank=blank)
    value = {"white": 255, "black": 0}.get(blank)
    pixels = blank_pixels(made.sight.tower, blank)
    assert pixels.shape == (1, 3, 64, 64)
    if value is None:
        assert not pixels.any()
        batch = collator(made)(POSTS[:4])
        batch.images[:, 0] = 0
    else:
        plain = np.full((64, 64, 3), value, dtype=np.uint8)
        posts = [replace(p, images=(replace(p.images[0], pixels=plain), *p.images[1:])) for p in POSTS[:4]]
        batch = collator(made)(posts)
    torch.testing.assert_close(made(batch).relevance[:, 0], torch.full((4,), 0.5), atol=1e-5, rtol=0)


def test_the_blank_image_does_not_depend_on_the_batch_in_training_either() -> None:
    made = encoder()
    vector = made.blank_vector(torch.zeros(1))
    made.train()
    made(collator(made)(POSTS[:2]))
    assert made.sight.tower.training
    made.eval()
    made.sight.tower.load_state_dict(encoder().sight.tower.state_dict())
    torch.testing.assert_close(made.blank_vector(torch.zeros(1)), vector)


def test_the_oracle_ranks_relevant_images_above_the_blank_one_and_the_others_below() -> None:
    ranked = preference.oracle(POSTS, 3)
    for each, post in zip(ranked, POSTS, strict=True):
        assert len(each.post.images) == len(each.worths) == min(3, len(post.images))
        assert [worth > 0 for worth in each.worths] == list(post.truth.relevant[:3])
    with pytest.raises(UsageError, match="oracle"):
        preference.oracle([Post("x", ("a",))], 3)


def test_matched_ranks_own_images_above_the_blank_one_and_those_of_others_below() -> None:
    ranked = preference.matched(POSTS, 4, seed=0)
    own = {post.id: {image.name for image in post.images} for post in POSTS}
    assert len(ranked) == len(POSTS)
    for each in ranked:
        count = len(own[each.post.id])
        names = [image.name for image in each.post.images]
        assert set(names[:count]) == own[each.post.id] and not set(names[count:]) & own[each.post.id]
        assert each.worths == (1.0,) * count + (-1.0,) * count
        assert each.pairs() == count * count + 2 * count
    assert [each.post.images for each in preference.matched(POSTS, 4, seed=0)] == [each.post.images for each in ranked]
    assert [each.post.images for each in preference.matched(POSTS, 4, seed=1)] != [each.post.images for each in ranked]


def rankings(folder: Path, *records: Any) -> Path:
    path = folder / "rankings.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in records))
    return path


THREE = next(post for post in POSTS if len(post.images) == 3)
KNOWN: dict[str, int | None] = {post.id: len(post.images) for post in POSTS}
OTHER = next(post for post in POSTS if post is not THREE and post.images)


def test_a_file_of_rankings_is_read_with_the_place_of_the_blank_image(tmp_path: Path) -> None:
    path = rankings(
        tmp_path,
        {"id": THREE.id, "order": [2, 0, 1], "blank_pos": 2},
        {"id": OTHER.id, "order": [*range(len(OTHER.images))], "blank_pos": 0},
    )
    unranked = next(post for post in POSTS if post not in (THREE, OTHER))
    (ranked,), counts = preference.from_file(path, [THREE, unranked], KNOWN, ["dev-1"], 4)
    assert ranked.worths == (1.0, -1.0, 2.0) and ranked.pairs() == 6
    assert counts == {"other_posts": 1, "without": 1}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"id": THREE.id, "order": [0, 0, 1], "blank_pos": 1}, r":1: order \[0, 0, 1\] is no permutation of the 3"),
        ({"id": THREE.id, "order": [0, 1], "blank_pos": 1}, "no permutation of the 3 images"),
        ({"id": THREE.id, "order": [0, 1, 2], "blank_pos": 4}, "blank_pos 4"),
        ({"id": THREE.id, "order": "abc", "blank_pos": 1}, "list of whole numbers"),
        ({"id": THREE.id, "order": [0, 1, True], "blank_pos": 1}, "list of whole numbers"),
        ({"id": "dev-1", "order": [0], "blank_pos": 1}, "post of dev or test"),
        ({"id": "nobody", "order": [0], "blank_pos": 1}, "no training post has the id 'nobody'"),
        ({"id": OTHER.id, "order": [5, 5, 5], "blank_pos": 1}, r"order \[5, 5, 5\] is no permutation"),
        ({"id": OTHER.id, "order": [*range(len(OTHER.images))], "blank_pos": 77}, "blank_pos 77"),
        ({"id": "not read", "order": [1, 1], "blank_pos": 1}, "no permutation of the 2 images"),
        ({"id": [THREE.id], "order": [0, 1, 2], "blank_pos": 1}, "expected a string as id of a post"),
        ({"id": THREE.id, "order": [0]}, "expected"),
        ([1], "expected"),
    ],
)
def test_a_wrong_ranking_is_told_with_its_line(tmp_path: Path, record, said) -> None:
    with pytest.raises(DataError, match=said):
        preference.from_file(rankings(tmp_path, record), [THREE], {**KNOWN, "not read": None}, ["dev-1"], 4)


@pytest.mark.parametrize("line", ["[" * 100_000, '{"id": "a", "order": [' + "1" * 5000 + '], "blank_pos": 1}'])
def test_a_line_that_json_can_not_read_is_told_with_its_number_blank_lines_counted(tmp_path: Path, line: str) -> None:
    path = tmp_path / "rankings.jsonl"
    path.write_text(f"\n\n{line}\n")
    with pytest.raises(DataError, match=r"rankings\.jsonl:3: expected"):
        preference.from_file(path, [THREE], KNOWN, [], 4)


@pytest.mark.parametrize("separator", ["\u2028", "\x85"])
def test_a_line_of_a_file_of_rankings_ends_at_a_line_feed_alone_and_a_mark_before_it_is_none(
    tmp_path: Path, separator: str
) -> None:
    path = tmp_path / "rankings.jsonl"
    record = {"id": THREE.id, "order": [2, 0, 1], "blank_pos": 2, "note": f"a{separator}b"}
    path.write_text(json.dumps(record, ensure_ascii=False), encoding="utf-8-sig")
    (ranked,), _ = preference.from_file(path, [THREE], KNOWN, [], 4)
    assert ranked.worths == (1.0, -1.0, 2.0)


def test_rankings_of_posts_that_a_limit_left_out_are_of_training_posts_all_the_same(tmp_path: Path) -> None:
    def post(name: str) -> dict[str, Any]:
        return {"id": name, "text": ["Ann"], "label": ["B-PER"], "images": [f"{name}-0.jpg", f"{name}-1.jpg"]}

    for split, names in {"train": "0123", "dev": ["d0", "d1", "d2"], "test": "t"}.items():
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(post(name)) + "\n" for name in names))
    data = MnerData(corpus=str(tmp_path), limit=2)
    path = rankings(tmp_path, *({"id": name, "order": [1, 0], "blank_pos": 1} for name in "0123"))
    ranked, _, counts = RelevanceMethod(preference="file", rankings=str(path))._ranked(data)
    assert [each.post.id for each in ranked] == ["0", "1"] and counts == {"other_posts": 2, "without": 0}
    path = rankings(tmp_path, {"id": "d2", "order": [1, 0], "blank_pos": 1})
    with pytest.raises(DataError, match="'d2' is a post of dev or test"):
        RelevanceMethod(preference="file", rankings=str(path))._ranked(data)


def test_a_post_that_is_ranked_twice_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    line = {"id": THREE.id, "order": [0, 1, 2], "blank_pos": 1}
    with pytest.raises(DataError, match=r":2: .* is ranked twice"):
        preference.from_file(rankings(tmp_path, line, line), [THREE], KNOWN, [], 4)
    with pytest.raises(DataError, match=r"--model\.rankings .*absent: there is no such file"):
        preference.from_file(tmp_path / "absent", [THREE], KNOWN, [], 4)


def test_held_out_posts_are_a_fixed_share_and_not_trained_on() -> None:
    ranked = preference.oracle(POSTS, 4)
    train, apart = preference.held_out(ranked, 0.25, seed=0)
    ids = [{each.post.id for each in part} for part in (train, apart)]
    assert [len(each) for each in ids] == [18, 6] and not ids[0] & ids[1]
    assert {each.post.id for each in preference.held_out(ranked[::-1], 0.25, seed=0)[1]} == ids[1]
    assert [len(part) for part in preference.held_out(ranked[:2], 0.01, seed=0)] == [1, 1]


def test_utility_judges_each_post_by_taggers_that_did_not_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = encoder()
    freeze(made.text), freeze(made.sight.tower)
    seen: list[set[str]] = []
    judged: list[set[str]] = []
    trained, gains = Trial.trained, Trial.gains

    def train(self, posts, *key):
        seen.append({post.id for post in posts})
        return trained(self, posts, *key)

    def gain(self, tagger, posts):
        judged.append({post.id for post in posts})
        return gains(self, tagger, posts)

    monkeypatch.setattr(Trial, "trained", train)
    monkeypatch.setattr(Trial, "gains", gain)
    trial = Trial(made.text, made.sight, collator(made), epochs=1)
    ranked, error = utility(POSTS, trial, max_images=4, seeds=2)
    wanted = {post.id for post in POSTS if any(tag != "O" for tag in post.tags)}
    assert {each.post.id for each in ranked} == wanted and error > 0
    assert len(seen) == len(judged) == 4
    for trained_on, scored in zip(seen, judged, strict=True):
        assert not trained_on & scored and trained_on | scored == wanted
    assert all(len(each.worths) == len(each.post.images) for each in ranked)
    again, same = utility(POSTS, trial, max_images=4, seeds=2)
    assert [each.worths for each in again] == [each.worths for each in ranked] and same == error


def test_the_oracle_s_rankings_teach_it_quickly_and_one_half_tells_images_apart() -> None:
    """On posts that it did not learn from; relevance is planted: light pictures are relevant, dark ones not."""
    dice = np.random.default_rng(0)

    def planted(post: Post) -> Post:
        assert post.truth is not None
        light = [170 if relevant else 60 for relevant in post.truth.relevant]
        pixels = [(value + dice.integers(-40, 40, (64, 64, 3))).astype(np.uint8) for value in light]
        shown = [replace(image, pixels=each) for image, each in zip(post.images, pixels, strict=True)]
        return replace(post, images=tuple(shown))

    posts = [planted(post) for post in generate("multi", "train", 64)]
    made = encoder().train()
    read, loss, optimiser = collator(made), PairRankLoss(), torch.optim.Adam(made.parameters(), 3e-3)
    for step in range(40):
        few = posts[step % 3 :: 3][:16]
        scores, mask = made(read(few)).with_blank()
        worths = torch.zeros_like(scores)
        for row, ranked in enumerate(preference.oracle(few, 4)):
            worths[row, : len(ranked.worths)] = torch.tensor(ranked.worths)
        optimiser.zero_grad()
        loss(scores, loss.pairs(worths, mask)).backward()
        optimiser.step()
    held_out = posts[48:]
    with torch.no_grad():
        found = made.eval()(read(held_out))
    scored = [(post, found.images[row, : len(post.images)].tolist()) for row, post in enumerate(held_out)]
    figures = against_truth(scored, found.blank.tolist())
    assert figures["pair_accuracy"] > 90 and figures["separated"] > 90
    sides: dict[bool, list[float]] = {True: [], False: []}
    for row, post in enumerate(held_out):
        assert post.truth is not None
        for relevant, r in zip(post.truth.relevant, found.relevance[row].tolist(), strict=False):
            sides[relevant].append(r)
    assert np.mean(sides[True]) > 0.5 > np.mean(sides[False])


def test_figures_against_the_truth() -> None:
    posts = [post for post in POSTS if len(post.images) > 1][:6]
    right = [(post, [2.0 if each else -2.0 for each in post.truth.relevant]) for post in posts]
    assert against_truth(right, 0.0) == {"pair_accuracy": 100, "separated": 100, "auc": 1}
    wrong = [(post, [-score for score in scores]) for post, scores in right]
    assert against_truth(wrong, 0.0) == {"pair_accuracy": 0, "separated": 0, "auc": 0}
    # the blank image far below: the order of the images stays, their side of it does not
    low = against_truth(right, [-5.0] * 6)
    images = [each for post in posts for each in post.truth.relevant]
    assert low["separated"] == pytest.approx(100 * sum(images) / len(images)) and low["auc"] == 1
    assert 0 < low["pair_accuracy"] < 100


def test_the_spread_counts_images_that_were_read() -> None:
    found = spread([[0.95, None, 0.05], [0.55, 1.0]])
    assert found["images"] == 4 and found["mean_r"] == pytest.approx(0.6375) and found["above_blank"] == 75
    assert found["histogram"] == [1, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    assert spread([[None]]) == {"images": 0}


def test_scores_are_float32_in_mixed_precision() -> None:
    made = encoder()
    batch = collator(made)(POSTS[:4])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = made(batch)
    assert mixed.images.dtype == mixed.relevance.dtype == torch.float32
    torch.testing.assert_close(mixed.relevance, made(batch).relevance, atol=0.02, rtol=0.0)


@pytest.mark.parametrize(("vision", "frozen"), [("captions", False), ("tiny", True)])
def test_new_towers_learn_to_read_captions(vision, frozen) -> None:
    made = RelevanceMethod(text="tiny-bert", vision=vision, freeze=True)
    made.build(FACTS)
    assert [made.towers[name].frozen for name in ("text", "vision")] == [frozen, frozen]
