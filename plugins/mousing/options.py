"""Options of MOUSING (`--model.X`). Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mnerkit.errors import UsageError
from mnerkit.methods.options import TextOptions
from mnerkit.options import DROPOUT, LAYERS, POSITIVE, SHARE, SIZE, WEIGHT, Range, option


@dataclass(frozen=True, kw_only=True)
class MousingOptions(TextOptions, max_tokens=77, word_pool="mean"):
    """Options of the graph of words and patches, of its environments, and of the objective."""

    vision: str = option(
        "tiny",
        "the vision tower: tiny, a hub name such as openai/clip-vit-large-patch14, or a folder; not used with "
        "image_nodes captions or without images",
    )
    freeze: bool = option(True, "freeze the towers' weights")
    pos_interp: bool = option(
        False, "stretch CLIP's 77 text positions to max_tokens, if that is larger, by linear interpolation"
    )
    trade_off: float = option(
        0.7, "lambda of Eq. 14, the share of the tagging loss; the rest is the divergence's", SHARE
    )
    use_image: bool = option(True, "patches are nodes of the graph")
    image_nodes: Literal["grid_crop", "pooled_tokens", "all_tokens", "captions"] = option(
        "grid_crop",
        "patches are the cells of a grid read one by one (grid_crop), the patch states of the whole picture averaged "
        "over those cells (pooled_tokens), all of them (all_tokens), or the words of the picture's caption (captions)",
    )
    caption_nodes: Literal["words", "content", "phrases"] = option(
        "words",
        "with image_nodes captions: all words of a caption are nodes (words), those that are no English function words "
        "(content), or each run of such words is one, the mean of their states (phrases)",
        since=("0.1.0", "words"),
    )
    image_projection: bool = option(False, "put a trained linear map on image nodes, for towers that share no space")
    text_space: Literal["projected", "hidden"] = option(
        "projected", "words in the space shared with pictures (projected), or the text tower's states (hidden)"
    )
    grid: int = option(3, "rows and columns of cells", LAYERS)
    width: int | None = option(None, "d, width of the graph networks; default: that of the nodes", SIZE)
    hidden: int = option(1024, "hidden width of F_M (Eq. 9)", SIZE)
    kl_width: int = option(128, "classes of F'_M (Eq. 13)", SIZE)
    delta: float = option(0.55, "threshold of the edges (Eq. 2)")
    edge_sim: Literal["minmax_block", "zscore_block", "raw"] = option(
        "minmax_block",
        "compare unchanged cosines with the threshold (raw), or scale those among words, among patches and between the "
        "two separately: from 0 to 1 (minmax_block), or in standard deviations (zscore_block)",
    )
    ste: bool = option(
        False,
        "pass a gradient through the threshold (straight-through) to modules that are trained before the graph: towers "
        "that are not frozen, or the map of image_projection",
    )
    ste_temperature: float = option(
        0.1, "temperature of the sigmoid whose gradient replaces that of the threshold", POSITIVE
    )
    num_env: int = option(2, "environments, 1 or 2", Range(1, 2))
    intervention: Literal["learned", "random", "gaussian"] = option(
        "learned",
        "the second environment has its own networks (learned), or those of the first one on a graph with flipped "
        "edges (random) or noisy nodes (gaussian)",
    )
    flip: float = option(0.1, "probability with which random flips an edge", SHARE)
    noise: float = option(0.1, "standard deviation of gaussian", WEIGHT)
    multiview: bool = option(True, "update the graph (Eq. 5-7); false keeps A' = A")
    num_views: int = option(6, "V of Eq. 6", LAYERS)
    view_weight: Literal["diag", "linear"] = option("diag", "a view weighs the features (diag) or maps them (linear)")
    view_rank: int = option(64, "z, output width of a linear view", SIZE)
    view_shared_across_env: bool = option(True, "both environments use the same views")
    gamma: float = option(0.8, "share of the original graph in Eq. 7", SHARE)
    num_layers: int = option(1, "layers of Eq. 8", LAYERS)
    share_update_gnn_across_env: bool = option(False, "both environments use the same networks in Eq. 8")
    recompute_adj_each_layer: bool = option(False, "Eq. 5-7 before each layer, not once")
    sim_relu: bool = option(True, "clip negative weights of A' before messages are passed")
    adj_norm: Literal["row", "sym", "none"] = option("row", "normalisation of A and A'")
    neighbourhood: Literal["dense", "original", "topk"] = option(
        "dense",
        "messages come from all nodes (dense), along the original edges only (original), or from the nodes of largest "
        "A' (topk)",
    )
    topk: int = option(10, "number of nodes with neighbourhood topk; ties with the last one are included", SIZE)
    graph: Literal["dense", "dgl"] = option(
        "dense",
        "messages as a matrix product (dense), or over lists of edges with the library DGL (dgl, to be installed "
        "separately); both give the same numbers",
    )
    residual: bool = option(
        False,
        "residual connections in the networks of Eq. 4, 8 and 9, so that training starts from the towers' own states; "
        "false is the plain form",
    )
    test_intervention: Literal["keep", "skip"] = option(
        "keep", "at test, keep the networks of Eq. 4, or go straight to Eq. 5 (skip)"
    )
    env_inference: Literal["mean", "g1", "g2"] = option(
        "mean", "the environments that are used at test: the mean of both, the first, or the second"
    )
    kl_mode: Literal["neg_kl", "neg_js", "none"] = option(
        "neg_kl", "minus Kullback-Leibler as printed, minus Jensen-Shannon, or no term (Eq. 13)"
    )
    kl_cap: float | None = option(
        10.0, "the divergence counts up to this many nats; null: unbounded, as printed", POSITIVE
    )
    kl_nodes: Literal["all", "text"] = option("all", "nodes that the divergence is averaged over")
    balance: Literal["losses", "gradients"] = option(
        "losses",
        "lambda weighs the two losses of Eq. 14 (losses), or their gradients on the nodes of Eq. 4, whose norms are "
        "then lambda to 1 - lambda in every step (gradients)",
        since=("0.1.0", "losses"),
    )
    log_gradients: int = option(
        0,
        "every so many training steps, measure the share of Eq. 13: the norm of its weighted gradient over that of the "
        "tagging loss, on the weights of Eq. 4. 0: never",
        Range(0, 1 << 20),
        since=("0.1.0", 0),
    )
    dropout: float = option(0.15, "dropout after each graph layer", DROPOUT)

    def check(self) -> None:
        """Refuse options that need a second environment, a tower's positions or trained nodes without them."""
        super().check()
        if self.kl_mode != "none" and not (self.num_env == 2 and self.intervention == "learned"):
            raise UsageError(
                f"kl_mode {self.kl_mode} needs num_env 2 and intervention learned: without them set kl_mode to none"
            )
        if self.balance == "gradients" and not self.trade_off:
            raise UsageError("balance gradients scales the divergence by the tagging loss: give a trade_off above 0")
        if self.num_env == 1 and (self.intervention != "learned" or self.env_inference == "g2"):
            raise UsageError("this intervention, or env_inference g2, needs a second environment: set num_env to 2")
        if self.ste and self.freeze and not (self.use_image and self.image_projection):
            raise UsageError(
                "ste passes a gradient through the edges, and nothing before them is trained: set freeze to false or "
                "image_projection to true"
            )
        if self.pos_interp and self.text in ("tiny", "tiny-bert", "bilstm"):
            raise UsageError(f"pos_interp stretches the positions of a CLIP; tower {self.text} has none")
