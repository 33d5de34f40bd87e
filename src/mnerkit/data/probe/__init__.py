"""The probe corpus: generated posts whose ambiguous entities only the picture decides, with full ground truth."""

from mnerkit.data.probe.generate import SIZES, VERSION, digest, generate, types_of
from mnerkit.data.probe.presets import PRESETS, Preset

__all__ = ["PRESETS", "SIZES", "VERSION", "Preset", "digest", "generate", "types_of"]
