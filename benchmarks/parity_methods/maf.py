"""MAF (xubodhu/MAF)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.methods.tagger import Tagger
from parity_methods.case import Watch
from parity_methods.comparing import At, Ours
from parity_methods.umt import RegionCase


class Method(RegionCase):
    plugin = "maf"
    groups = {"output": {}, "output/eval": {}, "output/partial": {}, "output/odd": {}, "output/none": {}}
    structural = ("subword", "match_pool")

    def options(self, folder: Path) -> dict[str, Any]:
        loss = self.case.config["loss"]
        count = self.case.config["odd_negative_rate" if self.group == "output/odd" else "negative_rate"]
        if self.group == "output/none":
            count = len(self.case["input/labels"])
        weights = {"alpha": loss["lamb"], "tau": loss["temp"], "lambda_c": loss["temp_lamb"]}
        return super().options(folder) | weights | {"negative_count": count}

    def hide_regions(self, encoder: Any) -> None:
        """In the group `output/partial` some regions are hidden."""
        if self.group == "output/partial":
            given, mask = encoder.regions, self.case["input/added_mask_partial"].bool()

            def hidden(batch: Batch) -> Any:
                seen = given(batch)
                return seen._replace(mask=mask[:, : seen.x.shape[1]])

            object.__setattr__(encoder, "regions", hidden)

    def results(self, method: Tagger, batch: Batch) -> dict[str, Ours]:
        encoder: Any = method.encoder
        self.hide_regions(encoder)
        watch = Watch()
        watch.bert(encoder.text.model)
        for name in ("visual", "region_map", "sentence", "align_text", "align_image"):
            watch.module(name, getattr(encoder, name))
        weights = watch.weights("weights", encoder.visual[0].attention)
        watch.method("gate", encoder.gate, "share")
        for name in ("scores", "exchanged", "draw"):
            watch.method(name, encoder, name)
        if self.group != "output/eval":
            method.train()  # dropout is 0
        tagged = self.tagged(method, batch)
        mask, logits, losses = tagged["mask"], watch["scores"], tagged["losses"]

        def of_words(values: Tensor) -> At:
            return At(values, mask)

        def attention_of_words(values: Tensor) -> At:
            return At(values, mask[:, None].expand(-1, values.shape[1], -1))

        emissions = {"emissions": of_words(tagged["emissions"]), "total": tagged["total"]}
        matched: dict[str, Ours] = {
            "match_logits": logits,
            "match_probability": logits.softmax(-1)[:, 1],
            "gate": of_words(watch["gate"]),
            "final_states": of_words(tagged["states"]),
        }
        if self.group == "output/eval":
            return emissions | matched
        totals = {"loss_main": losses["head"], "loss": tagged["total"]}
        seen: dict[str, Ours] = {
            "attention_words_to_regions": attention_of_words(weights()),
            "visual_words": of_words(watch.calls["visual"][0].output),
        }
        if self.group == "output/partial":
            return emissions | totals | seen
        sides = {"loss_match": losses["match"], "loss_align": losses["align"]}
        if self.group != "output":
            return emissions | totals | sides | {"match_logits": logits}
        t, v, o = watch["align_text"], watch["align_image"], encoder.options
        cosines = torch.nn.functional.normalize(t, dim=-1) @ torch.nn.functional.normalize(v, dim=-1).T / o.tau
        pairing, labels, _ = watch["draw"]
        for ours, theirs in ((pairing, "input/pairing"), (labels, "input/match_labels")):
            assert self.sane or encoder.options.draw == "random" or torch.equal(ours, self.case[theirs])
        return (
            emissions
            | matched
            | totals
            | sides
            | seen
            | {
                "text_states": of_words(watch.states(len(encoder.text.model.encoder.layer))),
                "sentence_state": torch.tanh(watch["sentence"]),
                "attention_bert_layer0": attention_of_words(watch.attention(0)),
                "regions": watch["region_map"],
                "projected_text": t,
                "projected_image": v,
                "visual_words_used": of_words(watch["exchanged"]),
                "nce_text_to_image": -cosines.log_softmax(1).diagonal().sum(),
                "nce_image_to_text": -cosines.log_softmax(0).diagonal().sum(),
                **self.decoded(method, batch),
            }
        )

    def decoded(self, method: Tagger, batch: Batch) -> dict[str, Ours]:
        """Tags in evaluation, in which nothing is exchanged."""
        training = method.training
        tags = self.tagged(method.eval(), batch)["decoded"]
        method.train(training)
        return {"tags": tags}
