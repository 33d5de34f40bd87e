"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# the process that gathers results imports Lightning when a worker sends one of its warnings: as always, mnerkit first
import mnerkit  # noqa: F401

# a busy machine makes no test fail: neither examples nor their making have to be quick
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C through, and where the shell forbids bytecode (PYTHONDONTWRITEBYTECODE), keep it in pytest's cache.

    Shells start background jobs with Ctrl-C ignored, and processes that tests start would ignore it, too. They load
    torch, transformers and Lightning; to compile these each time takes far longer than all that the process then does.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.dont_write_bytecode and hasattr(config, "cache"):
        folder = str(config.cache.mkdir("bytecode"))
        sys.dont_write_bytecode, sys.pycache_prefix = False, folder
        # for workers and other processes
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
    if "MNERKIT_CACHE" not in os.environ:  # what runs keep is not to fill the user's cache
        os.environ["MNERKIT_CACHE"] = tempfile.mkdtemp(prefix="mnerkit-cache-")
        config.add_cleanup(partial(shutil.rmtree, os.environ["MNERKIT_CACHE"], ignore_errors=True))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real tweets (`MNERKIT_DATA`, or `shared/data` beside the checkout); skips where it is absent."""
    here = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("MNERKIT_DATA", here.parent / "shared" / "data"))
    if not (folder / "twitter2017" / "train.txt").is_file():
        pytest.skip(f"real tweets are not at {folder}; set MNERKIT_DATA")
    return folder
