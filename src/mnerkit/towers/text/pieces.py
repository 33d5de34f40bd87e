"""Words to sub-word pieces by any tokenizer of transformers, with a map from pieces to words."""

from __future__ import annotations

import json
import os
import string
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from mnerkit.data.batches.batch import TextBatch
from mnerkit.errors import TowerError, first_line
from mnerkit.towers.text.slow_tokenizer import Coded, SlowTokenizer, is_packed, packed

# Rows are tokenized once and cached, so threads inside the tokenizer gain nothing, and they warn when a loader forks.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

MAX_CACHED_ROWS = 65_536
_PLAIN = ("?", ".", *string.ascii_lowercase, *string.digits, *string.ascii_uppercase)


class _Cut(NamedTuple):
    """A row of words as pieces: their ids, and the number of pieces of each word (at least one)."""

    ids: np.ndarray
    counts: np.ndarray


class _Frame(NamedTuple):
    """Special pieces around one segment (`start A end`) or two (`start A middle B close`)."""

    start: tuple[int, ...]
    end: tuple[int, ...]
    middle: tuple[int, ...]
    close: tuple[int, ...]


class PieceReader:
    """Turns words into the pieces of a tokenizer: BERT, RoBERTa, CLIP and similar ones; BERTweet and PhoBERT.

    The special pieces and their positions are determined with the tokenizer itself. Words are tokenized one by one, as
    `is_split_into_words` does; text that looks like a special piece (`[SEP]`, `<|endoftext|>`) is read as plain text.
    A word without pieces (a lone no-break space or zero-width space) becomes the unknown piece; if a tokenizer has
    none of its own (CLIP's is also its end of text), the piece of `?` is used.

    A row of more than `max_tokens` pieces is truncated, and words whose first piece is cut off have `first_piece` -1. A
    second segment is truncated first, to the space that the first leaves, and omitted if there is none.

    Attributes:
        max_tokens: maximum number of pieces of a row, special pieces included.
        second_words: maximum number of words of a second segment.
        word_pieces: maximum number of pieces of a word, or None.
        vocabulary: number of piece ids.
    """

    kind = "pieces"

    def __init__(
        self,
        tokenizer: Tokenizer | str,
        unknown: str | None,
        max_tokens: int = 128,
        second_words: int = 24,
        word_pieces: int | None = None,
    ) -> None:
        """Wrap a tokenizer.

        Args:
            tokenizer: a `tokenizers.Tokenizer`, or the text of its `tokenizer.json` (or of a slow one, see
                `slow_tokenizer.packed`).
            unknown: its unknown piece, or None if it has none.
            max_tokens: maximum number of pieces of a row, special pieces included; at least 8.
            second_words: maximum number of words of a second segment.
            word_pieces: maximum number of pieces of a word, its first ones; None: all.

        Raises:
            TowerError: the text is not a tokenizer, or it has no piece for any plain letter.
        """
        source = tokenizer if isinstance(tokenizer, str) else tokenizer.to_str()
        self._source = source if is_packed(source) else _with_prefix_space(source)
        self._tokenizer = _tokenizer_of(self._source)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocabulary = self._tokenizer.get_vocab_size()
        self._unknown_name = unknown
        with _panics_refused():
            self._frame = self._find_frame()
            self._unknown = self._find_unknown(unknown)
        # only from here on: finding the frame needs special pieces, words of a tweet must not become any
        self._tokenizer.encode_special_tokens = True
        if max_tokens < 8:
            raise TowerError(f"max_tokens is {max_tokens}; at least 8 are needed")
        self.max_tokens, self.second_words, self.word_pieces = max_tokens, second_words, word_pieces
        self._cached: dict[tuple[str, ...], _Cut] = {}

    @classmethod
    def of(
        cls, tokenizer: Any, max_tokens: int = 128, second_words: int = 24, word_pieces: int | None = None
    ) -> PieceReader:
        """Create a reader from a transformers tokenizer.

        Raises:
            TowerError: it is a slow one that can't be kept in a checkpoint.
        """
        backend = getattr(tokenizer, "backend_tokenizer", None)
        return cls(
            packed(tokenizer) if backend is None else backend,
            tokenizer.unk_token,
            max_tokens,
            second_words,
            word_pieces,
        )

    @property
    def pad_id(self) -> int:
        """Id of padding; any id works, since padding is masked, and the unknown piece always exists."""
        return self._unknown

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Ids of the special pieces after a single segment (`[SEP]`, `<|endoftext|>`)."""
        return self._frame.end

    def state(self) -> dict[str, Any]:
        """Plain data from which `reader_from_state` rebuilds the reader, without the hub."""
        return {
            "kind": self.kind,
            "tokenizer": self._source,
            "unknown": self._unknown_name,
            "max_tokens": self.max_tokens,
            "second_words": self.second_words,
            "word_pieces": self.word_pieces,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> PieceReader:
        """Rebuild the reader from `state()`."""
        # older checkpoints lack word_pieces
        limits = state["max_tokens"], state["second_words"], state.get("word_pieces")
        return cls(state["tokenizer"], state["unknown"], *limits)

    def __reduce__(self) -> tuple[Any, ...]:
        # a pickled tokenizer would lose the setting that special pieces are plain text (in spawned loader workers)
        return (PieceReader.from_state, (self.state(),))

    def length(self, words: Sequence[str]) -> int:
        """Number of pieces of a single segment of these words, special pieces included, after truncation."""
        cut = self._cut([tuple(words)])[0]
        return min(len(cut.ids) + len(self._frame.start) + len(self._frame.end), self.max_tokens)

    def words_read(self, words: Sequence[str]) -> int:
        """Number of words, from the first on, whose first piece lies within the length limit."""
        counts = self._cut([tuple(words)])[0].counts
        return int((np.cumsum(counts) - counts < self._room()).sum())

    def cuts_second(self, words: Sequence[str], second: Sequence[str]) -> bool:
        """Whether the length limit cuts the second segment of a row, or leaves it out."""
        cut, tail = self._cut([tuple(words), tuple(second)[: self.second_words]])
        return len(tail.ids) > max(0, self._room_beside(len(cut.ids)))

    def windows(self, words: Sequence[str], second: Sequence[str] = ()) -> list[tuple[int, int]]:
        """Spans of words (start and end) that cover a row of which not every word is read; else a single one.

        Each fits into the limit, beside the second segment if that leaves half of it. A window overlaps the one before
        by a quarter of the pieces; the last one begins early enough to be full.
        """
        cut, tail = self._cut([tuple(words), tuple(second)[: self.second_words]])
        room = self._room()
        if len(cut.ids) - sum(cut.counts[-1:]) < room:  # the first piece of the last word is read
            return [(0, len(words))]
        room = max(self._room_beside(len(tail.ids)), room // 2) if len(tail.ids) else room
        edges = np.concatenate([[0], np.cumsum(cut.counts)])  # pieces before each word, and all
        starts = [0]
        while True:
            start = starts[-1]
            # a word with more pieces than there is room is a window of its own
            end = max(start + 1, int(np.searchsorted(edges, edges[start] + room, "right")) - 1)
            if end == len(words):
                break
            # a quarter of overlap, less where the next word would not fit beside it
            least = max(edges[end] - room // 4, edges[end + 1] - room)
            starts.append(max(start + 1, min(end, int(np.searchsorted(edges, least)))))
        if len(starts) > 1:
            starts[-1] = max(starts[-2] + 1, min(starts[-1], int(np.searchsorted(edges, edges[-1] - room))))
        ends = [max(start + 1, int(np.searchsorted(edges, edges[start] + room, "right")) - 1) for start in starts]
        return list(zip(starts, ends, strict=True))

    def _room(self) -> int:
        """Maximum number of pieces of a single segment."""
        return self.max_tokens - len(self._frame.start) - len(self._frame.end)

    def _room_beside(self, length: int) -> int:
        """Number of pieces that a segment of `length` pieces leaves to the other one; below zero if it is too long."""
        start, _, middle, close = self._frame
        return self.max_tokens - len(start) - len(middle) - len(close) - length

    def collate(self, rows: Sequence[Sequence[str]], second: Sequence[Sequence[str]] | None = None) -> TextBatch:
        """Pad rows of words into a batch of pieces.

        Args:
            rows: the words of each row; a row may be empty.
            second: the words of each row's second segment; an empty one leaves its row with one segment.

        Returns:
            The batch, (B, n) pieces and (B, W) words, W at least 1.
        """
        words = [tuple(row) for row in rows]
        tails = [tuple(row)[: self.second_words] for row in second] if second is not None else [()] * len(words)
        cuts, tail_cuts = self._cut(words), self._cut(tails)
        framed = [self._framed(cut, tail) for cut, tail in zip(cuts, tail_cuts, strict=True)]
        size, width = len(words), max([1, *map(len, words)])
        longest = max([1, *(len(ids) for ids, *_ in framed)])
        input_ids = np.full((size, longest), self.pad_id, dtype=np.int64)
        attn_mask = np.zeros((size, longest), dtype=bool)
        type_ids = np.zeros((size, longest), dtype=np.int64)
        piece_word = np.full((size, longest), -1, dtype=np.int64)
        first_piece = np.full((size, width), -1, dtype=np.int64)
        word_mask = np.zeros((size, width), dtype=bool)
        start = len(self._frame.start)
        for row, ((ids, length, second_at), cut) in enumerate(zip(framed, cuts, strict=True)):
            total, count = len(ids), len(cut.counts)
            input_ids[row, :total] = ids
            attn_mask[row, :total] = True
            type_ids[row, second_at:total] = 1
            piece_word[row, start : start + length] = np.repeat(np.arange(count), cut.counts)[:length]
            begins = np.cumsum(cut.counts) - cut.counts
            first_piece[row, :count] = np.where(begins < length, begins + start, -1)
            word_mask[row, :count] = True
        arrays = (word_mask, input_ids, attn_mask, type_ids, piece_word, first_piece)
        tensors: list[Tensor] = [torch.from_numpy(array) for array in arrays]
        return TextBatch(words, *tensors)

    def _framed(self, cut: _Cut, tail: _Cut) -> tuple[np.ndarray, int, int]:
        """Ids of one row, the number of pieces of its first segment, and the start of the second segment."""
        start, end, middle, close = self._frame
        length = len(cut.ids)
        room = self._room_beside(length)
        if len(tail.ids) and room > 0:
            parts = [start, cut.ids, middle, tail.ids[:room], close]
            return _joined(parts), length, len(start) + length + len(middle)
        length = min(length, self._room())
        ids = _joined([start, cut.ids[:length], end])
        return ids, length, len(ids)

    def _cut(self, rows: Sequence[tuple[str, ...]]) -> list[_Cut]:
        """Cut rows into pieces, with a cache."""
        new = [row for row in dict.fromkeys(rows) if row not in self._cached]
        if len(self._cached) + len(new) > MAX_CACHED_ROWS:
            self._cached.clear()
            new = list(dict.fromkeys(rows))
        if new:
            codes = self._tokenizer.encode_batch(new, is_pretokenized=True, add_special_tokens=False)
            self._cached.update((row, self._counted(row, code)) for row, code in zip(new, codes, strict=True))
        return [self._cached[row] for row in rows]

    def _counted(self, row: tuple[str, ...], code: Encoding | Coded) -> _Cut:
        ids = np.asarray(code.ids, dtype=np.int64)
        counts = np.bincount(np.asarray(code.word_ids, dtype=np.int64), minlength=len(row))
        empty = np.flatnonzero(counts == 0)
        if len(empty):
            ids = np.insert(ids, np.cumsum(counts)[empty], self._unknown)
            counts[empty] = 1
        if self.word_pieces is not None:
            # place of each piece within its word
            place = np.arange(len(ids)) - np.repeat(np.cumsum(counts) - counts, counts)
            ids, counts = ids[place < self.word_pieces], np.minimum(counts, self.word_pieces)
        return _Cut(ids, counts)

    def _find_frame(self) -> _Frame:
        code = self._tokenizer
        plain = next((word for word in _PLAIN if code.encode([word], is_pretokenized=True, **_BARE).ids), None)
        if plain is None:
            raise TowerError("the tokenizer has no piece for any plain letter: its vocabulary is empty or not its own")
        one = code.encode([plain], is_pretokenized=True)
        two = code.encode([plain], [plain], is_pretokenized=True)
        (start, end), (_, middle, close) = _around(one, (0,)), _around(two, (0, 1))
        return _Frame(start, end, middle, close)

    def _find_unknown(self, unknown: str | None) -> int:
        number = self._tokenizer.token_to_id(unknown) if unknown is not None else None
        special = {piece for part in self._frame for piece in part}
        if number is not None and number not in special:
            return number
        for word in _PLAIN:
            ids = self._tokenizer.encode([word], is_pretokenized=True, **_BARE).ids
            if len(ids) == 1 and ids[0] not in special:
                return ids[0]
        raise TowerError("the tokenizer has no unknown piece, and none of its plain letters is one piece")


_BARE = {"add_special_tokens": False}


def _tokenizer_of(source: str) -> Any:
    """The tokenizer of a text, fast or slow.

    Raises:
        TowerError: the text is none.
    """
    if is_packed(source):
        return SlowTokenizer.from_str(source)
    try:
        return Tokenizer.from_str(source)
    except Exception as error:  # the Rust side raises bare Exception
        raise TowerError(f"not a tokenizer.json: {first_line(error)}") from None


@contextmanager
def _panics_refused() -> Iterator[None]:
    """Refuse a tokenizer that can be read and not used; the Rust side panics, which is no `Exception`.

    Raises:
        TowerError: with the reason.
    """
    try:
        yield
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":
            raise
        raise TowerError(f"the tokenizer can't be used: {first_line(panic)}") from None


def _around(code: Encoding | Coded, segments: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Special pieces before, between and after the segments of an encoding."""
    parts, start = [], 0
    owners = code.sequence_ids
    for segment in segments:
        at = [place for place, owner in enumerate(owners) if owner == segment]
        parts.append(tuple(code.ids[start : at[0]]))
        start = at[-1] + 1
    length = sum(code.attention_mask)  # the tokenizer's file may turn padding on
    return [*parts, tuple(code.ids[start:length])]


def _joined(parts: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])


def _with_prefix_space(source: str) -> str:
    """Make a byte-level tokenizer (RoBERTa) read every word as if it follows a blank, since words are split already.

    CLIP's byte-level tokenizer marks the end of a word instead and is not changed.
    """
    try:
        settings = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise TowerError(f"not a tokenizer.json: {error}") from None
    pre_tokenizer = settings.get("pre_tokenizer") or {} if isinstance(settings, dict) else {}
    if pre_tokenizer.get("type") != "ByteLevel" or pre_tokenizer.get("add_prefix_space"):
        return source
    pre_tokenizer["add_prefix_space"] = True
    return json.dumps(settings, ensure_ascii=False)
