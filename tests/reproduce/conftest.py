"""A folder of small experiments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reproduce.small import laid_out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of experiments: `paper/table1`, `paper/sweep`, and the profile `mini`."""
    return laid_out(tmp_path / "experiments")
