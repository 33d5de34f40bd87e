"""Known releases of the corpora (digests and counts of their annotations), and the figures that papers print."""

from __future__ import annotations

from typing import Any

from mnerkit.plain_yaml import packaged_yaml


def table() -> dict[str, Any]:
    """The content of `releases.yaml`: `releases`, `printed`, `notes`, `images` (its comments explain them)."""
    return packaged_yaml("mnerkit.data.corpus", "releases.yaml")


def matching_release(digests: dict[str, str]) -> str | None:
    """The release to which every one of these splits belongs, or None.

    Args:
        digests: content digest (`corpus.content_digest`) of each split.
    """
    for name, release in table()["releases"].items():
        if digests and all(release["digests"].get(split) == digest for split, digest in digests.items()):
            return name
    return None
