"""Warning about tiny towers on other posts than the probe corpus: a forgotten `--model.text`. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TINY = ("tiny", "tiny-bert", "tiny-vit")
# pretrained towers to name, by option
INSTEAD = {"text": "bert-base-cased", "vision": "openai/clip-vit-base-patch32"}


def tiny_towers(config: Mapping[str, Any]) -> dict[str, str]:
    """The tiny towers of a configuration, by option; none on the probe corpus, for which they are made."""
    model, data = config.get("model"), config.get("data")
    corpus = data.get("corpus") if isinstance(data, Mapping) else None
    if corpus in (None, "probe") or not isinstance(model, Mapping):
        return {}
    return {name: spec for name, spec in model.items() if isinstance(spec, str) and spec in TINY}


def warning(config: Mapping[str, Any]) -> str:
    """What to know about scores of tiny towers on real posts, in a line; empty if there is nothing."""
    towers = tiny_towers(config)
    if not towers:
        return ""
    names = " and ".join(f"--model.{name} {spec}" for name, spec in towers.items())
    kind = "is a tiny tower" if len(towers) == 1 else "are tiny towers"
    instead = " and ".join(f"--model.{name} {INSTEAD[name]}" for name in towers if name in INSTEAD)
    way = f"; give pretrained ones, for instance {instead}" if instead else ""
    return f"warning: {names} {kind}, made for the probe corpus: scores on other posts show little of the method{way}"
