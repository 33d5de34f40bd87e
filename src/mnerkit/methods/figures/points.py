"""t-SNE of the states of gold entity words: points in a plane, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from mnerkit.data.corpus.tags import entities
from mnerkit.errors import DataError, UsageError
from mnerkit.methods.figures import MOST_POINTS
from mnerkit.methods.prediction import Prediction
from mnerkit.methods.tagger import Tagger

if TYPE_CHECKING:
    from mnerkit.data.batches.batch import Batch
    from mnerkit.methods.method import Method

FEWEST = 5  # points
PERPLEXITY = 30.0
Word = tuple[str, str, str]  # type, word, id of the post


def gold_words(method: Method, batches: Iterable[Batch]) -> tuple[np.ndarray, list[Word], int]:
    """States of the words of gold entities, the first `MOST_POINTS` of a split.

    Returns:
        (n, d) what the head reads, mean over environments; each word's type, itself and its post; the number of posts
        that they are of, those without entities among them.

    Raises:
        UsageError: the method tags no words.
    """
    if not isinstance(method, Tagger):
        raise UsageError(f"plugin {method.plugin!r} has no states of words to draw")
    states: list[np.ndarray] = []
    words: list[Word] = []
    read = 0
    for batch in batches:
        batch = batch.to(method.device)
        with method.head.adapted(method.encoder, batch, seed=method.seed) as (_, encoded):
            word_states = encoded.states.detach().float().mean(0).cpu().numpy()  # (B, W, d)
        read_mask = batch.text.read_mask.cpu()
        for row in batch.places.queries:
            post = batch.posts[row]
            read += 1
            for span in entities(Prediction(post, [], batch.tagset.types).gold):
                for place in range(span.start, span.end):
                    if read_mask[row, place] and len(words) < MOST_POINTS:
                        states.append(word_states[row, place])
                        words.append((span.type, post.words[place], post.id))
            if len(words) == MOST_POINTS:
                return np.stack(states), words, read
    return np.stack(states) if states else np.zeros((0, 1)), words, read


def tsne(states: np.ndarray) -> np.ndarray:
    """(n, 2) places in the unit square by t-SNE, the same each time.

    Starts from the principal components; perplexity 30, or a third of the points where these are few (van der Maaten
    and Hinton 2008, JMLR 9; Barnes-Hut, 2014, JMLR 15).

    Raises:
        DataError: too few points, or all the same.
    """
    if len(states) < FEWEST or not states.std(0).any():
        raise DataError(f"{len(states)} words of gold entities: t-SNE needs {FEWEST}, with different states")
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(states) - 1) / 3)
    made = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=0, n_jobs=1)
    places = made.fit_transform(states)
    places = places - places.min(0)
    return places / max(float(places.max()), 1e-9)


def figure(method: Method, batches: Iterable[Batch], split: str) -> dict[str, Any]:
    """The figure of a split.

    Raises:
        UsageError: the method tags no words.
        DataError: there is too little to draw.
    """
    states, words, read = gold_words(method, batches)
    places = tsne(states)
    types = sorted({kind for kind, _, _ in words})
    points = [
        [round(float(x), 4), round(float(y), 4), types.index(kind), word, post]
        for (x, y), (kind, word, post) in zip(places, words, strict=True)
    ]
    about = (
        f"t-SNE of the states that the head reads, {len(points)} words of gold entities in {read} posts of {split} "
        "(in a plane, whatever the paper draws)."
    )
    return {"about": about, "types": types, "points": points, "posts_read": read}
