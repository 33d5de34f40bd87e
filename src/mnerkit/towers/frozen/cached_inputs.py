"""Where the frozen towers of a run cache their outputs, and which pictures they have cached."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mnerkit.data.batches.run_inputs import RunInputs
from mnerkit.towers.frozen.memory import FeatureMemory
from mnerkit.towers.interface import Tower, VisionTower


def keep_on_disk(
    towers: Iterable[Tower], folder: Path | None, inputs: RunInputs | None = None, kept: str = "float32"
) -> None:
    """Let frozen towers cache their outputs in the features' folder of a cache; None: in memory only.

    Only pretrained towers use the disk. Tiny and random ones have new weights in each run, so their features would
    never be read again.

    Args:
        towers: the towers of a method.
        folder: the folder.
        inputs: what they read in this run, so that they compute all of it at once; None: each input by itself.
        kept: type of the cached values, `float32` or `half`.
    """
    for tower in towers:
        target = folder if tower.external else None
        if tower.memory is not None and (tower.memory.folder, tower.memory.kept) != (target, kept):
            tower.memory = FeatureMemory(tower.memory.main.limit, target, f"{type(tower).__name__} {tower.spec}", kept)
        if tower.memory is not None:
            tower.memory.inputs = inputs


class KnownPictures:
    """Digests of the pictures that all vision towers of a method have cached, so the collator does not decode them.

    If a tower has cached another output than is needed (the pooled vector, but not the regions), the picture is decoded
    later, when the tower runs.

    Args:
        towers: frozen vision towers with a `memory`; create the object under the precision of the method.

    """

    def __init__(self, towers: Sequence[Any]) -> None:
        self._caches = [(tower.memory, tower.memory.reading(tower)) for tower in towers]

    @classmethod
    def of(cls, towers: Iterable[Tower]) -> KnownPictures | None:
        """The pictures that the vision towers among `towers` have cached; None if there is none or one has no cache."""
        visions = [tower for tower in towers if isinstance(tower, VisionTower)]
        if not visions or not all(tower.frozen and tower.memory is not None for tower in visions):
            return None
        return cls(visions)

    def __contains__(self, digest: object) -> bool:
        return all(memory.has(reading, str(digest)) for memory, reading in self._caches)
