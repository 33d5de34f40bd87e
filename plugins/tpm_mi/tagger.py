"""Plugin `tpm_mi`."""

from __future__ import annotations

from mnerkit.data.batches.piece_words import PieceTags
from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.tpm_mi.model import TpmMiEncoder
from mnerkit_plugins.tpm_mi.options import TpmMiOptions


class TpmMiTagger(PictureTagger):
    """TPM-MI: several images in order as a prefix of BERT (Huang et al. 2024, the predecessor of GIFR)."""

    plugin = "tpm_mi"
    options_class = TpmMiOptions
    released_tags = PieceTags("X", "X", "X")
    encoder: TpmMiEncoder

    def make_encoder(self) -> TpmMiEncoder:
        text = self.make_text()
        return TpmMiEncoder(text, self.make_sight(text), self.options)
