"""Plugins of the release before: their options are the arguments of their class, not a class of options."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from typing import Any, cast

from mnerkit.methods.heads.head import Head
from mnerkit.methods.method import Method
from mnerkit.methods.options import MethodOptions, ObjectOptions, PictureOptions
from mnerkit.methods.picture_tagger import PictureTagger
from mnerkit.methods.tagger import Tagger
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


def is_legacy(kind: type[Method]) -> bool:
    """Whether a method's class takes its options as arguments of its own."""
    return kind.__init__ not in (Method.__init__, Tagger.__init__) and "options" not in _arguments(kind)


def options_of(kind: type[Method]) -> type[MethodOptions]:
    """A class of options for a method: its own `options_class` or, where it takes arguments, one made of these."""
    if not is_legacy(kind):
        return kind.options_class
    fields = [
        (name, Any if each.annotation is each.empty else each.annotation, option(each.default, _help(kind, name)))
        for name, each in _arguments(kind).items()
        if name != "head" and each.default is not each.empty
    ]
    made = dataclasses.make_dataclass(
        f"{kind.__name__}Options", fields, bases=(kind.options_class,), frozen=True, kw_only=True
    )
    return cast(type[MethodOptions], made)


def make_legacy(kind: type[Method], options: Any, head: Head | None) -> Method:
    """A method of a class that takes its options as arguments."""
    given: dict[str, Any] = options.plain()
    method = kind(**given) if head is None else kind(head=head, **given)
    for name, value in given.items():
        if not hasattr(method, name):  # what `Method` kept under its own name
            setattr(method, name, value)
    return method


def _arguments(kind: type[Method]) -> dict[str, inspect.Parameter]:
    """The named arguments of a class and, where it passes others on, of its bases."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        if base in (Method, Tagger):
            break
        parameters = inspect.signature(init, eval_str=True).parameters.values()
        named = [each for each in parameters if each.kind is not each.VAR_KEYWORD and each.name != "self"]
        found = {**{each.name: each for each in named}, **found}
        if len(named) + 1 == len(parameters):  # none is passed on
            break
    return found


def _help(kind: type[Method], name: str) -> str:
    """What the docstring of the constructor says of an argument, in its section `Args:`."""
    for line in (kind.__init__.__doc__ or "").splitlines():
        if line.strip().startswith(f"{name}:"):
            return line.partition(":")[2].strip().rstrip(".")
    return ""
