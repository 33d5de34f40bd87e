"""One small corpus in the forms that the field has: each is read as the same posts, or refused in a line."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mnerkit
from mnerkit.cli import main
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.tags import entities
from mnerkit.errors import DataError

Post = tuple[list[str], list[tuple[int, int, str]]]
POSTS: dict[str, list[Post]] = {
    "train": [
        (["we", "met", "Belan", "Vik", "in", "Northford", "."], [(2, 4, "PER"), (5, 6, "LOC")]),
        (["Ada", ",", "Bob", "and", "Northford", "Bank"], [(0, 1, "PER"), (2, 3, "PER"), (4, 6, "ORG")]),
        (["nobody", "here"], []),
    ],
    "dev": [(["Cleo", "went", "to", "Ulm"], [(0, 1, "PER"), (3, 4, "LOC")]), (["the", "Ulm", "Post"], [(1, 3, "ORG")])],
    "test": [(["Dan", "Lee", "sings"], [(0, 2, "PER")]), (["in", "Ulm"], [(1, 2, "LOC")])],
}
NAMES = ["O", *(f"{role}-{kind}" for kind in ("PER", "LOC", "ORG") for role in "BI")]
# roles of an entity of one word, of a first, an inner and a last one
SCHEMES = {"BIO": "BBII", "BIOES": "SBIE", "BILOU": "UBIL", "BMES": "SBME", "IO": "IIII", "types": "    "}
Files = dict[str, bytes]


def tags(post: Post, scheme: str = "BIO") -> list[str]:
    words, spans = post
    found = ["O"] * len(words)
    alone, first, inner, last = SCHEMES[scheme]
    for start, end, kind in spans:
        roles = alone if end - start == 1 else first + inner * (end - start - 2) + last
        found[start:end] = [f"{role}-{kind}".strip(" -") for role in roles]
    return found


def three(content: Callable[[str], str], name: str = "{}.txt", words: str = "train valid test") -> Files:
    return {name.format(word): content(split).encode() for word, split in zip(words.split(), POSTS, strict=True)}


def columns(
    *cells: str, scheme: str = "BIO", separator: str = "\t", head: str = "", before: str = ""
) -> Callable[[str], str]:
    """Lines of cells, in which {w} is the word, {t} its tag, {n} its number and {p} the number of the post."""

    def content(split: str) -> str:
        text = head
        for number, post in enumerate(POSTS[split]):
            text += before.format(split=split, p=number)
            pairs = enumerate(zip(post[0], tags(post, scheme), strict=True), 1)
            text += "".join(f"{separator.join(cells)}\n".format(w=w, t=t, n=n, p=number) for n, (w, t) in pairs) + "\n"
        return text

    return content


def records(record: Callable[[Post], Any], array: bool = False) -> Callable[[str], str]:
    def content(split: str) -> str:
        rows = list(map(record, POSTS[split]))
        return json.dumps(rows, indent=1) if array else "".join(json.dumps(row) + "\n" for row in rows)

    return content


def table(head: str, row: Callable[[int, Post], list[list[Any]]], delimiter: str = ",") -> Callable[[str], str]:
    def content(split: str) -> str:
        written = io.StringIO()
        rows = csv.writer(written, delimiter=delimiter, lineterminator="\n")
        rows.writerow(head.split(","))
        for number, post in enumerate(POSTS[split], 1):
            rows.writerows(row(number, post))
        return written.getvalue()

    return content


def word_rows(number: int, post: Post) -> list[list[Any]]:
    return [[number, word, tag] for word, tag in zip(post[0], tags(post), strict=True)]


def kaggle(number: int, post: Post) -> list[list[Any]]:
    """The sentence's name stands beside its first word alone."""
    pairs = enumerate(zip(post[0], tags(post), strict=True))
    return [["" if place else f"Sentence: {number}", word, "NN", tag] for place, (word, tag) in pairs]


def characters(post: Post) -> tuple[str, list[list[Any]]]:
    starts = [sum(len(word) + 1 for word in post[0][:place]) for place in range(len(post[0]) + 1)]
    return " ".join(post[0]), [[starts[start], starts[end] - 1, kind] for start, end, kind in post[1]]


def prodigy(post: Post) -> Any:
    text, spans = characters(post)
    starts = [sum(len(word) + 1 for word in post[0][:place]) for place in range(len(post[0]))]
    tokens = [
        {"text": word, "start": start, "end": start + len(word)} for word, start in zip(post[0], starts, strict=True)
    ]
    return {"text": text, "tokens": tokens, "spans": [{"start": a, "end": b, "label": c} for a, b, c in spans]}


def label_studio(post: Post) -> Any:
    text, spans = characters(post)
    results = [
        {"type": "labels", "value": {"start": a, "end": b, "text": text[a:b], "labels": [c]}} for a, b, c in spans
    ]
    return {"data": {"text": text}, "annotations": [{"result": results, "was_cancelled": False}], "predictions": []}


def spacy_2(post: Post) -> Any:
    pairs = zip(post[0], tags(post, "BILOU"), strict=True)
    return {"paragraphs": [{"sentences": [{"tokens": [{"orth": word, "ner": tag} for word, tag in pairs]}]}]}


def numbered(name: str, content: Any) -> Files:
    rows = records(lambda post: {"tokens": post[0], "ner_tags": [NAMES.index(tag) for tag in tags(post)]})
    given = content if isinstance(content, str) else json.dumps(content)
    return {**three(rows, "{}.jsonl", "train validation test"), name: given.encode()}


LABELS = {"names": NAMES, "_type": "ClassLabel"}
FEATURES = {"tokens": {"feature": {"dtype": "string"}}, "ner_tags": {"feature": LABELS, "_type": "Sequence"}}
CARD = "\n".join(
    ["---", "license: mit", "dataset_info:", "  features:", "  - name: tokens", "    sequence: string"]
    + ["  - name: ner_tags", "    sequence:", "      class_label:", "        names:"]
    + [f"          '{number}': {name}" for number, name in enumerate(NAMES)]
    + ["  splits:", "  - name: train", "---", "# Posts", ""]
)


def forms() -> Iterator[tuple[str, Files]]:
    """Name and files of each form that is read."""
    two = ("{w}", "{t}")
    yield "two columns", three(columns(*two))
    yield "blanks, .conll", three(columns(*two, separator=" "), "{}.conll", "train dev test")
    yield "three columns", three(columns("{w}", "NN", "{t}", separator=" "))
    yield (
        "CoNLL-2003",
        {
            f"eng.{name}": columns("{w}", "NN", "B-NP", "{t}", separator=" ", head="-DOCSTART- -X- -X- O\n\n")(
                split
            ).encode()
            for name, split in (("train", "train"), ("testa", "dev"), ("testb", "test"))
        },
    )
    yield "comments", three(columns(*two, before="# id = {split}{p}\n"), "{}.conll")
    yield "CoNLL-U", three(columns("{n}", "{w}", "{t}", before="# sent_id = {p}\n# text = we O\n"), "{}.conllu")
    yield "posts with fine types", three(columns("{w}", "{t}", "{t}", before="IMGID:{split}{p}\n"))
    for scheme in SCHEMES:
        yield f"{scheme} in columns", three(columns(*two, scheme=scheme))
        yield f"{scheme} in posts", three(columns(*two, scheme=scheme, before="IMGID:{split}{p}\n"))
        yield (
            f"{scheme} in records",
            three(records(lambda post, scheme=scheme: {"tokens": post[0], "ner_tags": tags(post, scheme)}), "{}.jsonl"),
        )
    plain = three(columns(*two))
    yield "CRLF", {name: content.replace(b"\n", b"\r\n") for name, content in plain.items()}
    yield "byte order mark", {name: b"\xef\xbb\xbf" + content for name, content in plain.items()}
    yield "no final line end", {name: content.rstrip() for name, content in plain.items()}
    yield "blank lines", {name: b"\n \n" + content.replace(b"\n\n", b"\n\n\t\n") for name, content in plain.items()}
    for words in ("tokens", "words", "text", "sentence"):
        for key in ("ner_tags", "tags", "labels", "ner", "label"):
            rows = records(lambda post, words=words, key=key: {words: post[0], key: tags(post)})
            yield f"{words} and {key}", three(rows, "{}.jsonl", "train validation test")
    yield "a JSON array", three(records(lambda post: {"tokens": post[0], "ner_tags": tags(post)}, True), "{}.json")
    whole = records(lambda post: {"tokens": post[0], "tags": tags(post)}, True)
    yield "data within an object", three(lambda split: f'{{"data": {whole(split)}}}', "{}.json", "train val test")
    yield "numbers, features.json", numbered("features.json", FEATURES)
    yield "numbers, dataset_infos.json", numbered("dataset_infos.json", {"default": {"features": FEATURES}})
    yield "numbers, dataset_info.json", numbered("dataset_info.json", {"features": FEATURES})
    yield "numbers, the hub's card", numbered("README.md", CARD)
    yield "numbers, id2label.json", numbered("id2label.json", dict(enumerate(NAMES)))
    yield "numbers, label2id.json", numbered("label2id.json", {name: number for number, name in enumerate(NAMES)})
    yield "numbers, a list", numbered("tags.txt", "\n".join(NAMES))
    for key in ("label", "labels", "entities"):
        rows = records(lambda post, key=key: {"text": characters(post)[0], key: characters(post)[1]})
        yield f"doccano, {key}", three(rows, "{}.jsonl")
    yield "Prodigy", three(records(prodigy), "{}.jsonl")
    yield "Label Studio", three(records(label_studio, True), "{}.json")
    yield "spaCy 3", three(records(lambda p: [characters(p)[0], {"entities": characters(p)[1]}], True), "{}.json")
    yield "spaCy 2", three(records(spacy_2, True), "{}.json")
    gliner = records(lambda p: {"tokenized_text": p[0], "ner": [[a, b - 1, kind] for a, b, kind in p[1]]}, True)
    yield "GLiNER", three(gliner, "{}.json")
    yield "a word a row", three(table("Sentence #,Word,POS,Tag", kaggle), "{}.csv")
    yield "sentence_id, words, labels", three(table("sentence_id,words,labels", word_rows), "{}.csv")
    yield "semicolons", three(table("sentence_id,word,tag", word_rows, ";"), "{}.csv")
    yield "tabs with a head", three(table("sentence_id,word,tag", word_rows, "\t"), "{}.tsv")
    yield "a head and blank lines", three(columns(*two, head="token\tlabel\n"), "{}.tsv")
    lists = table("id,Sentence,Tag", lambda n, post: [[f"{post[0][0]}{n}", " ".join(post[0]), str(tags(post))]])
    yield "a post a row, Python lists", three(lists, "{}.csv")
    yield (
        "a post a row, JSON lists",
        three(table("tokens,ner_tags", lambda _, post: [[json.dumps(post[0]), json.dumps(tags(post))]]), "{}.csv"),
    )
    yield (
        "a post a row, blanks",
        three(table("text,labels", lambda _, post: [[" ".join(post[0]), " ".join(tags(post))]]), "{}.csv"),
    )


def written(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


READ = dict(forms())


@pytest.mark.parametrize("name", READ)
def test_a_form_of_the_field_is_read_as_the_posts_that_it_holds(name: str, tmp_path: Path) -> None:
    found = load_corpus(str(written(tmp_path, READ[name])))
    for split, posts in POSTS.items():
        read = [
            (list(post.words), [vars_of(span) for span in entities(post.tags or ())]) for post in found.splits[split]
        ]
        assert read == posts
    counted = Counter(kind for posts in POSTS.values() for _, spans in posts for *_, kind in spans)
    assert {*found.types} == {*counted}
    plain = name in ("BIO in posts", "words and tags", "text and tags", "words and label", "text and label", "GLiNER")
    assert bool(found.remarks) != plain, "what was taken for what is reported"


def vars_of(span: Any) -> tuple[int, int, str]:
    return span.start, span.end, span.type


PLAIN = three(columns("{w}", "{t}"))
UNREAD: dict[str, tuple[Files, str]] = {
    "UTF-16": (
        {name: text.decode().encode("utf-16") for name, text in PLAIN.items()},
        r"train\.txt:1: UTF-16, and not",
    ),
    "UTF-16, no mark": ({name: text.decode().encode("utf-16-le") for name, text in PLAIN.items()}, "is this UTF-16"),
    "Latin-1": ({name: text.replace(b"Ada", b"Ad\xe9") for name, text in PLAIN.items()}, r"train\.txt:9: not UTF-8"),
    "numbers without names": (
        {name: text for name, text in numbered("x", "").items() if name != "x"},
        r"the tags in 'ner_tags' are numbers.*labels\.txt(.|\n)*Write the tags into that file",
    ),
    "DocBin": (three(lambda _: "x", "{}.spacy"), r"train\.spacy(.|\n)*doc\.to_json"),
    "brat": ({"train/0.ann": b"T1\tPER 0 3\tAnn\n", "train/0.txt": b"Ann"}, r"0\.ann is brat's(.|\n)*'label'"),
    "archives": ({"train.jsonl.gz": b"\x1f\x8b"}, r"Unpack train\.jsonl\.gz first"),
    "one table": ({"ner.csv": b"Word,Tag\n"}, r"it holds ner\.csv(.|\n)*called train"),
    "a table without a head": (
        three(lambda _: "Ann,B-PER\n", "{}.csv"),
        r"no column of the table(.|\n)*Ann, B-PER(.|\n)*names its columns",
    ),
    "a table without tags": (three(lambda _: "word,pos\nAnn,N\n", "{}.csv"), "no column of the table holds tags"),
    "a table without posts": (three(lambda _: "word,tag\nAnn,O\n", "{}.csv"), "none of the columns numbers the posts"),
    "posts in pieces": (
        three(lambda _: "sentence_id,word,tag\n1,a,O\n2,b,O\n1,c,O\n", "{}.csv"),
        r"train\.csv:4: post '1' goes on after another one",
    ),
    "an open quotation mark": (three(lambda _: 'word,tag,id\n"a,O,1\n', "{}.csv"), r"train\.csv:2: no row of a table"),
    "a row too short": (three(lambda _: "word,tag,id\na,O\n", "{}.csv"), "a row of 2 cells in a table of 3 columns"),
    "an empty cell": (three(lambda _: "word,tag,id\n,O,1\n", "{}.csv"), "the cell of the word is empty"),
    "two kinds of tags": (
        three(
            records(lambda post: {"words": post[0], "tags": tags(post, "BIO" if len(post[0]) > 6 else "types")}),
            "{}.jsonl",
        ),
        "is a tag of another kind than those before",
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_is_not_read_is_refused_with_what_would_be(name: str, tmp_path: Path) -> None:
    files, fault = UNREAD[name]
    with pytest.raises(DataError, match=fault) as refused:
        load_corpus(str(written(tmp_path, files)))
    assert str(refused.value).count("\n") < 2


@pytest.mark.parametrize("name", ["a word a row", "types in columns", "sentence and labels"])
def test_a_method_is_fitted_and_predicts_on_it(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(written(tmp_path / "mine", READ[name]))
    assert main(["data", "stats", folder]) == 0
    printed = capsys.readouterr().out
    run = mnerkit.fit(
        "bilstm",
        data={"corpus": folder},
        trainer={"max_steps": 2, "accelerator": "cpu"},
        runs_dir=tmp_path / "runs",
        report=lambda _: None,
    )
    (row,) = mnerkit.load(run).predict([{"text": "we met Ada"}])
    assert row["words"] == ["we", "met", "Ada"] and "train" in printed
