"""Plugin `mousing`."""

from __future__ import annotations

import inspect
from typing import Any, Literal

from mnerkit.data.batches.needs import Needs
from mnerkit.methods.tagger import Tagger
from mnerkit.ranges import COUNT, DROPOUT, POSITIVE, SHARE, WEIGHT, Range, check
from mnerkit_plugins.mousing.model import MousingEncoder

ENCODER_OPTIONS = tuple(
    name for name, each in inspect.signature(MousingEncoder).parameters.items() if each.kind is each.KEYWORD_ONLY
)
VIEWS = {"grid_crop": "grid", "pooled_tokens": "whole", "all_tokens": "whole", "captions": "captions"}


class MousingTagger(Tagger):
    """MOUSING: few-shot tagging over a graph of words and patches, seen in two environments (LREC-COLING 2024)."""

    plugin = "mousing"

    def __init__(
        self,
        text: str = "tiny",
        vision: str = "tiny",
        freeze: bool = True,
        max_tokens: int = 77,
        pos_interp: bool = False,
        word_pool: Literal["first", "mean"] = "mean",
        trade_off: float = 0.7,
        use_image: bool = True,
        image_nodes: Literal["grid_crop", "pooled_tokens", "all_tokens", "captions"] = "grid_crop",
        image_projection: bool = False,
        text_space: Literal["projected", "hidden"] = "projected",
        grid: int = 3,
        width: int | None = None,
        hidden: int = 1024,
        kl_width: int = 128,
        delta: float = 0.55,
        edge_sim: Literal["minmax_block", "zscore_block", "raw"] = "minmax_block",
        ste: bool = False,
        ste_temperature: float = 0.1,
        num_env: int = 2,
        intervention: Literal["learned", "random", "gaussian"] = "learned",
        flip: float = 0.1,
        noise: float = 0.1,
        multiview: bool = True,
        num_views: int = 6,
        view_weight: Literal["diag", "linear"] = "diag",
        view_rank: int = 64,
        view_shared_across_env: bool = True,
        gamma: float = 0.8,
        num_layers: int = 1,
        share_update_gnn_across_env: bool = False,
        recompute_adj_each_layer: bool = False,
        sim_relu: bool = True,
        adj_norm: Literal["row", "sym", "none"] = "row",
        neighbourhood: Literal["dense", "original", "topk"] = "dense",
        topk: int = 10,
        graph: Literal["dense", "dgl"] = "dense",
        residual: bool = False,
        test_intervention: Literal["keep", "skip"] = "keep",
        env_inference: Literal["mean", "g1", "g2"] = "mean",
        kl_mode: Literal["neg_kl", "neg_js", "none"] = "neg_kl",
        kl_cap: float | None = 10.0,
        kl_nodes: Literal["all", "text"] = "all",
        dropout: float = 0.15,
        **training: Any,
    ) -> None:
        """Keep the options; where the paper states a setting, it is the default.

        Args:
            text: the text tower: `tiny`, a hub name such as `openai/clip-vit-large-patch14`, or a folder.
            vision: the vision tower, named likewise; not used with `image_nodes` captions or without images.
            freeze: keep the towers' weights as they are.
            max_tokens: length limit in pieces, special pieces included; CLIP has 77 positions.
            pos_interp: stretch CLIP's text positions to max_tokens where that is more, by linear interpolation.
            word_pool: a word is the mean over its pieces, or the first one.
            trade_off: lambda of Eq. 14, the share of the tagging loss; the rest is the divergence's.
            use_image: patches are nodes of the graph.
            image_nodes: patches are the cells of a grid read one by one (grid_crop), the patch states of the whole
                picture averaged over those cells (pooled_tokens), all of them (all_tokens), or the words of the
                picture's caption (captions).
            image_projection: put a trained linear map on image nodes, for towers that share no space.
            text_space: words as the space shared with pictures has them, or as the text tower leaves them.
            grid: rows and columns of cells.
            width: d, width of the graph networks; default: that of the nodes.
            hidden: hidden width of F_M (Eq. 9).
            kl_width: classes of F'_M (Eq. 13).
            delta: threshold of the edges (Eq. 2).
            edge_sim: cosines meet the threshold as they are (raw), or on a scale of their own among words, among
                patches and between the two: from 0 to 1 (minmax_block), or in standard deviations (zscore_block).
            ste: let a gradient pass the threshold (straight-through), to what is trained before the graph: towers that
                are not frozen, or the map of image_projection.
            ste_temperature: of the sigmoid whose gradient stands in for the threshold's.
            num_env: environments, 1 or 2.
            intervention: the second environment has networks of its own (learned), or the first one's on a graph with
                flipped edges (random) or noisy nodes (gaussian).
            flip: probability with which `random` flips an edge.
            noise: standard deviation of `gaussian`.
            multiview: update the graph (Eq. 5-7); false keeps A' = A.
            num_views: V of Eq. 6.
            view_weight: a view weighs the features (diag) or maps them (linear).
            view_rank: z, output width of a linear view.
            view_shared_across_env: both environments use the same views.
            gamma: share of the original graph in Eq. 7.
            num_layers: layers of Eq. 8.
            share_update_gnn_across_env: both environments use the same networks in Eq. 8.
            recompute_adj_each_layer: Eq. 5-7 before each layer, not once.
            sim_relu: clip negative weights of A' before messages are passed.
            adj_norm: normalisation of A and A'.
            neighbourhood: messages come from all nodes (dense), along the original edges only (original), or from the
                nodes of largest A' (topk).
            topk: how many, with neighbourhood topk; nodes that tie with the last one are kept too.
            graph: messages as a matrix product (dense), or over lists of edges with the library DGL (dgl, to be
                installed besides); both give the same numbers.
            residual: the networks of Eq. 4, 8 and 9 add to what they read, so that training starts from the towers'
                own states; false is the plain form.
            test_intervention: at test, keep the networks of Eq. 4, or go straight to Eq. 5 (skip).
            env_inference: environments that speak at test.
            kl_mode: minus Kullback-Leibler as printed, minus Jensen-Shannon, or no term (Eq. 13).
            kl_cap: the divergence counts up to this many nats; null: unbounded, as printed.
            kl_nodes: nodes that the divergence is averaged over.
            dropout: after each graph layer.
            training: options of `Tagger`.

        """
        given = locals()
        super().__init__(**training)
        check("model", SHARE, trade_off=trade_off, gamma=gamma, flip=flip)
        check("model", DROPOUT, dropout=dropout)
        check("model", WEIGHT, noise=noise)
        check("model", POSITIVE, kl_cap=kl_cap)
        check("model", COUNT, max_tokens=max_tokens, grid=grid, width=width, hidden=hidden, kl_width=kl_width)
        check("model", COUNT, num_views=num_views, view_rank=view_rank, num_layers=num_layers)
        check("model", Range(1, 2), num_env=num_env)
        self.text, self.vision, self.freeze_towers = text, vision, freeze
        self.max_tokens, self.word_pool, self.trade_off = max_tokens, word_pool, trade_off
        self.pos_interp = pos_interp
        self.image_nodes, self.use_image, self.grid = image_nodes, use_image, grid
        self.options = {name: given[name] for name in ENCODER_OPTIONS}

    def make_encoder(self) -> MousingEncoder:
        text = self.text_tower(
            "text",
            self.text,
            freeze=self.freeze_towers,
            max_tokens=self.max_tokens,
            word_pool=self.word_pool,
            pos_interp=self.pos_interp,
        )
        pixels = self.use_image and self.image_nodes != "captions"
        vision = self.vision_tower("vision", self.vision, freeze=self.freeze_towers) if pixels else None
        return MousingEncoder(text, vision, **self.options)

    def needs(self) -> Needs:
        reader = self.towers["text"].reader
        if not self.use_image:
            return Needs(reader=reader)
        return Needs(
            reader=reader,
            views=frozenset({VIEWS[self.image_nodes]}),
            picture=self.towers["vision"].picture if "vision" in self.towers else None,
            grid=self.grid,
            caption_reader=reader if self.image_nodes == "captions" else None,
        )

    def loss_weights(self) -> dict[str, float]:
        """Eq. 14."""
        return {"head": self.trade_off, "kl": 1 - self.trade_off}
