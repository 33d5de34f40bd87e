"""`mnerkit predict`: posts from a file in, JSON lines out; streamed, so memory stays flat."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnerkit.cli.arguments import out_file
from mnerkit.errors import DataError, UsageError
from mnerkit.runs import configuration
from mnerkit.runs.configuration import Request


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
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from mnerkit.data.batches.inputs import read_input
    from mnerkit.methods import checkpoint
    from mnerkit.methods.predictor import Predictor

    content = checkpoint.read(flags["ckpt_path"])
    configuration.resolve(request, base=content["mnerkit"]["config"])
    root = Path(flags.get("images") or source.parent)
    support = list(read_input(Path(flags["support"]), root)) if "support" in flags else None
    method = checkpoint.restore(checkpoint.make(request.config), content, flags.get("tower_dir"))
    predictor = Predictor(method, support)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    count = 0
    try:
        with draft.open("w", encoding="utf-8") as stream:
            for row in _counted(method.rows(predictor.stream(read_input(source, root)))):
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        if not count:
            raise DataError(f"--input {source} holds no posts")
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    for remark in predictor.remarks():
        print(f"mnerkit: {remark}", file=sys.stderr)
    print(f"{count} posts -> {target}")
    return 0


def _counted(found: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Show progress where someone watches."""
    from tqdm import tqdm

    yield from tqdm(found, unit=" posts", disable=None)
