"""Tokenizers of transformers that are written in Python (BERTweet, PhoBERT), behind the interface of the fast ones.

They don't say which word a piece is of, so each word is tokenized on its own; where the tokenizer marks pieces that
follow a blank, the word gets one.
"""

from __future__ import annotations

import base64
import inspect
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mnerkit.data.corpus.corpus_files import safe_name
from mnerkit.errors import DataError, TowerError, first_line, shown

MAX_CACHED_WORDS = 262_144
_AFTER_BLANK = ("\u0120", "\u2581")  # how a piece that follows a blank begins, where blanks count
_SAMPLES = ("a", "Kevin", "don't", "#NBA", "1,000", "\u0111\u01b0\u1ee3c")


class Coded(NamedTuple):
    """An encoding as far as `PieceReader` reads it; the names are those of `tokenizers.Encoding`."""

    ids: list[int]
    word_ids: list[int]
    sequence_ids: list[int | None]
    attention_mask: list[int]


class SlowTokenizer:
    """A Python tokenizer of transformers with what `PieceReader` needs of a `tokenizers.Tokenizer`.

    Special pieces are never read from the text of a word.
    """

    encode_special_tokens = True

    def __init__(self, tokenizer: Any, source: str) -> None:
        """Wrap a tokenizer; `source` is its text, see `packed`."""
        self._tokenizer, self._source = tokenizer, source
        self._cached: dict[str, list[int]] = {}
        # BERT's splits special pieces only if it is asked to here; others never know them here
        asked = "split_special_tokens" in inspect.signature(tokenizer._tokenize).parameters
        self._how = {"split_special_tokens": True} if asked else {}
        self._special = {*tokenizer.all_special_tokens} - {tokenizer.unk_token}
        self._unknown = tokenizer.unk_token or "?"
        self._blank = " " if "".join(tokenizer._tokenize(" a")).startswith(_AFTER_BLANK) else ""

    @classmethod
    def from_str(cls, source: str) -> SlowTokenizer:
        """The tokenizer of a text that `packed` made; nothing but classes of transformers is run.

        Raises:
            TowerError: the text is none of these, or transformers can't make a tokenizer of it.
        """
        import transformers

        try:
            content = json.loads(source)
            kind = getattr(transformers, content["slow"], None)
            files = {safe_name(name, "a tokenizer"): base64.b64decode(text) for name, text in content["files"].items()}
        except (ValueError, KeyError, TypeError, AttributeError, DataError) as problem:
            raise TowerError(f"not a tokenizer of Python: {first_line(problem)}") from None
        if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedTokenizerBase):
            raise TowerError(f"transformers has no tokenizer {shown(content['slow'])}")
        with tempfile.TemporaryDirectory() as folder:
            for name, raw in files.items():
                (Path(folder) / Path(name).name).write_bytes(raw)
            try:
                return cls(kind.from_pretrained(folder), source)
            except Exception as problem:  # whatever the tokenizer makes of damaged files
                raise TowerError(f"not a {shown(content['slow'])}: {first_line(problem)}") from None

    def to_str(self) -> str:
        """The text that `from_str` reads."""
        return self._source

    def get_vocab_size(self) -> int:
        """Number of piece ids."""
        return len(self._tokenizer)

    def token_to_id(self, token: str) -> int | None:
        """The id of a piece; None if there is none."""
        found = self._tokenizer.get_vocab().get(token)
        return None if found is None else int(found)

    def no_truncation(self) -> None:
        """Nothing is truncated anyway."""

    def no_padding(self) -> None:
        """Nothing is padded anyway."""

    def encode_batch(
        self, rows: Sequence[Sequence[str]], is_pretokenized: bool = True, add_special_tokens: bool = True
    ) -> list[Coded]:
        """`encode` of each row of words."""
        return [self.encode(row, None, is_pretokenized, add_special_tokens) for row in rows]

    def encode(
        self,
        words: Sequence[str],
        second: Sequence[str] | None = None,
        is_pretokenized: bool = True,
        add_special_tokens: bool = True,
    ) -> Coded:
        """Pieces of words, and of a second segment; special pieces around them.

        Raises:
            TowerError: the special pieces can't be told from the others.
        """
        cuts = [self._pieces(word) for word in words]
        own = [piece for cut in cuts for piece in cut]
        numbers = [number for number, cut in enumerate(cuts) for _ in cut]
        if not add_special_tokens:
            return Coded(own, numbers, [0] * len(own), [1] * len(own))
        other = [piece for word in second or () for piece in self._pieces(word)]
        ids = list(self._tokenizer.build_inputs_with_special_tokens(own, *([other] if second is not None else [])))
        plain = {*own, *other}
        places = [place for place, number in enumerate(ids) if number in plain]
        if [ids[place] for place in places] != own + other:
            raise TowerError("the tokenizer's special pieces are pieces of words, too")
        owners: list[int | None] = [None] * len(ids)
        for rank, place in enumerate(places):
            owners[place] = int(rank >= len(own))
        return Coded(ids, numbers, owners, [1] * len(ids))

    def _pieces(self, word: str) -> list[int]:
        if word not in self._cached:
            if len(self._cached) >= MAX_CACHED_WORDS:
                self._cached.clear()
            text, _ = self._tokenizer.prepare_for_tokenization(self._blank + word)
            pieces = self._tokenizer._tokenize(text, **self._how)
            pieces = [self._unknown if piece in self._special else piece for piece in pieces]
            self._cached[word] = list(self._tokenizer.convert_tokens_to_ids(pieces))
        return self._cached[word]


def is_packed(source: str) -> bool:
    """Whether a text is one that `packed` made."""
    return source.startswith('{"slow"')


def packed(tokenizer: Any) -> str:
    """A Python tokenizer of transformers as a text: its class and its files.

    The vocabulary's files are those that it was read from: not every class writes what it reads.

    Raises:
        TowerError: the tokenizer that is made of the text cuts words otherwise.
    """
    kind = type(tokenizer).__name__
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for key, name in tokenizer.vocab_files_names.items():
            read_from = getattr(tokenizer, key, None)
            if isinstance(read_from, str) and Path(read_from).is_file():
                (Path(folder) / name).write_bytes(Path(read_from).read_bytes())
        files = {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}
    content = {"slow": kind, "files": {name: base64.b64encode(raw).decode() for name, raw in files.items()}}
    source = json.dumps(content)
    again = SlowTokenizer.from_str(source)
    own = SlowTokenizer(tokenizer, source)
    if any(again.encode([word]).ids != own.encode([word]).ids for word in _SAMPLES):
        raise TowerError(f"{kind} can't be kept in a checkpoint: saved and loaded, it cuts words otherwise")
    return source
