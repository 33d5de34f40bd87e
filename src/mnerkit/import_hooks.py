"""What `import mnerkit` puts in front of Python's own search for modules: two finders. Nothing heavy is imported.

Modules of release 0.1.0 are found under their new names, for one release, since plugins of others import them:
`import mnerkit.tagging.tagger` gives `mnerkit.methods.tagger` and warns.

Before torchvision is first imported (lightning and transformers do), torch is prepared for it. The wheel on the index
is a CUDA build. Beside a CPU build of torch its compiled operators can't load, and `import torchvision` dies with
`operator torchvision::nms does not exist`. The pure-Python parts (ResNets, transforms v2, feature extraction) need only
the schemas of two operators. They are declared here, once, and only where the real ones are absent; calling them still
fails.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


# the modules that a plugin has to do with; the longest name that fits counts
MOVED = {
    "mnerkit.tagging": "mnerkit.methods",
    **{f"mnerkit.tagging.heads.{name}": "mnerkit.methods.heads.head" for name in ("base", "rows")},
    "mnerkit.tagging.image_prefix": "mnerkit.methods.former_plugins",
    "mnerkit.tagging.stage_prefix": "mnerkit.methods.former_plugins",
    **{
        f"mnerkit.tagging.{name}": f"mnerkit.scoring.{name}"
        for name in ("comparison", "counts", "intervals", "metrics", "probe_measures", "significance")
    },
    "mnerkit.encoders": "mnerkit.towers",
    "mnerkit.encoders.base": "mnerkit.towers.interface",
    "mnerkit.encoders.towers": "mnerkit.towers.by_name",
    "mnerkit.encoders.text": "mnerkit.towers.text.piece_tower",
    "mnerkit.encoders.tiny_bert": "mnerkit.towers.text.tiny",
    "mnerkit.encoders.bilstm": "mnerkit.towers.text.bilstm",
    "mnerkit.encoders.vision": "mnerkit.towers.vision.pretrained",
    "mnerkit.encoders.tiny_vit": "mnerkit.towers.vision.tiny_vit",
    "mnerkit.encoders.frozen": "mnerkit.towers.frozen.memory",
    "mnerkit.encoders.words": "mnerkit.towers.word_encoder",
    **{
        f"mnerkit.encoders.{name}": f"mnerkit.towers.fusion.{name}"
        for name in ("captions", "dual_stream", "image_prefix", "prefix", "sight")
    },
    "mnerkit.encoders.stages": "mnerkit.towers.fusion.sight",
    "mnerkit.data.views": "mnerkit.data.batches.needs",
    **{f"mnerkit.data.{name}": f"mnerkit.data.batches.{name}" for name in ("batch", "collate", "inputs", "loading")},
    "mnerkit.data.samplers": "mnerkit.data.batches.loading",
    "mnerkit.data.text": "mnerkit.towers.text.text_reader",
    **{f"mnerkit.data.{name}": f"mnerkit.towers.text.{name}" for name in ("pieces", "vocabulary")},
    **{f"mnerkit.data.{name}": f"mnerkit.data.corpus.{name}" for name in ("post", "readers")},
    **{f"mnerkit.data.{name}": "mnerkit.data.corpus.tags" for name in ("spans", "tagset")},
    "mnerkit.data.corpora": "mnerkit.data.corpus.corpus",
    "mnerkit.data.facts": "mnerkit.data.corpus.post",
    "mnerkit.data.images": "mnerkit.data.pictures.decoding",
    "mnerkit.ranges": "mnerkit.options",
    "mnerkit.nn.initialisation": "mnerkit.nn.visual_prefix",
    "mnerkit.nn.crf": "mnerkit.nn.linear_chain",
    "mnerkit.nn.spans": "mnerkit.nn.untyped_spans",
}
# module of today -> former name of a function -> its name today
RENAMED = {
    "mnerkit.methods.heads.head": {"likeliest": "most_likely", "as_long_as_posts": "pad_to_words"},
    "mnerkit.nn.visual_prefix": {"begin_quiet": "init_small"},
    "mnerkit.towers.fusion.prefix": {"put_before": "prepend", "let_in": "accept_joining"},
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives a module of an earlier release under the name that it bears now."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec of the former name, if it is one."""
        return None if new_name(fullname) is None else importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module under its new name."""
        name = new_name(spec.name) or ""
        warnings.warn(f"{spec.name} is {name} now; the former name goes with the next release", FutureWarning, 2)
        module = importlib.import_module(name)
        for former, today in RENAMED.get(name, {}).items():
            setattr(module, former, getattr(module, today))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back; it was run when it was imported under its new name."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def new_name(name: str) -> str | None:
    """The name that a module of an earlier release bears now; None of one that has not moved."""
    if not name.startswith("mnerkit."):
        return None
    if name in MOVED:
        return MOVED[name]
    above = max((old for old in MOVED if name.startswith(f"{old}.")), key=len, default=None)
    return None if above is None else f"{MOVED[above]}{name[len(above) :]}"


def find_moved_modules() -> None:
    """Let Python ask here first: a moved package would find its modules a second time, under their former names."""
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


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


def prepare_torchvision() -> None:
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

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    for file in Path(spec.origin).parent.glob("_C*"):
        if not file.name.endswith(tuple(suffixes)):
            continue
        try:
            torch.ops.load_library(str(file))
        except OSError:
            # Built for another torch: the schemas below stand in.
            return
