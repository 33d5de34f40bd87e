"""Text towers that train from scratch in a minute on two cores; they replace BERT on the probe corpus.

`TinyText` is a BiLSTM; `TinyBert` is for methods that use the layers of their text tower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import TextBatch
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.nn.recurrent import run_lstm
from mnerkit.towers.interface import TextStates, TextTower
from mnerkit.towers.text.piece_tower import BertTower
from mnerkit.towers.text.pieces import PieceReader
from mnerkit.towers.text.vocabulary import VocabularyReader
from mnerkit.towers.tiny_sizes import WIDTH


class TinyText(TextTower):
    """Word and shape embeddings, then one BiLSTM; its states are in the joint space with `TinyVision`.

    Results do not depend on padding or on batch mates.

    Args:
        facts: facts about the corpus with the vocabulary.
        width: d of the states, even.
        dropout: dropout of the embeddings.
        forget: share of words that are replaced by the unknown word in training, so that its vector is trained.

    """

    def __init__(self, facts: CorpusFacts, width: int = WIDTH, dropout: float = 0.2, forget: float = 0.05) -> None:
        super().__init__()
        self.spec, self.width, self.forget = "tiny", width, forget
        self.reader = VocabularyReader(facts.words)
        self.word = nn.Embedding(self.reader.n_words, 64, padding_idx=0)
        self.shape = nn.Embedding(self.reader.n_shapes, 32, padding_idx=0)
        self.lstm = nn.LSTM(64 + 32, width // 2, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, text: TextBatch) -> TextStates:
        word_ids, shapes = text.word_ids, text.shapes  # (B, V), V = W plus the second segment
        if word_ids is None or shapes is None:
            raise ValueError("a tiny text tower reads whole words: the batch must come from its own reader")
        if self.training and self.forget:
            forgotten = (torch.rand(word_ids.shape, device=word_ids.device) < self.forget) & (word_ids > 0)
            word_ids = word_ids.masked_fill(forgotten, 1)
        embedded = self.dropout(torch.cat([self.word(word_ids), self.shape(shapes)], -1))  # (B, V, 96)
        states = run_lstm(self.lstm, embedded, (word_ids > 0).sum(1))
        words = states[:, : text.word_mask.shape[1]] * text.word_mask.unsqueeze(-1)  # (B, W, d)
        pooled = words.sum(1) / text.word_mask.sum(1, keepdim=True).clamp_min(1)
        return TextStates(words=words, pooled=pooled)


POSITIONS = 128
# standard deviation of the word embeddings, and amplitude of the position waves
AMPLITUDE = 0.1
# offsets to which the first layer's heads attend, and sharpness of their attention
OFFSETS = (-1, 1, -2, 2)
SHARPNESS = 5.0
UNKNOWN = "[UNK]"
SPECIAL = ("[PAD]", UNKNOWN, "[CLS]", "[SEP]")

# marks from a private plane, which no tweet contains: a word's shape is a separate piece before the word
_BEGIN, _LINK, _MENTION, _NUMBER, _TAG, _CAPITALS, _CAPITALISED, _MIXED = (chr(0xF0000 + each) for each in range(8))
_SHAPES = (_LINK, _MENTION, _NUMBER, _TAG, _CAPITALS, _CAPITALISED, _MIXED)


def tiny_tokenizer(words: Sequence[str]) -> Any:
    """A fast tokenizer of whole words in lower case and shapes of words.

    A link, a mention or a word with digits becomes one piece, its shape. Any other word is a piece, or the unknown
    piece; if it has capitals or is a hashtag, its shape precedes it. Words are looked up in lower case.
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
    # each rule removes the mark at the beginning, so only the first rule that matches a word applies
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
        pad_token_id=0,
    )


class TinyBert(BertTower):
    """BERT's architecture over `tiny_tokenizer`, with new weights.

    From random weights, a transformer needs most of a few thousand posts to learn which words are adjacent, so its
    first heads are initialised to attend to adjacent words (`init_neighbour_heads`). Its states are in the joint space
    with `TinyVision`.

    Attributes:
        forget: share of words that are replaced by the unknown word in training, so that its vector is trained.
    """

    forget = 0.05

    def __init__(self, spec: str, config: Any, reader: PieceReader, **options: Any) -> None:
        """Create a tower of the architecture `config` (`tiny_config`); the rest as in `PieceTower`."""
        from transformers import AutoModel

        super().__init__(spec, AutoModel.from_config(config), reader, **options)
        init_neighbour_heads(self.model)
        self.unknown: int = reader.pad_id

    def with_unknown_words(self, text: TextBatch) -> TextBatch:
        """In training, the batch with some words replaced by the unknown word."""
        ids = text.input_ids
        if not self.training or not self.forget or ids is None:
            return text
        words = ids >= len(SPECIAL) + len(_SHAPES)
        forgotten = words & (torch.rand(ids.shape, device=ids.device) < self.forget)
        return replace(text, input_ids=ids.masked_fill(forgotten, self.unknown))


def init_neighbour_heads(model: Any) -> None:
    """Initialise a BERT so that the heads of its first layer attend to the words before and after.

    Positions are waves (Vaswani et al. 2017, 3.5) in as many columns as a head has, in which words are zero, and the
    queries of the first layer's heads are its keys rotated by one or two places. Values, outputs and the queries of
    later layers get larger weights: with BERT's deviation of 0.02, which suits a width of 768, a prefix has no effect
    for many epochs.
    """
    embeddings, attention = model.embeddings, model.encoder.layer[0].attention
    deviation = model.config.hidden_size**-0.5
    heads = model.config.num_attention_heads
    columns = model.config.hidden_size // heads // 2 * 2
    table = embeddings.position_embeddings.weight
    with torch.no_grad():
        embeddings.word_embeddings.weight.normal_(0.0, AMPLITUDE)
        embeddings.word_embeddings.weight[:, :columns] = 0.0
        embeddings.word_embeddings.weight[0] = 0.0
        table.zero_()
        table[:, :columns] = AMPLITUDE * waves(torch.arange(len(table)), columns)
        for number, layer in enumerate(model.encoder.layer):
            outputs = (layer.attention.self.value, layer.attention.output.dense)
            for linear in outputs if number == 0 else (layer.attention.self.query, *outputs):
                linear.weight.normal_(0.0, deviation)
        size = model.config.hidden_size // heads
        for head, offset in zip(range(heads), OFFSETS, strict=False):
            rows = slice(head * size, head * size + columns)
            for linear, places in ((attention.self.query, offset), (attention.self.key, 0)):
                linear.weight[head * size : (head + 1) * size] = 0.0
                linear.weight[rows, :columns] = SHARPNESS**0.5 * rotation(places, columns)


def waves(places: Tensor, columns: int) -> Tensor:
    """Sine and cosine of each position at evenly spaced rates: (n,) to (n, columns)."""
    angles = places.unsqueeze(-1) * _rates(columns)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def rotation(places: float, columns: int) -> Tensor:
    """The matrix (columns, columns) that maps the waves of a position to those of the position `places` further."""
    blocks = [
        torch.tensor(
            [[math.cos(rate * places), math.sin(rate * places)], [-math.sin(rate * places), math.cos(rate * places)]]
        )
        for rate in _rates(columns).tolist()
    ]
    return torch.block_diag(*blocks)


def _rates(columns: int) -> Tensor:
    # the slow waves of adjacent positions are similar, and the fast ones distinguish them
    return torch.linspace(0.2, 2.5, columns // 2)


def tiny_reader(facts: CorpusFacts, max_tokens: int, second_words: int, word_pieces: int | None = None) -> PieceReader:
    """Create the reader of a new `TinyBert`."""
    return PieceReader(tiny_tokenizer(facts.words), UNKNOWN, max_tokens, second_words, word_pieces)
