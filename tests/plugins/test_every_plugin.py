"""Every registered plugin passes `mnerkit.testing.BasePluginTest`."""

from __future__ import annotations

from typing import Any

from mnerkit import registry
from mnerkit.testing import BasePluginTest

# after the few steps of these tests a picture of one row moves the states of words by little more than the tolerance
SETTINGS: dict[str, dict[str, Any]] = {"visualpt_moe": {"model": {"prefix_grid": 2}}}

for name in registry.plugins():
    if name == "prompted":  # asks a server, which `test_prompted.py` brings
        continue
    of_plugin = {"plugin": name, "settings": SETTINGS.get(name, BasePluginTest.settings)}
    globals()[f"Test_{name}"] = type(f"Test_{name}", (BasePluginTest,), of_plugin)
