"""What a run prints, and what it keeps other libraries from printing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

Report = Callable[[str], None]

# warnings of Lightning about what is meant to be so
QUIET = (
    ".*does not have many workers.*",
    ".*args parameter is intended.*",
    ".*Checkpoint directory.*",
    ".*smaller than the logging interval.*",
    ".*predict returned None.*",
    ".*in eval mode.*",
    ".*LeafSpec.*",
    ".*across ranks is necessary.*",
    ".*recommended to use `self.log.*sync_dist.*",
)


def quiet() -> None:
    """Silence what is no user's business: transformers and Lightning say much; the hub gets no telemetry."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for message in QUIET:
        warnings.filterwarnings("ignore", message=message)
