"""Light augmentation of pictures, vectorised and on the device."""

from __future__ import annotations

import torch
from torch import Tensor

# largest shift, as a share of the picture's side
SHIFT = 0.1


def flipped_and_shifted(pixels: Tensor, shift: float = SHIFT) -> Tensor:
    """Mirror each picture with probability 1/2 and roll it by up to `shift` of its height and width.

    Args:
        pixels: (N, C, H, W).
        shift: largest roll in either direction, as a share of the side; pixels wrap around.

    Returns:
        (N, C, H, W). Uses torch's global random state.

    """
    count, channels, height, width = pixels.shape
    device = pixels.device
    rows = torch.arange(height, device=device) + _rolls(count, height, shift, device)  # (N, H)
    columns = torch.arange(width, device=device) + _rolls(count, width, shift, device)  # (N, W)
    mirror = torch.rand(count, 1, device=device) < 0.5
    columns = torch.where(mirror, -1 - columns, columns) % width
    place = (rows % height)[:, :, None] * width + columns[:, None, :]  # (N, H, W)
    return pixels.flatten(2).gather(2, place.view(count, 1, -1).expand(-1, channels, -1)).view_as(pixels)


def _rolls(count: int, side: int, shift: float, device: torch.device) -> Tensor:
    limit = int(side * shift)
    return torch.randint(-limit, limit + 1, (count, 1), device=device)
