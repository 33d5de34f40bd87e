"""The cases of the golden tests: what is run, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HEADS = ("softmax", "crf", "prototype", "prototype_crf", "nearest", "struct", "finetune")
TAGGERS = ("bert", "bilstm", "captions", "cross", "gei", "gifr", "gmf", "hvpnet", "mgips_cl", "mousing", "tpm_mi")
# how a method is told to read captions in place of pictures; `captions` reads nothing else, `cross` can't
READS_CAPTIONS: dict[str, dict[str, str]] = {
    "captions": {},
    "gei": {"model.vision": "captions", "model.transformer_heads": "4"},
    "gifr": {"model.vision": "captions"},
    "gmf": {"model.vision": "captions"},
    "hvpnet": {"model.vision": "captions"},
    "mgips_cl": {"model.vision": "captions"},
    "mousing": {"model.image_nodes": "captions"},
    "relevance": {"model.vision": "captions"},
    "tpm_mi": {"model.vision": "captions"},
}
OF_HEAD = {"finetune": {"model.head.steps": "3"}, "struct": {"model.head.tau": "0.1"}}
OF_PLUGIN = {
    # its default trains on a part of the posts
    "relevance": {"data.train_on": "all_train"},
    # fewer posts do not have all eight types of its default corpus
    "mousing": {"data.limit": "24"},
    # its default is episodes, of which these heads learn nothing
    "mousing/softmax": {"data.train_types": "null"},
    "mousing/crf": {"data.train_types": "null"},
}
# more types and posts than the first of the default variant have
FEW_SHOT = {
    "data.variant": "fewshot",
    "data.limit": "60",
    "data.train_types": "PER+LOC+ORG+MISC",
    "data.test_types": "VEH+ANI+FOOD+MUS",
    "test": "",
}
TWO_EPOCHS = {"trainer.max_epochs": "2"}


@dataclass(frozen=True)
class Case:
    """A run to compare with what it computed once.

    Attributes:
        options: of `mnerkit fit`, without dashes.
        splits: whose predictions are compared.
        bert: whether the two-layer BERT takes the place of the text tower.
    """

    options: dict[str, str]
    splits: tuple[str, ...] = ("dev",)
    bert: bool = False

    def all_options(self, bert: Path) -> dict[str, str]:
        """The options, with the folder of the two-layer BERT where the case wants it."""
        return {**self.options, **({"model.text": str(bert)} if self.bert else {})}


def _cases() -> dict[str, Case]:
    made = {"relevance": Case({"plugin": "relevance", **OF_PLUGIN["relevance"]})}
    for plugin in TAGGERS:
        for head in HEADS:
            special = OF_HEAD.get(head, {}) | OF_PLUGIN.get(plugin, {}) | OF_PLUGIN.get(f"{plugin}/{head}", {})
            made[f"{plugin}/{head}"] = Case({"plugin": plugin, "model.head": head, **special})
    for plugin, options in {"bert": {}, **READS_CAPTIONS}.items():
        made[f"two-layer BERT/{plugin}"] = Case({"plugin": plugin, **OF_PLUGIN.get(plugin, {}), **options}, bert=True)
    both = ("dev", "test")
    made["few-shot/mousing"] = Case({"plugin": "mousing", **FEW_SHOT}, both)
    made["few-shot/hvpnet/prototype"] = Case({"plugin": "hvpnet", "model.head": "prototype", **FEW_SHOT}, both)
    tuned = {"model.head": "finetune", "model.head.steps": "2", "model.head.scope": "all", "model.head.layer": "crf"}
    tuned |= {"data.batch_size": "20"}
    made["few-shot/bert/finetune all"] = Case({"plugin": "bert", **tuned, **FEW_SHOT}, both)
    made["resumed/bert"] = Case({"plugin": "bert", **TWO_EPOCHS})
    made["resumed/hvpnet"] = Case({"plugin": "hvpnet", **TWO_EPOCHS})
    return made


CASES = _cases()
