"""Plugin `bilstm`."""

from __future__ import annotations

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import Tagger
from mnerkit_plugins.bilstm.model import BilstmEncoder
from mnerkit_plugins.bilstm.options import BilstmOptions


class BilstmTagger(Tagger):
    """Word vectors, characters by CNN or LSTM, a BiLSTM, and a head: BiLSTM-CRF, CNN-BiLSTM-CRF, HBiLSTM-CRF."""

    plugin = "bilstm"
    options_class = BilstmOptions

    def make_encoder(self) -> BilstmEncoder:
        tower = self.text_tower("text", "bilstm", **self.options.of_bilstm())
        return BilstmEncoder(tower, self.options)

    def needs(self) -> Needs:
        return Needs(reader=self.towers["text"].reader)
