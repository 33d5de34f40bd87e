"""Third-party code that names modules of release 0.1.0 keeps working for one release, with a warning."""

from __future__ import annotations

import importlib
import sys

import pytest

from mnerkit.import_hooks import MOVED, RENAMED, new_name
from mnerkit.methods.heads.crf import CRFHead
from mnerkit.methods.heads.nearest import NearestHead
from mnerkit.options import declared


@pytest.mark.parametrize("old", sorted(MOVED))
def test_a_former_name_gives_the_module_of_today_and_warns(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(FutureWarning, match=f"{old} is {MOVED[old]} now"):
        module = importlib.import_module(old)
    today = importlib.import_module(MOVED[old])
    assert module is today and today.__spec__ is not None and today.__spec__.name == MOVED[old]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_former_modules_give_are_the_classes_of_today() -> None:
    from mnerkit.data.batches import needs
    from mnerkit.data.views import Needs  # type: ignore[import-not-found]
    from mnerkit.encoders.base import WordStates  # type: ignore[import-not-found]
    from mnerkit.tagging.heads.crf import CRFHead as FormerHead  # type: ignore[import-not-found]
    from mnerkit.tagging.stage_prefix import StagePrefixTagger  # type: ignore[import-not-found]
    from mnerkit.towers import interface

    assert Needs is needs.Needs and WordStates is interface.WordStates and FormerHead is CRFHead

    class Fork(StagePrefixTagger):  # a plugin of the release before, with options of its own
        def __init__(self, hidden: int = 80, **training: object) -> None:
            super().__init__(**training)
            self.hidden = hidden

    assert declared(Fork.options_class)["hidden"].default == 80
    assert {"lr", "max_objects", "text"} <= set(declared(Fork.options_class))
    made = Fork(hidden=7, lr=0.5, head=CRFHead())
    assert made.hidden == 7 and made.options.max_objects == 3 and made.options.lr == 0.5


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("old", "new"), [(old, new) for old, new in MOVED.items() if new in RENAMED])
def test_functions_that_were_renamed_have_their_former_names_in_former_modules(old: str, new: str) -> None:
    sys.modules.pop(old, None)
    module = importlib.import_module(old)
    assert all(getattr(module, former) is getattr(module, today) for former, today in RENAMED[new].items())


def test_a_head_of_before_says_under_the_former_name_whether_it_has_a_divergence() -> None:
    with pytest.warns(DeprecationWarning, match="compares is now called has_divergence"):

        class Comparing(NearestHead):
            compares = True

    assert Comparing().has_divergence and not NearestHead().has_divergence
    with pytest.warns(DeprecationWarning, match="compares is now called has_divergence"):
        assert CRFHead().compares


def test_other_names_are_left_alone() -> None:
    assert new_name("mnerkit.methods.tagger") is None and new_name("json") is None
    assert new_name("mnerkit.tagging.heads.struct") == "mnerkit.methods.heads.struct"
    with pytest.raises(ModuleNotFoundError), pytest.warns(FutureWarning):
        importlib.import_module("mnerkit.tagging.nothing")
