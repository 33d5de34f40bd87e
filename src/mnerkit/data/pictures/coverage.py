"""What a method gets to see of a split's pictures and captions: which posts stay, and what is said of those that lack.

A method looks at the first `max_images` pictures of a post; here nothing else counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.options import Pictures
from mnerkit.data.pictures.picture_loader import PictureLoader, Policy
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


class Remark(NamedTuple):
    """What a split's user is told once: under which key, what, and the option that it is due to with its value."""

    key: str
    said: str
    option: str = ""
    value: str = ""


def remarks(
    split: str,
    posts: Sequence[Post],
    needs: Needs,
    missing_images: Policy,
    captions: Path | str | None,
    pictures: Pictures = "right",
) -> list[Remark]:
    """What is to be said of pictures and captions that are not there, or not looked at.

    Args:
        split: of the posts.
        posts: the posts, as they are used.
        needs: what the method looks at.
        missing_images: the policy.
        captions: the file of captions in use; `none` where the user wants none, None where none was found.
        pictures: grey ones (`blank`) have no captions.
    """
    found = [Remark(f"{split} images", _too_many(posts, needs))]
    for what, counts in _lacking(posts, needs).items():
        if what == "pictures":
            said = f"{counts['missing']} of {counts['of']} pictures are missing"
            found.append(Remark(split, said, "missing_images", missing_images))
        elif pictures != "blank":
            said = f"{counts['missing']} of {counts['of']} pictures have no caption"
            found.append(Remark(f"{split} captions", said, "captions", str(captions or "none")))
    return found


def record(splits: Mapping[str, Sequence[Post]], needs: Needs) -> dict[str, Any]:
    """`missing_pictures` and `missing_captions` of a run's record: of each split that lacks some, `of` how many."""
    found: dict[str, Any] = {}
    for split, posts in splits.items():
        for what, counts in _lacking(posts, needs).items():
            found.setdefault(f"missing_{what}", {})[split] = counts
    return found


def check_pictures(split: str, posts: Sequence[Post], needs: Needs) -> None:
    """Refuse posts with a missing picture, where pictures are read.

    Raises:
        DataError: naming the first, and how many are missing.
    """
    missing = [image.name for image in looked_at(posts, needs) if not image.present] if needs.picture else []
    if missing:
        more = f", and {len(missing) - 1} more of the {split} split are" if len(missing) > 1 else ""
        raise DataError(
            f"picture {missing[0]} is missing{more}.\n"
            "Under --data.missing_images blank or skip the others are used without it."
        )


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


def _too_many(posts: Sequence[Post], needs: Needs) -> str:
    """How many posts have more pictures than are looked at; empty where none has."""
    most = needs.max_images
    more = sum(len(post.images) > most for post in posts) if needs.views else 0
    if not more:
        return ""
    which = f"the first {most} are" if most > 1 else "the first one is"
    return f"{more} of {len(posts)} posts have more than {most} picture{'s' * (most > 1)}; {which} seen"


def _lacking(posts: Sequence[Post], needs: Needs) -> dict[str, dict[str, int]]:
    """`missing` pictures or captions, `of` how many, of those that are read; nothing where all are there."""
    read = {"pictures": needs.picture is not None, "captions": bool(needs.views & READ)}
    found = {}
    for what in (name for name, asked in read.items() if asked):
        there = [
            image.present if what == "pictures" else image.caption is not None for image in looked_at(posts, needs)
        ]
        if not all(there):
            found[what] = {"missing": there.count(False), "of": len(there)}
    return found
