"""Which image of a post is ranked above which, and where the blank one stands: supervision without people.

Every kind ends as `Ranked`: a post with the images to compare, and what each is worth. The blank image is worth 0, so
relevant images are worth more than 0 and irrelevant ones less; images that differ by no more than a margin are tied.
Rankings are made of training posts alone.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.readers import is_blank, lines
from mnerkit.data.random_draws import stream
from mnerkit.errors import DataError, UsageError


@dataclass(frozen=True)
class Ranked:
    """A post, and what its images are worth.

    Attributes:
        post: with the images to compare.
        worths: one number an image; the blank one is worth 0.
    """

    post: Post
    worths: tuple[float, ...]

    def pairs(self, margin: float = 0.0) -> int:
        """How many pairs it gives, the blank image included."""
        worths = (*self.worths, 0.0)
        return sum(a - b > margin for a in worths for b in worths)


def first_images(post: Post, most: int) -> Post:
    """The post with its first images, those that can be had."""
    return replace(post, images=tuple(image for image in post.images[:most] if image.present or image.caption))


def oracle(posts: Iterable[Post], max_images: int) -> list[Ranked]:
    """By the truth of a generated corpus: relevant images above the blank one, irrelevant ones below.

    Raises:
        UsageError: posts whose truth nobody knows.
    """
    ranked = []
    for post in posts:
        if post.truth is None:
            raise UsageError("--model.preference oracle is for the probe corpus: nobody knows the truth of others")
        worths = [1.0 if each else -1.0 for each in post.truth.relevant]
        ranked.append(Ranked(replace(post, images=post.images[:max_images]), tuple(worths[:max_images])))
    return ranked


def matched(posts: Sequence[Post], max_images: int, seed: int) -> list[Ranked]:
    """A post's own images above the blank one, as many images of other posts below it.

    No tag is read. A post's own image is called relevant whether it is or not.
    """
    posts = [first_images(post, max_images) for post in posts]
    holders = [number for number, post in enumerate(posts) if post.images]
    ranked = []
    for number in holders if len(holders) > 1 else ():
        post, draw = posts[number], stream("matched", seed, posts[number].id)
        others: list[ImageRef] = []
        while len(others) < len(post.images):
            other = holders[draw.randrange(len(holders))]
            if other != number:
                others.append(posts[other].images[draw.randrange(len(posts[other].images))])
        worths = (1.0,) * len(post.images) + (-1.0,) * len(others)
        ranked.append(Ranked(replace(post, images=(*post.images, *others)), worths))
    return ranked


def from_file(
    path: str | Path,
    posts: Sequence[Post],
    known: Mapping[str, int | None],
    forbidden: Collection[str],
    max_images: int,
) -> tuple[list[Ranked], dict[str, int]]:
    """Rankings of people: JSON lines `{"id", "order", "blank_pos"}`.

    `order` holds the numbers of the post's images (from 0), the best first; `blank_pos` says how many of them stand
    above the blank image.

    Args:
        path: the file.
        posts: those that are ranked (D_dis).
        known: ids of all training posts, with how many images each has; None where the post was not read.
        forbidden: ids of dev and test.
        max_images: only the first images of a post are read.

    Returns:
        The ranked posts, and counts: `other_posts` rankings of training posts that are not ranked here, `without`
        posts that the file does not rank.

    Raises:
        DataError: a file that can't be read, a line that is none of this, an order that is no permutation of the
            post's images, an id that is unknown, twice in the file, or that of a dev or test post.
    """
    if not Path(path).is_file():
        raise DataError(f"--model.rankings {path}: there is no such file")
    wanted, orders = {post.id: post for post in posts}, {}
    for number, line in lines(Path(path)):
        if is_blank(line):
            continue
        where = f"{path}:{number}"
        name, order, blank = _ranking(line, where)
        if name in forbidden and name not in known:
            raise DataError(f"{where}: {name!r} is a post of dev or test; rankings are of training posts alone")
        if name not in known:
            raise DataError(f"{where}: no training post has the id {name!r}")
        if name in orders:
            raise DataError(f"{where}: {name!r} was ranked before")
        images = len(wanted[name].images) if name in wanted else known[name]
        _check_order(order, blank, name, images, where)
        orders[name] = (order, blank)
    others = len(orders.keys() - wanted.keys())
    ranked = []
    for post in posts:
        if post.id not in orders:
            continue
        order, blank = orders[post.id]
        worths = [0.0] * len(order)
        for place, image in enumerate(order):
            worths[image] = float(blank - place if place < blank else blank - place - 1)
        ranked.append(Ranked(replace(post, images=post.images[:max_images]), tuple(worths[:max_images])))
    return ranked, {"other_posts": others, "without": len(posts) - len(ranked)}


def _ranking(line: str, where: str) -> tuple[str, list[int], int]:
    try:
        said: Any = json.loads(line)
        name, order, blank = said["id"], said["order"], said["blank_pos"]
    except (ValueError, RecursionError, TypeError, KeyError):  # a whole number of 5,000 digits is a ValueError
        raise DataError(f'{where}: expected {{"id": ..., "order": [...], "blank_pos": N}}') from None
    if type(name) not in (str, int):
        raise DataError(f"{where}: the id of a post is a string, found {str(name)[:60]}")
    if not isinstance(order, list) or any(type(each) is not int for each in [*order, blank]):
        raise DataError(f"{where}: order is a list of whole numbers and blank_pos a whole number")
    return str(name), order, blank


def _check_order(order: list[int], blank: int, name: str, images: int | None, where: str) -> None:
    """Refuse an order that leaves images out or names some twice; `images` is None where their number is not known."""
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
    """Ranked posts to train on, and others that select the checkpoint; at least one of each where there are two."""
    order = sorted(ranked, key=lambda each: (stream("held out", seed, each.post.id).random(), each.post.id))
    count = min(max(1, round(share * len(order))), len(order) - 1)
    apart = {each.post.id for each in order[:count]}
    train = [each for each in ranked if each.post.id not in apart]
    return train, [each for each in ranked if each.post.id in apart]
