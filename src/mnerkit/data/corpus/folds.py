"""Cross-validation over the training and dev posts of a corpus; its test posts are left alone.

Posts that are alike lie in one fold: those that share an id, a picture, or a text up to case, links and mentions
(`same_post`), and those whose texts have most words in common.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import ceil

from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.same_post import evidence, plain_words
from mnerkit.data.random_draws import stream
from mnerkit.errors import DataError

ALIKE = 0.8  # share of the words of two texts that they have in common, from which on they are near duplicates
LEAST_WORDS = 4  # of a text that is compared so
DEV_SHARE = 0.1  # of the posts outside the fold: they choose the epoch


def folded(corpus: Corpus, folds: int, fold: int) -> Corpus:
    """The corpus with a fold of its train and dev posts as test, and a tenth of the others as dev.

    Which fold a post is in depends on the corpus and `folds` alone, not on a seed.

    Args:
        corpus: the corpus; its test posts do not occur in what is returned.
        folds: number of folds.
        fold: number of the fold that is scored, from 0.

    Raises:
        DataError: fewer groups of posts than folds, or an id that train and dev share.
    """
    posts = [*corpus.splits["train"], *corpus.splits["dev"]]
    repeated = next((id_ for id_, count in Counter(post.id for post in posts).items() if count > 1), None)
    if repeated is not None:
        raise DataError(f"{corpus.name}: train and dev share the id {repeated!r}, so they can't be folded")
    places = folds_of(posts, corpus.name, folds)
    outside = [(post, group) for post, group, place in places if place != fold]
    dev, size = set[str](), ceil(DEV_SHARE * len(outside))
    for group in _drawn({group for _, group in outside}, "dev of fold", fold):
        if len(dev) >= size:
            break
        dev |= {post.id for post, own in outside if own == group}
    splits = {
        "train": [post for post, _ in outside if post.id not in dev],
        "dev": [post for post, _ in outside if post.id in dev],
        "test": [post for post, _, place in places if place == fold],
    }
    return replace(corpus, splits={name: splits[name] for name in corpus.splits})


def folds_of(posts: Sequence[Post], corpus: str, folds: int) -> list[tuple[Post, str, int]]:
    """Each post with the name of its group of posts that are alike, and its fold; folds are about equally large.

    Raises:
        DataError: fewer groups than folds.
    """
    names = groups_of(posts, corpus)
    sizes = Counter(names)
    if len(sizes) < folds:
        raise DataError(
            f"{corpus}: {len(posts)} posts in {len(sizes)} groups of posts that are alike, for {folds} folds"
        )
    filled, place = [0] * folds, dict[str, int]()
    for name in _drawn(sizes, "fold", folds):
        place[name] = filled.index(min(filled))
        filled[place[name]] += sizes[name]
    return [(post, name, place[name]) for post, name in zip(posts, names, strict=True)]


def _drawn(names: Iterable[str], *keys: str | int) -> list[str]:
    """Names in an order that depends on them and on `keys` alone."""
    return sorted(names, key=lambda name: (stream(*keys, name).random(), name))


def groups_of(posts: Sequence[Post], corpus: str) -> list[str]:
    """The group of each post, named by the first id in it: posts that are alike, and those alike to these."""
    parents = {post.id: post.id for post in posts}

    def root(name: str) -> str:
        while parents[name] != name:
            parents[name] = name = parents[parents[name]]
        return name

    holders: dict[int, str] = {}
    for id_, kinds in evidence(posts, corpus).items():
        for key in {key for keys in kinds.values() for key in keys}:
            parents[root(id_)] = root(holders.setdefault(key, id_))
    for one, other in near_duplicates([post for post in posts if post.truth is None]):
        parents[root(one.id)] = root(other.id)
    first: dict[str, str] = {}
    for post in posts:
        name = root(post.id)
        first[name] = min(first.get(name, post.id), post.id)
    return [first[root(post.id)] for post in posts]


def near_duplicates(posts: Iterable[Post]) -> Iterator[tuple[Post, Post]]:
    """Pairs of posts that have at least `ALIKE` of their words in common, by the Jaccard index of their sets of words.

    Of two such sets, ordered by how rare words are, the first words of one are among the first of the other (prefix
    filtering: Chaudhuri et al., 2006), so that few pairs are compared.
    """
    sets = [(post, plain_words(post.words)) for post in posts]
    sets = [(post, words) for post, words in sets if len(words) >= LEAST_WORDS]
    frequency = Counter(word for _, words in sets for word in words)
    holders: dict[str, list[int]] = defaultdict(list)
    for number, (post, words) in enumerate(sets):
        order = sorted(words, key=lambda word: (frequency[word], word))
        candidates = set[int]()
        for word in order[: len(order) - ceil(ALIKE * len(order)) + 1]:
            candidates.update(holders[word])
            holders[word].append(number)
        for other in sorted(candidates):
            common = len(words & sets[other][1])
            if common >= ALIKE * (len(words) + len(sets[other][1]) - common):
                yield post, sets[other][0]
