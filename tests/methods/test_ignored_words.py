"""Words that are ignored: a predicted entity that holds one is neither right nor wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet, entities
from mnerkit.methods.prediction import Prediction, predictions_of, rows, scores
from mnerkit.towers.text.vocabulary import VocabularyReader

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def post(number: int, tags: list[str]) -> Post:
    return Post(f"p{number}", tuple(f"w{place}" for place in range(len(tags))), tuple(tags))


@given(st.lists(st.tuples(st.sampled_from(TAGS), st.booleans()), min_size=1, max_size=12))
def test_scored_tags_hold_just_the_entities_without_an_ignored_word(words):
    tags, ignored = [tag for tag, _ in words], tuple(place for place, (_, out) in enumerate(words) if out)
    prediction = Prediction(post(0, ["O"] * len(tags)), list(tags), ("PER", "LOC"), ignored=ignored)
    for rule in ("lenient", "strict"):
        kept = [each for each in entities(tags, rule) if not set(range(each.start, each.end)) & set(ignored)]
        assert entities(prediction.scored, rule) == kept
    assert prediction.tags == tags


def test_the_episode_tells_predictions_what_is_ignored_and_the_scores_leave_it_out():
    collate = Collator(Needs(VocabularyReader([])), None, TagSet(("PER",)), out_of_play="ignore")
    support, query = post(1, ["B-PER", "O"]), post(2, ["B-ORG", "I-ORG", "O", "B-PER"])
    batch = collate.episode([support], [query], ["PER"], number=3)
    said = ["O", "B-PER", "I-PER", "B-PER"]  # the first of the two lies half in an ORG
    (prediction,) = predictions_of(batch, [batch.tagset.encode(said)])
    assert prediction.tags == said and prediction.post is query
    assert prediction.ignored == (0, 1) and prediction.support == ("p1",)
    found = scores([prediction])
    assert found["f1"] == found["precision"] == 100 and found["episodes"] == 1
    (row,) = rows([prediction])
    assert row["ignored"] == [0, 1] and len(row["entities"]) == 2 and row["gold"] == [[3, 4, "PER"]]
    as_o = Prediction(query, said, ("PER",), batch.episode)
    assert scores([as_o])["precision"] == pytest.approx(50)
