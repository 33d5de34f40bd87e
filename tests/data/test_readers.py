"""Annotation files and input lines become posts; malformed ones are refused with file and line."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnerkit.data.batches.inputs import read_input
from mnerkit.data.corpus import readers, text_lines
from mnerkit.data.corpus.readers import read_posts
from mnerkit.errors import DataError

TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-OTHER"]
# What a column may hold: no tab, no line feed, no NUL; C1 controls, no-break and zero-width characters are real.
words = st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\t\n\r"), min_size=1, max_size=6
).filter(lambda word: word.strip(" "))
ids = st.from_regex(r"[A-Za-z0-9_]{1,8}", fullmatch=True)
rows = st.lists(st.tuples(words, st.sampled_from(TAGS)), min_size=1, max_size=5)
tweets = st.lists(st.tuples(ids, rows), min_size=1, max_size=5)


def said(posts) -> list:
    return [(post.id, list(zip(post.words, post.tags, strict=True))) for post in posts]


@given(tweets, st.sampled_from(["\n", "\r\n"]), st.integers(0, 3), st.booleans())
def test_bio_round_trip(tmp_path_factory, posts, end, blanks, mark) -> None:
    """Any words come back, whatever the line ends, the number of blank lines (none at the end too) and a BOM."""
    body = (end + end * max(blanks, 1)).join(
        end.join([f"IMGID:{id_}", *(f"{word}\t{tag}" for word, tag in row)]) for id_, row in posts
    )
    file = tmp_path_factory.mktemp("bio") / "train.txt"
    file.write_bytes((("\ufeff" if mark else "") + body + end * blanks).encode())
    found = read_posts(file)
    assert said(found) == [(id_, row) for id_, row in posts]
    assert [post.images[0].name for post in found] == [f"{id_}.jpg" for id_, _ in posts]


@given(tweets, st.lists(st.sampled_from([0, 1, 3]), min_size=5, max_size=5), st.booleans())
def test_records_round_trip(tmp_path_factory, posts, counts, ascii_) -> None:
    """JSON and Python literal lines mix in one file; posts have none, one or several pictures."""
    file = tmp_path_factory.mktemp("records") / "train.txt"
    expected, text = [], []
    for number, ((id_, row), count) in enumerate(zip(posts, counts, strict=False)):
        names = [f"{id_}_{k}.jpg" for k in range(count)]
        record = {"id": id_, "text": [w for w, _ in row], "label": [t for _, t in row], "images": names, "url": None}
        text.append(json.dumps(record, ensure_ascii=ascii_) if number % 2 else repr(record))
        expected.append(names)
    file.write_bytes("\n".join(text).encode())
    found = read_posts(file)
    assert said(found) == [(id_, row) for id_, row in posts]
    assert [[ref.name for ref in post.images] for post in found] == expected


def test_a_json_list_is_read_as_records(tmp_path: Path) -> None:
    record = {"id": 7, "words": ["a", "B"], "tags": ["O", "B-X"], "images": "7.png"}
    (tmp_path / "train.json").write_text(json.dumps([record, record], indent=1))
    posts = read_posts(tmp_path / "train.json")
    assert [post.id for post in posts] == ["7", "7"] and posts[0].images[0].name == "7.png"


def test_a_json_list_on_one_line_may_be_long_and_has_a_limit_of_its_own(tmp_path: Path, monkeypatch) -> None:
    record = {"id": "a", "text": ["word"] * 50, "label": ["O"] * 50}
    (tmp_path / "train.json").write_text(" \n" + json.dumps([record] * 2000))
    assert (tmp_path / "train.json").stat().st_size > text_lines.MAX_LINE
    assert len(read_posts(tmp_path / "train.json")) == len(list(read_input(tmp_path / "train.json"))) == 2000
    monkeypatch.setattr(readers, "MAX_LIST", 1000)
    with pytest.raises(DataError, match=r"a JSON list of \d+ bytes; the limit is 1000") as problem:
        read_posts(tmp_path / "train.json")
    assert len(str(problem.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "said"), [(b'[{"text": "\xff"}]', "not UTF-8"), ("[]".encode("utf-16-le"), "NUL"), (b"[1", "JSON list")]
)
def test_a_json_list_that_is_none_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "train.json").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_posts(tmp_path / "train.json")


def test_a_list_among_records_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"text": ["a"], "label": ["O"]}\n[1, 2]')
    with pytest.raises(DataError, match=r"t\.json:2: expected an object"):
        read_posts(tmp_path / "t.json")


def test_the_last_post_counts_without_a_final_blank_line(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("IMGID:1\na\tO\n\nIMGID:2\nb\tO")
    assert [post.id for post in read_posts(tmp_path / "t.txt")] == ["1", "2"]


def test_words_that_look_like_structure_stay_words(tmp_path: Path) -> None:
    lines = [
        "IMGID:1",
        "B-PER\tO",
        "\xa0\tO",
        "\u200b\tO",
        "\x85\tO",
        "a\x85b\u2028c\tO",
        "IMGID:9\tO",
        "{\tO",
        "[\tB-PER",
    ]
    (tmp_path / "t.txt").write_text("\n".join(lines), encoding="utf-8")
    (post,) = read_posts(tmp_path / "t.txt")
    assert post.words == ("B-PER", "\xa0", "\u200b", "\x85", "a\x85b\u2028c", "IMGID:9", "{", "[")


BAD_BIO = {
    "IMGID:1\na\tO\nb O\n": ":3: expected word<TAB>tag, found 1 columns",
    "IMGID:1\na\tO\tO\n": ":2: expected word<TAB>tag, found 3 columns",
    "IMGID:1\n\tO\n": ":2: expected word<TAB>tag",
    "IMGID:1\na\tB\n": ":2: 'B' is not a tag",
    "IMGID:1\na\tS-PER\n": ":2: 'S-PER' is not a tag",
    "IMGID:1\na\tB-PRE\n": ":2: tag 'B-PRE' has none of the types PER",
    "a\tO\n": ":1: the word 'a' belongs to no post",
    "IMGID:1\na\tO\n\nb\tO\n": ":4: the word 'b' belongs to no post",
    "IMGID:1\n\nIMGID:2\na\tO\n": "IMGID:1, has no words",
    "IMGID:1\na\tO\n\nIMGID:2\n": "IMGID:2, has no words",
    "IMGID:../../x\na\tO\n": ":1: picture or id '../../x' is not a plain name",
    "IMGID:/etc/passwd\na\tO\n": ":1: picture or id '/etc/passwd'",
    "IMGID:C:x\na\tO\n": ":1: picture or id",
    "IMGID:a\\..\\b\na\tO\n": ":1: picture or id",
    "IMGID:\na\tO\n": ":1: picture or id ''",
    f"IMGID:{'x' * 300}\na\tO\n": ":1: picture or id",
    "": "holds no posts",
    "\n\n": "holds no posts",
}


@pytest.mark.parametrize("content", BAD_BIO)
def test_malformed_bio_is_refused_with_its_place(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.txt").write_text(content)
    with pytest.raises(DataError) as refused:
        read_posts(tmp_path / "t.txt", types=("PER",))
    assert str(tmp_path / "t.txt") in str(refused.value) and BAD_BIO[content] in str(refused.value)


BAD_RECORDS = {
    '{"text": ["a"]}': "no tags",
    '{"text": ["a"], "label": ["O", "O"]}': "1 words but 2 tags",
    '{"text": "a", "label": "O"}': "'label' must be a list of strings",
    '{"text": ["a", 1], "label": ["O", "O"]}': "'text' must be a list of strings",
    '{"label": ["O"]}': "found neither",
    '{"text": ["a"], "words": ["a"], "label": ["O"]}': "found both",
    '{"text": ["a"], "label": ["X"]}': "'X' is not a tag",
    '{"text": ["a"], "label": ["O"], "images": ["../x.jpg"]}': "not a plain name",
    '{"text": ["a"], "label": ["O"], "images": 3}': "'images' must be a list",
    '{"text": ["a"], "label": ["O"], "id": 1.5}': "the id must be a string or a whole number",
    '{"text": ["\\ud800"], "label": ["O"]}': "surrogate",
    '{"text": ["a"], "label": ["O"]': "neither JSON",
    "{'text': ['a'], 'label': [open('x')]}": "nor a Python literal",
    "{'text': ['a'] * 9**9, 'label': ['O']}": "nor a Python literal",
    "{'text': [" + "-" * 5000 + "1]}": "nor a Python literal",
    "{'text': " + "[" * 5000 + "]" * 5000 + "}": "nor a Python literal",
    "{'text': ['a'], 'label': ['O'], 'more': " + "[" * 9 + "]" * 9 + "}": "nor a Python literal",
    "{'text': " + "1" * 30000 + "!}": "nor a Python literal",
    '{"a": ' + "[" * 100000 + "]" * 100000 + "}": "neither JSON",
}


@pytest.mark.parametrize("line", BAD_RECORDS, ids=range(len(BAD_RECORDS)))
def test_malformed_records_are_refused_with_their_line(tmp_path: Path, line: str) -> None:
    good = '{"text": ["a"], "label": ["O"]}'
    (tmp_path / "t.txt").write_text(f"{good}\n{line}\n")
    with pytest.raises(DataError) as refused:
        read_posts(tmp_path / "t.txt")
    assert f"{tmp_path / 't.txt'}:2: " in str(refused.value) and BAD_RECORDS[line] in str(refused.value)
    assert len(str(refused.value)) < 400


def test_nothing_in_a_data_file_is_evaluated(tmp_path: Path) -> None:
    mark = tmp_path / "evaluated"
    (tmp_path / "t.txt").write_text("{'text': [__import__('pathlib').Path('" + str(mark) + "').touch()], 'label': []}")
    with pytest.raises(DataError):
        read_posts(tmp_path / "t.txt")
    assert not mark.exists()


def test_invalid_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"IMGID:1\na\tO\n\xff\xfe\tO\n")
    with pytest.raises(DataError, match=r"t\.txt:3: not UTF-8 \(byte 0xff at position 0\)"):
        read_posts(tmp_path / "t.txt")


def test_an_endless_line_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"x" * (3 << 20))
    with pytest.raises(DataError, match=r":1: the line is longer than"):
        read_posts(tmp_path / "t.txt")


def test_input_lines_are_read_as_they_are_asked_for(tmp_path: Path) -> None:
    """A fault in a later line does not stop the posts before it, and a text keeps the offsets of its words."""
    text = "Justin Bieber, in #Paris 😀!"
    records = [{"id": "x", "text": text}, {"words": ["a", "b"], "images": ["p.jpg", "q.jpg"]}]
    (tmp_path / "p.jpg").write_bytes(b"-")
    (tmp_path / "in.jsonl").write_text("\n".join([*map(json.dumps, records), "{broken"]))
    first, second = itertools.islice(posts := read_input(tmp_path / "in.jsonl"), 2)
    assert first.text == text and [text[a:b] for a, b in first.offsets] == list(first.words)
    assert second.id == "2" and second.tags is None
    assert [ref.path for ref in second.images] == [tmp_path / "p.jpg", None]
    with pytest.raises(DataError, match=r"in\.jsonl:3: neither JSON"):
        next(posts)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/hostname", "a/../../b.jpg", "link.jpg", "folder/x.jpg"])
def test_pictures_of_input_lines_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "pictures"
    inside.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"-")
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "x.jpg").write_bytes(b"-")
    (inside / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (inside / "folder").symlink_to(tmp_path / "away")
    (tmp_path / "in.jsonl").write_text(json.dumps({"words": ["a"], "images": [name]}))
    with pytest.raises(DataError, match=r"plain name|leads out of its folder"):
        list(read_input(tmp_path / "in.jsonl", inside))


@pytest.mark.parametrize("block", [1, 7, 64])
def test_lines_are_the_same_however_the_file_is_cut_into_blocks(block: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(text_lines, "_BLOCK", block)
    texts = ["first", "", "\x85 \u2028", "two\rparts", "\ufeffmark", "é" * 40, "last"]
    (tmp_path / "t.txt").write_bytes(("\ufeff" + "\r\n".join(texts)).encode())
    assert list(text_lines.lines(tmp_path / "t.txt")) == list(enumerate(texts, 1))
    (tmp_path / "bad.txt").write_bytes(b"one\ntwo\n" + b"\xff\n" + b"four\n")
    found = []
    with pytest.raises(DataError, match=r"bad.txt:3: not UTF-8 \(byte 0xff at position 0\)"):
        found.extend(text_lines.lines(tmp_path / "bad.txt"))
    monkeypatch.setattr(text_lines, "MAX_LINE", 20)
    (tmp_path / "long.txt").write_text(f"{'a' * 19}\n{'b' * 20}\n")
    stream = text_lines.lines(tmp_path / "long.txt")
    assert next(stream) == (1, "a" * 19)
    with pytest.raises(DataError, match=r"long.txt:2: the line is longer than 20 bytes"):
        next(stream)
