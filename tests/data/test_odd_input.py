"""Input that is odd on purpose costs no time or memory beyond its size, and breaks nothing beside it."""

from __future__ import annotations

import io
import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from mnerkit.cli import main
from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.corpus_files import _is_file
from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.datamodule import MnerData
from mnerkit.data.pictures.decoding import MAX_SIDE, PictureFormat, check, decode, picture_size
from mnerkit.errors import DataError
from mnerkit.towers.text.vocabulary import VocabularyReader


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


def test_a_picture_that_links_to_itself_is_broken_alone_in_every_command(tmp_path: Path, capsys, caplog):
    folder = tmp_path / "mine"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (300, 300), "red").save(folder / "images" / "whole.png")
    (folder / "images" / "loop.jpg").symlink_to("loop.jpg")
    (folder / "images" / "there.jpg").symlink_to("back.jpg")
    (folder / "images" / "back.jpg").symlink_to("there.jpg")
    for split, names in {
        "train": ["whole.png", "loop.jpg", "gone.jpg"],
        "dev": ["there.jpg"],
        "test": ["whole.png"],
    }.items():
        post = {"id": split, "text": ["Paris"], "label": ["B-LOC"], "images": names}
        (folder / f"{split}.jsonl").write_text(json.dumps(post))

    assert main(["data", "stats", str(folder), "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)["splits"]
    assert stats["train"]["images"] == {"present": 1, "missing": 1, "broken": 1}
    assert stats["dev"]["images"] == {"present": 0, "missing": 0, "broken": 1}
    assert main(["data", "verify", str(folder)]) == 1
    assert "2 pictures are broken:" in capsys.readouterr().out

    data = MnerData(corpus=str(folder), workers=0)
    data.connect(Needs(VocabularyReader(data.facts.words), frozenset({"whole"}), PictureFormat(8)), "plain")
    (batch,) = data.val_dataloader()
    assert batch.image_mask is not None and not batch.image_mask.any()
    assert "1 pictures are broken and count as missing" in caplog.text


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 72))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + pixels + chunk(b"IEND")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)


def gif(width: int, height: int, *blocks: bytes) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + b"".join(blocks)
    return head + b",\0\0\0\0\1\0\1\0\0\2\2D\1\0;"


def webp(width: int, height: int) -> bytes:
    """An animation with a canvas of this size."""
    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "WEBP")
    frame = stream.getvalue()[12:]
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    parts = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + canvas + b"ANIM" + struct.pack("<I", 6) + b"\0" * 6
    parts += b"ANMF" + struct.pack("<I", 16 + len(frame)) + b"\0" * 16 + frame
    return b"RIFF" + struct.pack("<I", 4 + len(parts)) + b"WEBP" + parts


def jpeg(width: int, height: int, segments: bytes = b"", scans: int = 1) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "JPEG", progressive=scans > 1)
    content = bytearray(stream.getvalue())
    place = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    content[place + 5 : place + 9] = struct.pack(">HH", height, width)
    last = content.rindex(b"\xff\xda")
    again = bytes(content[last:-2]) * (scans - 1)
    return bytes(content[:2]) + segments + bytes(content[2:-2]) + again + b"\xff\xd9"


HUGE = {
    "PNG": png(60_000, 60_000),
    "BMP": bmp(2**31 - 1, 2**31 - 1),
    "GIF": gif(65_535, 65_535),
    "WebP": webp(16_383, 16_383),
    "JPEG": jpeg(65_500, 65_500),
    "JPEG of 7000 x 7000 in 60 scans": jpeg(7000, 7000, scans=60),
    "thin PNG": png(40_000_000, 1),
    "thin BMP": bmp(1, 40_000_000),
    "ICC profile": png(8, 8, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 26)))),
    "text": png(8, 8, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 26)))),
    "texts": png(8, 8, *[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20)))] * 70),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_picture_that_would_fill_the_memory_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch, name: str):
    def decoded(*_: object) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decoded)
    (tmp_path / "a").write_bytes(HUGE[name])
    assert_refused(tmp_path / "a", "limit|damaged")


@pytest.mark.parametrize(
    "content",
    [
        png(8, 8, *[chunk(b"abCd")] * 2000),
        png(8, 8, *[chunk(b"tEXt", b"a\0b")] * 2000),
        gif(1, 1, *[b"!\xfe\1a\0"] * 2000),
        gif(1, 1, b"!\xff" + b"\1a" * 2000 + b"\0"),
        jpeg(8, 8, b"\xff" * 2000),
        jpeg(8, 8, b"\xff\0" * 2000),
        jpeg(8, 8, b"\xff\xe0\0\2" * 2000),
    ],
    ids=["chunks", "texts", "comments", "sub-blocks", "fill bytes", "escapes", "segments"],
)
def test_a_picture_of_very_many_empty_parts_is_refused(tmp_path: Path, monkeypatch, content: bytes):
    monkeypatch.setattr("mnerkit.data.pictures.decoding.MAX_READS", 1000)
    (tmp_path / "a").write_bytes(content)
    assert_refused(tmp_path / "a", "too many parts")


def assert_refused(path: Path, why: str) -> None:
    ref = ImageRef("a", path)
    for read in (decode, check):
        with pytest.raises(DataError, match=why):
            read(ref)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_a_transparent_picture_is_laid_on_white_strip_by_strip(tmp_path: Path, monkeypatch, mode: str):
    pixels = np.random.default_rng(0).integers(0, 256, (31, 37, 4), np.uint8)
    picture = Image.fromarray(pixels)
    picture = picture.quantize(64) if mode == "P" else picture.convert(mode)
    picture.save(tmp_path / "a.png")
    whole = picture.convert("RGBA")
    expected = Image.alpha_composite(Image.new("RGBA", whole.size, "white"), whole).convert("RGB")
    monkeypatch.setattr("mnerkit.data.pictures.decoding._STRIP", 5 * 37)
    assert np.array_equal(decode(ImageRef("a.png", tmp_path / "a.png")), np.asarray(expected))
