"""Which pictures and captions a method gets to see: the posts that it can use, and warnings about what is missing.

A method looks at the first `max_images` pictures of a post; the others count nowhere here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.options import DataOptions, Pictures
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.errors import DataError


def looked_at(posts: Sequence[Post], needs: Needs) -> Iterator[ImageRef]:
    """The pictures that a method looks at, or whose captions it reads."""
    return (image for post in posts for image in post.images[: needs.max_images])


def usable(posts: Sequence[Post], needs: Needs) -> list[Post]:
    """The posts whose pictures are there and can be decoded; all of them where no pictures are read."""
    if needs.picture is None:
        return list(posts)
    loader = PictureLoader(needs.picture, policy="skip")
    return [post for post in posts if loader.usable(post, needs.max_images)]


def warnings(
    split: str, posts: Sequence[Post], needs: Needs, options: DataOptions, captions: Path | None, pictures: Pictures
) -> dict[str, str]:
    """Warnings about pictures and captions that are missing or not looked at.

    Args:
        split: of the posts.
        posts: the posts, as they are used.
        needs: what the method looks at.
        options: what is done about missing ones.
        captions: the file of captions in use, if there is one.
        pictures: grey ones (`blank`) have no captions.

    Returns:
        The texts, each under a key of its own: the split, or the split and what the warning is about.
    """
    texts = {f"{split} images": _too_many(posts, needs)}
    for kind, counts in _missing(posts, needs).items():
        share = f"{counts['missing']} of {counts['of']} pictures"
        if kind == "pictures":
            texts[split] = f"{share} are missing (--data.missing_images {options.missing_images})"
        elif pictures != "blank":
            texts[f"{split} captions"] = f"{share} have no caption (--data.captions {captions or 'none'})"
    return {key: text for key, text in texts.items() if text}


def record(splits: Mapping[str, Sequence[Post]], needs: Needs) -> dict[str, Any]:
    """`missing_pictures` and `missing_captions` of a run's record: counts by split, where any are missing."""
    counts_by_kind: dict[str, Any] = {}
    for split, posts in splits.items():
        for kind, counts in _missing(posts, needs).items():
            counts_by_kind.setdefault(f"missing_{kind}", {})[split] = counts
    return counts_by_kind


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
    """Refuse posts of whose pictures nothing is known in words, where that is read: captions, labels, written words.

    Raises:
        DataError: with the way out.
    """
    count = sum(1 for _ in looked_at(posts, needs)) if needs.views & {"captions", "labels", "second"} else 0
    if not count or any(map(needs.second_segment if needs.parts else lambda post: any(needs.captions(post)), posts)):
        return
    if needs.parts in ((), ("caption",)):
        raise DataError(
            f"the method reads captions, and none of the {count} pictures of the {split} split has one.\n"
            "Give --data.captions FILE, lines of '<picture> :<caption>', or none to do without."
        )
    raise DataError(
        f"the method reads {', '.join(needs.parts)}, and nothing of it is known of the {count} pictures of the {split} "
        "split.\nGive --data.captions FILE, --data.boxes FILE with labels, or --data.ocr FILE."
    )


def _too_many(posts: Sequence[Post], needs: Needs) -> str:
    """How many posts have more pictures than are looked at; empty where none has."""
    most = needs.max_images
    more = sum(len(post.images) > most for post in posts) if needs.views else 0
    if not more:
        return ""
    which = f"the first {most} are" if most > 1 else "the first one is"
    return f"{more} of {len(posts)} posts have more than {most} picture{'s' * (most > 1)}; {which} seen"


def _missing(posts: Sequence[Post], needs: Needs) -> dict[str, dict[str, int]]:
    """Pictures or captions that are read and `missing`, `of` how many; without an entry where none is missing."""
    images = list(looked_at(posts, needs))
    present: dict[str, list[bool]] = {}
    if needs.picture is not None:
        present["pictures"] = [image.present for image in images]
    if needs.reads_captions:
        present["captions"] = [image.caption is not None for image in images]
    return {
        kind: {"missing": flags.count(False), "of": len(flags)} for kind, flags in present.items() if not all(flags)
    }
