"""`mnerkit predict`: posts from a file in, JSON lines out; streamed, so memory stays flat."""

from __future__ import annotations

import sys
from pathlib import Path

from mnerkit.cli.arguments import out_file
from mnerkit.errors import DataError, UsageError
from mnerkit.runs.config.requests import Request


def main(request: Request) -> int:
    """Tag the posts of `--input` with `--ckpt_path` and write `--output`."""
    flags = request.flags
    for name in ("ckpt_path", "input", "output"):
        if name not in flags:
            raise UsageError(f"`mnerkit predict` needs --{name}; it takes --ckpt_path FILE --input FILE --output FILE")
    source = Path(flags["input"])
    if not source.is_file():
        raise DataError(f"--input {source}: no such file")
    target = out_file(flags["output"], bool(flags.get("overwrite")), "--output")
    if target.exists() and target.samefile(source):
        raise UsageError("--output is the input file; give another one")
    from mnerkit.runs.predict import predict_file

    count, remarks = predict_file(
        flags["ckpt_path"],
        source,
        target,
        plugin=flags.get("plugin"),
        dotted=request.dotted,
        images=Path(flags.get("images") or source.parent),
        support=Path(flags["support"]) if "support" in flags else None,
        tower_dir=flags.get("tower_dir"),
    )
    for remark in remarks:
        print(f"mnerkit: {remark}", file=sys.stderr)
    print(f"{count} posts -> {target}")
    return 0
