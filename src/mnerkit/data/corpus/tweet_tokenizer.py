"""The documented tokenizer of raw tweets: a text becomes words with character offsets.

The words are cut as the Twitter-2017 files cut them, so that a tagger trained there meets what it knows:

* a URL is one word (`https://t.co/x`), and so is an emoticon that stands alone (`:)`);
* `#` and `@` are words of their own before the tag or the name (`#`, `NBA`);
* a number keeps its inner points, commas and colons (`500,000`, `9.30`);
* letters, digits and `_` run together with their combining marks; every other visible character, an apostrophe, a
  hyphen or an emoji, is a word of its own (`Trump`, `'`, `s`).

* where the corpus has a character a word, so has a text: Chinese characters and kana are words of their own.

Every character that is not white space lands in exactly one word. This module imports neither torch nor numpy.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

_WHOLE = re.compile(
    r"""
    https?://[^\s"”<>]+                                     # a URL
  | (?<!\S)[:;=]['-]?[()DPO\]\[/\\|3](?!\S)                 # an emoticon between blanks
  | (?<![\w.,:])\d+(?:[.,:]\d+)+(?!\w)                      # a number with inner punctuation
    """,
    re.VERBOSE,
)
# Chinese characters and kana, which are written without blanks
_CHARACTER = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_RUN = re.compile(r"\S+")
_NEEDED = re.compile(r"[:;=]|\d[.,]\d")  # what every match of `_WHOLE` contains; found faster
_PART = re.compile(r"\w+|\S")  # a word of a text in ASCII, which has no combining marks


def split_text(text: str, characters: bool = False) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Split raw text into words, with the (start, end) of each in `text`.

    Args:
        text: any text; may be empty.
        characters: whether each Chinese character or kana is a word, see `has_characters`.

    Returns:
        The words, and one (start, end) a word such that `text[start:end]` is the word.
    """
    offsets = tuple(_offsets(text, characters))
    return tuple(text[start:end] for start, end in offsets), offsets


def has_characters(words: Iterable[str]) -> bool:
    """Whether these words, all different, were cut into characters: those with a Chinese character or kana are one.

    One such word in a hundred may be longer: a name of a user, an address, a slip.
    """
    lengths = [len(word) for word in words if _CHARACTER.search(word)]
    return bool(lengths) and sum(length > 1 for length in lengths) * 100 <= len(lengths)


def _offsets(text: str, characters: bool) -> Iterator[tuple[int, int]]:
    position = 0
    for whole in _WHOLE.finditer(text) if _NEEDED.search(text) else ():
        yield from _between(text, position, whole.start(), characters)
        yield whole.span()
        position = whole.end()
    yield from _between(text, position, len(text), characters)


def _between(text: str, start: int, end: int, characters: bool) -> Iterator[tuple[int, int]]:
    """Words of `text[start:end]`, which holds no URL, emoticon or number with inner punctuation."""
    if text.isascii():
        yield from (part.span() for part in _PART.finditer(text, start, end))
        return
    for run in _RUN.finditer(text, start, end):
        begin, in_word, alone = run.start(), False, False
        for place in range(run.start(), run.end()):
            letter = text[place]
            is_character = characters and _CHARACTER.match(letter) is not None
            if (alone or is_character) and in_word and unicodedata.category(letter).startswith("M"):
                continue
            if place == run.start() or alone or is_character or not (in_word and _runs_on(letter)):
                if place > begin:
                    yield begin, place
                begin, in_word, alone = place, letter == "_" or letter.isalnum(), is_character
        yield begin, run.end()


def _runs_on(letter: str) -> bool:
    """Whether a letter continues a word: letters, digits, `_`, and combining marks (vowel signs of Hindi, accents)."""
    return letter == "_" or letter.isalnum() or unicodedata.category(letter).startswith("M")
