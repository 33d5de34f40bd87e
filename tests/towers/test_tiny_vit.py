"""The tower `tiny-vit`: CLIP's architecture in small, rebuilt from a checkpoint's plain data."""

import pytest
import torch

from mnerkit.errors import UsageError
from mnerkit.towers import vision_tower
from mnerkit.towers.saved_state import tower_from_state, tower_state
from mnerkit.towers.tiny_sizes import PICTURE
from mnerkit.towers.vision.pretrained import ClipVisionTower


def test_it_has_clips_interface_and_comes_back_from_a_checkpoint() -> None:
    tower = vision_tower("tiny-vit", width=32, heads=2, layers=2).eval()
    assert isinstance(tower, ClipVisionTower) and not tower.external
    pixels = torch.randn(2, 3, PICTURE.size, PICTURE.size)
    seen = tower(pixels)
    assert seen.regions.shape == (2, 16, 32) and seen.grid == (4, 4) and seen.pooled.shape == (2, 32)
    again = tower_from_state(tower_state(tower)).eval()
    again.load_state_dict(tower.state_dict())
    assert torch.equal(again(pixels).regions, seen.regions)
    assert again.spec == "tiny-vit" and again.picture == PICTURE


def test_an_option_that_it_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean 'width'"):
        vision_tower("tiny-vit", widht=3)
