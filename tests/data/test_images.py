"""Pictures: found in the usual folders, decoded under limits, handed on under a policy."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mnerkit.data.corpus.corpus_files import ImageFolders, crop_folder, image_folders
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.pictures import decoding
from mnerkit.data.pictures.decoding import PictureFormat, check, decode, picture_size
from mnerkit.data.pictures.picture_loader import PictureLoader, read_pixels, sources_of
from mnerkit.errors import DataError, UsageError

NOISE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


JPEG = encoded(Image.fromarray(NOISE), "JPEG", quality=90)
PNG = encoded(Image.fromarray(NOISE), "PNG")


def ref(folder: Path, content: bytes, name: str = "x.jpg") -> ImageRef:
    (folder / name).write_bytes(content)
    return ImageRef(name, folder / name)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, pixels: bytes = b"\0" * 99, colours: int = 2, extra: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0)
    body = chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(pixels))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def test_the_name_does_not_matter_for_the_format(tmp_path: Path) -> None:
    assert (decode(ref(tmp_path, PNG, "png_inside.jpg")) == NOISE).all()


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert (decode(ref(tmp_path, encoded(clear, "PNG"))) == 255).all()
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert decode(ref(tmp_path, encoded(half, "PNG")))[0, 0].tolist() == [255, 127, 127]
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0] * 256)
    assert (decode(ref(tmp_path, encoded(palette, "PNG", transparency=0))) == 255).all()


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((5, 7), 32896, np.uint16))
    else:
        image = Image.new("RGB", (7, 5), (128, 128, 128)).convert(mode)
    pixels = decode(ref(tmp_path, encoded(image, "JPEG" if mode == "CMYK" else "PNG")))
    assert pixels.shape == (5, 7, 3) and pixels.dtype == np.uint8
    assert abs(int(pixels.mean()) - 128) < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(NOISE), "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert (decode(ref(tmp_path, content)) == expected).all()


BROKEN = {
    "empty": (b"", "is an empty file"),
    "text": (b"<html>404</html>", "is not a picture"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "is truncated or damaged"),
    "half a PNG": (PNG[: len(PNG) // 2], "is truncated or damaged"),
    "header alone": (JPEG[:20], "x.jpg is"),
    "bomb": (png_header(50_000, 50_000), "pixels; the limit is"),
    "no palette": (png_header(12, 10, b"\0" + b"\1" * 129, 3), "is truncated or damaged"),
    "long transparency": (
        png_header(12, 10, (b"\0" + b"\1" * 12) * 10, 3, chunk(b"PLTE", b"\1\2\3" * 2) + chunk(b"tRNS", b"\0" * 300)),
        "is truncated or damaged",
    ),
    "smaller bomb": (png_header(8_000, 8_000), "8000 x 8000 pixels; the limit is"),
}


@pytest.mark.parametrize("what", BROKEN)
@pytest.mark.filterwarnings("error")
def test_broken_files_are_refused_by_name(tmp_path: Path, what: str) -> None:
    content, message = BROKEN[what]
    broken = ref(tmp_path, content)
    for attempt in (decode, check):
        with pytest.raises(DataError) as refused:
            attempt(broken)
        assert str(tmp_path / "x.jpg") in str(refused.value) and message in str(refused.value)
    assert not PictureLoader(PictureFormat(8), "skip").usable(Post("1", ("a",), images=(broken,)))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_size_is_that_of_the_decoded_picture(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = ref(tmp_path, encoded(Image.fromarray(NOISE), kind, exif=exif))
    height, width, _ = decode(turned).shape
    assert picture_size(turned) == (width, height) == ((40, 60) if orientation == 6 else (60, 40))


def test_a_png_that_is_turned_behind_its_pixels_has_the_size_that_is_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    last = PNG[:-12] + chunk(b"tEXt", b"date:create\x002020") + chunk(b"eXIf", exif.tobytes()[6:]) + PNG[-12:]
    turned = ref(tmp_path, last)
    assert decode(turned).shape[:2] == (60, 40) and picture_size(turned) == (40, 60)


def test_the_size_is_had_without_decoding_and_not_of_a_picture_that_is_refused(tmp_path: Path, monkeypatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", never)
    assert picture_size(ref(tmp_path, PNG)) == (60, 40)
    assert picture_size(ref(tmp_path, png_header(8_000, 8_000))) is None
    monkeypatch.setattr(decoding, "MAX_BYTES", 100)
    assert picture_size(ref(tmp_path, JPEG)) is None


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="the limit is 100"):
        decode(ref(tmp_path, JPEG))


def test_a_jpeg_that_lacks_only_its_end_marker_is_whole(tmp_path: Path) -> None:
    whole = decode(ref(tmp_path, JPEG))
    assert (decode(ref(tmp_path, JPEG[:-2], "cut.jpg")) == whole).all()
    with pytest.raises(DataError, match="truncated"):
        decode(ref(tmp_path, JPEG[:-4], "short.jpg"))


@settings(max_examples=150)
@given(st.sampled_from([JPEG, PNG]), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_damaged_bytes_give_pixels_or_a_data_error(tmp_path_factory, content: bytes, changes) -> None:
    damaged = bytearray(content)
    for share, value in changes:
        damaged[int(share * (len(damaged) - 1))] = value
    with contextlib.suppress(DataError):
        assert decode(ref(tmp_path_factory.mktemp("fuzz"), bytes(damaged))).shape[2] == 3


def test_format_normalises_and_survives_its_state() -> None:
    form = PictureFormat(8, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))
    assert PictureFormat.from_state(form.state()) == form
    grey = np.full((20, 10, 3), 51, np.uint8)
    expected = (0.2 - np.array(form.mean)) / np.array(form.std)
    pixels = form.apply(grey)
    assert pixels.shape == (3, 8, 8) and pixels.dtype == np.float32
    assert np.allclose(pixels, expected[:, None, None], atol=1e-6)


def test_grid_cells_are_row_major_and_tile_the_picture() -> None:
    pixels = np.arange(9, dtype=np.uint8).repeat(3).reshape(3, 3, 3) * 20
    form = PictureFormat(4, (0.0,) * 3, (1.0,) * 3)
    cells = read_pixels(sources_of(ImageRef("g", pixels=pixels.repeat(5, 0).repeat(7, 1)), form, 3))
    assert cells.shape == (9, 3, 4, 4)
    assert np.allclose(cells.mean((1, 2, 3)) * 255, np.arange(9) * 20, atol=1e-3)
    assert read_pixels(sources_of(ImageRef("thin", pixels=pixels[:1, :2]), form, 3)).shape == (9, 3, 4, 4)


def test_policy_decides_about_missing_and_broken_pictures(tmp_path: Path) -> None:
    missing, broken, good = ImageRef("m.jpg"), ref(tmp_path, b"no", "b.jpg"), ref(tmp_path, PNG, "g.jpg")
    form = PictureFormat(8)
    for policy in ("blank", "skip"):
        loader = PictureLoader(form, policy)
        assert (
            loader.whole(missing) is None
            and loader.read(sources_of(broken, form, 2)) == [None] * 4
            and loader.whole(good) is not None
        )
        assert list(loader.missing) == ["m.jpg"] and list(loader.broken) == ["b.jpg"]
    loader = PictureLoader(form, "skip")
    assert [loader.usable(Post("1", ("a",), images=(good, each))) for each in (missing, broken, good)] == [
        False,
        False,
        True,
    ]
    strict = PictureLoader(form, "error")
    with pytest.raises(DataError, match=r"m\.jpg is missing"):
        strict.whole(missing)
    with pytest.raises(DataError, match=r"b\.jpg is not a picture"):
        strict.read(sources_of(broken, form, 2))
    with pytest.raises(UsageError, match="Did you mean 'blank'"):
        PictureLoader(form, "blanc")  # type: ignore[arg-type]


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"-")


def test_usual_layouts_are_found(tmp_path: Path) -> None:
    """`<corpus>_images`, beside the grounded crops and never among them; `<corpus>/images`; `images`."""
    root = tmp_path
    touch(root / "t_images/1.jpg", root / "t_aux_images/crops/2.jpg", root / "t/images/3.jpg", root / "images/4.jpg")
    folders = ImageFolders(image_folders("t", root / "t", root, own=False))
    assert [folders.find(f"{n}.jpg") is not None for n in range(1, 5)] == [True, False, True, True]
    assert crop_folder("t", root / "t", root) == root / "t_aux_images/crops"


def test_merged_release_and_other_endings_are_found(tmp_path: Path) -> None:
    touch(tmp_path / "twitter2017_images/O_26.jpg", tmp_path / "images/5_0.png", tmp_path / "images/twitter2017-X.jpg")
    folders = ImageFolders(image_folders("mner-mi-plus", tmp_path / "text", tmp_path, own=False))
    assert folders.find("twitter2017-O_26.jpg") == tmp_path / "twitter2017_images/O_26.jpg"
    assert folders.find("5_0.jpg") == tmp_path / "images/5_0.png"
    assert folders.find("twitter2017-X.jpg") == tmp_path / "images/twitter2017-X.jpg"
    assert folders.find("twitter2017-.jpg") is None


def test_a_linked_folder_is_the_users_own_a_linked_file_may_not_lead_out(tmp_path: Path) -> None:
    touch(tmp_path / "disk/1.jpg", tmp_path / "secret.jpg")
    (tmp_path / "t_images").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/2.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "disk/3.jpg").symlink_to(tmp_path / "disk/1.jpg")
    folders = ImageFolders([tmp_path / "t_images"])
    assert folders.find("1.jpg") and folders.find("3.jpg")
    with pytest.raises(DataError, match="leads out of its folder"):
        folders.find("2.jpg")


def test_real_pictures_decode(real_data: Path) -> None:
    files = sorted([*real_data.glob("twitter2015_images/*"), *real_data.glob("twitter2017_images/*")])
    assert len(files) == 30
    for file in files:
        assert decode(ImageRef(file.name, file)).ndim == 3
        check(ImageRef(file.name, file))
