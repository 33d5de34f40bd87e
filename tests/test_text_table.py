"""Tables of text: whole and plain in a pipe, as wide as the screen in a terminal."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from mnerkit.text_table import table

HEAD = ["name", "F1", "note"]
ROWS: list[list[Any]] = [["[bold]a[/bold] :smile:", 7.5, "word " * 30], ["b", None, "short"]]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 60 columns."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_a_pipe_gets_plain_lines_that_are_never_cut_nor_read_as_markup() -> None:
    lines = table(["name", "F1"], [["[bold]a[/bold] :smile:", 7.5], ["b" * 300, None], ["日本", 3]]).splitlines()
    assert lines[0] == f"{'name':<300}    F1"
    assert lines[1] == f"{'-' * 300}  ----"
    assert lines[2] == f"{'[bold]a[/bold] :smile:':<300}  7.50"
    assert lines[3] == f"{'b' * 300}     -"
    assert lines[4] == f"{'日本':<298}     3"  # two characters as wide as four


def test_a_table_without_rows_is_its_head() -> None:
    assert table(["a", "bb"], []) == "a  bb\n-  --"


@pytest.mark.usefixtures("terminal")
def test_texts_wrap_in_a_terminal_and_figures_do_not() -> None:
    text = table(HEAD, ROWS)
    plain = text.replace("\x1b[1m", "").replace("\x1b[0m", "")
    lines = plain.splitlines()
    assert max(map(len, lines)) <= 60 and len(lines) > 4
    assert plain.count("word") == 30 and "7.50" in plain
    assert "\x1b[1mname" in text


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_is_shown_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert "\x1b[3" not in table(HEAD, ROWS) and "\x1b[4" not in table(HEAD, ROWS)
