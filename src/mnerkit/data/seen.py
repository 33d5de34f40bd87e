"""What a method gets to see of a split's pictures and captions: which posts stay, and what is said of those that lack.

A method looks at the first `max_images` pictures of a post; here nothing else counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mnerkit.data.images import PictureLoader, check
from mnerkit.data.post import ImageRef, Post
from mnerkit.data.views import Needs
from mnerkit.errors import DataError

READ = {"captions", "second"}  # views of captions


def looked_at(posts: Sequence[Post], needs: Needs) -> Iterator[ImageRef]:
    """The pictures that a method looks at, or whose captions it reads."""
    return (image for post in posts for image in post.images[: needs.max_images])


def usable(posts: Sequence[Post], needs: Needs) -> list[Post]:
    """The posts whose pictures are there and can be decoded; all of them where no pictures are read."""
    if needs.picture is None:
        return list(posts)
    loader = PictureLoader(needs.picture, policy="skip")
    return [post for post in posts if loader.usable(post, needs.max_images)]


def check_pictures(split: str, posts: Sequence[Post], needs: Needs) -> None:
    """Refuse posts with a missing or broken picture, where pictures are read.

    Raises:
        DataError: naming the first, and how many are missing.
    """
    if needs.picture is None:
        return
    missing = [image.name for image in looked_at(posts, needs) if not image.present]
    if missing:
        more = f", and {len(missing) - 1} more of the {split} split are" if len(missing) > 1 else ""
        raise DataError(
            f"picture {missing[0]} is missing{more}.\n"
            "Under --data.missing_images blank or skip the others are used without it."
        )
    for image in looked_at(posts, needs):
        check(image)


def too_many(posts: Sequence[Post], needs: Needs) -> str:
    """How many posts have more pictures than are looked at; empty where none has."""
    most = needs.max_images
    more = sum(len(post.images) > most for post in posts) if needs.views else 0
    if not more:
        return ""
    which = f"the first {most} are" if most > 1 else "the first one is"
    return f"{more} of {len(posts)} posts have more than {most} picture{'s' * (most > 1)}; {which} seen"


def missing_pictures(posts: Sequence[Post], needs: Needs) -> str:
    """How many pictures have no file; empty where all have one, or none is read."""
    seen = [image.present for image in looked_at(posts, needs)] if needs.picture is not None else []
    return "" if all(seen) else f"{seen.count(False)} of {len(seen)} pictures are missing"


def without_caption(posts: Sequence[Post], needs: Needs) -> dict[str, int]:
    """How many pictures have no caption (`missing`), `of` how many; empty where all have one, or none is read."""
    read = [image.caption is not None for image in looked_at(posts, needs)] if needs.views & READ else []
    return {} if all(read) else {"missing": read.count(False), "of": len(read)}


def check_captions(split: str, posts: Sequence[Post], needs: Needs) -> None:
    """Refuse posts of which no picture has a caption with a word, where captions are read.

    Raises:
        DataError: with the way out.
    """
    images = list(looked_at(posts, needs)) if needs.views & READ else []
    if images and not any((image.caption or "").strip() for image in images):
        raise DataError(
            f"the method reads captions, and none of the {len(images)} pictures of the {split} split has one.\n"
            "Give --data.captions FILE, lines of '<picture> :<caption>', or none to do without."
        )
