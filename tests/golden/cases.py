"""The cases of the golden tests: what is run, by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

HEADS = ("softmax", "crf", "prototype", "prototype_crf", "nearest", "struct", "finetune")
TAGGERS = (
    "adacan",
    "bert",
    "bilstm",
    "captions",
    "cross",
    "gei",
    "gifr",
    "gmf",
    "gvatt",
    "hvpnet",
    "ita",
    "maf",
    "mgips_cl",
    "mkgformer",
    "mousing",
    "ocsga",
    "tpm_mi",
    "umgf",
    "umt",
    "vec_mner",
    "visualpt_moe",
)
# how a method is told to read captions in place of pictures; `captions`, `ita` and `ocsga` read nothing else, `cross`
# can't
READS_CAPTIONS: dict[str, dict[str, str]] = {
    "adacan": {"model.vision": "captions"},
    "captions": {},
    "gei": {"model.vision": "captions", "model.transformer_heads": "4"},
    "gifr": {"model.vision": "captions"},
    "gmf": {"model.vision": "captions"},
    "gvatt": {"model.vision": "captions"},
    "hvpnet": {"model.vision": "captions"},
    "ita": {},
    "ocsga": {},
    "maf": {"model.vision": "captions"},
    "mgips_cl": {"model.vision": "captions"},
    "mkgformer": {"model.vision": "captions"},
    "mousing": {"model.image_nodes": "captions"},
    "relevance": {"model.vision": "captions"},
    "tpm_mi": {"model.vision": "captions"},
    "umgf": {"model.vision": "captions"},
    "umt": {"model.vision": "captions"},
    "vec_mner": {"model.vision": "captions"},
    "visualpt_moe": {"model.vision": "captions"},
}
OF_HEAD = {"finetune": {"model.head.steps": "3"}, "struct": {"model.head.tau": "0.1"}}
# Where its vision tower is frozen a method starts from tiny towers that were trained together, in some hundred steps in
# which rounding grows. Here towers train along; `frozen/` has cases of the default, with a wider tolerance.
OF_PLUGIN = {
    "adacan": {"model.freeze_vision": "false"},
    "gei": {"model.freeze_vision": "false"},
    "gifr": {"model.freeze_vision": "false"},
    "gmf": {"model.freeze_vision": "false"},
    "gvatt": {"model.freeze_vision": "false"},
    "hvpnet": {"model.freeze_vision": "false"},
    # fewer posts do not have all eight types of its default corpus
    # and its first default balanced losses; `ours` has a case of its own below
    "mousing": {
        "model.freeze": "false",
        "data.limit": "24",
        "data.batch_size": "8",
        "model.balance": "losses",
        "model.trade_off": "0.7",
        "model.kl_mode": "neg_kl",
        "model.kl_cap": "10",
        "model.caption_nodes": "words",
    },
    # its default trains on a part of the posts
    "relevance": {"model.freeze": "false", "data.train_on": "all_train"},
    "tpm_mi": {"model.freeze_vision": "false"},
}
# its default is episodes, of which these heads learn nothing
OF_BOTH = {"mousing/softmax": {"data.train_types": "null"}, "mousing/crf": {"data.train_types": "null"}}
# the default of their vision tower
FROZEN = {
    "gei": {"model.freeze_vision": "true"},
    "hvpnet": {"model.freeze_vision": "true"},
    "mousing": {"model.freeze": "true"},
    "relevance": {"model.freeze": "true"},
}
# more types and posts than the first of the default variant have
FEW_SHOT = {
    "data.variant": "fewshot",
    "data.limit": "60",
    "data.train_types": "PER+LOC+ORG+MISC",
    "data.test_types": "VEH+ANI+FOOD+MUS",
    "test": "",
}
# so that each has a say in six steps
OPTIMISER = {
    "model.warmup": "0.4",
    "model.weight_decay": "10",
    "model.tower_lr": "1e-3",
    "model.lr": "2e-3",
    "model.head_lr": "1e-2",
}
TWO_EPOCHS = {"trainer.max_epochs": "2"}


@dataclass(frozen=True)
class Case:
    """A run to compare with what it computed once.

    Attributes:
        options: of `mnerkit fit`, without dashes.
        splits: whose predictions are compared.
        bert: whether the two-layer BERT takes the place of the text tower.
        tolerance: how far losses may be from the golden ones, relatively.
    """

    options: dict[str, str]
    splits: tuple[str, ...] = ("dev",)
    bert: bool = False
    tolerance: float = 1e-3

    def all_options(self, bert: Path) -> dict[str, str]:
        """The options, with the folder of the two-layer BERT where the case wants it."""
        return {**self.options, **({"model.text": str(bert)} if self.bert else {})}


def _cases() -> dict[str, Case]:
    made = {"relevance": Case({"plugin": "relevance", **OF_PLUGIN["relevance"]})}
    for plugin in TAGGERS:
        for head in HEADS:
            special = OF_HEAD.get(head, {}) | OF_PLUGIN.get(plugin, {}) | OF_BOTH.get(f"{plugin}/{head}", {})
            made[f"{plugin}/{head}"] = Case({"plugin": plugin, "model.head": head, **special})
    for plugin, options in {"bert": {}, **READS_CAPTIONS}.items():
        made[f"two-layer BERT/{plugin}"] = Case({"plugin": plugin, **OF_PLUGIN.get(plugin, {}), **options}, bert=True)
    for plugin, options in FROZEN.items():
        made[f"frozen/{plugin}"] = Case({"plugin": plugin, **OF_PLUGIN[plugin], **options}, tolerance=0.1)
    both = ("dev", "test")
    made["few-shot/mousing"] = Case({"plugin": "mousing", **OF_PLUGIN["mousing"], **FEW_SHOT}, both)
    ours = {"model.freeze": "false", "ablation": "ours"}
    made["few-shot/mousing/ours"] = Case({"plugin": "mousing", **ours, **FEW_SHOT}, both)
    hvpnet = {"plugin": "hvpnet", **OF_PLUGIN["hvpnet"]}
    made["few-shot/hvpnet/prototype"] = Case({**hvpnet, "model.head": "prototype", **FEW_SHOT}, both)
    tuned = {"model.head": "finetune", "model.head.steps": "2", "model.head.scope": "all", "model.head.layer": "crf"}
    tuned |= {"data.batch_size": "20"}
    made["few-shot/bert/finetune all"] = Case({"plugin": "bert", **tuned, **FEW_SHOT}, both)
    made["resumed/bert"] = Case({"plugin": "bert", **OPTIMISER, **TWO_EPOCHS})
    made["resumed/hvpnet"] = Case({**hvpnet, **TWO_EPOCHS})
    return made


CASES = _cases()
