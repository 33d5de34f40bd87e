"""Plugin `hvpnet`."""

from __future__ import annotations

from typing import Any, Literal

from mnerkit.methods.stage_prefix_tagger import StagePrefixTagger
from mnerkit.ranges import COUNT, DROPOUT, check
from mnerkit_plugins.hvpnet.model import HvpnetEncoder

VIEWS = {"both": ("whole", "objects"), "image": ("whole",), "objects": ("objects",)}


class HvpnetTagger(StagePrefixTagger):
    """HVPNet: image and objects as a visual prefix of every layer of the text tower (NAACL 2022 Findings)."""

    plugin = "hvpnet"
    encoder: HvpnetEncoder

    def __init__(
        self,
        pictures: Literal["both", "image", "objects"] = "both",
        prefix_grid: int = 2,
        hidden: int = 800,
        gate: bool = True,
        gate_input: Literal["flat", "mean"] = "flat",
        layout: Literal["proper", "released"] = "proper",
        standardise: bool = False,
        dropout: float = 0.1,
        **training: Any,
    ) -> None:
        """Keep the options.

        Args:
            pictures: the prefix shows the image and its objects, or one of the two.
            prefix_grid: each stage is pooled to this many rows and columns of positions.
            hidden: width between the two maps from stages to keys and values.
            gate: weigh the stages for each layer; false takes their mean.
            gate_input: a gate reads all positions side by side, or their mean (captions always).
            layout: a position holds the channels of one place, or what the reshape of the public code makes of them.
            standardise: bring each channel of the stages to mean 0 and deviation 1 over a batch (not with captions);
                a help for short training.
            dropout: on the word states.
            training: options of `StagePrefixTagger`: towers, limits and training.

        """
        super().__init__(**training)
        check("model", DROPOUT, dropout=dropout)
        check("model", COUNT, prefix_grid=prefix_grid, hidden=hidden)
        self.pictures = pictures
        self.options: dict[str, Any] = {
            "grid": prefix_grid,
            "hidden": hidden,
            "gate": gate,
            "gate_input": gate_input,
            "layout": layout,
            "standardise": standardise,
            "dropout": dropout,
        }

    def make_encoder(self) -> HvpnetEncoder:
        text = self.make_text()
        return HvpnetEncoder(text, self.make_sight(text), pictures=self.pictures, **self.options)

    def views(self) -> tuple[str, ...]:
        return VIEWS[self.pictures]
