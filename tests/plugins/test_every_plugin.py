"""Every registered plugin passes `mnerkit.testing.BasePluginTest`."""

from __future__ import annotations

from mnerkit import registry
from mnerkit.testing import BasePluginTest

for name in registry.plugins():
    globals()[f"Test_{name}"] = type(f"Test_{name}", (BasePluginTest,), {"plugin": name})
