"""Every reader's time grows with the length of its file, or the file is refused by a named limit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnerkit.data.batches.inputs import read_input
from mnerkit.data.corpus.catalogue import Place
from mnerkit.data.corpus.corpus import _captions
from mnerkit.data.corpus.readers import read_posts
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.data.episodes.episode_file import read_episode_file
from mnerkit.data.pictures.boxes import read_box_lines
from mnerkit.data.pictures.crops import read_dict
from mnerkit.data.pictures.relevance_scores import Relevance
from mnerkit.data.pictures.voc import read_voc
from mnerkit.errors import MnerkitError
from mnerkit.plain_yaml import read_yaml
from mnerkit.report.tables.sweeps import _logged
from mnerkit.report.tables.table_file import read_table
from mnerkit.runs.config.config_file import read_file
from mnerkit.scoring.comparison import read_answers
from mnerkit.scoring.scored_images import read_scored_images
from mnerkit.strict_json import read_json
from mnerkit_plugins.relevance.preference import from_file

STEP = 4  # times the length
MOST = 8  # times the time: linear readers take 4, quadratic ones 16
NOISE = 0.04  # seconds that may come from elsewhere
SIZE = 16_000  # letters of the shorter file


def repeated(part: str, before: str = "", after: str = "") -> Callable[[int], str]:
    """A file of `n` letters: a part again and again, on one line or on many."""
    return lambda n: before + part * (n // len(part)) + after


def numbered(part: str, before: str = "", after: str = "") -> Callable[[int], str]:
    """As `repeated`; `#` in the part is its number."""
    return lambda n: before + "".join(part.replace("#", str(k)) for k in range(n // (len(part) + 3))) + after


def spans(count: int, step: int) -> list[tuple[int, int, str]]:
    """Entities of one word each, `step` letters or words apart; the last word is counted in where that is one."""
    return [(step * k, step * k + step - 1, "X") for k in range(count)]


# shapes that made some reader slow, or might, in any file of JSON lines
JSON = {
    "open brackets": repeated("["),
    "open braces": repeated('{"a":'),
    "digits": repeated("1", '{"id": '),
    "quotes": repeated('"'),
    "escaped quotes": repeated("\\'", "{'id': '"),
    "backslashes": repeated("\\", '{"id": "'),
    "keys": numbered('"#":1,', "{", '"id":"a"}'),
    "blanks": repeated(" "),
    "blank lines": repeated("\n"),
    "objects": repeated("{}\n"),
}
BIO = "IMGID:#\nRT\tO\nParis\tB-LOC\n\n"
RECORD = '{"id": "#", "text": ["Paris"], "label": ["B-LOC"], "images": ["#.jpg"]}\n'
OBJECT = '{"box":[0,0,9,9],"score":0.5,"label":"cat"},'
BOXES = '{"image":"#.jpg","objects":[{"box":[0,0,9,9]}]}\n'
EPISODES = {"format": "mnerkit episodes", "version": 1, "corpus": "c", "variant": "v", "digest": "d"}
EPISODES |= {"split": "test", "episodes": 1, "protocol": {}}
HEAD = json.dumps(EPISODES) + "\n"
SUPPORT = HEAD + '{"number":0,"types":["LOC"],"support":['
ROW = '{"split":"test","number":#,"types":["LOC"],"support":["a#"],"query":["b#"]}\n'
ANSWER = '{"id":"#","words":["Paris"],"gold":[[0,1,"LOC"]],"entities":[{"start":0,"end":1,"type":"LOC"}]}\n'
TABLE = '{"format":"mnerkit table","version":1,"title":"t","rows":['
XML = "<annotation>"

Reader = Callable[[Path], object]


def written(path: Path, text: str) -> Path:
    """A file beside the one that is read."""
    if not path.exists():
        path.write_text(text, encoding="utf-8")
    return path


def packed(path: Path) -> Path:
    """The dict of a file of JSON, as torch saves it."""
    file = path.with_suffix(".saved")
    if not file.exists():
        torch.save(json.loads(path.read_text(encoding="utf-8")), file)
    return file


READERS: dict[str, tuple[str, Reader, dict[str, Callable[[int], str]]]] = {
    "annotations": (
        "train.txt",
        read_posts,
        {
            "posts": numbered(BIO),
            "one post": repeated("a\tO\n", "IMGID:1\n"),
            "one word": repeated("a", "IMGID:1\n", "\tO\n"),
            "one tag": repeated("a", "IMGID:1\nParis\tB-", "\n"),
            "tabs": repeated("\t", "IMGID:1\na"),
            "blanks": repeated(" \t", "IMGID:1\na\tO\n", "\nb\tO"),
        },
    ),
    "columns": (
        "train.txt",
        lambda path: read_posts(path, notes=RecordNotes()),
        {
            "CoNLL": repeated("EU NNP B-NP S-ORG\nsaid VBD O O\n\n"),
            "IOB1": repeated("EU I-ORG\nUN B-ORG\n. O\n\n"),
            "wide": lambda n: "a " + "O " * (n // 2) + "O\n",
            "wider and wider": lambda n: "".join("a " * k + "O\n" for k in range(1, int(n**0.5))),
            "DOCSTART": repeated("-DOCSTART- -X- O O\n\n", "EU NNP B-NP B-ORG\n\n"),
        },
    ),
    "records": (
        "train.txt",
        read_posts,
        JSON
        | {
            "posts": numbered(RECORD),
            "literals": numbered(RECORD.replace('"', "'")),
            "one literal": lambda n: f"{{'text': {['a'] * (n // 5)}, 'label': {['O'] * (n // 5)}}}\n",
            "unclosed literal": repeated("\\'", "{'text': ['"),
            "strings side by side": repeated("'a'", "{'text': [", "]}"),
            "brackets of a literal": repeated("[],", "{'text': [", "]}"),
            "a list": numbered(RECORD.strip() + ",", "[", RECORD.strip() + "]"),
            "unlike keys": numbered('"k#":1,', "{", '"text":["a"],"label":["O"]}'),
            "pictures": numbered('"#.jpg",', '{"text":["a"],"label":["O"],"images":[', '"a"]}'),
            "boxes": repeated(OBJECT, '{"text":["a"],"label":["O"],"images":["a"],"boxes":[[', '{"box":[0,0,9,9]}]]}'),
        },
    ),
    "records of annotation tools": (
        "train.jsonl",
        lambda path: read_posts(path, notes=RecordNotes()),
        {
            "characters": lambda n: json.dumps({"text": "a " * (n // 20), "entities": spans(n // 20, 2)}),
            "words": lambda n: json.dumps({"tokenized_text": ["a"] * (n // 20), "ner": spans(n // 20, 1)}),
        },
    ),
    "input of predict": (
        "posts.jsonl",
        lambda path: list(read_input(path)),
        JSON
        | {
            "posts": numbered('{"text": "In Paris #"}\n'),
            "columns": numbered(BIO.replace("\tB-LOC", "\tO")),
            "a text": repeated("word ", '{"text": "', '"}'),
            "a number": repeated("1.", '{"text": "', '"}'),
            "colons": repeated(":", '{"text": "', '"}'),
            "links": repeated("http://", '{"text": "', '"}'),
            "letters without blanks": repeated("\u3042", '{"text": "', '"}'),
            "marks": repeated("\u0301", '{"text": "a', '"}'),
        },
    ),
    "boxes": (
        "boxes.jsonl",
        read_box_lines,
        JSON
        | {
            "pictures": numbered(BOXES),
            "objects": repeated(OBJECT, '{"image":"a","objects":[', '{"box":[0,0,9,9]}]}'),
            "wrong objects": repeated('{"box":1},', '{"image":"a","objects":[', "1]}"),
            "a box": repeated("1,", '{"image":"a","objects":[{"box":[', "1]}]}"),
        },
    ),
    "boxes in XML": (
        "boxes/a.xml",
        lambda path: read_voc(path.parent),
        {
            "objects": repeated("<object><bndbox/></object>", XML, "</annotation>"),
            "elements": repeated("<a/>", XML, "</annotation>"),
            "deep": repeated("<a>", XML),
            "attributes": numbered(' a#="1"', "<annotation", "/>"),
            "a name": repeated("a", "<"),
            "text": repeated("a&lt;", XML + "<filename>", "</filename></annotation>"),
            "comments": repeated("<!---->", XML, "</annotation>"),
            "entities": repeated("&a;", '<!DOCTYPE a [<!ENTITY a "b">]>' + XML, "</annotation>"),
            "open tag": repeated("<", XML),
        },
    ),
    "captions": (
        "captions.txt",
        lambda path: _captions(path, Place("a", path.parent, path.parent, {}, True)),
        {
            "lines": numbered("#.jpg :a cat\n"),
            "one": repeated(" :", "a.jpg"),
            "none": repeated(" "),
        },
    ),
    "relevance": (
        "relevance.jsonl",
        Relevance.of,
        JSON
        | {
            "posts": numbered('{"id":"#","scores":[0.5]}\n'),
            "scores": repeated("0.5,", '{"id":"a","scores":[', "1]}"),
            "wrong scores": repeated('"a",', '{"id":"a","scores":[', "1]}"),
        },
    ),
    "episodes": (
        "episodes.jsonl",
        read_episode_file,
        JSON
        | {
            "episodes": numbered(ROW, HEAD),
            "names": numbered('"#",', SUPPORT, '"a"],"query":["b"]}'),
            "a name twice": numbered('"#",', SUPPORT + '"0",', '"a"],"query":["b"]}'),
        },
    ),
    "predictions": (
        "predictions.test.jsonl",
        read_answers,
        JSON
        | {
            "posts": numbered(ANSWER),
            "words": repeated('"a",', '{"id":"a","gold":[],"entities":[],"words":[', '"a"]}'),
            "entities": numbered('[0,1,"#"],', '{"id":"a","words":["a"],"entities":[],"gold":[', '[0,1,"a"]]}'),
        },
    ),
    "R of images": (
        "relevance.test.jsonl",
        read_scored_images,
        JSON | {"posts": numbered('{"id":"#","images":["a.jpg"],"scores":[0.5]}\n')},
    ),
    "rankings": (
        "rankings.jsonl",
        lambda path: from_file(path, [], {"a": 1, **{str(k): 2 for k in range(9999)}}, (), 1),
        JSON
        | {
            "posts": numbered('{"id":"#","order":[0,1],"blank_pos":1}\n'),
            "order": numbered("#,", '{"id":"a","order":[', '0],"blank_pos":0}'),
        },
    ),
    "names of tags": (
        "labels.txt",
        lambda path: read_posts(written(path.with_name("train.txt"), '{"text": ["Paris"], "label": [1]}\n' * 9)),
        {"lines": numbered("B-#\n"), "one line": repeated("B- ", "O\n"), "blank lines": repeated("\n")},
    ),
    "crops": (
        "train_dict.pth",
        lambda path: read_dict(packed(path)),
        {"pictures": numbered('"#.jpg":["#_0.jpg"],', "{", '"a":[]}'), "crops": numbered('"#",', '{"a":[', '"a"]}')},
    ),
    "metrics": ("metrics.json", read_json, JSON | {"a list": repeated("1,", "[", "1]")}),
    "tables": (
        "table.json",
        read_table,
        JSON | {"rows": repeated('{"name":"a"},', TABLE, '{"name":"a"}]}'), "wrong rows": repeated("1,", TABLE, "1]}")},
    ),
    "curves": (
        "metrics.csv",
        lambda path: _logged(path, "loss"),
        {
            "rows": numbered("#,0.5\n", "epoch,loss\n"),
            "columns": numbered("c#,", "epoch,loss,", "a\n1,0.5\n"),
            "one row": repeated("1,", "epoch,loss\n"),
            "quotes": repeated('"', "epoch,loss\n"),
            "one value": repeated("1", "epoch,loss\n0,"),
        },
    ),
    **{
        name: (
            "config.yaml",
            read,
            {
                "options": numbered("  a#: 1\n", "model:\n"),
                "brackets": repeated("["),
                "dashes": repeated("- "),
                "aliases": numbered("a#: &a [*a, *a]\n", "a: &a [x, x]\n"),
                "a number": repeated("1", "model: "),
                "base 60": repeated(":1", "model: 1"),
                "a text": repeated("a ", "model: "),
                "escapes": repeated("\\x41", 'model: "', '"'),
                "comments": repeated("#\n"),
                "keys": repeated("? "),
                "a tag": repeated("!", "model: "),
                "bytes": repeated("A", "model: !!binary "),
                "tabs": repeated("\t"),
            },
        )
        for name, read in (("configurations", read_file), ("experiments", read_yaml))
    },
}


def seconds(read: Reader, path: Path) -> float:
    """Time of the process that reading a file takes, whether it is read or refused."""
    start = time.process_time()
    try:
        read(path)
    except MnerkitError as problem:
        assert len(str(problem)) < 1000 and str(problem).count("\n") < 2
    return time.process_time() - start


@pytest.mark.parametrize("reader", READERS)
def test_time_grows_with_the_length(tmp_path: Path, reader: str) -> None:
    name, read, shapes = READERS[reader]
    for shape, content in shapes.items():
        paths = [tmp_path / shape.replace(" ", "_") / str(n) / name for n in (SIZE, STEP * SIZE)]
        for path, n in zip(paths, (SIZE, STEP * SIZE), strict=True):
            path.parent.mkdir(parents=True)
            path.write_text(content(n), encoding="utf-8")
        assert is_linear(read, *paths), f"{reader}, {shape}: {STEP} times the length takes over {MOST} times the time"


def is_linear(read: Reader, short: Path, long: Path) -> bool:
    """Whether the longer file takes no more than its length in time; the best of three tries, if the first is slow."""
    best = [float("inf"), float("inf")]
    for _ in range(3):
        best = [min(old, seconds(read, path)) for old, path in zip(best, (short, long), strict=True)]
        if best[1] < MOST * best[0] + NOISE:
            return True
    return False
