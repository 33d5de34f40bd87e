"""The classic tower, which needs no download: word vectors, characters, and a BiLSTM.

Characters are read by a CNN as in CNN-BiLSTM-CRF (Ma and Hovy 2016, section 2.1), or by an LSTM as in HBiLSTM-CRF
(Lample et al. 2016, section 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from mnerkit.data.batches.batch import TextBatch
from mnerkit.errors import TowerError
from mnerkit.nn.recurrent import run_lstm
from mnerkit.strict_json import number
from mnerkit.towers.interface import TextStates, TextTower
from mnerkit.towers.text.vocabulary import VocabularyReader

Chars = Literal["none", "cnn", "lstm"]

CHAR_VECTOR = 30
CHAR_WINDOW = 3
MAX_VECTOR_LINE = 1 << 16


class CharCnn(nn.Module):
    """Character vectors, a convolution of window 3, and max pooling over the word."""

    def __init__(self, characters: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, CHAR_VECTOR, padding_idx=0)
        self.convolution = nn.Conv1d(CHAR_VECTOR, width, CHAR_WINDOW, padding=CHAR_WINDOW // 2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, chars: Tensor) -> Tensor:
        """(N, C) character numbers, 0 pads, to (N, width)."""
        embedded = self.dropout(self.embedding(chars)).transpose(1, 2)  # (N, e, C)
        channels = self.convolution(embedded).masked_fill((chars == 0).unsqueeze(1), float("-inf"))  # (N, width, C)
        return channels.amax(-1)


class CharLstm(nn.Module):
    """Character vectors through a BiLSTM; the last state of each direction."""

    def __init__(self, characters: int, width: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, CHAR_VECTOR, padding_idx=0)
        self.lstm = nn.LSTM(CHAR_VECTOR, width // 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, chars: Tensor) -> Tensor:
        """(N, C) character numbers, 0 pads, to (N, width)."""
        lengths = (chars > 0).sum(1).cpu()
        embedded = self.dropout(self.embedding(chars))  # (N, C, e)
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        _, (last, _) = self.lstm(packed)  # (2, N, width / 2)
        return torch.cat([last[0], last[1]], -1)


class BiLstmTower(TextTower):
    """Word vectors with shape and character features, through a BiLSTM.

    Args:
        words: the vocabulary (training words).
        chars: how characters are read.
        width: d of the states, both directions together; even.
        word_width: width of word vectors; a file of vectors overrides it.
        char_width: width of the character features; even.
        dropout: dropout of the LSTM's input and of character vectors.
        forget: share of words that are replaced by the unknown word in training, so that its vector is trained.
        vectors: a text file of pretrained word vectors (GloVe's format: on each line a word and its numbers).

    Raises:
        TowerError: the file of vectors is missing or malformed, or contains none of the words.

    """

    def __init__(
        self,
        words: Sequence[str],
        chars: Chars = "cnn",
        width: int = 200,
        word_width: int = 100,
        char_width: int = 50,
        dropout: float = 0.5,
        forget: float = 0.05,
        vectors: str | None = None,
    ) -> None:
        super().__init__()
        self.spec, self.width, self.forget = "bilstm", width, forget
        self.reader = VocabularyReader(words)
        pretrained = read_vectors(Path(vectors), self.reader.words) if vectors else None
        word_width = pretrained[0].shape[1] if pretrained else word_width
        self.word_width = word_width
        self.word = nn.Embedding(self.reader.n_words, word_width, padding_idx=0)
        with torch.no_grad():
            self.word.weight[1:].uniform_(-((3 / word_width) ** 0.5), (3 / word_width) ** 0.5)
            if pretrained:
                self.word.weight[pretrained[1]] = pretrained[0]
        self.shape = nn.Embedding(self.reader.n_shapes, 10, padding_idx=0)
        readers = {"cnn": CharCnn, "lstm": CharLstm}
        self.chars = readers[chars](self.reader.n_chars, char_width, dropout) if chars != "none" else None
        inputs = word_width + 10 + (char_width if self.chars is not None else 0)
        self.lstm = nn.LSTM(inputs, width // 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, text: TextBatch) -> TextStates:
        word_ids, shapes = text.word_ids, text.shapes  # (B, V), V = W plus the second segment
        if word_ids is None or shapes is None or text.chars is None:
            raise ValueError("a BiLSTM tower reads whole words: the batch must come from its own reader")
        mask = word_ids > 0
        if self.training and self.forget:
            forgotten = (torch.rand(word_ids.shape, device=word_ids.device) < self.forget) & mask
            word_ids = word_ids.masked_fill(forgotten, 1)
        parts = [self.word(word_ids), self.shape(shapes)]
        if self.chars is not None:
            parts.append(self._spelling(text.chars, mask))
        embedded = self.dropout(torch.cat(parts, -1))  # (B, V, e)
        states = run_lstm(self.lstm, embedded, mask.sum(1))
        words = states[:, : text.word_mask.shape[1]] * text.word_mask.unsqueeze(-1)  # (B, W, d)
        return TextStates(words, words.sum(1) / text.word_mask.sum(1, keepdim=True).clamp_min(1))

    def _spelling(self, chars: Tensor, mask: Tensor) -> Tensor:
        """(B, V, C) characters to (B, V, char_width), zeros where padded; only real words are read."""
        assert self.chars is not None
        flat = mask.flatten()
        at = flat.nonzero().squeeze(-1)
        if not len(at):
            at = flat.new_zeros(1, dtype=torch.long)
        letters = chars.flatten(0, 1)[at]
        letters[:, 0].clamp_(min=1)  # a word has at least one character
        features = self.chars(letters)  # (N, char_width)
        out = features.new_zeros(len(flat), features.shape[-1]).index_copy(0, at, features)
        return (out * flat.unsqueeze(-1)).view(*mask.shape, -1)


def read_vectors(path: Path, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Read the vectors of a vocabulary's words from a text file (GloVe's format).

    Args:
        path: a UTF-8 file with a word and its numbers, separated by blanks, on each line; a first line of two numbers
            (word2vec's format) is skipped.
        words: a vocabulary in lower case; word i has number i + 2.

    Returns:
        (N, e) vectors, and (N,) the numbers of their words.

    Raises:
        TowerError: the file is missing, malformed or not UTF-8, or contains none of the words.

    """
    numbers_of = {word: number for number, word in enumerate(words, start=2)}
    vectors: dict[int, list[float]] = {}
    width = 0
    try:
        with path.open("rb") as file:
            for line, raw in enumerate(iter(lambda: file.readline(MAX_VECTOR_LINE), b""), start=1):
                # some words of GloVe contain blanks
                word, *numbers = raw.decode("utf-8").rstrip().rsplit(" ", width or -1)
                if line == 1 and len(numbers) == 1:
                    continue
                width = width or len(numbers)
                if len(numbers) != width or width < 2:
                    raise TowerError(f"{path}:{line}: {len(numbers)} numbers after the word; expected {max(width, 2)}")
                place = numbers_of.get(word.lower())
                # "The" and "the" share a number: the spelling in lower case wins
                if place is not None and (place not in vectors or word == word.lower()):
                    vectors[place] = [number(value) for value in numbers]
    except OSError as error:
        raise TowerError(f"word vectors {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise TowerError(f"{path}:{line}: not UTF-8; give a text file in GloVe's form") from None
    except ValueError:
        raise TowerError(f"{path}:{line}: a value is not a number; give a text file in GloVe's form") from None
    if not vectors:
        raise TowerError(f"word vectors {path}: none of the {len(words)} training words is in it")
    return torch.tensor(list(vectors.values())), torch.tensor(list(vectors))
