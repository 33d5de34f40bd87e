"""Bases of picture methods as release 0.1.0 had them, for plugins of others; `PictureTagger` has taken their place."""

from __future__ import annotations

from dataclasses import dataclass

from mnerkit.methods.options import ObjectOptions, PictureOptions
from mnerkit.methods.picture_tagger import PictureTagger
from mnerkit.options import option


@dataclass(frozen=True, kw_only=True)
class ImagePrefixOptions(
    PictureOptions,
    text="bert-base-uncased",
    vision="google/vit-base-patch16-224",
    freeze_vision=False,
    max_tokens=64,
    max_images=4,
):
    """Options of `ImagePrefixTagger`."""

    augment: bool = option(False, "mirror and shift pictures while training; off for a frozen vision tower")


class ImagePrefixTagger(PictureTagger):
    """`mnerkit.tagging.image_prefix` of release 0.1.0; `PictureTagger` has taken its place."""

    options_class = ImagePrefixOptions


@dataclass(frozen=True, kw_only=True)
class StagePrefixOptions(ObjectOptions, text="tiny-bert"):
    """Options of `StagePrefixTagger`."""


class StagePrefixTagger(PictureTagger):
    """`mnerkit.tagging.stage_prefix` of release 0.1.0; `PictureTagger` has taken its place."""

    options_class = StagePrefixOptions
