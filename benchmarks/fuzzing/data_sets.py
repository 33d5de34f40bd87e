"""Data sets of the library `datasets`, where it is installed: Parquet files, and folders that it has written."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.mutations import mutated
from fuzzing.packed import files_in, packed, unpacked
from fuzzing.posts import drawn_posts
from fuzzing.reader import VALID, Input, Reader
from fuzzing.weights import no_seed
from mnerkit.data.corpus.dataset_folders import rows
from mnerkit.data.corpus.records import RecordNotes

NAMES = ["O", *(f"{role}-{kind}" for kind in ("PER", "LOC", "ORG", "MISC") for role in "BI")]
LABELS = {"names": NAMES, "_type": "ClassLabel"}
FEATURES: dict[str, Any] = {
    "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
    "ner_tags": {"feature": LABELS, "_type": "List"},
}
ARROW = "data-00000-of-00001.arrow"
STATE: dict[str, Any] = {
    "_data_files": [{"filename": ARROW}],
    "_fingerprint": "ab12",
    "_format_columns": None,
    "_format_kwargs": {},
    "_format_type": None,
    "_output_all_columns": False,
    "_split": None,
}


def posts(draw: Random) -> Any:
    """A table with words and tags, which are numbers of class labels or texts."""
    import pyarrow

    numbered, drawn = draw.random() < 0.7, drawn_posts(draw)
    kind = pyarrow.int64() if numbered else pyarrow.string()
    tags = [[NAMES.index(tag) if numbered else tag for tag in tags if tag in NAMES] for _, _, tags in drawn]
    table = pyarrow.table(
        {
            "tokens": pyarrow.array([list(words) for _, words, _ in drawn], pyarrow.list_(pyarrow.string())),
            "ner_tags": pyarrow.array(tags, pyarrow.list_(kind)),
        }
    )
    features = FEATURES if numbered else FEATURES | {"ner_tags": FEATURES["tokens"]}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), features


def parquet(draw: Random) -> Input:
    import datasets  # noqa: F401  # its time is no input's
    import pyarrow.parquet

    stream = io.BytesIO()
    options = {"compression": draw.choice(("none", "snappy", "zstd")), "use_dictionary": draw.random() < 0.5}
    pyarrow.parquet.write_table(posts(draw)[0], stream, **options)
    content = stream.getvalue()
    if draw.random() < VALID:
        return Input(content, True)
    return Input(mutated(draw, "bytes", content, content), False)


def folder(draw: Random) -> Input:
    import datasets  # noqa: F401
    import pyarrow

    table, features = posts(draw)
    stream = io.BytesIO()
    with pyarrow.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    files = {
        "state.json": json.dumps(STATE).encode(),
        "dataset_info.json": json.dumps({"features": features, "splits": None, "citation": ""}).encode(),
        ARROW: stream.getvalue(),
    }
    if draw.random() < VALID:
        return Input(packed(files), True)
    name = draw.choice(list(files))
    files[name] = mutated(draw, "bytes" if name == ARROW else "json", files[name], files[name])
    return Input(packed(files), False)


def read_parquet(path: Path) -> Any:
    return [row for _, _, row in rows(path, RecordNotes())]


def read_folder(path: Path) -> Any:
    return read_parquet(unpacked(path))


def plain_parquet(path: Path) -> Any:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return with_names(table, features_of(table))


def features_of(table: Any) -> Any:
    """What the table says of itself; a key that stands twice is read as the library reads it."""
    described = (table.schema.metadata or {}).get(b"huggingface")
    return json.loads(described).get("info", {}).get("features") if described else None


def plain_folder(path: Path) -> Any:
    import pyarrow

    files = files_in(path)
    table = pyarrow.ipc.open_stream(files[ARROW]).read_all()
    return with_names(table, json.loads(files["dataset_info.json"]).get("features") or features_of(table))


def with_names(table: Any, features: Any) -> Any:
    found = table.to_pylist()
    for key, feature in (features or {}).items():
        names: Any = feature.get("feature", feature).get("names") if isinstance(feature, dict) else None
        for row in found if names else ():
            row[key] = [names[each] if type(each) is int else each for each in row[key]]
    return found


READERS = (
    Reader("Parquet files", "train.parquet", "bytes", no_seed, read_parquet, plain_parquet, make=parquet),
    Reader("folders of datasets", "train.zip", "bytes", no_seed, read_folder, plain_folder, make=folder),
) * (importlib.util.find_spec("datasets") is not None)
