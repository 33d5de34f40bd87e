"""A BERT small enough to train from scratch in a minute: for methods that reach into the layers of their text tower."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mnerkit.data.batch import TextBatch
from mnerkit.data.facts import CorpusFacts
from mnerkit.data.pieces import PieceReader
from mnerkit.encoders.text import BertTower
from mnerkit.encoders.tiny import WIDTH

POSITIONS = 128
UNKNOWN = "[UNK]"
SPECIAL = ("[PAD]", UNKNOWN, "[CLS]", "[SEP]")

# Marks from a private plane, which no tweet holds: a word's shape is a piece of its own before the word.
_BEGIN, _LINK, _MENTION, _NUMBER, _TAG, _CAPITALS, _CAPITALISED, _MIXED = (chr(0xF0000 + each) for each in range(8))
_SHAPES = (_LINK, _MENTION, _NUMBER, _TAG, _CAPITALS, _CAPITALISED, _MIXED)


def tiny_tokenizer(words: Sequence[str]) -> Any:
    """A fast tokenizer that knows whole words in lower case, and of other words their shape.

    A link, a mention or a word with digits is one piece, its shape. Any other word is a piece, or the unknown piece,
    and where it has capitals or is a hashtag its shape stands before it. Known words are looked up in lower case.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {piece: number for number, piece in enumerate((*SPECIAL, *_SHAPES))}
    for word in words:
        vocabulary.setdefault(word.lower(), len(vocabulary))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    rules = (
        (r"(?i:https?:).*", _LINK),
        (r"@.+", _MENTION),
        (r"(?!#).*\p{N}.*", _NUMBER),
        (r"(?=#.)", _TAG),
        (r"(?=(?:\P{L}*\p{Lu}){2,}\P{L}*$)", _CAPITALS),
        (r"(?=\P{L}*\p{Lu}\P{Lu}*$)", _CAPITALISED),
        (r"(?=.*\p{Lu})", _MIXED),
        (r"", ""),
    )
    # each rule takes the mark at the beginning away, so the first that fits a word is the only one
    replaced = [normalizers.Replace(Regex(_BEGIN + pattern), mark) for pattern, mark in rules]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_BEGIN), *replaced, normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(f"[{_SHAPES[0]}-{_SHAPES[-1]}]"), behavior="isolated")
    first, last = ((piece, vocabulary[piece]) for piece in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[first, last]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def tiny_config(vocabulary: int, width: int = WIDTH, layers: int = 3, heads: int = 4) -> Any:
    """The architecture, as a transformers configuration."""
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * width,
        max_position_embeddings=POSITIONS,
        # weights of BERT's size would drown in a width of a hundred
        initializer_range=width**-0.5,
        pad_token_id=0,
    )


class TinyBert(BertTower):
    """BERT's architecture over `tiny_tokenizer`, with new weights.

    Position embeddings start as sines and cosines (Vaswani et al. 2017, 3.5), of which neighbours can be told at once;
    a few thousand posts are too few to learn that from noise. The joint space with `TinyVision` is that of its states.

    Attributes:
        forget: share of words that are read as unknown while training, so that the unknown word is learnt.
    """

    forget = 0.05

    def __init__(self, spec: str, model: Any, reader: PieceReader, **options: Any) -> None:
        """As `PieceTower`."""
        super().__init__(spec, model, reader, **options)
        table = self.model.embeddings.position_embeddings.weight
        with torch.no_grad():
            table.copy_(waves(*table.shape).to(table) * self.config.initializer_range * math.sqrt(2))
        self.unknown: int = reader.pad_id

    def _read(self, text: TextBatch, want_layers: bool, **options: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        ids = text.input_ids
        if self.training and self.forget and ids is not None:
            words = ids >= len(SPECIAL) + len(_SHAPES)
            forgotten = words & (torch.rand(ids.shape, device=ids.device) < self.forget)
            text = replace(text, input_ids=ids.masked_fill(forgotten, self.unknown))
        return super()._read(text, want_layers, **options)


def waves(positions: int, width: int) -> Tensor:
    """Sines and cosines of growing wavelength, (positions, width)."""
    places = torch.arange(positions, dtype=torch.float32).unsqueeze(1)
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.stack([torch.sin(places * rates), torch.cos(places * rates)], -1).flatten(1)[:, :width]


def tiny_reader(facts: CorpusFacts, max_tokens: int, second_words: int) -> PieceReader:
    """The reader of a new `TinyBert`."""
    return PieceReader(tiny_tokenizer(facts.words), UNKNOWN, max_tokens, second_words)
