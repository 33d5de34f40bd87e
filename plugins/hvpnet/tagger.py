"""Plugin `hvpnet`."""

from __future__ import annotations

import logging

from mnerkit.methods.tagger import PictureTagger
from mnerkit_plugins.hvpnet.model import HvpnetEncoder
from mnerkit_plugins.hvpnet.options import HvpnetOptions

_log = logging.getLogger("mnerkit.methods")

VIEWS = {"both": ("whole", "objects"), "image": ("whole",), "objects": ("objects",)}


class HvpnetTagger(PictureTagger):
    """HVPNet: image and objects as a visual prefix of every layer of the text tower (NAACL 2022 Findings)."""

    plugin = "hvpnet"
    options_class = HvpnetOptions

    def make_encoder(self) -> HvpnetEncoder:
        o = self.options
        others = {"prefix_heads": "released", "pool": "released", "absent": "zeros"}
        if o.layout == "released" and any(getattr(o, name) != value for name, value in others.items()):
            wanted = " ".join(f"--model.{name} {value}" for name, value in others.items())
            _log.warning("--model.layout released: the authors' code also reads as %s (--ablation released)", wanted)
        text = self.make_text()
        return HvpnetEncoder(text, self.make_sight(text), self.options)

    def views(self) -> tuple[str, ...]:
        return VIEWS[self.options.pictures]
