"""Plugin `bert`."""

from __future__ import annotations

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import Tagger
from mnerkit_plugins.bert.model import BertEncoder
from mnerkit_plugins.bert.options import BertOptions


class BertTagger(Tagger):
    """A text tower and a head: BERT, BERT-CRF, BERT-BiLSTM-CRF, and the same with RoBERTa."""

    plugin = "bert"
    options_class = BertOptions

    def make_encoder(self) -> BertEncoder:
        o = self.options
        tower = self.text_tower("text", o.text, freeze=o.freeze, max_tokens=o.max_tokens, word_pool=o.word_pool)
        return BertEncoder(tower, o)

    def needs(self) -> Needs:
        return Needs(reader=self.towers["text"].reader)
