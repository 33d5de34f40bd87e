"""Pieces that are tagged as if each were a word, as the authors' code of many methods trains and decodes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.corpus.tags import TagSet


@dataclass(frozen=True)
class PieceTags:
    """Tags of the pieces that begin no word.

    Attributes:
        later: tag of a word's later pieces; None: the tag of their word.
        start: tag of the special piece before the words.
        end: tag of the special piece behind them.
        unused: further tags of the head that no piece has.
    """

    later: str | None = "X"
    start: str = "[CLS]"
    end: str = "[SEP]"
    unused: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """These tags, each once."""
        return tuple(dict.fromkeys((*filter(None, (self.later, self.start, self.end)), *self.unused)))


def as_pieces(batch: Batch, kinds: PieceTags) -> Batch:
    """The batch in which each piece of the posts' words is a word, and so are the special pieces around them.

    So an encoder has a state for each piece, and a head a tag. Pieces of a second segment are read, but are no words.
    The posts stay as they are.

    Args:
        batch: words as a tower of pieces reads them, not in windows.
        kinds: tags of the pieces that begin no word.

    Raises:
        ValueError: the batch contains no pieces.
    """
    text = batch.text
    if text.piece_word is None or text.first_piece is None or text.attn_mask is None:
        raise ValueError("the batch contains no pieces: it must come from a tower that reads pieces")
    owner = text.piece_word  # (B, n)
    place = torch.arange(owner.shape[1], device=owner.device)
    end = torch.where(owner >= 0, place, 0).amax(1, keepdim=True) + 1  # (B, 1), the special piece behind the words
    mask = text.attn_mask & (place <= end)
    numbers = torch.where(mask, place, -1)
    words = [
        tuple(row[word] if word >= 0 else "" for word in of) for row, of in zip(text.words, owner.tolist(), strict=True)
    ]
    pieces = replace(text, words=words, word_mask=mask, first_piece=numbers, piece_word=numbers)
    tagset = TagSet(batch.tagset.types, kinds.names)
    tags = play = None
    word = owner.clamp_min(0)
    first = (owner >= 0) & (text.first_piece.gather(1, word) == place)
    if batch.tags is not None:
        of_word = batch.tags.gather(1, word)
        later = of_word if kinds.later is None else _number(tagset, kinds.later)
        tags = torch.where(first, of_word, torch.where(owner >= 0, later, _number(tagset, kinds.start)))
        tags = torch.where(place == end, _number(tagset, kinds.end), tags).masked_fill(~mask, 0)
    if batch.play_mask is not None:
        play = mask & ((owner < 0) | batch.play_mask.gather(1, word))
    return replace(batch, text=pieces, tags=tags, play_mask=play, tagset=tagset)


def _number(tagset: TagSet, tag: str) -> int:
    return tagset.tags.index(tag)


def of_words(decoded: Sequence[Sequence[int]], batch: Batch) -> list[list[int]]:
    """Tag numbers of words from those of their pieces: that of the first piece.

    Args:
        decoded: tag numbers of the pieces of each query row.
        batch: the batch of words.

    Returns:
        Numbers of `batch.tagset` for each word of each query row: O for words that the tower did not read, and where a
        first piece has the tag of another kind of piece.
    """
    assert batch.text.first_piece is not None
    known = len(batch.tagset)
    rows = batch.places.queries
    tags = []
    for row, numbers in zip(rows, decoded, strict=True):
        firsts = batch.text.first_piece[row][batch.text.word_mask[row]].tolist()
        words = [numbers[place] if 0 <= place < len(numbers) else 0 for place in firsts]
        tags.append([number if number < known else 0 for number in words])
    return tags


def first_pieces(values: Tensor, batch: Batch) -> Tensor:
    """Values of words from those of their first pieces: (B, n, ...) to (B, W, ...); of no meaning where unread."""
    assert batch.text.first_piece is not None
    first = batch.text.first_piece.clamp_min(0)
    return values[torch.arange(len(first), device=values.device).unsqueeze(1), first]
