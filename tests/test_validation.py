"""What is wrong with the content of a file is said in one line, with its place."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationInfo, model_validator

from mnerkit.errors import DataError
from mnerkit.plain_yaml import read_yaml
from mnerkit.strict_json import read_format, read_json
from mnerkit.validation import Content, Figure, ListOf, Place, RowOf, Text, one_of, validated


class Row(Content):
    name: Text
    score: Figure | None = None
    best: int | str | None = None
    points: ListOf[RowOf[tuple[Place, Text]]] = ()
    tags: ListOf[Text] = Field(default=(), max_length=2)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Row:
        if self.name == "both" and self.score is not None:
            raise ValueError("a row called both has no score")
        if known := (info.context or {}).get("known"):
            one_of(self.name, known, "row")
        return self


class Table(Content):
    rows: ListOf[Row]
    what: Literal["table", "sweep"] = "table"
    seeds: ListOf[int] | Literal["paper"] = ()


def row(**content: Any) -> dict[str, Any]:
    return {"rows": [{"name": "first"}, {"name": "HVPNeT", **content}]}


def test_content_that_fits_becomes_an_object_with_tuples_for_lists() -> None:
    table = validated(Table, row(score=1, points=[[0, "a"]], best="x") | {"seeds": [0, 1]}, "f.json")
    assert table.rows[1] == Row(name="HVPNeT", score=1.0, points=((0, "a"),), best="x")
    assert (table.what, table.seeds) == ("table", (0, 1))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (row(score=True), "rows[1] (HVPNeT): score must be a number, got True"),
        (row(score="1"), "rows[1] (HVPNeT): score must be a number, got '1'"),
        (row(score=float("nan")), "rows[1] (HVPNeT): score must be a finite number, got nan"),
        (row(score=1e16), "rows[1] (HVPNeT): score must be 1e+15 at most, got 1e+16"),
        (row(best=1.5), "rows[1] (HVPNeT): best must be a whole number or a text, got 1.5"),
        (row(name=3), "rows[1]: name must be a text, got 3"),
        (row(name="x" * 30_000), "name must be a text of at most 20000 letters, got 'xxx"),
        (row(points=[[1]]), "rows[1] (HVPNeT): points[0]: value 2 of the list is missing"),
        (row(points=[[-1, "a"]]), "rows[1] (HVPNeT): points[0][0] must be 0 or more, got -1"),
        (row(tags=["a", "b", "c"]), "rows[1] (HVPNeT): tags must be a list of at most 2, got ['a', 'b', 'c']"),
        (row(tags="ab"), "rows[1] (HVPNeT): tags must be a list, got 'ab'"),
        (row(tagz=[]), "rows[1] (HVPNeT): no key 'tagz'. Did you mean 'tags'? Keys: name, score,"),
        ({"rows": [{}]}, "rows[0]: the key 'name' is missing"),
        ({"rows": [3]}, "rows[0] must be a mapping, got 3"),
        ({"rows": [], "what": "tabel"}, "what must be one of table, sweep, got 'tabel'. Did you mean 'table'?"),
        ({"rows": [], "seeds": "papr"}, "seeds must be a list or 'paper', got 'papr'. Did you mean 'paper'?"),
        ({"rows": [], "seeds": [0, "a"]}, "seeds[1] must be a whole number, got 'a'"),
        ({"rows": [{"name": "both", "score": 1}]}, "rows[0] (both): a row called both has no score"),
        ({"rows": [{"name": "a\nb", "x": 1}]}, "rows[0] (a b): no key 'x'. Keys: "),
        ({}, "the key 'rows' is missing"),
        ([], "the content must be a mapping, got []"),
    ],
)
def test_what_is_wrong_is_one_line_with_the_place(content: Any, line: str) -> None:
    with pytest.raises(DataError) as caught:
        validated(Table, content, "f.json")
    assert str(caught.value).startswith("f.json: ")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
KEYS = st.sampled_from(["rows", "what", "seeds", "name", "score", "points", "tags"]) | st.text()
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=12)


@given(JSON)
def test_any_content_fits_or_is_refused_in_one_line(content: Any) -> None:
    try:
        validated(Table, content, "f.json")
    except DataError as problem:
        assert str(problem).startswith("f.json: ") and len(str(problem).splitlines()) == 1


def test_a_wrong_value_is_shown_in_short_however_deep_it_is() -> None:
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    with pytest.raises(DataError, match=r"what must be one of table, sweep, got \[\[\[") as caught:
        validated(Table, {"rows": [], "what": deep}, "f.json")
    assert len(str(caught.value)) < 120


def test_a_validator_reads_the_context() -> None:
    with pytest.raises(DataError, match=r"f: rows\[0\] \(tabel\): no row 'tabel'. Did you mean 'table'\? There are: "):
        validated(Table, {"rows": [{"name": "tabel"}]}, "f", known=("table", "sweep"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"a": NaN}', "is damaged: NaN is no figure"),
        ('{"a": 1, "a": 2}', "is damaged: key 'a' stands there twice"),
        ("[" * 100_000, "is damaged: too deeply nested"),
        ("{", "is damaged: "),
        ('{"format": "other", "version": 1}', "is no table file (format 'mnerkit-table')"),
        ("[]", "is no table file (format 'mnerkit-table')"),
        ('{"format": "mnerkit-table", "version": 2}', "is of version 2; this mnerkit reads version 1"),
    ],
)
def test_a_json_file_that_is_not_what_it_should_be_is_refused(text: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_format(path, "table file", "mnerkit-table", 1)
    assert str(caught.value).startswith(f"{path} {line}")


def test_a_json_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    path.write_text(json.dumps("x" * (9 << 20)))
    with pytest.raises(DataError, match="has more than 8 MB"):
        read_json(path)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: ]", ":1: "), ("- a", ": not a mapping of keys"), ("\xff".encode("latin-1"), ": "), (None, ": No such file")],
)
def test_a_yaml_file_that_holds_no_mapping_is_refused_in_one_line(text: Any, line: str, tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}{line}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "argv", [["--help"], ["plugins"], ["data", "--help"], ["fit", "--plugin", "gmf", "--help"], ["fit", "--plugn", "x"]]
)
def test_a_light_command_does_not_import_pydantic(argv: list[str]) -> None:
    probe = (
        "import sys\nfrom mnerkit.cli import main\n"
        f"try:\n    main({argv!r})\nexcept SystemExit:\n    pass\nassert 'pydantic' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0
