"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# the process that gathers results imports Lightning when a worker sends one of its warnings: as always, mnerkit first
import mnerkit  # noqa: F401


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real tweets (`MNERKIT_DATA`, or `shared/data` beside the checkout); skips where it is absent."""
    here = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("MNERKIT_DATA", here.parent / "shared" / "data"))
    if not (folder / "twitter2017" / "train.txt").is_file():
        pytest.skip(f"real tweets are not at {folder}; set MNERKIT_DATA")
    return folder
