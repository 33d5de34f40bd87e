"""Heads by the name the user types. Importing this package imports no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mnerkit.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from mnerkit.methods.heads.head import Head

HEADS: dict[str, str] = {
    "softmax": "mnerkit.methods.heads.softmax:SoftmaxHead",
    "crf": "mnerkit.methods.heads.crf:CRFHead",
    "prototype": "mnerkit.methods.heads.prototype:PrototypeHead",
    "prototype_crf": "mnerkit.methods.heads.prototype_crf:PrototypeCRFHead",
    "nearest": "mnerkit.methods.heads.nearest:NearestHead",
    "struct": "mnerkit.methods.heads.struct:StructHead",
    "finetune": "mnerkit.methods.heads.finetune:FinetuneHead",
}


def load_head_class(name: str) -> type[Head]:
    """Import the head called `name`.

    Raises:
        UsageError: there is no such head.
    """
    if name not in HEADS:
        raise UsageError(f"no head is called {name!r}; there are {', '.join(HEADS)}.{did_you_mean(name, HEADS)}")
    module, _, attribute = HEADS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
