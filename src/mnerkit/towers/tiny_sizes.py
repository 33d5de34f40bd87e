"""Sizes of the tiny towers, which share a joint space and read the same pictures."""

from mnerkit.data.pictures.decoding import PictureFormat

WIDTH = 96  # of the states of all tiny towers
PICTURE = PictureFormat(64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
