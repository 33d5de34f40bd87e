"""The report's page in a headless browser: what a reader sees, filters and reaches with the keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import PICTURE, SCRIPT, VIEWS, in_browser, scripted, texts
from small_runs import GOOD, WORDS, Write, rows

from mnerkit import report


def test_a_browser_shows_hostile_posts_as_text_and_filters_them(hostile: Path, tmp_path: Path) -> None:
    seen, complaints = in_browser(hostile, "#posts?show=spoiled", tmp_path / "profile")
    assert complaints == ""
    assert seen.tags.count("article") == 1 and SCRIPT in texts(seen, "mark")
    images = [value for tag, name, value in seen.attributes if tag == "img" and name == "src"]
    assert len(images) == 1 and images[0].startswith("data:image/")
    assert ("img", "alt", f"picture {PICTURE}") in seen.attributes
    assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    assert {"right", "wrong", "missed"} <= {
        value for tag, name, value in seen.attributes if tag == "mark" and name == "class"
    }
    assert "spoiled: A right, B wrong (1)" in texts(seen, "option")


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("#posts?q=two+words", 1),
        ("#posts?picture=1", 1),
        ("#posts?type=1&show=right", 0),
        ("#posts?a=1&b=0&show=corrected", 1),
    ],
)
def test_filters_of_the_error_browser(hostile: Path, tmp_path: Path, place: str, wanted: int) -> None:
    seen, complaints = in_browser(hostile, place, tmp_path / "profile")
    assert (seen.tags.count("article"), complaints) == (wanted, "")


@pytest.mark.parametrize(("place", "wanted"), [("#posts?b=none", "none"), ("#posts", "1"), ("#posts?a=1&b=0", "0")])
def test_run_b_is_the_one_that_is_compared(hostile: Path, tmp_path: Path, place: str, wanted: str) -> None:
    script = """
      const label = [...document.querySelectorAll("label")].find((each) => each.textContent.startsWith("Run B"));
      return [label.querySelector("select").value, document.querySelector("article").querySelectorAll("h4").length];"""
    sides = 1 if wanted == "none" else 2
    assert scripted(hostile, place, script, tmp_path / "profile") == [wanted, sides]


def test_the_focus_stays_with_the_pager_at_its_ends(tmp_path: Path, write_run: Write) -> None:
    lines = [{**row, "id": f"p{n}"} for n, row in enumerate(rows(GOOD) * 2)][:30]  # two pages
    report.write(tmp_path / "report", runs=[write_run("a", GOOD, lines=lines)])
    script = """
      const press = (text) => {
        [...document.querySelectorAll(".pager button")].find((each) => each.textContent === text).click();
        return document.activeElement.textContent;
      };
      return [press("Next page"), press("Previous page")];"""
    found = scripted(tmp_path / "report" / "index.html", "#posts", script, tmp_path / "profile")
    assert found == ["Previous page", "Next page"]


@pytest.mark.parametrize("view", [*VIEWS[:-1], "nonsense"])
def test_every_section_opens_without_a_complaint(whole: Path, tmp_path: Path, view: str) -> None:
    seen, complaints = in_browser(whole, f"#{view}", tmp_path / "profile")
    assert complaints == "" and seen.tags.count("h2") == 1
    assert {"tables": "caption", "sweeps": "svg", "runs?run=0": "dl", "ablations": "ul", "breakdown": "table"}.get(
        view, "main"
    ) in seen.tags
    assert " ".join(WORDS) not in texts(seen, "p")
