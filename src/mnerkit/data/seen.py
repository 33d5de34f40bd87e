"""What a method gets to see of a split's pictures and captions: which posts stay, and what is said of those that lack.

A method looks at the first `max_images` pictures of a post; here nothing else counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnerkit.data.images import PictureLoader, Policy, check
from mnerkit.data.pictures import Pictures
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


class Remark(NamedTuple):
    """What a split's user is told once: under which key, what, and the option that it is due to with its value."""

    key: str
    said: str
    option: str = ""
    value: str = ""


def checked(
    split: str,
    posts: Sequence[Post],
    needs: Needs,
    missing_images: Policy,
    captions: Path | str | None,
    pictures: Pictures = "right",
) -> list[Remark]:
    """What is to be said of pictures and captions that are not there, or not looked at.

    Args:
        split: of the posts; training posts must have captions.
        posts: the posts, as they are used.
        needs: what the method looks at.
        missing_images: the policy.
        captions: the file of captions in use; `none` where the user wants none, None where none was found.
        pictures: grey ones (`blank`) stand for missing ones, too, and have no captions.

    Raises:
        DataError: under `error` a missing or broken picture; no caption of training posts.
    """
    found = [Remark(f"{split} images", _too_many(posts, needs))]
    if missing_images == "error" and pictures != "blank":
        _check_pictures(split, posts, needs)
    found.append(Remark(split, _missing_pictures(posts, needs), "missing_images", missing_images))
    if pictures != "blank":
        if split in ("train", "all_train") and captions != "none":
            _check_captions(split, posts, needs)
        if lacking := _without_caption(posts, needs):
            said = f"{lacking['missing']} of {lacking['of']} pictures have no caption"
            found.append(Remark(f"{split} captions", said, "captions", str(captions or "none")))
    return found


def missing_captions(splits: Mapping[str, Sequence[Post]], needs: Needs) -> dict[str, Any]:
    """`missing_captions` of a run's record: of each split that lacks some how many, `of` how many; else nothing."""
    lacking = {split: counts for split, posts in splits.items() if (counts := _without_caption(posts, needs))}
    return {"missing_captions": lacking} if lacking else {}


def _check_pictures(split: str, posts: Sequence[Post], needs: Needs) -> None:
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


def _too_many(posts: Sequence[Post], needs: Needs) -> str:
    """How many posts have more pictures than are looked at; empty where none has."""
    most = needs.max_images
    more = sum(len(post.images) > most for post in posts) if needs.views else 0
    if not more:
        return ""
    which = f"the first {most} are" if most > 1 else "the first one is"
    return f"{more} of {len(posts)} posts have more than {most} picture{'s' * (most > 1)}; {which} seen"


def _missing_pictures(posts: Sequence[Post], needs: Needs) -> str:
    """How many pictures have no file; empty where all have one, or none is read."""
    seen = [image.present for image in looked_at(posts, needs)] if needs.picture is not None else []
    return "" if all(seen) else f"{seen.count(False)} of {len(seen)} pictures are missing"


def _without_caption(posts: Sequence[Post], needs: Needs) -> dict[str, int]:
    """How many pictures have no caption (`missing`), `of` how many; empty where all have one, or none is read."""
    read = [image.caption is not None for image in looked_at(posts, needs)] if needs.views & READ else []
    return {} if all(read) else {"missing": read.count(False), "of": len(read)}


def _check_captions(split: str, posts: Sequence[Post], needs: Needs) -> None:
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
