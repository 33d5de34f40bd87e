"""`python -m mnerkit.reproduce.wandb_report FILE`: make the W&B report of a definition."""

from __future__ import annotations

import sys

from mnerkit.reproduce.wandb.report_definition import main

if __name__ == "__main__":
    sys.exit(main())
