"""Which of our files take part in a training up to its first loss: `python first_loss.py ROOT OUT fit --plugin gmf`.

Runs a command of mnerkit in this process and stops it when the first `training_step` returns. Writes to OUT, as JSON,
the files of ROOT's `src` and `plugins` in which a function was called by then, relative to ROOT and sorted.

What counts as a function: anything called `def` or `lambda`, methods and generators included, also when it is called
while a module is imported (a decorator, say). What does not: the bodies of modules and classes, which run on import,
and comprehensions, which are no functions of their own from Python 3.12 on. Functions that a library generates, such as
the `__init__` of a dataclass, lie in no file. Threads are watched, other processes are not (the probe is read by none).
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

TraceFunction = Callable[[FrameType, str, Any], Any]

COMPREHENSIONS = {"<listcomp>", "<dictcomp>", "<setcomp>", "<genexpr>"}
# 3: the training ended without a step
NO_LOSS = 3


class Watch:
    """A trace function that collects files and ends the process with the first loss.

    Args:
        root: a checkout; files under its `src` and `plugins` are ours.
        out: the JSON file that is written.
    """

    def __init__(self, root: Path, out: Path) -> None:
        self.root, self.out = root.resolve(), out
        self.files: set[str] = set()
        self._ours: dict[str, str] = {}  # file name in a code object -> path relative to root, "" for others' files

    def ours(self, filename: str) -> str:
        """Path of one of our files relative to the root, or the empty string."""
        if filename not in self._ours:
            path = Path(filename).resolve()
            folders = (self.root / "src", self.root / "plugins")
            inside = any(path.is_relative_to(folder) for folder in folders)
            self._ours[filename] = path.relative_to(self.root).as_posix() if inside else ""
        return self._ours[filename]

    def __call__(self, frame: FrameType, event: str, _: Any) -> TraceFunction | None:
        """Note the file of a function that is called; what is returned waits for the end of a `training_step`."""
        code = frame.f_code
        if event != "call" or not code.co_flags & inspect.CO_OPTIMIZED or code.co_name in COMPREHENSIONS:
            return None
        if path := self.ours(code.co_filename):
            self.files.add(path)
            return self.in_step if code.co_name == "training_step" else None
        return None

    def in_step(self, frame: FrameType, event: str, value: Any) -> TraceFunction:
        """Wait for the first training step's end; it returns None where an exception ends it."""
        if event == "return" and value is not None:
            self.end()
        return self.in_step

    def end(self) -> NoReturn:
        """Write the files and end the process at once: what follows the first loss is not run."""
        sys.settrace(None)
        self.out.write_text(json.dumps(sorted(self.files), indent=1), encoding="utf-8")
        os._exit(0)


def main() -> int:
    """Run the command; a return means that there was no loss."""
    root, out, *argv = sys.argv[1:]
    watch = Watch(Path(root), Path(out))
    import mnerkit

    if not watch.ours(str(mnerkit.__file__)):
        print(f"mnerkit is imported from {mnerkit.__file__}, which is not in {root}", file=sys.stderr)
        return 1
    for name in [name for name in sys.modules if name.partition(".")[0] == "mnerkit"]:
        del sys.modules[name]  # so that what is called while it is imported is seen
    threading.settrace(watch)
    sys.settrace(watch)
    from mnerkit.cli import main as run

    code = run(argv)
    print(f"`mnerkit {' '.join(argv)}` ended with {code} and without a loss", file=sys.stderr)
    return NO_LOSS


if __name__ == "__main__":
    sys.exit(main())
