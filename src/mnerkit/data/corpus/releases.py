"""Digests of annotations, the known releases of the corpora by them, and the figures that papers print."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from mnerkit.data.corpus.post import PictureObject, Post
from mnerkit.plain_yaml import packaged_yaml


def table() -> dict[str, Any]:
    """The content of `releases.yaml`: `releases`, `printed`, `notes`, `images` (its comments explain them)."""
    return packaged_yaml("mnerkit.data.corpus", "releases.yaml")


def matching_release(digests: dict[str, str]) -> str | None:
    """The release to which every one of these splits belongs, or None.

    Args:
        digests: content digest (`content_digest`) of each split.
    """
    for name, release in table()["releases"].items():
        if digests and all(release["digests"].get(split) == digest for split, digest in digests.items()):
            return name
    return None


class ContentDigest:
    """SHA-256 of the content of posts: ids, words, tags as the file has them, picture names and what is said of them.

    Line ends, blank lines and the file format do not matter, so the digest also certifies the reading.
    """

    _encode = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode

    def __init__(self) -> None:
        self._whole = hashlib.sha256()

    def add(self, post: Post) -> None:
        """Take in the next post."""
        content: list[Any] = [post.id, post.words, post.tags, [ref.name for ref in post.images]]
        if any(ref.caption or ref.relevance is not None or ref.objects for ref in post.images):
            content.append(
                [[ref.caption, ref.relevance, [_object(each) for each in ref.objects]] for ref in post.images]
            )
        self._whole.update(self._encode(content).encode() + b"\n")

    def hexdigest(self) -> str:
        """The digest of the posts so far."""
        return self._whole.hexdigest()


def content_digest(posts: Iterable[Post]) -> str:
    """The `ContentDigest` of posts."""
    whole = ContentDigest()
    for post in posts:
        whole.add(post)
    return whole.hexdigest()


def _object(each: PictureObject) -> list[Any]:
    return [each.box, each.score, each.label]


def combined_digest(digests: dict[str, str]) -> str:
    """One digest from those of the splits."""
    return hashlib.sha256("".join(f"{split} {digests[split]}\n" for split in sorted(digests)).encode()).hexdigest()
