"""How accessible the report's page is, judged by axe-core in a headless browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import VIEWS, audited


@pytest.mark.parametrize(("theme", "width"), [("light", 390), ("dark", 1200)])
def test_a_checker_finds_no_serious_fault_in_any_section(whole: Path, tmp_path: Path, theme: str, width: int) -> None:
    told = audited(whole, VIEWS, tmp_path / "profile", theme, width)
    assert set(told) == set(VIEWS)
    for place, found in told.items():
        assert "error" not in found, (place, found)
        assert [fault for fault in found["faults"] if fault[0] in ("serious", "critical")] == [], place
        assert {"color-contrast", "html-has-lang", "landmark-one-main"} <= set(found["passed"]), place
        assert found["overflow"] <= 0, place  # nobody scrolls sideways


def test_the_checker_sees_faults(whole: Path, tmp_path: Path) -> None:
    text = whole.read_text(encoding="utf-8")
    whole.write_text(text.replace("</body>", '<img src="data:," width="9"></body>'), encoding="utf-8")
    found = audited(whole, ["overview"], tmp_path / "profile", "light", 390)["overview"]
    assert ["critical", "image-alt"] in [fault[:2] for fault in found["faults"]]
