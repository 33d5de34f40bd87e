"""Base classes of release 0.1.0 for third-party plugins; `PictureTagger` replaces them."""

from __future__ import annotations

from dataclasses import dataclass

from mnerkit.methods.options import ImageSetOptions, ObjectOptions
from mnerkit.methods.tagger import PictureTagger


class ImagePrefixTagger(PictureTagger):
    """`mnerkit.tagging.image_prefix` of release 0.1.0; use `PictureTagger` instead."""

    options_class = ImageSetOptions


@dataclass(frozen=True, kw_only=True)
class StagePrefixOptions(ObjectOptions, text="tiny-bert"):
    """Options of `StagePrefixTagger`."""


class StagePrefixTagger(PictureTagger):
    """`mnerkit.tagging.stage_prefix` of release 0.1.0; use `PictureTagger` instead."""

    options_class = StagePrefixOptions
