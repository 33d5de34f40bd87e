"""Known releases of the corpora (digests and counts of their annotations), and the figures that papers print."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any


@cache
def table() -> dict[str, Any]:
    """The content of `releases.yaml`: `releases`, `printed`, `notes`, `images` (its comments explain them)."""
    import yaml  # here: not needed to read a corpus without comparing it

    return yaml.safe_load(files("mnerkit.data.corpus").joinpath("releases.yaml").read_text(encoding="utf-8"))


def matching_release(digests: dict[str, str]) -> str | None:
    """The release to which every one of these splits belongs, or None.

    Args:
        digests: content digest (`corpora.content_digest`) of each split.
    """
    for name, release in table()["releases"].items():
        if digests and all(release["digests"].get(split) == digest for split, digest in digests.items()):
            return name
    return None
