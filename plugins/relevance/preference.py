"""Rankings of a post's images and the blank image, most of them without human annotation.

Every kind of ranking is a list of `Ranked`: a post with the images to compare, and the worth of each. The blank image
has worth 0, so that relevant images have positive and irrelevant ones negative worths; images whose worths differ by no
more than a margin are tied. Only training posts are ranked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.text_lines import is_blank, lines
from mnerkit.data.random_draws import stream
from mnerkit.errors import DataError, UsageError
from mnerkit.strict_json import loads


@dataclass(frozen=True)
class Ranked:
    """A post, and the worths of its images.

    Attributes:
        post: the post with the images to compare.
        worths: one number for each image; the blank image has worth 0.
    """

    post: Post
    worths: tuple[float, ...]

    def pairs(self, margin: float = 0.0) -> int:
        """Number of ranked pairs, including those with the blank image."""
        worths = (*self.worths, 0.0)
        return sum(a - b > margin for a in worths for b in worths)


def first_images(post: Post, limit: int) -> Post:
    """The post with those of its first images that exist (or have a caption)."""
    return replace(post, images=tuple(image for image in post.images[:limit] if image.present or image.caption))


def oracle(posts: Iterable[Post], max_images: int) -> list[Ranked]:
    """Rank by the ground truth of a generated corpus: relevant images above the blank one, irrelevant ones below.

    Raises:
        UsageError: a post has no ground truth.
    """
    ranked = []
    for post in posts:
        if post.truth is None:
            raise UsageError("--model.preference oracle is for the probe corpus: other corpora have no ground truth")
        worths = [1.0 if relevant else -1.0 for relevant in post.truth.relevant]
        ranked.append(Ranked(replace(post, images=post.images[:max_images]), tuple(worths[:max_images])))
    return ranked


def matched(posts: Sequence[Post], max_images: int, seed: int) -> list[Ranked]:
    """Rank a post's own images above the blank one, and as many images of other posts below it.

    Tags are not read. A post's own images are assumed to be relevant.
    """
    posts = [first_images(post, max_images) for post in posts]
    holders = [number for number, post in enumerate(posts) if post.images]
    ranked = []
    for number in holders if len(holders) > 1 else ():
        post, draw = posts[number], stream("matched", seed, posts[number].id)
        negatives: list[ImageRef] = []
        while len(negatives) < len(post.images):
            other = holders[draw.randrange(len(holders))]
            if other != number:
                negatives.append(posts[other].images[draw.randrange(len(posts[other].images))])
        worths = (1.0,) * len(post.images) + (-1.0,) * len(negatives)
        ranked.append(Ranked(replace(post, images=(*post.images, *negatives)), worths))
    return ranked


def from_file(
    path: str | Path,
    posts: Sequence[Post],
    training: Mapping[str, int | None],
    forbidden: Collection[str],
    max_images: int,
) -> tuple[list[Ranked], dict[str, int]]:
    """Read rankings by people: JSON lines `{"id", "order", "blank_pos"}`.

    `order` lists the numbers of the post's images (from 0), the best first; `blank_pos` is the number of images above
    the blank image.

    Args:
        path: the file.
        posts: the posts to rank (D_dis).
        training: ids of all training posts, with the number of their images; None if the post was not read.
        forbidden: ids of dev and test posts.
        max_images: only the first images of a post are used.

    Returns:
        The ranked posts, and counts: `other_posts`, rankings of training posts that are not in `posts`, and `without`,
        posts without a ranking.

    Raises:
        DataError: the file can't be read; a line is malformed; an order is not a permutation of the post's images; or
            an id is unknown, repeated, or that of a dev or test post.
    """
    if not Path(path).is_file():
        raise DataError(f"--model.rankings {path}: there is no such file")
    selected, orders = {post.id: post for post in posts}, {}
    for number, line in lines(Path(path)):
        if is_blank(line):
            continue
        where = f"{path}:{number}"
        name, order, blank = _ranking(line, where)
        if name in forbidden and name not in training:
            raise DataError(f"{where}: {name!r} is a post of dev or test; give rankings of training posts only")
        if name not in training:
            raise DataError(f"{where}: no training post has the id {name!r}")
        if name in orders:
            raise DataError(f"{where}: {name!r} is ranked twice")
        images = len(selected[name].images) if name in selected else training[name]
        _check_order(order, blank, name, images, where)
        orders[name] = (order, blank)
    other_posts = len(orders.keys() - selected.keys())
    ranked = []
    for post in posts:
        if post.id not in orders:
            continue
        order, blank = orders[post.id]
        worths = [0.0] * len(order)
        for place, image in enumerate(order):
            worths[image] = float(blank - place if place < blank else blank - place - 1)
        ranked.append(Ranked(replace(post, images=post.images[:max_images]), tuple(worths[:max_images])))
    return ranked, {"other_posts": other_posts, "without": len(posts) - len(ranked)}


def _ranking(line: str, where: str) -> tuple[str, list[int], int]:
    try:
        row: Any = loads(line)
        name, order, blank = row["id"], row["order"], row["blank_pos"]
    except (ValueError, RecursionError, TypeError, KeyError):  # an integer of 5,000 digits is a ValueError
        raise DataError(f'{where}: expected {{"id": ..., "order": [...], "blank_pos": N}}') from None
    if type(name) not in (str, int):
        raise DataError(f"{where}: expected a string as id of a post, not {str(name)[:60]}")
    if not isinstance(order, list) or any(type(number) is not int for number in [*order, blank]):
        raise DataError(f"{where}: expected a list of whole numbers as order, and a whole number as blank_pos")
    return str(name), order, blank


def _check_order(order: list[int], blank: int, name: str, images: int | None, where: str) -> None:
    """Refuse an order with missing or repeated images; `images` is None if their number is unknown."""
    count = len(order) if images is None else images
    if sorted(order) != list(range(count)):
        raise DataError(
            f"{where}: order {str(order)[:60]} is no permutation of the {count} images of {name!r} (0 to {count - 1})"
        )
    if not 0 <= blank <= count:
        raise DataError(
            f"{where}: blank_pos {str(blank)[:60]}: give 0 to {count}, the number of images above the blank one"
        )


def held_out(ranked: Sequence[Ranked], share: float, seed: int) -> tuple[list[Ranked], list[Ranked]]:
    """Split ranked posts into training posts and posts that select the checkpoint; each part has at least one post."""
    order = sorted(ranked, key=lambda each: (stream("held out", seed, each.post.id).random(), each.post.id))
    count = min(max(1, round(share * len(order))), len(order) - 1)
    names = {each.post.id for each in order[:count]}
    train = [each for each in ranked if each.post.id not in names]
    return train, [each for each in ranked if each.post.id in names]
