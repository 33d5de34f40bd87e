"""Options of the plugin `umgf`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import ObjectOptions, SubwordOptions, TrunkOptions
from mnerkit.options import DROPOUT, LAYERS, SIZE, Range, option


@dataclass(frozen=True, kw_only=True)
class UmgfOptions(ObjectOptions, TrunkOptions, SubwordOptions, max_objects=4):
    """Options of the graph of words and objects."""

    visual: Literal["objects", "regions"] = option(
        "objects", "visual nodes: the objects in the pictures, or the regions of the tower's last map"
    )
    object_width: int | None = option(
        None, "width to which visual vectors are mapped first; default: the vision tower's own", SIZE
    )
    width: int = option(512, "width of the nodes", SIZE)
    hidden: int = option(256, "width between the two maps of the feed-forward networks", SIZE)
    graph_layers: int = option(2, "number of graph layers; the authors' code has 6, the paper 2", LAYERS)
    heads: int = option(8, "heads of the graph's attentions; must divide width", LAYERS)
    dropout: float = option(0.5, "dropout of the graph; the authors' code has 0.4, the paper 0.5", DROPOUT)
    object_attention: Literal["full", "released", "none"] = option(
        "full",
        "attention among objects has four maps, as in the paper; those of queries and keys alone, as in the authors' "
        "code; or is left out",
    )
    links: Literal["both", "to_words", "none"] = option(
        "both", "who takes in the other side's nodes: words and objects, words alone, or nobody, without pictures"
    )
    intake: Literal["sum", "mean"] = option(
        "sum", "what a node takes in: the gated sum over the other side's nodes, or their mean"
    )
    positions: Literal["none", "sine"] = option(
        "none", "sinusoids of their places are added to the words, as in the paper; or none, as in the authors' code"
    )
    share_modalities: bool = option(False, "words and objects go through the same weights in each layer")
    decode_on: Literal["graph", "concat_bert"] = option(
        "concat_bert", "the head reads the graph's words (graph), or the text tower's states beside them"
    )
    rate_decay: float = option(
        1.0,
        "factor of the learning rates after every two epochs; the authors' is 0.8. Needs schedule constant and no "
        "warmup",
        Range(0, 1, above=True),
    )

    def check(self) -> None:
        """Refuse heads that don't divide the width, schedules beside `rate_decay`, weights that can't be shared."""
        super().check()
        if self.width % self.heads:
            raise UsageError(f"--model.heads {self.heads} does not divide the width {self.width}")
        if self.rate_decay != 1 and (self.schedule != "constant" or self.warmup):
            raise UsageError(
                f"--model.rate_decay {self.rate_decay} is a schedule of its own; give schedule constant and warmup 0"
            )
        if self.share_modalities and (self.object_attention == "released" or self.links == "none"):
            raise UsageError("--model.share_modalities true needs object_attention full or none, and links")
