"""The words that are written in pictures, as some program read them (OCR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.picture_texts import PictureTexts
from mnerkit.data.corpus.post import Post
from mnerkit.errors import DataError


class WrittenWords:
    """Words by picture, from a file of lines `<picture>: words`.

    Args:
        path: the file. Pictures that it lacks have no words.
        corpus: whose pictures it is to name.

    Raises:
        DataError: with file and line; or it names no picture of the corpus.
    """

    def __init__(self, path: str, corpus: Corpus) -> None:
        self._texts = PictureTexts(Path(path).expanduser(), ":", "words")
        names = [ref.name for posts in corpus.splits.values() for post in posts for ref in post.images]
        if names and all(self._texts.of(name) is None for name in names):
            raise DataError(
                f"{path} names none of the {len(names)} pictures of {corpus.name}, such as {names[0]!r}.\n"
                "Its lines must be '<picture>: words'."
            )

    def annotated(self, posts: Sequence[Post]) -> list[Post]:
        """The posts with the words of their pictures."""
        return [
            replace(post, images=tuple(replace(ref, text=self._texts.of(ref.name)) for ref in post.images))
            for post in posts
        ]
