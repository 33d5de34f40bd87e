"""Input that is odd on purpose costs no time or memory beyond its size, and breaks nothing beside it."""

import os
from pathlib import Path

import pytest
from PIL import Image

from mnerkit.data.corpus.corpus_files import _is_file
from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.pictures.decoding import MAX_SIDE, decode, picture_size
from mnerkit.errors import DataError


def test_a_picture_with_a_very_long_side_is_broken(tmp_path: Path):
    path = tmp_path / "thin.png"
    Image.new("L", (MAX_SIDE + 1, 1)).save(path)
    ref = ImageRef("thin.png", path)
    with pytest.raises(DataError, match="limit of a side"):
        decode(ref)
    assert picture_size(ref) is None


def test_a_picture_that_links_to_itself_breaks_nothing_beside_it(tmp_path: Path):
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    Image.new("RGB", (8, 8)).save(tmp_path / "whole.png")
    with os.scandir(tmp_path) as entries:
        assert {entry.name for entry in entries if _is_file(entry)} == {"loop.jpg", "whole.png"}
    with pytest.raises(DataError, match="can't be read"):
        decode(ImageRef("loop.jpg", tmp_path / "loop.jpg"))
