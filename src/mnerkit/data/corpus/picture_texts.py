"""Files that say something of pictures in words: captions, or the words that are written in a picture."""

from __future__ import annotations

from pathlib import Path

from mnerkit.data.corpus.text_lines import lines
from mnerkit.errors import DataError


class PictureTexts:
    """A file with a picture and its text on each line.

    Args:
        path: the file.
        separator: stands between the two, ` :` or `:`.
        what: what the text is, for messages.

    Raises:
        DataError: with file and line: a line without separator, or two texts of one picture.
    """

    def __init__(self, path: Path, separator: str, what: str) -> None:
        self.path = path
        self.texts: dict[str, str] = {}
        for number, line in lines(path):
            name, found, text = line.partition(separator)
            if line.strip() and not found:
                raise DataError(f"{path}:{number}: expected '<picture>{separator}<{what}>', found {line[:60]!r}.")
            if found and self.texts.setdefault(name, text) != text:
                raise DataError(f"{path}:{number}: another {what} of {name[:80]!r} than above; keep one.")

    def of(self, name: str, default: str | None = None) -> str | None:
        """The text of the picture of that name.

        A file of Twitter-2017 also serves the merged release, which marks those names.
        """
        return self.texts.get(name, self.texts.get(name.removeprefix("twitter2017-"), default))
