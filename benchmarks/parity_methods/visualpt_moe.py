"""VisualPT-MoE (xubodhu/VisualPT-MoE)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.piece_words import PieceTags, as_pieces
from mnerkit.methods.tagger import Tagger
from mnerkit.towers.interface import VisionTower
from mnerkit_plugins.visualpt_moe.model import Source
from parity_methods.base import ParityMethod, of_first_pieces, padded
from parity_methods.case import TableTower, Watch, bert_config, first_pieces_of, tower_folder, words_batch
from parity_methods.comparing import At, Ours

# what the experts read
SOURCES = {
    "image": "main_features",
    "objects": "aux_features",
    "labels": "tag_embeddings",
    "caption": "caption_embeddings",
}


class Method(ParityMethod):
    plugin = "visualpt_moe"
    head = {"name": "softmax"}
    groups = {"output": {}, "quiet": {}, "text_router": {"router": "text"}}
    gradients = {"grad": "output", "grad_quiet": "quiet", "grad_text_router": "text_router"}

    def options(self, folder: Path) -> dict[str, Any]:
        weights, heads = self.case.weights, self.case.sized("bert_heads", "heads")
        return {
            "text": tower_folder(folder, bert_config(weights, "bert", heads)),
            "max_tokens": self.case["input/labels"].shape[1],
            "alpha": self.case.sized("alpha"),
        }

    def vision(self) -> VisionTower:
        # the case gives rows of pooled stages; see `sources`
        width = self.case["input/main_features"].shape[2]
        return TableTower(stages=[torch.zeros(1, width, 1, 1)])

    def batch(self) -> Batch:
        case = self.case
        ids, mask = case["input/input_ids"], case["input/attention_mask"]
        firsts = first_pieces_of(case["input/word_starts"], ids.shape)
        return words_batch(ids, mask, firsts, case["input/labels"], case.tags, self.types)

    def sources(self, encoder: Any, batch: Batch) -> dict[str, Source]:
        """The rows that the case gives, and the learnt ones."""
        case = self.case
        rows = {name: case[f"input/{given}"] for name, given in SOURCES.items()}
        real = {name: rows[name].ne(0).any(-1) for name in ("image", "objects")}
        real |= {"labels": case["input/tag_ids"] != 0, "caption": case["input/caption_ids"] != 0}
        return {name: Source(each, real[name]) for name, each in rows.items()} | {"random": encoder.of_random(batch)}

    def compute(self) -> dict[str, Ours]:
        """Extend `ParityMethod`: what the other groups compute is among `output`, under names of their own."""
        runs = ("quiet/", "text_router/")
        everything = super().compute().items()
        return {f"output/{name.split('/')[1]}" if name.startswith(runs) else name: each for name, each in everything}

    def results(self, method: Tagger, batch: Batch) -> dict[str, Ours]:
        encoder: Any = method.encoder
        head: Any = method.head
        object.__setattr__(encoder, "sources", lambda given: self.sources(encoder, given))
        if self.group == "output":
            object.__setattr__(encoder, "noise", lambda layer, _: self.case["input/gate_noise"][layer])
        watch = Watch()
        watch.bert(encoder.text.model)
        for name, expert in encoder.experts.items():
            watch.module(("expert", name), expert)
        for number, router in enumerate(encoder.routers):
            watch.module(("router", number), router)
        watch.method("text", encoder.text, "forward")
        # words are tagged, and the case has states and emissions of all pieces
        encoded = encoder(batch, trace=True)
        losses, count = method.losses_of(encoded, batch), batch.text.word_mask.sum()
        pieces = as_pieces(batch, PieceTags())
        states = encoder(pieces).states[0]
        mask = pieces.text.word_mask
        order = self.order(method)
        emissions = head.linear(states)
        emissions = torch.zeros_like(emissions).index_copy(-1, order, emissions)
        # released losses are sums over words, and over posts
        tagging, balance = losses["head"] * count, losses["balance"] * len(batch)
        weights = method.loss_weights()
        total = weights["head"] * tagging + weights["balance"] * balance
        route = encoded.trace["route"]
        before = {"output": "", "quiet": "quiet_", "text_router": "text_router."}[self.group]
        results: dict[str, Ours] = {
            f"{before}states": At(states, mask),
            f"{before}emissions": At(emissions, mask),
            f"{before}loss": total,
            f"{before}moe_loss": balance,
            "total": total,
        }
        layers = range(encoder.layers)
        if self.group == "text_router":
            return results | {f"{before}layer{number}.route": route[:, number] for number in layers}
        for number in layers:
            results[f"layer{number}.{before}route"] = route[:, number]
            results[f"layer{number}.{before}states"] = At(watch.states(number + 1), mask)
        if self.group == "quiet":
            decoded = order[emissions[..., order].argmax(-1)].masked_fill(~mask, -1)
            words = of_first_pieces(decoded, self.case["input/word_starts"])
            by_head = padded([order[row].tolist() for row in head.decode(encoded, batch)], words.shape)
            assert torch.equal(words, by_head)  # the head tags the words as it tags their first pieces
            return results | {"eval_loss": weights["head"] * tagging, "decoded": decoded, "decoded_words": words}
        results |= {"ce_loss": tagging, "embeddings": At(watch.states(0), mask)}
        prefix = watch.calls["text"][-1].kwargs["prefix"]
        for number in layers:
            pairs = [watch["expert", name] for name in encoder.names]
            split = [[self.by_head(encoder, pair[part][number]) for pair in pairs] for part in (0, 1)]
            results[f"layer{number}.experts"] = torch.stack([torch.stack(part) for part in split])
            parts = (prefix.keys[number], prefix.values[number])
            results[f"layer{number}.prefix"] = torch.stack([self.by_head(encoder, part) for part in parts])
            results[f"layer{number}.gate_input"] = watch.calls["router", number][-1].args[0]
            results[f"layer{number}.gate_logits"] = watch["router", number]
        results["layer0.attention"] = At(watch.attention(0), mask[:, None].expand(-1, encoder.heads, -1))
        return results

    def by_head(self, encoder: Any, rows: Tensor) -> Tensor:
        """(B, P, d) to (B, heads, P, d / heads)."""
        return rows.unflatten(-1, (encoder.heads, -1)).transpose(1, 2)
