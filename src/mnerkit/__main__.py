"""`python -m mnerkit`."""

import sys

from mnerkit.cli import main

sys.exit(main())
