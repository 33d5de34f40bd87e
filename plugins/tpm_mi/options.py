"""Options of TPM-MI (`--model.X`). Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import AbsentOptions, ImageSetOptions, SubwordOptions
from mnerkit.options import DROPOUT, LAYERS, POSITIVE, SIZE, option


@dataclass(frozen=True, kw_only=True)
class TpmMiOptions(ImageSetOptions, AbsentOptions, SubwordOptions):
    """Options of the layers over the images, and of the network that makes the prefix."""

    # 2: a frozen tower reads an absent picture as one of zeros, as a trained one does; its states were zeros
    behaviour_with: ClassVar[Mapping[tuple[str, Any], int]] = {("absent", "zeros"): 2}

    pooled: Literal["cls", "pooler"] = option(
        "cls",
        "an image's vector is what the vision tower pools (a ViT's class state); or that through a linear map with new "
        "weights and tanh, the pooler of the authors' code, which its checkpoint has no weights for",
        since=("0.1.0", "cls"),
    )
    pos: Literal["order", "none"] = option("order", "position vectors by the order of images, or none")
    place_std: float = option(
        0.02, "deviation of the position vectors at the start; the authors' is 1", POSITIVE, since=("0.1.0", 0.02)
    )
    graph: bool = option(
        True, "let images attend to each other; false passes the image vectors on unchanged", since=("0.1.0", True)
    )
    attend: Literal["images", "posts"] = option(
        "images",
        "an image attends to the images of its post; or posts, a fault of the authors' code: to the images in the same "
        "place of the other posts of the batch, so that a post's tags depend on the posts beside it",
        since=("0.1.0", "images"),
    )
    graph_layers: int = option(1, "transformer layers over the images", LAYERS)
    heads: int = option(8, "attention heads of these layers; must divide the width of the image vectors", LAYERS)
    norm: Literal["pre", "post"] = option(
        "pre",
        "the norms of these layers come before attention and feed-forward network, as in gifr, or after, as in the "
        "authors' code",
        since=("0.1.0", "pre"),
    )
    feedforward: int | None = option(
        None,
        "hidden width of these layers' feed-forward network, the authors' is 2048; default: four times the width",
        SIZE,
        since=("0.1.0", None),
    )
    attention_dropout: float = option(
        0.0, "dropout of these layers' attention; the authors' is 0.1", DROPOUT, since=("0.1.0", 0.0)
    )
    prompt_hidden: int = option(1024, "hidden width of the network that makes keys and values", SIZE)
    prompt_start: Literal["small", "plain"] = option(
        "small",
        "weights of that network's second map start small; or plain, at PyTorch's scale, as the authors' do",
        since=("0.1.0", "small"),
    )
    prefix_positions: Literal["none", "shift"] = option(
        "none",
        "the prefix has no positions; or shift, a fault of the authors' code: the words' positions begin behind it, at "
        "max_images, where BERT was not pretrained to see a text begin",
        since=("0.1.0", "none"),
    )
    dropout: float = option(0.1, "dropout in the layers over the images and on the word states", DROPOUT)
    state_dropout: float | None = option(
        None, "dropout on the word states, the authors' is 0; default: dropout", DROPOUT, since=("0.1.0", None)
    )

    def check(self) -> None:
        """Refuse attention among posts where there is no attention."""
        super().check()
        if self.attend == "posts" and not self.graph:
            raise UsageError("--model.attend posts: nothing attends with --model.graph false; leave out one")
