"""Folders as one input: their files in an archive that is not compressed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path


def packed(files: Mapping[str, bytes]) -> bytes:
    """The files in an archive; the same bytes for the same files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def files_in(path: Path) -> dict[str, bytes]:
    """What `packed` has packed."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def unpacked(path: Path) -> Path:
    """The folder, beside its archive."""
    folder = path.with_suffix("")
    for name, content in files_in(path).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
