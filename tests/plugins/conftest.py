"""Shared by the tests of plugins."""

from __future__ import annotations

import pytest

import mnerkit  # noqa: F401 (prepares torchvision before Lightning is imported)

# its assertions tell their values, as those of a test file
pytest.register_assert_rewrite("visual_prefix_cases")
