"""The documented tokenizer of raw tweets: a text becomes words with character offsets.

The words are cut as the Twitter-2017 files cut them, so that a tagger trained there meets what it knows:

* a URL is one word (`https://t.co/x`), and so is an emoticon that stands alone (`:)`);
* `#` and `@` are words of their own before the tag or the name (`#`, `NBA`);
* a number keeps its inner points, commas and colons (`500,000`, `9.30`);
* letters, digits and `_` run together with their combining marks; every other visible character, an apostrophe, a
  hyphen or an emoji, is a word of its own (`Trump`, `'`, `s`).

Every character that is not white space lands in exactly one word. This module imports neither torch nor numpy.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_WHOLE = re.compile(
    r"""
    https?://[^\s"”<>]+                                     # a URL
  | (?<!\S)[:;=]['-]?[()DPO\]\[/\\|3](?!\S)                 # an emoticon between blanks
  | (?<![\w.,:])\d+(?:[.,:]\d+)+(?!\w)                      # a number with inner punctuation
    """,
    re.VERBOSE,
)
_RUN = re.compile(r"\S+")


def split_text(text: str) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Split raw text into words, with the (start, end) of each in `text`.

    Args:
        text: any text; may be empty.

    Returns:
        The words, and one (start, end) a word such that `text[start:end]` is the word.
    """
    offsets = tuple(_offsets(text))
    return tuple(text[start:end] for start, end in offsets), offsets


def _offsets(text: str) -> Iterator[tuple[int, int]]:
    position = 0
    for whole in _WHOLE.finditer(text):
        yield from _between(text, position, whole.start())
        yield whole.span()
        position = whole.end()
    yield from _between(text, position, len(text))


def _between(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Words of `text[start:end]`, which holds no URL, emoticon or number with inner punctuation."""
    for run in _RUN.finditer(text, start, end):
        begin, in_word = run.start(), False
        for place in range(run.start(), run.end()):
            letter = text[place]
            if place == run.start() or not (in_word and _runs_on(letter)):
                if place > begin:
                    yield begin, place
                begin, in_word = place, letter == "_" or letter.isalnum()
        yield begin, run.end()


def _runs_on(letter: str) -> bool:
    """Whether a letter continues a word: letters, digits, `_`, and combining marks (vowel signs of Hindi, accents)."""
    return letter == "_" or letter.isalnum() or unicodedata.category(letter).startswith("M")
