"""Plugin `ocsga`."""

from __future__ import annotations

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import Tagger
from mnerkit_plugins.ocsga.model import OcsgaEncoder
from mnerkit_plugins.ocsga.options import OcsgaOptions


class OcsgaTagger(Tagger):
    """OCSGA: the words of a post attend to the labels of the objects in its picture (ACM MM 2020)."""

    plugin = "ocsga"
    options_class = OcsgaOptions

    def make_encoder(self) -> OcsgaEncoder:
        o = self.options
        words = o.of_bilstm() if o.text == "bilstm" else {}
        tower = self.text_tower("text", o.text, max_tokens=o.max_tokens, word_pool=o.word_pool, **words)
        return OcsgaEncoder(tower, o)

    def needs(self) -> Needs:
        """Labels of objects, or else nouns of captions, read by the text tower's reader."""
        o, reader = self.options, self.towers["text"].reader
        if not o.labels:
            return Needs(reader)
        views = frozenset({"labels"})
        return Needs(reader, views, caption_reader=reader, max_images=o.max_images, max_objects=o.max_labels)
