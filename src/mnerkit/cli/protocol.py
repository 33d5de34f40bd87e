"""What the scores of a run are taken on, for its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mnerkit.cli.assembly import Assembly


def protocol_of(assembly: Assembly) -> dict[str, Any]:
    """The datamodule's protocol and, where pictures are looked at and some have no file, how many of each split."""
    data, needs = assembly.data, assembly.method.needs()
    protocol = data.protocol()
    if needs.picture is None or data.pictures == "blank":
        return protocol
    missing = {}
    for split, posts in data.content.splits.items():
        seen = [image.present for post in posts for image in post.images[: needs.max_images]]
        if not all(seen):
            missing[split] = {"missing": seen.count(False), "of": len(seen)}
    return {**protocol, "missing_pictures": missing} if missing else protocol
