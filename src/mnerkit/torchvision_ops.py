"""Importing torchvision beside a torch that its compiled part was not built for.

The wheel on the index is a CUDA build. Beside a CPU build of torch its compiled operators can't load, and
`import torchvision` (which transformers does too) dies with `operator torchvision::nms does not exist`. The
pure-Python parts (ResNets, transforms v2, feature extraction) need only the schemas of two operators. They are
declared here, once, and only where the real ones are absent; calling them still fails. `import mnerkit` installs a
finder that does so at the moment when somebody (lightning and transformers do) first imports torchvision.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
# A library's definitions live as long as the object.
_library: torch.library.Library | None = None


class _BeforeTorchvision(MetaPathFinder):
    """Finds nothing itself; prepares torch when torchvision is about to be imported."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            declare_operators()


def install() -> None:
    """Prepare torch as soon as torchvision is first imported; nothing is imported now."""
    if "torchvision" not in sys.modules and not any(isinstance(each, _BeforeTorchvision) for each in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())


def declare_operators() -> None:
    """Declare the operators' schemas where the real operators can't load."""
    import torch

    global _library
    if _library is not None or _defined("nms"):
        return
    _load_real_operators()
    missing = [schema for name, schema in _SCHEMAS.items() if not _defined(name)]
    if missing:
        _library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in missing:
            _library.define(schema)


def _defined(name: str) -> bool:
    import torch

    return hasattr(torch.ops.torchvision, name)


def _load_real_operators() -> None:
    """Load torchvision's compiled part, as its own import will do again, to see whether it can."""
    import torch

    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    for file in Path(found.origin).parent.glob("_C*"):
        if not file.name.endswith(tuple(suffixes)):
            continue
        try:
            torch.ops.load_library(str(file))
        except OSError:
            # Built for another torch: the schemas below stand in.
            return
