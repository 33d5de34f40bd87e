"""Towers (text and vision networks behind one interface each) and what every encoder returns."""

from mnerkit.encoders.base import Encoder, ImageStates, TextStates, TextTower, VisionTower, WordStates
from mnerkit.encoders.frozen import freeze, weight_digest
from mnerkit.encoders.towers import text_tower, tower_from_state, tower_state, vision_tower

__all__ = [
    "Encoder",
    "ImageStates",
    "TextStates",
    "TextTower",
    "VisionTower",
    "WordStates",
    "freeze",
    "text_tower",
    "tower_from_state",
    "tower_state",
    "vision_tower",
    "weight_digest",
]
