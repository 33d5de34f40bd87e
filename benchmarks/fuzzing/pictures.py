"""Pictures, and what files say of them: boxes, VOC, crops, relevance, rankings."""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any
from xml.dom import minidom

from fuzzing.plain_json import lines_of, loads, plain_float, rows_of, text, text_of, whole
from fuzzing.reader import Reader
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.pictures.boxes import read_box_lines
from mnerkit.data.pictures.crops import read_dict
from mnerkit.data.pictures.decoding import check, decode, picture_size
from mnerkit.data.pictures.relevance_scores import Relevance
from mnerkit.data.pictures.voc import read_voc

# ------------------------------------------------------------------ boxes


def box(draw: Random) -> list[float]:
    x, y = draw.randrange(50), draw.randrange(50)
    return [x, y, x + draw.randint(2, 50), y + draw.randint(2, 50) + draw.choice((0, 0.5))]


def boxes(draw: Random) -> bytes:
    rows: list[dict[str, Any]] = (
        [{"format": "mnerkit-boxes", "version": 1, "detector": "x"}] if draw.random() < 0.5 else []
    )
    for number in draw.sample(range(100), draw.randint(1, 5)):
        objects = [
            {"box": box(draw)} | ({"score": round(draw.random(), 3), "label": "dog"} if draw.random() < 0.5 else {})
            for _ in range(draw.randrange(4))
        ]
        key = draw.choice(("image", "image", "id"))
        rows.append({key: f"{number}.jpg", "objects": objects} | ({"size": [200, 100]} if draw.random() < 0.5 else {}))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def voc(draw: Random) -> bytes:
    objects = "".join(
        "<object><name>dog</name><bndbox>"
        + "".join(
            f"<{name}>{side}</{name}>" for name, side in zip(("xmin", "ymin", "xmax", "ymax"), box(draw), strict=False)
        )
        + f"</bndbox>{draw.choice(('', '<score>0.5</score>'))}</object>"
        for _ in range(draw.randrange(4))
    )
    size = "<size><width>200</width><height>100</height></size>" if draw.random() < 0.7 else ""
    return f"<annotation><filename>1.jpg</filename>{size}{objects}</annotation>".encode()


def crops(draw: Random) -> bytes:
    import torch

    names = {
        f"{number}.jpg": [f"crop_{number}_{place}.jpg" for place in range(draw.randrange(4))] for number in range(4)
    }
    stream = io.BytesIO()
    torch.save(names, stream, _use_new_zipfile_serialization=draw.random() < 0.7)
    return stream.getvalue()


def relevance(draw: Random) -> bytes:
    rows: list[dict[str, Any]] = [{"format": "mnerkit-relevance", "corpus": "x"}] if draw.random() < 0.5 else []
    for number in draw.sample(range(100), draw.randint(1, 6)):
        rows.append({"id": str(number), "scores": [round(draw.random(), 4) for _ in range(draw.randrange(4))]})
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


POSTS = [
    Post(str(number), ("a",), ("O",), tuple(ImageRef(f"{at}.jpg", caption="a") for at in range(4)))
    for number in range(9)
]


def rankings(draw: Random) -> bytes:
    rows: list[dict[str, Any]] = []
    for number in draw.sample(range(9), draw.randint(1, 6)):
        order = draw.sample(range(4), 4)
        rows.append({"id": draw.choice((str(number), number)), "order": order, "blank_pos": draw.randint(0, 4)})
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def read_boxes(path: Path) -> Any:
    file = read_box_lines(path)
    return {
        name: [(list(each.box), each.score, each.label) for each in found.objects]
        for name, found in (file.images | file.posts).items()
    }


def plain_boxes(path: Path) -> Any:
    found: dict[str, Any] = {}
    for place, row in enumerate(rows_of(path)):
        if place == 0 and row.get("format") == "mnerkit-boxes":
            continue
        name = text(row.get("image", row.get("id")))
        assert name not in found and isinstance(row["objects"], list)
        found[name] = [
            (list(map(number, each["box"])), each.get("score", 1.0), each.get("label", "")) for each in row["objects"]
        ]
    return found


def number(value: Any) -> Any:
    assert type(value) in (int, float)
    return value


def read_voc_folder(path: Path) -> Any:
    return [list(each.box) for each in read_voc(path.parent).images["1"].objects]


def plain_voc(path: Path) -> Any:
    document = minidom.parseString(path.read_bytes())
    assert document.doctype is None and document.documentElement is not None
    assert document.documentElement.tagName == "annotation"
    found: list[Any] = []
    each: Any
    for each in document.documentElement.childNodes:
        if getattr(each, "tagName", "") == "object":
            sides = []
            for name in ("xmin", "ymin", "xmax", "ymax"):
                (side,) = each.getElementsByTagName("bndbox")[0].getElementsByTagName(name)
                sides.append(plain_float("".join(part.data for part in side.childNodes)))
            found.append([sides[0] - 1, sides[1] - 1, *sides[2:]])
    return found


def read_crops(path: Path) -> Any:
    return {name: list(names) for name, names in read_dict(path).crops.items()}


class Plain(pickle.Unpickler):
    """Reads nothing but plain data."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(name)


def plain_crops(path: Path) -> Any:
    content = path.read_bytes()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            (name,) = (each for each in archive.namelist() if each.endswith("data.pkl"))
            content = archive.read(name)
            return Plain(io.BytesIO(content)).load()
    # torch reads pickles of whatever protocol they say they are
    stream = io.BytesIO(re.sub(rb"\x80[\x06-\xff](?=[}\](])", b"\x80\x02", content))
    for _ in range(3):  # magic number, version, platform
        Plain(stream).load()
    names = Plain(stream).load()
    return {text(name): list(map(text, parts)) for name, parts in names.items()}


def read_relevance(path: Path) -> Any:
    scores = Relevance.of(path)
    found: list[Any] = []
    for post in POSTS[:3] + [Post(str(number), ("a",)) for number in range(100)]:
        row = scores._scores.get(post.id)
        found.append(None if row is None else list(row[1]))
    return found


def plain_relevance(path: Path) -> Any:
    found: dict[str, Any] = {}
    for row in rows_of(path):
        if row.get("format") != "mnerkit-relevance" or found:
            assert text(row["id"]) not in found and all(0 <= number(score) <= 1 for score in row["scores"])
            found[row["id"]] = row["scores"]
    return [found.get(str(number)) for number in [*range(3), *range(100)]]


def read_rankings(path: Path) -> Any:
    from mnerkit_plugins.relevance.preference import from_file

    ranked, _ = from_file(path, POSTS, {post.id: 4 for post in POSTS}, (), 4)
    worths = {each.post.id: each.worths for each in ranked}
    return {
        name: (sorted(range(4), key=lambda at: -of[at]), sum(worth > 0 for worth in of)) for name, of in worths.items()
    }


def plain_rankings(path: Path) -> Any:
    found: dict[str, Any] = {}
    for line in lines_of(text_of(path)):
        if line.strip(" \t"):
            row = loads(line)
            assert type(row["id"]) in (str, int) and str(row["id"]) not in found
            found[str(row["id"])] = (list(map(whole, row["order"])), whole(row["blank_pos"]))
    return found


# ------------------------------------------------------------------ pictures


def picture(draw: Random) -> bytes:
    from PIL import Image

    kind = draw.choice(("JPEG", "JPEG", "PNG", "PNG", "GIF", "WEBP", "BMP"))
    mode = draw.choice(("RGB", "L", "P", "RGBA", "LA", "1", "I;16") if kind == "PNG" else ("RGB", "L", "P"))
    image = _noise(draw, Image)
    image = (
        image.convert("I").point(lambda value: value * 256).convert("I;16") if mode == "I;16" else image.convert(mode)
    )
    if kind in ("JPEG", "WEBP"):
        image = image.convert("RGB" if mode != "L" or kind == "WEBP" else "L")
    options: dict[str, Any] = {}
    if kind in ("JPEG", "PNG", "WEBP") and draw.random() < 0.4:
        turned = Image.Exif()
        turned[0x0112] = draw.randint(1, 8)
        options["exif"] = turned
    if kind == "JPEG" and draw.random() < 0.3:
        options["progressive"] = True
    if kind == "GIF" and draw.random() < 0.4:
        options |= {"save_all": True, "append_images": [_noise(draw, Image).resize(image.size)]}
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    content = stream.getvalue()
    # some files of the MNER-MI release lack nothing but this
    return content.removesuffix(b"\xff\xd9") if draw.random() < 0.1 else content


def _noise(draw: Random, images: Any) -> Any:
    width, height = draw.randint(1, 40), draw.randint(1, 40)
    return images.frombytes("RGB", (width, height), draw.randbytes(3 * width * height))


def read_picture(path: Path) -> Any:
    """Sides in any order: a picture may be turned."""
    ref = ImageRef(path.name, path)
    shown = picture_size(ref)
    check(ref)
    pixels = decode(ref)
    assert shown == (pixels.shape[1], pixels.shape[0]), f"picture_size {shown}, decoded {pixels.shape}"
    assert pixels.shape[2:] == (3,) and pixels.dtype.name == "uint8"
    return sorted(pixels.shape[:2])


def plain_picture(path: Path) -> Any:
    return sorted(size_in_head(path.read_bytes()))


def size_in_head(content: bytes) -> tuple[int, int]:
    """Width and height as a picture's head has them, without Pillow."""
    if content[:8] == b"\x89PNG\r\n\x1a\n":
        return struct.unpack(">II", content[16:24])
    if content[:4] == b"GIF8":
        return struct.unpack("<HH", content[6:10])
    if content[:2] == b"BM":
        if struct.unpack("<I", content[14:18])[0] == 12:
            return struct.unpack("<HH", content[18:22])
        width, height = struct.unpack("<ii", content[18:26])
        return width, abs(height)
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        kind = content[12:16]
        if kind == b"VP8X":
            return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
        if kind == b"VP8L":
            bits = int.from_bytes(content[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        width, height = struct.unpack("<HH", content[26:30])
        return width & 0x3FFF, height & 0x3FFF
    assert content[:2] == b"\xff\xd8"
    at, found = 2, (0, 0)
    while at + 9 < len(content):
        if content[at] != 0xFF or content[at + 1] in (0x00, 0xFF):
            at += 1
            continue
        marker = content[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            found = width, height
        if marker == 0xDA:
            break
        at += 2 if 0xD0 <= marker <= 0xD9 or marker == 0x01 else 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return found


READERS = (
    Reader("boxes", "boxes.jsonl", "json lines", boxes, read_boxes, plain_boxes),
    Reader("boxes of VOC", "1.xml", "lines", voc, read_voc_folder, plain_voc),
    Reader("crops", "train_dict.pth", "bytes", crops, read_crops, plain_crops),
    Reader("relevance", "relevance.jsonl", "json lines", relevance, read_relevance, plain_relevance),
    Reader("rankings", "rankings.jsonl", "json lines", rankings, read_rankings, plain_rankings),
    Reader("pictures", "a.jpg", "picture", picture, read_picture, plain_picture),
)
