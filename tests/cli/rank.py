"""One of two processes that train together: runs the commands that come on its input, as under `torchrun`.

A line of the input is a command, as JSON; the answer is a line with its exit code. What a command prints goes to
standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback

from mnerkit.cli import main

if __name__ == "__main__":
    answers = sys.stdout
    for line in sys.stdin:
        with contextlib.redirect_stdout(sys.stderr):
            try:
                code = main(json.loads(line))
            except BaseException:
                traceback.print_exc()
                code = 70
        sys.stderr.flush()
        print(code, file=answers, flush=True)
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may wait for Python's lock for ever while it ends
