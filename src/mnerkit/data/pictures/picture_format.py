"""Size and normalisation of the pictures that a vision tower reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class PictureFormat:
    """What a vision tower reads.

    Attributes:
        size: height and width in pixels.
        mean: of each channel of values in [0, 1], subtracted.
        std: of each channel, divided by.
    """

    size: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def state(self) -> dict[str, Any]:
        """Plain data; `PictureFormat.from_state` reads it back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> PictureFormat:
        """The format of `state()`."""
        return cls(int(state["size"]), tuple(state["mean"]), tuple(state["std"]))

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 to (3, size, size) float32: the whole picture, squeezed to a square (nothing is cut off)."""
        import numpy as np
        from PIL import Image

        if pixels.shape[:2] != (self.size, self.size):
            pixels = np.asarray(Image.fromarray(pixels).resize((self.size, self.size), Image.Resampling.BICUBIC))
        scale = 1 / (255 * np.asarray(self.std, np.float32))
        shift = np.asarray(self.mean, np.float32) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray((pixels * scale - shift).transpose(2, 0, 1), dtype=np.float32)
