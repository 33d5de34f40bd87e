"""Tests that every plugin passes, of mnerkit or of another distribution. They need pytest.

A test class inherits them and names its plugin, as in
`class TestMyGate(BasePluginTest): plugin = "my_gate"`.
"""

import pytest

# its assertions show their values, as those of a test file
pytest.register_assert_rewrite("mnerkit.testing.plugin_tests")

from mnerkit.testing.plugin_tests import BasePluginTest  # noqa: E402

__all__ = ["BasePluginTest"]
