"""Picture files to pixels, under limits of bytes and pixels; parts of a picture; the format that a tower reads."""

from __future__ import annotations

import io
import math
import struct
import warnings
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mnerkit.data.corpus.post import ImageRef
from mnerkit.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image


MAX_BYTES = 50 << 20
MAX_PIXELS = 50_000_000  # the largest picture that the platform keeps is 4096 x 4096
MAX_SIDE = 32_768  # pixels; a picture of 50,000,000 x 1 takes 2.4 GB to decode and resize
MAX_READS = 500_000  # of a decoder: 50 MB of empty parts (chunks, markers, comments) take a minute
MAX_SCANS = 20  # of a progressive JPEG of `MAX_PIXELS`; smaller ones may have more, as long as they cost no more

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")  # what tweets hold; every decoder less is a way in less
_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error),
    AssertionError,  # Pillow's, of a palette that is none
)
# EXIF's orientation -> Pillow's name of what turns the picture upright
_TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
_TURNS |= {6: "ROTATE_270", 7: "TRANSVERSE", 8: "ROTATE_90"}
_BEHIND_PIXELS = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")  # texts of a PNG that may turn it
_MOST_CHUNKS = 1 << 16
_START_OF_SCAN = b"\xff\xda"
_STRIP = 1 << 22  # pixels that are laid on white at once
_END_OF_JPEG = b"\xff\xd9"


def decode(ref: ImageRef, least: int | None = None) -> np.ndarray:
    """The pixels of a picture: (H, W, 3) uint8.

    Any of JPEG, PNG, GIF, WebP and BMP, whatever its name ends with. The EXIF rotation is applied, a transparent
    picture lies on white, of an animation the first frame is taken, 16-bit grey becomes 8-bit.

    Args:
        ref: the picture.
        least: of a JPEG, a half, a quarter or an eighth of its size is enough where no side falls below so many pixels;
            that saves most of the time.

    Raises:
        DataError: no file, too large, empty, truncated, or not a picture.
    """
    import numpy as np

    if ref.pixels is not None:
        return ref.pixels
    return np.asarray(_open(ref, least))


def decode_content(content: bytes, name: str) -> np.ndarray:
    """The pixels of a picture that is in memory: (H, W, 3) uint8; see `decode`.

    Raises:
        DataError: too large, empty, truncated, or not a picture; `name` says which.
    """
    import numpy as np

    if not 0 < len(content) <= MAX_BYTES:
        raise DataError(f"picture {name} has {len(content)} bytes; at least 1 and at most {MAX_BYTES} are read.")
    try:
        return np.asarray(_load(content, None))
    except DataError as problem:
        raise DataError(f"picture {name} {problem}") from None


def check(ref: ImageRef) -> None:
    """Decode a picture as cheaply as finds every fault that `decode` would find.

    Raises:
        DataError: as `decode`.
    """
    if ref.pixels is None:
        _open(ref, least=64)


def picture_size(ref: ImageRef) -> tuple[int, int] | None:
    """Width and height in pixels as `decode` shows it, from the file's head; None where it can't be had.

    Of a PNG that says behind its pixels how it is turned, they are decoded; never of one that `decode` refuses.
    """
    from PIL import Image

    if ref.pixels is not None:
        return ref.pixels.shape[1], ref.pixels.shape[0]
    if ref.path is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if ref.path.stat().st_size > MAX_BYTES:
                return None
            with open(ref.path, "rb", buffering=0) as raw, Image.open(_File(raw), formats=_FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
                    return None
                if image.format == "PNG" and _turned_behind_pixels(ref.path):
                    image.load()
                turned = Image.Image.getexif(image).get(0x0112) in (5, 6, 7, 8)  # a PNG's own would decode it
    except (*_BROKEN, DataError, Image.DecompressionBombError):  # whoever decodes it says what is wrong
        return None
    return (height, width) if turned else (width, height)


def _turned_behind_pixels(path: Path) -> bool:
    """Whether a PNG has metadata behind its pixels that may turn it; only heads of its chunks are read."""
    pixels = False
    with open(path, "rb") as stream:
        stream.seek(8)
        for _ in range(_MOST_CHUNKS):
            head = stream.read(8)
            if len(head) < 8 or head[4:] == b"IEND":
                return False
            content = stream.read(min(int.from_bytes(head[:4], "big"), 32))
            if pixels and (head[4:] == b"eXIf" or content.startswith(_BEHIND_PIXELS)):
                return True
            pixels = pixels or head[4:] == b"IDAT"
            stream.seek(int.from_bytes(head[:4], "big") - len(content) + 4, 1)
    return True


def _open(ref: ImageRef, least: int | None = None) -> Image.Image:
    """The flat picture of a file; see `decode`."""
    content = read_content(ref)
    try:
        return _load(content, least)
    except DataError as problem:
        raise DataError(f"picture {ref.path} {problem}") from None


def read_content(ref: ImageRef) -> bytes:
    """The bytes of a picture's file, whether or not they are a picture.

    Raises:
        DataError: no file, too large, empty, or it can't be read.
    """
    path = ref.path
    if path is None:
        raise DataError(f"picture {ref.name} is missing.")
    try:
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"picture {path} is an empty file.\nDownload it again, or delete it to count as missing.")
        if size > MAX_BYTES:
            raise DataError(f"picture {path} has {size} bytes; the limit is {MAX_BYTES}.")
        return path.read_bytes()
    except OSError as problem:
        raise DataError(f"picture {path} can't be read: {problem.strerror}.") from None


def _load(content: bytes, least: int | None) -> Image.Image:
    from PIL import Image

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(_Content(content), formats=_FORMATS)
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise DataError(f"has {width} x {height} pixels; the limit is {MAX_PIXELS}.")
            if max(width, height) > MAX_SIDE:
                raise DataError(f"has {width} x {height} pixels; the limit of a side is {MAX_SIDE}.")
            scans = content.count(_START_OF_SCAN) if image.format == "JPEG" else 1
            if scans * width * height > MAX_SCANS * MAX_PIXELS:
                raise DataError(f"has {width} x {height} pixels in {scans} scans; the limit is {MAX_SCANS} such scans.")
            if least is not None:
                image.draft("RGB", (least, least))
            image.load()
            return _flat(image)
    except bombs:
        raise DataError(f"has too many pixels; the limit is {MAX_PIXELS}.") from None
    except Image.UnidentifiedImageError:
        raise DataError(f"is not a picture ({', '.join(_FORMATS)}); it begins with {content[:8]!r}.") from None
    except _BROKEN as problem:
        if content[:2] == b"\xff\xd8" and _END_OF_JPEG not in content[-2:]:
            whole = _without_end(content)
            if whole is not None:
                return whole
        raise DataError(f"is truncated or damaged: {str(problem) or 'its parts do not fit together'}.") from None


def _without_end(content: bytes) -> Image.Image | None:
    """The flat picture of a JPEG that lacks nothing but its end marker (the MNER-MI release has some), else None.

    A decoder fills up lost pixels from whatever follows; so none are lost where two different ends give one picture.
    """
    from PIL import Image

    decoded: list[Image.Image] = []
    try:
        for end in (_END_OF_JPEG, b"\x55" * 64 + _END_OF_JPEG):
            image = Image.open(_Content(content + end), formats=("JPEG",))
            image.load()
            decoded.append(image)
        return _flat(decoded[0]) if decoded[0].tobytes() == decoded[1].tobytes() else None
    except _BROKEN:
        return None


def _flat(image: Image.Image) -> Image.Image:
    """Upright, opaque, RGB."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            orientation = image.getexif().get(0x0112)
        except _BROKEN:  # damaged metadata does not damage the picture
            orientation = None
    if orientation in _TURNS:
        image = image.transpose(Image.Transpose[_TURNS[orientation]])
    if image.has_transparency_data:
        return _on_white(image)
    if image.mode.startswith("I"):
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    """A transparent picture on white, RGB; strip by strip, since whole it would stand in memory five times."""
    from PIL import Image

    flat = Image.new("RGB", image.size)
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        flat.paste(Image.alpha_composite(Image.new("RGBA", strip.size, "white"), strip).convert("RGB"), (0, top))
    return flat


class _Metered:
    """A stream that a decoder reads no more than `MAX_READS` times."""

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, as streams do.

        Raises:
            DataError: too often.
        """
        self._reads += 1
        if self._reads > MAX_READS:
            raise DataError(f"has too many parts; the limit is {MAX_READS} reads.")
        return super().read(size)  # type: ignore[misc]


class _Content(_Metered, io.BytesIO):
    """Bytes of a picture."""


class _File(_Metered, io.BufferedReader):
    """A file of a picture, whose head alone is read."""


Fit = Literal["squeeze", "centre_crop"]


@dataclass(frozen=True)
class PictureFormat:
    """What a vision tower reads.

    Attributes:
        size: height and width in pixels.
        mean: of each channel of values in [0, 1], subtracted.
        std: of each channel, divided by.
        fit: the whole picture is squeezed to a square; or the square in its middle is cut out, 7/8 of the shorter side.
    """

    size: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    fit: Fit = field(default="squeeze", repr=False)

    def __str__(self) -> str:
        # caches of features are named after it, and those of squeezed pictures keep their names
        return repr(self) if self.fit == "squeeze" else f"{self!r} {self.fit}"

    def state(self) -> dict[str, Any]:
        """Plain data; `PictureFormat.from_state` reads it back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> PictureFormat:
        """The format of `state()`."""
        return cls(int(state["size"]), tuple(state["mean"]), tuple(state["std"]), state.get("fit", "squeeze"))

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 to (3, size, size) float32."""
        return self.normalised(self.resized(pixels))

    def resized(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 to (size, size, 3) uint8."""
        import numpy as np
        from PIL import Image

        if self.fit == "centre_crop":
            return centre_square(pixels, self.size)
        if pixels.shape[:2] == (self.size, self.size):
            return pixels
        return np.asarray(Image.fromarray(pixels).resize((self.size, self.size), Image.Resampling.BICUBIC))

    def linear(self) -> tuple[np.ndarray, np.ndarray]:
        """Factor and subtrahend of each channel, (3,) float32, that normalise values of a byte."""
        import numpy as np

        std = np.asarray(self.std, np.float32)
        return 1 / (255 * std), np.asarray(self.mean, np.float32) / std

    def normalised(self, resized: np.ndarray) -> np.ndarray:
        """(size, size, 3) uint8 to (3, size, size) float32."""
        import numpy as np

        scale, shift = self.linear()
        return np.ascontiguousarray((resized * scale - shift).transpose(2, 0, 1), dtype=np.float32)


def centre_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """The middle of a picture whose shorter side is 8/7 of `size`: torchvision's Resize(256) and CenterCrop(224)."""
    import numpy as np
    from PIL import Image

    shorter, (height, width) = round(size * 8 / 7), pixels.shape[:2]
    least = min(height, width)
    height, width = int(shorter * height / least), int(shorter * width / least)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


_ROUNDING = 1e-4  # of a pixel


def cells_of(pixels: np.ndarray, k: int) -> list[np.ndarray]:
    """The k * k cells of a picture (H, W, 3), row by row: they tile it, and each has a pixel at least."""
    rows, columns = (_bounds(length, k) for length in pixels.shape[:2])
    return [pixels[a:b, c:d] for a, b in rows for c, d in columns]


def cut(pixels: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """The part of a picture (H, W, 3) in a box of shares, widened to whole pixels: at least one."""
    height, width = pixels.shape[:2]
    rows, columns = _pixels_within(box[1], box[3], height), _pixels_within(box[0], box[2], width)
    return pixels[rows, columns]


def _pixels_within(start: float, end: float, length: int) -> slice:
    # a box that was given in pixels has become shares: what rounding added is no pixel
    first = min(max(math.floor(start * length + _ROUNDING), 0), length - 1)
    return slice(first, min(max(math.ceil(end * length - _ROUNDING), first + 1), length))


def _bounds(length: int, k: int) -> list[tuple[int, int]]:
    """Start and end of k cells over `length` pixels, each at least one pixel."""
    starts = [min(cell * length // k, length - 1) for cell in range(k)]
    return [(start, max(start + 1, (cell + 1) * length // k)) for cell, start in enumerate(starts)]
