"""What is printed is escaped in one place, and what is read ends its lines at a line feed alone."""

from __future__ import annotations

import ast
import io
import json
import logging
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.plain_yaml import yaml_text
from mnerkit.printable import escaped_output, json_text, one_line, printable, printable_content, show
from mnerkit.text_table import csv_text, table

ROOT = Path(__file__).resolve().parents[1]
ENGLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07\x7f\x9b", r"\x1b]0;title\x07\x7f\x9b"),
        ("a\r\x0b\x0c\x1c\x85\u2028\u2029b", r"a\r\x0b\x0c\x1c\x85\u2028\u2029b"),
        ("\u202a\u202e\u2066\u2069", r"\u202a\u202e\u2066\u2069"),
        ("\u200e\u200b\u2060\ufeff\xad", r"\u200e\u200b\u2060\ufeff\xad"),
        ("\ud83d!\udc9b", r"\ud83d!\udc9b"),
        ("a\U000e0041\U000e0100", r"a\U000e0041\U000e0100"),
        (f"{ENGLAND}\U000e0061", f"{ENGLAND}\\U000e0061"),
        ("a\n\tb", "a\n\tb"),
    ],
)
def test_what_steers_or_hides_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert one_line(text) == shown.replace("\n", r"\n").replace("\t", r"\t")
    assert printable(printable(text)) == printable_content([{text: text}])[0][shown] == shown


@pytest.mark.parametrize("text", ["Zoë\xa0日本\u3000", ENGLAND, "👩\u200d🚀", "می\u200cخو", "葛\U000e0100", "✌\ufe0f"])
def test_what_a_language_or_an_emoji_needs_stays(text: str) -> None:
    assert printable(text) == one_line(text) == text


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_json_keeps_its_values_and_no_text_stays_raw(text: str) -> None:
    content = {text: [text, 1]}
    printed = json_text(content, 2)
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")  # JSON joins two halves
    assert json.loads(printed) == {joined: [joined, 1]}
    for shown in (printed, printable(text), one_line(text)):
        assert {unicodedata.category(letter) for letter in set(shown) - {"\n", "\t"}}.isdisjoint(
            ("Cc", "Cs", "Zl", "Zp")
        )


def test_tables_and_comments_stay_in_their_cells_and_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = table(["a\x1b[1m", "b"], [["x\ny", "\u202ez"]]).split("\n")
    assert lines[0].startswith(r"a\x1b[1m") and lines[2].split() == [r"x\ny", r"\u202ez"]
    assert csv_text(["a\r"], [{"a\r": "x\n\x1b"}]) == "a\\r\nx\\n\\x1b\n"
    assert yaml_text({"a": 1}, "of x\ny: 2\u2028z: 3") == "# of x\\ny: 2\\u2028z: 3\na: 1\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    bold = table(["a"], [["\x1b[1m"]])
    assert printable("", bold) == f"\n{bold}", "what is bold stays so"
    assert bold.count("\x1b[1m") == 1


def test_a_terminal_of_another_encoding_gets_escapes() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    show("Zoë", "a\ud800", to=stream)
    assert stream.buffer.getvalue() == b"Zo\\xeb\na\\ud800\n"  # type: ignore[attr-defined]


def test_what_libraries_print_is_escaped_but_for_progress_bars(capsys: pytest.CaptureFixture[str]) -> None:
    streams, factory = (sys.stdout, sys.stderr), logging.getLogRecordFactory()
    handler = logging.StreamHandler(stream := io.StringIO())
    log = logging.getLogger("tests.printable")
    log.addHandler(handler)
    try:
        with escaped_output():
            log.warning("%s: %s", "a\x1b[31m", 1)
            try:
                raise ValueError("\x1b[2J")
            except ValueError:
                log.exception("odd %d%%", 5)
            print("\r 5%\x1b[A\x1b[1m", "\x1b]0;t\x07\ud800", file=sys.stderr)
            sys.stdout.writelines(["\x9b", "x\n"])
            sys.excepthook(ValueError, ValueError("\x1b[2J"), None)
    finally:
        log.removeHandler(handler)
    assert (sys.stdout, sys.stderr) == streams and logging.getLogRecordFactory() is factory
    assert stream.getvalue().startswith("a\\x1b[31m: 1\nodd 5%\nTraceback")
    assert stream.getvalue().endswith("ValueError: \\x1b[2J\n")
    out, err = capsys.readouterr()
    assert out == "\\x9bx\n"
    assert err.startswith("\r 5%\x1b[A\x1b[1m \\x1b]0;t\\x07\\ud800\n") and err.endswith("ValueError: \\x1b[2J\n")


@pytest.fixture(scope="module")
def calls() -> list[tuple[str, str, ast.Call]]:
    """Place, name and node of every call in the code."""
    found = []
    for folder in ("src", "plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    found.append((f"{place}:{node.lineno}", name, node))
    return found


def is_printing(name: str, call: ast.Call) -> bool:
    of_system = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in ("sys.stdout", "sys.stderr")
    exits = ast.unparse(call.func) == "sys.exit" and any(isinstance(each, ast.JoinedStr) for each in call.args)
    return (
        ast.unparse(call.func) in ("print", "traceback.print_exc", "traceback.print_stack")
        or (of_system and name.startswith("write"))
        or exits
    )


def test_nothing_prints_but_by_the_one_function(calls: list[tuple[str, str, ast.Call]]) -> None:
    assert [place for place, name, call in calls if is_printing(name, call)] == []


def opens_text_without_newline(name: str, call: ast.Call) -> bool:
    """Whether a file is opened as text, and whoever reads it line by line gets lines that end elsewhere, too."""
    others = ("os.open", "Image.open", "self._open", "self._opener.open")
    if name not in ("open", "fdopen") or ast.unparse(call.func) in others:
        return False
    mode = [each.value for each in call.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    if any(set(each) <= set("rwaxb+") and ("b" in each or not set(each) & {"r", "+"}) for each in mode):
        return False  # bytes, or only written
    return not any(each.arg == "newline" for each in call.keywords)


def test_lines_end_at_a_line_feed_alone(calls: list[tuple[str, str, ast.Call]]) -> None:
    assert [place for place, name, _ in calls if name == "splitlines"] == []
    assert [place for place, name, call in calls if opens_text_without_newline(name, call)] == []
    given = [
        (place.partition(":")[0], ast.unparse(each.value))
        for place, name, call in calls
        for each in call.keywords
        if name in ("open", "fdopen") and each.arg == "newline"
    ]
    assert {place for place, newline in given if newline not in ("'\\n'", "''")} == {
        "src/mnerkit/reproduce/executors/tasks.py"  # a log, whose progress bars begin their lines again
    }
