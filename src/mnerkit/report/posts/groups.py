"""F1 of groups of entities: by their length, and by how often training posts have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping

from mnerkit.data.corpus.post import Entity, Post
from mnerkit.data.corpus.tags import entities
from mnerkit.scoring.comparison import Answer
from mnerkit.scoring.post_sets import PostSet

LENGTHS = ("1 word", "2 words", "3 words", "4 words and more")
# an entity with these words and this type, in training posts
FREQUENCIES = ("never: unseen", "once", "2 to 4 times", "5 times and more")
Training = Mapping[tuple[tuple[str, ...], str], int]


def training_counts(posts: Iterable[Post]) -> Training:
    """How often training posts have an entity, by its words and type."""
    return Counter(
        (tuple(post.words[span.start : span.end]), span.type) for post in posts for span in entities(post.tags or ())
    )


def by_groups(posts: PostSet, system: Hashable, training: Training) -> dict[str, list[tuple[str, list[int]]]]:
    """Gold, predicted and correct entities of a system by group; by frequency where training posts are known."""

    def length(post: Answer, span: Entity) -> int:
        return min(span.end - span.start, len(LENGTHS)) - 1

    def frequency(post: Answer, span: Entity) -> int:
        count = training.get((tuple(post.words[span.start : span.end]), span.type), 0)
        return 0 if not count else 1 if count == 1 else 2 if count < 5 else 3

    groups = {"length": (length, LENGTHS)} | ({"training": (frequency, FREQUENCIES)} if training else {})
    return {
        name: list(zip(names, posts.counts_by_group(system, name, group_of, len(names)).tolist(), strict=True))
        for name, (group_of, names) in groups.items()
    }
