"""Heads by name. Importing this package does not import torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mnerkit.errors import UsageError, did_you_mean, shown

if TYPE_CHECKING:
    from mnerkit.methods.heads.head import Head
    from mnerkit.methods.heads.options import HeadOptions

HEADS: dict[str, str] = {
    "softmax": "mnerkit.methods.heads.softmax:SoftmaxHead",
    "crf": "mnerkit.methods.heads.crf:CRFHead",
    "prototype": "mnerkit.methods.heads.prototype:PrototypeHead",
    "prototype_crf": "mnerkit.methods.heads.prototype_crf:PrototypeCRFHead",
    "nearest": "mnerkit.methods.heads.nearest:NearestHead",
    "struct": "mnerkit.methods.heads.struct:StructHead",
    "finetune": "mnerkit.methods.heads.finetune:FinetuneHead",
}
OPTIONS: dict[str, str] = {
    name: f"mnerkit.methods.heads.options:{target.partition(':')[2].removesuffix('Head')}Options"
    for name, target in HEADS.items()
}


def load_head_class(name: str) -> type[Head]:
    """Import the head called `name`.

    Raises:
        UsageError: there is no such head.
    """
    return _named(name, HEADS)


def head_options(name: str) -> type[HeadOptions]:
    """The class that declares the options of the head called `name`; imports no torch.

    Raises:
        UsageError: there is no such head.
    """
    return _named(name, OPTIONS)


def _named(name: str, table: dict[str, str]) -> Any:
    if not isinstance(name, str) or name not in table:
        raise UsageError(f"no head is called {shown(name)!r}; there are {', '.join(table)}.{did_you_mean(name, table)}")
    module, _, attribute = table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
