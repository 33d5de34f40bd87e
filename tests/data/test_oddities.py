"""`verify` remarks on odd types, repeated texts and pictures that serve many posts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.verify import verify


def test_odd_types_texts_and_pictures_are_remarked_on(tmp_path: Path) -> None:
    Image.fromarray(np.full((300, 300, 3), 9, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    noise = np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "c.png")
    images = {name: (ImageRef(name, tmp_path / name),) for name in ("a.png", "b.png", "c.png")}
    train = [Post(f"{n}", ("x", "y"), ("B-PER", "O"), images["a.png" if n else "b.png"]) for n in range(5)]
    train.append(Post("9", ("w",), ("B-per",), images["c.png"]))
    test = [Post("t", ("z", "v"), ("B-person,B-group", "B-PER"))]
    corpus = Corpus("mine", "default", "d", None, ("PER", "per", "person,B-group"), {"train": train, "test": test})
    remarks = "\n".join(verify(corpus).remarks)
    for remark in (
        "type 'person,B-group' is in test alone (1 entity)",
        "type 'person,B-group' looks like two tags in one (1 entities)",
        "types that differ by case alone: PER (6), per (1)",
        "posts with the words of another one of their split: train 4",
        "2 pictures are 1 files under several names",
        "1 pictures serve more than 3 posts each, as stand-ins do: b.png serves 5",
        "1 of 3 pictures are smaller than 224 pixels, the first is c.png",
        "2 pictures are of one colour, the first is b.png",
    ):
        assert remark in remarks, remark
