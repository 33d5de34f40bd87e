"""Episodes: pure functions of (seed, split, number) that obey the few-shot rules."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnerkit.data.corpus.post import Post
from mnerkit.data.episodes.sampling import DrawnEpisodes, complement, named_types, split_name, two_type_splits
from mnerkit.data.options import EpisodeOptions
from mnerkit.errors import DataError, UsageError
from mnerkit.options import make

TYPES = ("PER", "LOC", "ORG", "MISC")


def post(number: int, kinds: tuple[str, ...]) -> Post:
    tags = (*(f"B-{kind}" for kind in kinds), "O")
    return Post(f"p{number}", tuple(f"w{place}" for place in range(len(tags))), tags)


def corpus(each: int = 12) -> list[Post]:
    """Posts with every type alone, every pair of types, and without entities."""
    kinds = [(kind,) for kind in TYPES] + [*pairwise(TYPES), ()]
    return [post(number, kinds[number % len(kinds)]) for number in range(each * len(kinds))]


def types_in(of: Post) -> set[str]:
    return {tag[2:] for tag in of.tags or () if tag != "O"}


def source(posts: list[Post], types: tuple[str, ...] = TYPES, **given: object) -> DrawnEpisodes:
    draw: dict = {name: given.pop(name) for name in ("evaluation", "support_posts") if name in given}
    draw |= {"seed": given.pop("seed", 0), "split": given.pop("split", "test")}
    return DrawnEpisodes(posts, types, make(EpisodeOptions, {"n_way": 2, "k_shot": 5, **given}), **draw)


@given(
    seed=st.integers(0, 9),
    number=st.integers(0, 10_000),
    n_way=st.integers(1, 4),
    more=st.integers(0, 3),
    support=st.sampled_from(["total", "per_type"]),
    evaluation=st.booleans(),
    query_has_entity=st.booleans(),
)
@settings(max_examples=150)
def test_every_episode_obeys_the_rules(seed, number, n_way, more, support, evaluation, query_has_entity):
    posts = corpus()
    k_shot = n_way + more if support == "total" else 1 + more
    drawn = source(
        posts,
        n_way=n_way,
        k_shot=k_shot,
        seed=seed,
        support=support,
        evaluation=evaluation,
        query_has_entity=query_has_entity,
    )
    episode = drawn.episode(number % len(drawn) if evaluation else number)
    assert len(episode.types) == n_way and list(episode.types) == sorted(set(episode.types))
    assert len(episode.query) == 1 and not set(episode.query) & set(episode.support)
    assert len(set(episode.support)) == len(episode.support)
    held = [types_in(posts[place]) for place in episode.support]
    for kind in episode.types:
        assert sum(kind in kinds for kinds in held) >= (k_shot if support == "per_type" else 1)
    assert all(kinds & set(episode.types) for kinds in held)
    assert len(held) == (k_shot if support == "total" else k_shot * n_way)
    if query_has_entity:
        assert types_in(posts[episode.query[0]]) & set(episode.types)


@given(seed=st.integers(0, 50), n_way=st.integers(1, 4), k_shot=st.integers(1, 5))
@settings(max_examples=60)
def test_a_greedy_support_holds_k_to_2k_entities_of_each_type(seed, n_way, k_shot):
    posts = [*corpus(), *(post(900 + number, ("PER", "PER", "LOC")) for number in range(6))]
    episode = source(posts, n_way=n_way, k_shot=k_shot, seed=seed, support="greedy").episode(seed)
    assert not set(episode.query) & set(episode.support)

    def count(support: tuple[int, ...], kind: str) -> int:
        return sum((posts[place].tags or ()).count(f"B-{kind}") for place in support)

    assert all(k_shot <= count(episode.support, kind) <= 2 * k_shot for kind in episode.types)


def several(seed: int) -> list[Post]:
    """Posts with up to three types each, and some without entities."""
    draw = random.Random(seed)
    return [post(number, tuple(draw.sample(TYPES, draw.choice((0, 1, 1, 2, 3))))) for number in range(120)]


@given(
    seed=st.integers(0, 99),
    number=st.integers(0, 999),
    n_way=st.integers(1, 4),
    support=st.sampled_from(["total", "per_type", "greedy"]),
    evaluation=st.booleans(),
    query_has_entity=st.booleans(),
)
@settings(max_examples=150)
def test_drop_sentence_keeps_out_of_play_entities_out_of_support_and_query(
    seed, number, n_way, support, evaluation, query_has_entity
):
    posts = several(seed)
    options = {"n_way": n_way, "k_shot": 4, "support": support, "evaluation": evaluation}
    drawn = source(posts, query_has_entity=query_has_entity, out_of_play="drop_sentence", **options)
    try:
        episode = drawn.episode(number % len(drawn) if evaluation else number)
    except DataError as said:  # few posts are of a single type: the message must say why
        assert "drop_sentence" in str(said)
        return
    for place in (*episode.support, *episode.query):
        assert types_in(posts[place]) <= set(episode.types)
    assert not set(episode.query) & set(episode.support)
    if query_has_entity:
        assert types_in(posts[episode.query[0]])


@given(
    number=st.integers(0, 999),
    support=st.sampled_from(["total", "per_type", "greedy"]),
    reading=st.sampled_from(["O", "ignore", "drop_sentence"]),
    scored=st.sampled_from(["O", "ignore", "drop_sentence"]),
)
@settings(max_examples=60)
def test_the_reading_of_training_draws_training_episodes_alone(number, support, reading, scored):
    posts, few = corpus(), {"k_shot": 4, "support": support, "out_of_play": scored}
    as_asked = source(posts, split="train", train_out_of_play=reading, **few).episode(number)
    assert as_asked == source(posts, split="train", **{**few, "out_of_play": reading}).episode(number)
    of_test = source(posts, evaluation=True, train_out_of_play=reading, **few)
    assert of_test.numbers() == source(posts, evaluation=True, **few).numbers()
    number %= len(of_test)
    assert of_test.episode(number) == source(posts, evaluation=True, **few).episode(number)


def test_drop_sentence_asks_every_post_that_fits_an_episode_once():
    posts = several(0)
    drawn = source(posts, types=("PER", "LOC", "ORG"), evaluation=True, out_of_play="drop_sentence")
    asked = [drawn.episode(number).query[0] for number in drawn.numbers()]
    fits = [place for place, each in enumerate(posts) if types_in(each) and types_in(each) <= {"PER", "LOC", "ORG"}]
    assert asked == [place for place in fits if len(types_in(posts[place])) <= 2] and asked != fits


@given(seed=st.integers(0, 30), number=st.integers(0, 99), k_shot=st.integers(1, 6))
@settings(max_examples=60)
def test_a_free_support_has_k_posts_and_may_lack_a_type(seed, number, k_shot):
    posts = corpus()
    episode = source(posts, k_shot=k_shot, seed=seed, ensure_all_types=False).episode(number)
    assert len(episode.support) == k_shot
    assert all(types_in(posts[place]) & set(episode.types) for place in episode.support)


def test_a_free_support_does_lack_a_type_now_and_then():
    posts = corpus()
    drawn = source(posts, k_shot=2, ensure_all_types=False)
    held = [set().union(*(types_in(posts[each]) for each in drawn.episode(number).support)) for number in range(40)]
    assert any(not set(drawn.episode(number).types) <= kinds for number, kinds in enumerate(held))


def test_queries_without_entities_are_asked_where_none_is_guaranteed():
    posts = corpus()
    drawn = source(posts, query_has_entity=False)
    empty = [not types_in(posts[drawn.episode(number).query[0]]) for number in range(60)]
    assert any(empty) and not all(empty)
    assert not any(not types_in(posts[source(posts).episode(number).query[0]]) for number in range(60))


@pytest.mark.parametrize(
    ("support", "out_of_play", "evaluation", "digest"),
    [
        ("total", "O", False, "f790bc2a6c24"),
        ("total", "drop_sentence", True, "9c1fd4328c10"),
        ("per_type", "O", True, "5fc50dcb197e"),
        ("per_type", "drop_sentence", False, "cf0860a34dbd"),
        ("greedy", "O", False, "288fa24b68e4"),
        ("greedy", "drop_sentence", True, "c1f4b29ffa14"),
    ],
)
def test_episodes_are_those_of_earlier_releases(support, out_of_play, evaluation, digest):
    """Whatever makes the draws faster: published figures are of these episodes."""
    posts = corpus(60)
    options = {"support": support, "out_of_play": out_of_play, "query_has_entity": evaluation}
    drawn = source(posts, n_way=3, k_shot=9, evaluation=evaluation, seed=5, **options)
    other = source(posts, n_way=2, k_shot=4, split="dev", support_posts=corpus(9), evaluation=evaluation, **options)
    records = [each.record(number) for each in (drawn, other) for number in range(40)]
    assert hashlib.sha256(repr(records).encode()).hexdigest()[:12] == digest


def test_an_episode_is_the_same_in_another_process_with_another_hash_seed():
    code = (
        "from tests.data.test_episodes import corpus, source;"
        "print([source(corpus(), seed=3, n_way=2, out_of_play=o, support=s).record(n)"
        " for n in range(5) for o in ('O', 'drop_sentence') for s in ('total', 'greedy')])"
    )
    here = [
        source(corpus(), seed=3, n_way=2, out_of_play=o, support=s).record(n)
        for n in range(5)
        for o in ("O", "drop_sentence")
        for s in ("total", "greedy")
    ]
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert seen == {f"{here}\n"}


def test_episodes_do_not_depend_on_the_order_of_the_type_list_or_on_earlier_draws():
    one, other = source(corpus()), source(corpus(), types=TYPES[::-1])
    for number in (7, 3, 7):
        assert one.episode(number) == other.episode(number)
    assert source(corpus()).episode(3) == one.episode(3)


def test_seed_split_and_number_each_change_the_episode():
    base = source(corpus()).episode(1)
    others = [
        source(corpus(), seed=1).episode(1),
        source(corpus(), split="dev").episode(1),
        source(corpus()).episode(2),
    ]
    assert all((each.support, each.query) != (base.support, base.query) for each in others)


def test_evaluation_asks_every_eligible_post_once():
    posts = corpus()
    whole = source(posts, types=("ORG", "MISC"), evaluation=True)
    asked = [whole.episode(number).query[0] for number in whole.numbers()]
    assert asked == [place for place, each in enumerate(posts) if types_in(each) & {"ORG", "MISC"}]
    everyone = source(posts, types=("ORG", "MISC"), evaluation=True, query_has_entity=False)
    assert len(everyone) == len(posts)


def test_a_number_of_evaluation_episodes_takes_a_sample_that_keeps_the_episodes_as_they_are():
    whole = source(corpus(), evaluation=True)
    few, more = whole.numbers(10), whole.numbers(20)
    assert len(set(few)) == 10 and set(few) < set(more) < set(whole.numbers())
    assert few != list(range(10))
    assert whole.numbers(10_000) == whole.numbers()
    with pytest.raises(UsageError, match="positive"):
        whole.numbers(0)


def test_support_may_come_from_other_posts():
    posts, others = corpus(), corpus(3)
    episode = source(posts, support_posts=others).episode(5)
    assert max(episode.support) < len(others)
    # with its own posts as support a type needs one more, for the query
    assert source(posts[:1], types=("PER",), n_way=1, k_shot=1, support_posts=others)
    with pytest.raises(DataError, match="PER occurs in 1, 2 are needed"):
        source(posts[:1], types=("PER",), n_way=1, k_shot=1)


def test_too_few_posts_of_a_type_are_named_with_their_count():
    posts = [*corpus(), *(post(1000 + number, ("RARE",)) for number in range(3))]
    with pytest.raises(DataError, match=r"k_shot 5 .*type RARE occurs in 3, 6 are needed"):
        source(posts, types=("PER", "RARE"), support="per_type")
    with pytest.raises(DataError, match=r"type MISC has 24 entities, 90 are needed"):
        source(corpus(), types=("MISC",), n_way=1, k_shot=90, support="greedy").episode(0)
    with pytest.raises(DataError, match="no post of test holds"):
        source([post(0, ())], types=("PER", "LOC"))


def test_a_support_that_can_not_be_drawn_is_an_error_and_not_an_endless_loop():
    # each type occurs often enough, but only ever in the same posts
    posts = [post(number, ("PER", "LOC")) for number in range(6)]
    with pytest.raises(DataError, match=r"type (PER|LOC) occurs in 0, 5 are needed"):
        source(posts, types=("PER", "LOC"), support="per_type").episode(0)
    with pytest.raises(DataError, match="LOC or PER occurs in 6, 7 are needed"):
        source(posts, types=("PER", "LOC"), k_shot=6).episode(0)


def test_the_tightest_possible_support_is_found():
    posts = [post(0, ("PER", "LOC")), post(1, ("PER",)), post(2, ("LOC",)), post(3, ("LOC",))]
    drawn = source(posts, types=("PER", "LOC"), support="per_type", k_shot=1, evaluation=True)
    for number in range(4):
        assert len(drawn.episode(number).support) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_way": 5}, "4 types to draw from"),
        ({"n_way": 0}, "n_way 0"),
        ({"k_shot": 1}, "give at least 2"),
        ({"k_shot": 0, "support": "per_type"}, "give at least 1"),
        ({"support": "per_typ"}, "Did you mean 'per_type'"),
        ({"out_of_play": "ignor"}, "Did you mean 'ignore'"),
        ({"k_shot": 0, "ensure_all_types": False}, "give at least 1"),
    ],
)
def test_impossible_options_are_usage_errors(options, said):
    with pytest.raises(UsageError, match=said):
        source(corpus(), **options)


def test_untagged_posts_are_refused():
    with pytest.raises(DataError, match="'u' of test has no tags"):
        source([*corpus(), Post("u", ("a",))])


def test_four_types_make_six_complementary_splits():
    splits = two_type_splits(TYPES)
    assert list(splits) == ["Per+Loc", "Per+Org", "Per+Misc", "Loc+Org", "Loc+Misc", "Org+Misc"]
    for name, (train, test) in splits.items():
        assert sorted(train + test) == sorted(TYPES) and split_name(train) == name
        assert complement(train, TYPES) == test


@pytest.mark.parametrize("spell", [str, str.lower, str.upper, lambda name: "+".join(name.split("+")[::-1])])
def test_the_six_splits_go_by_their_names_in_any_spelling(spell):
    for name, (train, _) in two_type_splits(TYPES).items():
        assert named_types(spell(name), TYPES, "--data.train_types") == train
        assert named_types([spell(name)], TYPES, "--data.train_types") == train
        assert named_types(spell(name).replace("+", ", "), TYPES, "--data.train_types") == train


def test_types_may_be_named_as_the_papers_do():
    assert named_types("Per+Other", TYPES, "--data.train_types") == ("PER", "MISC")
    assert named_types("Org+Per", TYPES, "--data.train_types") == ("PER", "ORG")
    assert named_types(["misc"], TYPES, "--data.train_types") == ("MISC",)
    with pytest.raises(UsageError, match=r"--data.train_types: no type 'Pre'.*Did you mean 'PER'"):
        named_types("Pre+Loc", TYPES, "--data.train_types")
