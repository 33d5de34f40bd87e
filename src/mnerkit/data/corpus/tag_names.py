"""Names of tags that are numbers, from a file beside the records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnerkit.data.corpus.records import RecordNotes, tags_key
from mnerkit.data.corpus.text_lines import lines
from mnerkit.errors import DataError
from mnerkit.plain_yaml import front_matter
from mnerkit.strict_json import read_json

# beside records whose tags are numbers, the names of these: one a line from 0; a list, or an object with numbers as
# keys or as values; `id2label` of a model; what the Hugging Face library `datasets` and its hub write
TAG_NAMES = (
    *("labels.txt", "labels.json", "label.json", "config.json", "dataset_info.json", "features.json"),
    *("dataset_infos.json", "README.md", "id2label.json", "label2id.json", "tags.txt", "label_list.txt", "classes.txt"),
)
_WITH_FEATURES = ("dataset_info.json", "features.json", "dataset_infos.json", "README.md")
_MOST_DEPTH = 8  # of what describes one column


class TagNames:
    """Names of tags that are numbers, as data sets of the Hugging Face hub have them, from a file beside the records.

    Args:
        path: the file of records.
        notes: takes from where the names are.
    """

    def __init__(self, path: Path, notes: RecordNotes | None = None) -> None:
        self._path, self._notes = path, notes
        self._found: tuple[Path, list[str]] | None = None

    def named(self, record: Any, where: str) -> Any:
        """The record with names in place of numbers; any other record as it is.

        Raises:
            DataError: no file has names for them, or it is malformed.
        """
        key = tags_key(record)
        tags = record[key] if key else None
        if not key or not tags or not isinstance(tags, list):
            return record
        if all(isinstance(tag, str) and tag.isascii() and tag.isdecimal() and len(tag) < 9 for tag in tags):
            tags = list(map(int, tags))
        if not all(type(tag) is int for tag in tags):
            return record
        if self._found is None:
            self._found = self._read(key)
        file, names = self._found
        if not all(0 <= tag < len(names) for tag in tags):
            others = f", and neither have {', '.join(TAG_NAMES[1:-1])} or {TAG_NAMES[-1]}" if not names else ""
            raise DataError(
                f"{where}: the tags in {key!r} are numbers, and {file} lacks names for some of them{others}.\n"
                "Write the tags into that file, one a line, beginning with that of number 0."
            )
        if self._notes is not None:
            self._notes.take(f"numbers in {key!r} were read by their names in {file.name}", records=1)
        return {**record, key: [names[tag] for tag in tags]}

    def _read(self, key: str) -> tuple[Path, list[str]]:
        files = [file for name in TAG_NAMES if (file := self._path.with_name(name)).is_file()]
        for file in files:
            if file.suffix == ".txt":
                names = [text.strip() for _, text in lines(file) if text.strip()]
            else:
                names = _names_in(front_matter(file) if file.suffix == ".md" else read_json(file), key, file)
            if len(set(names)) < len(names):
                name = next(name for place, name in enumerate(names) if name in names[:place])
                raise DataError(
                    f"{file}: {name[:40]!r} stands there twice, so the numbers behind it would be off by one."
                )
            if names:
                return file, names
        return self._path.with_name(TAG_NAMES[0]), []


def _names_in(content: Any, key: str, file: Path) -> list[str]:
    """The names of tags, from number 0 on, in a file with `content`."""
    if file.name == "config.json":
        content = content.get("id2label") if isinstance(content, dict) else None
        content = [] if content is None else content
    if file.name in _WITH_FEATURES:
        content = _label_names(content, key)
    if isinstance(content, dict):
        pairs = [(value, name) if type(value) is int else (name, value) for name, value in content.items()]
        numbered = {str(number): name for number, name in pairs}
        content = [numbered.get(str(number)) for number in range(len(pairs))]
    if not isinstance(content, list) or not all(isinstance(name, str) for name in content):
        raise DataError(
            f"{file}: expected the names of tags as a list, or as an object with each name's number from 0."
        )
    return content


def _label_names(content: Any, key: str) -> Any:
    """The names of the class labels of a column, as `datasets` describes it: alone, or for each configuration."""
    inner = list(content.values()) if isinstance(content, dict) else []
    places = [content, *inner, *(each for value in inner if isinstance(value, list) for each in value)]
    for place in places:
        for columns in (place.get("features"), place) if isinstance(place, dict) else ():
            if isinstance(columns, list):  # in the YAML of the hub
                columns = {each["name"]: each for each in columns if isinstance(each, dict) and each.get("name") == key}
            if isinstance(columns, dict) and (names := _class_labels(columns.get(key))):
                return names
    return []


def _class_labels(feature: Any) -> Any:
    """The names of a column's class labels: of itself, or of what it is a list of."""
    for _ in range(_MOST_DEPTH):
        if not isinstance(feature, dict):
            return None
        if isinstance(feature.get("names"), dict | list):
            return feature["names"]
        feature = next((feature[key] for key in ("class_label", "feature", "sequence", "list") if key in feature), None)
    return None
