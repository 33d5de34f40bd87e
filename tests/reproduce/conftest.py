"""A folder of small experiments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reproduce.small import MINI, PRINTED, SWEEP, TABLE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of experiments: `paper/table1`, `paper/sweep`, and the profile `mini`."""
    made = tmp_path / "experiments"
    (made / "paper").mkdir(parents=True)
    (made / "profiles").mkdir()
    (made / "paper" / "table1.yaml").write_text(TABLE)
    (made / "paper" / "sweep.yaml").write_text(SWEEP)
    (made / "paper" / "table1.csv").write_text(PRINTED)
    (made / "profiles" / "mini.yaml").write_text(MINI)
    (made / "errata.csv").write_text("paper,location,as_printed,likely_correct,basis\npaper,Table 1 UMT,22,32,a slip\n")
    return made
