"""`mnerkit predict` for people: one text; tables and texts as input; tables, columns, pages and lines as output."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mnerkit
from mnerkit.cli import main
from mnerkit.data.batches.input_reader import BadLine, InputReader
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.records import post_of
from mnerkit.data.probe import generate
from mnerkit.errors import DataError
from mnerkit.methods.tagged_posts import TaggedPosts, as_html, as_line, pieces
from mnerkit.runs.output_forms import FORMS
from mnerkit.scoring.foreign_predictions import read_predictions
from mnerkit.type_colours import PALETTE, colours_of

ROW: dict[str, Any] = {
    "id": 7,
    "words": ["Ann", "Lee", "in", "<Rome>"],
    "text": "Ann Lee\nin <Rome>",
    "entities": [
        {"type": "PER", "start": 0, "end": 2, "char_start": 0, "char_end": 7, "text": "Ann Lee", "score": 0.984},
        {"type": "L<C", "start": 3, "end": 4, "char_start": 11, "char_end": 17, "text": "<Rome>", "score": 0.5},
    ],
}
PLAIN: dict[str, Any] = {"id": "8", "words": ["so", "quiet"], "entities": []}
BAD: dict[str, Any] = {"line": 3, "error": "not <b>JSON</b>"}
TYPES = ("PER", "L<C")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A method that finds entities without a picture."""
    runs = tmp_path_factory.mktemp("runs")
    fit = ["fit", "--plugin", "bilstm", "--name", "one", "--runs_dir", str(runs), "--data.limit", "600"]
    assert main([*fit, "--trainer.max_epochs", "6", "--trainer.enable_progress_bar", "false"]) == 0
    return runs / "bilstm" / "probe" / "one"


@pytest.fixture(scope="module")
def text() -> str:
    """A text in which the checkpoint finds an entity (asserted where it matters)."""
    return " ".join(generate("default", "dev", 1)[0].words)


def test_a_text_on_the_command_line_is_printed_with_its_entities(
    checkpoint: Path, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "a.jpg")
    (row,) = mnerkit.load(checkpoint).predict([{"text": text}])
    assert row["entities"]
    capsys.readouterr()
    assert main(["predict", str(checkpoint), "--text", text, "--image", str(tmp_path / "a.jpg")]) == 0
    assert capsys.readouterr().out == as_line(row) + "\n"
    assert main(["predict", str(checkpoint), "--text", text, "--output", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == {**row, "id": "1"}
    target = tmp_path / "one.html"
    assert main(["predict", str(checkpoint), "--text", text, "--output", str(target)]) == 0
    assert row["entities"][0]["text"] in target.read_text()
    assert main(["predict", str(checkpoint), "--text", text, "--output", str(target)]) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--text", "Ann", "--image", "absent.jpg"], "there is no picture absent.jpg."),
        (["--text", " "], "the text has no words"),
        (["--text", "Ann", "--caption", "a dog"], "0 pictures but 1 captions"),
        (["--text", "Ann", "--input", "a.jsonl"], "--input has no effect with --text"),
        (["--image", "a.jpg"], "--image goes with --text"),
        (["--ckpt_path", "b.ckpt", "--text", "Ann"], "two checkpoints"),
        (["--input", "a.jsonl"], "needs --output"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    checkpoint: Path,
    argv: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", str(checkpoint), *argv]) in (1, 2)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "flags"),
    [
        ("a.csv", 'id,text,image\n1,"Ann, sees ""Rome""",\n2,"two\nlines",\n', ()),
        ("a.tsv", 'id\tText\n1\t"Ann, sees ""Rome"""\n\n2\t"two\nlines"\n', ()),
        ("in", 'id,text\n1,"Ann, sees ""Rome"""\n2,"two\nlines"\n', ("--input_format", "csv")),
        ("a.jsonl", '{"id": "1", "text": "Ann, sees \\"Rome\\""}\n{"id": "2", "text": "two\\nlines"}\n', ()),
    ],
)
def test_a_table_is_read_like_the_records_that_it_holds(
    checkpoint: Path, tmp_path: Path, name: str, content: str, flags: tuple[str, ...]
) -> None:
    (tmp_path / name).write_text(content)
    target = tmp_path / "out.jsonl"
    argv = ["predict", str(checkpoint), "--input", str(tmp_path / name), "--output", str(target), *flags]
    assert main(argv) == 0
    found = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(each["id"], each["text"]) for each in found] == [("1", 'Ann, sees "Rome"'), ("2", "two\nlines")]


def test_texts_and_ids_that_are_numbers(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("Ann sees Rome\n\n[so] quiet\n")
    target = tmp_path / "out.conll"
    assert main(["predict", str(checkpoint), "--input", str(tmp_path / "a.txt"), "--output", str(target)]) == 0
    assert "each line was read as the text of a post" in capsys.readouterr().err
    found = read_predictions(target)
    assert [(each.id, each.words) for each in found] == [
        ("1", ("Ann", "sees", "Rome")),
        ("3", ("[", "so", "]", "quiet")),
    ]
    (tmp_path / "b.jsonl").write_text('{"id": 12, "text": "Ann"}\n{"id": "12", "text": "Ann"}\n')
    target = tmp_path / "out.jsonl"
    assert main(["predict", str(checkpoint), "--input", str(tmp_path / "b.jsonl"), "--output", str(target)]) == 0
    assert [json.loads(line)["id"] for line in target.read_text().splitlines()] == [12, "12"]
    rows = mnerkit.load(checkpoint).predict([{"id": 12, "text": "Ann"}, {"id": "x", "text": "Ann"}, {"text": "Ann"}])
    assert [row["id"] for row in rows] == [12, "x", "2"]


@pytest.mark.parametrize("form", [name for name in FORMS if name != "jsonl"])
def test_blocks_of_any_size_write_the_same_file(checkpoint: Path, tmp_path: Path, form: str) -> None:
    from mnerkit.runs.predict import predict_file

    posts = [{"id": post.id, "words": post.words} for post in generate("default", "dev", 7)]
    (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(post)}\n" for post in posts[:4]) + "{bad\n")
    with (tmp_path / "in.jsonl").open("a") as file:
        file.writelines(f"{json.dumps(post)}\n" for post in posts[4:])
    found = []
    for lines in (1, 3, 100):
        options: dict[str, Any] = {"output_format": form, "on_bad_line": "skip", "block_lines": lines}
        predict_file(checkpoint, tmp_path / "in.jsonl", tmp_path / "out", overwrite=True, **options)
        found.append((tmp_path / "out").read_text())
    assert found[0] == found[1] == found[2]
    assert all(word in found[0] for post in posts for word in post["words"] if form != "csv")
    assert ("neither JSON" in found[0]) == (form != "conll")


def test_a_table_goes_on_where_it_was_interrupted(checkpoint: Path, tmp_path: Path) -> None:
    from mnerkit.runs.predict import predict_file

    good = "id,text\n" + "".join(f'{number},"Ann\nsees Rome"\n' for number in range(6))
    (tmp_path / "in.csv").write_text(good + "6,too,many\n")
    with pytest.raises(DataError, match=r"in\.csv:14: a row of 3 cells in a table of 2 columns"):
        predict_file(checkpoint, tmp_path / "in.csv", tmp_path / "out.csv", block_lines=2)
    (tmp_path / "in.csv").write_text(good + "6,mended\n")
    predict_file(checkpoint, tmp_path / "in.csv", tmp_path / "out.csv", block_lines=2, resume=True)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert list(dict.fromkeys(row["id"] for row in rows)) == [str(number) for number in range(7)]


def test_a_row_of_csv_is_an_entity() -> None:
    rows = list(csv.DictReader(io.StringIO(FORMS["csv"].write([ROW, PLAIN, BAD], TYPES, True))))
    assert [(row["id"], row["type"], row["text"], row["score"], row["error"]) for row in rows] == [
        ("7", "PER", "Ann Lee", "0.984", ""),
        ("7", "L<C", "<Rome>", "0.5", ""),
        ("8", "", "", "", ""),
        ("", "", "", "", "not <b>JSON</b>"),
    ]


def test_columns_are_what_mnerkit_score_reads(tmp_path: Path) -> None:
    odd = {**PLAIN, "words": ["a b", "c\td"]}
    (tmp_path / "out.conll").write_text(FORMS["conll"].write([ROW, odd, BAD], TYPES, True))
    first, second = read_predictions(tmp_path / "out.conll")
    assert (first.id, first.words, first.tags) == ("7", tuple(ROW["words"]), ("B-PER", "I-PER", "O", "B-L<C"))
    assert (second.words, second.tags) == (("a_b", "c_d"), ("O", "O"))


class _Page(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_shows_hostile_text_as_text() -> None:
    page = _Page()
    page.feed(as_html([ROW, PLAIN, BAD], TYPES, page=True))
    assert page.tags.count("mark") == 2 and page.tags.count("p") == 4
    assert {"rome", "script", "l"}.isdisjoint(page.tags) and page.tags.count("b") == 2  # labels
    for text in ("Ann LeePER 0.98 in <Rome>L<C 0.50", "so quiet", "line 3: not <b>JSON</b>"):
        assert text in page.text


def test_lines_are_plain_or_coloured_by_type_and_steer_no_terminal() -> None:
    assert as_line(ROW) == "[Ann Lee PER 0.98] in [<Rome> L<C 0.50]"
    assert as_line(BAD) == "line 3: not <b>JSON</b>"
    coloured = as_line(ROW, colours_of(TYPES))
    assert coloured.count("\x1b[48;2;213;94;0;") == coloured.count("\x1b[48;2;") - 1 == 1
    hostile = {"id": "1", "words": ["\x1b[2J"], "entities": []}
    assert "\x1b" not in as_line(hostile)
    assert len(set(colours_of(map(str, range(9))).values())) == len(PALETTE)


def test_results_in_python_print_as_lines_and_show_as_html(checkpoint: Path, text: str) -> None:
    rows = mnerkit.load(checkpoint).predict([{"text": text}])
    assert isinstance(rows, TaggedPosts) and rows == list(rows) and json.loads(json.dumps(rows)) == rows
    assert str(rows) == as_line(rows[0]) and "<mark" in rows._repr_html_()


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_only_in_a_terminal_that_wants_them(checkpoint: Path, text: str, no_color: str) -> None:
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    main_end, other = pty.openpty()
    argv = [sys.executable, "-m", "mnerkit", "predict", str(checkpoint), "--text", text]
    environment = {**os.environ, "NO_COLOR": no_color}
    subprocess.run(argv, stdout=other, stderr=subprocess.DEVNULL, env=environment, check=True)
    os.close(other)
    said = os.read(main_end, 1 << 16).decode()
    os.close(main_end)
    assert ("\x1b[48;2;" in said) == (not no_color) and ("[" in said)


@given(
    text=st.text(max_size=40),
    spans=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=4),
)
def test_pieces_are_the_text_whatever_it_holds(text: str, spans: list[tuple[int, int]]) -> None:
    entities, done = [], 0
    for start, length in sorted(spans):
        if start >= done and start + length <= len(text):
            entities.append({"type": "PER", "char_start": start, "char_end": start + length})
            done = start + length
    found = list(pieces({"text": text, "entities": entities}))
    assert "".join(part for part, _ in found).split() == text.replace("\r", " ").split()
    assert [entity for _, entity in found if entity is not None] == entities


@given(
    table=st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), min_size=1, max_size=6),
    form=st.sampled_from(["csv", "tsv"]),
)
def test_a_table_of_any_texts_is_read_as_it_was_written(table: list[tuple[str, str]], form: Any) -> None:
    stream = io.StringIO()
    rows = csv.writer(stream, delimiter="," if form == "csv" else "\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
    clean = [
        tuple("".join(c for c in cell if c >= " " and not "\ud800" <= c <= "\udfff") for cell in row) for row in table
    ]
    rows.writerows([("id", "text"), *clean])

    def post(record: Any, where: str, number: str) -> Post:
        return post_of(record, where, number)

    reader = InputReader(io.BytesIO(stream.getvalue().encode()), "t", post, form)
    found = [item for block in reader.blocks(2) for item in block]
    wanted = [row for row in clean if any(map(str.strip, row))]
    assert len(found) == len(wanted)
    for item, (_, text) in zip(found, wanted, strict=True):
        assert (item.id is None or "path" in item.error) if isinstance(item, BadLine) else item.text == text
