"""Shared by the tests of plugins."""

from __future__ import annotations

import mnerkit  # noqa: F401 (prepares torchvision before Lightning is imported)
