"""Files that `torch.save` writes: plain data alone is read, and only where the archive's checksums are right.

torch does not check them: with one bit flipped a file would load with other weights, or other names.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any


def read_plain(file: Path) -> Any:
    """The tensors and plain data of a file.

    Raises:
        Exception: nearly any, of a file that is damaged or something else.
    """
    import torch  # here: modules that other verbs import import this one

    with file.open("rb") as stream:
        archive = stream.read(2) == b"PK"  # torch wrote something else before release 1.6, without checksums
    if archive:
        check_archive(file)
        check_sums(file)
    return torch.load(file, map_location="cpu", weights_only=True)


def write(content: Any, stream: IO[bytes]) -> None:
    """Write what `read_plain` reads.

    Raises:
        BaseException: what the stream raised, a signal or a full disk; torch's writer raises a `RuntimeError` about
            its position instead.
    """
    import torch

    try:
        torch.save(content, stream)
    except RuntimeError as problem:
        if problem.__context__ is None:
            raise
        raise problem.__context__ from None


def check_archive(file: Path) -> list[zipfile.ZipInfo]:
    """The parts of an archive that is as `torch.save` writes it; nothing is unpacked.

    Raises:
        ValueError: with the reason.
        zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > file.stat().st_size:
        raise ValueError("its parts are compressed, which torch's are not")
    if len({part.filename for part in parts}) < len(parts):
        raise ValueError("it has a part twice")
    return parts


def check_sums(file: Path) -> None:
    """Refuse an archive with a part that does not have its checksum.

    Raises:
        ValueError: with the name of the part.
    """
    with zipfile.ZipFile(file) as archive:
        if broken := archive.testzip():
            raise ValueError(f"{broken} does not have its checksum")
