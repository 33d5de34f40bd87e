"""Towers (text and vision networks, each kind behind one interface) and the return types of encoders."""

from mnerkit.towers.by_name import text_tower, vision_tower
from mnerkit.towers.frozen.memory import freeze, weight_digest
from mnerkit.towers.interface import Encoder, ImageStates, TextStates, TextTower, VisionTower, WordStates
from mnerkit.towers.saved_state import tower_from_state, tower_state

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
