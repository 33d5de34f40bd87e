"""Whether two posts are one and the same, also across corpora: a merged set holds the posts of another under new names.

The id of a post is unique in its corpus alone (several sets simply count), so a post is known by two keys of 8 bytes:
its id within a corpus that has a name, and its id together with its words. Posts that share a key are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import PurePosixPath

from mnerkit.data.corpus.catalogue import CORPORA
from mnerkit.data.corpus.corpus_files import is_image_name, merged_mark
from mnerkit.data.corpus.post import Post
from mnerkit.errors import DataError


def post_keys(post: Post, corpus: str) -> tuple[int, ...]:
    """Keys of a post of `corpus`: numbers from -2**63 to 2**63 - 1."""
    home, id_ = _home(post, corpus)
    keys = [_hash("words", id_, *post.words)]
    if home in CORPORA:
        keys.append(_hash("corpus", home, id_))
    return tuple(keys)


def keys_of(posts: Iterable[Post], corpus: str) -> list[int]:
    """Keys of all posts, in ascending order."""
    return sorted({key for post in posts for key in post_keys(post, corpus)})


def check_unseen(posts: Iterable[Post], corpus: str, trained_on: Iterable[int]) -> None:
    """Refuse to test on posts that a checkpoint was trained with.

    Args:
        posts: test posts of `corpus`.
        corpus: a name of `CORPORA`, or a folder's.
        trained_on: `keys_of` the training posts.

    Raises:
        DataError: with the number of such posts and the first.
    """
    train_keys = set(trained_on)
    common = [post.id for post in posts if not train_keys.isdisjoint(post_keys(post, corpus))]
    if common:
        raise DataError(
            f"the checkpoint was trained with {len(common)} of the test posts of {corpus}, the first is {common[0]!r}."
            "\nA test figure with them means nothing: train without them, or take them out of the test split."
        )


def _home(post: Post, corpus: str) -> tuple[str, str]:
    """The corpus that a post comes from, and its id there."""
    names = [post.id, *(image.name for image in post.images if len(post.images) == 1)]
    for name in names:
        if mark := merged_mark(name):
            return mark.rstrip("-"), _stem(name[len(mark) :])
    return {"mner-mi-plus": "mner-mi"}.get(corpus, corpus), _stem(post.id)


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix("")) if is_image_name(name) else name


def _hash(*parts: str) -> int:
    text = "\n".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big", signed=True)
