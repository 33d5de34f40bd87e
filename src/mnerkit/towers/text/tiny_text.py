"""A tiny text tower that trains from scratch in a minute on two cores; BERT's stand-in on the probe corpus."""

from __future__ import annotations

import torch
from torch import nn

from mnerkit.data.batches.batch import TextBatch
from mnerkit.data.corpus.corpus_facts import CorpusFacts
from mnerkit.nn.recurrent import run_lstm
from mnerkit.towers.interface import TextStates, TextTower
from mnerkit.towers.text.vocabulary import VocabularyReader
from mnerkit.towers.tiny_sizes import WIDTH


class TinyText(TextTower):
    """Word and shape embeddings, then one BiLSTM; the joint space with `TinyVision` is that of its states.

    Results do not depend on padding or on batch mates.

    Args:
        facts: gives the vocabulary.
        width: d of the states, even.
        dropout: on embeddings, while training.
        forget: share of words that are read as unknown while training, so that the unknown word is learnt.

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
        word_ids, shapes = text.word_ids, text.shapes  # (B, V), V = W and what a second segment adds
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
