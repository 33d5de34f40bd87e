"""Predictions of a checkpoint for the posts of a file, streamed, so that memory stays flat."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from mnerkit.errors import DataError
from mnerkit.runs.reporting import quiet


def predict_file(
    ckpt: str | Path,
    source: Path,
    target: Path,
    *,
    plugin: str | None = None,
    dotted: Mapping[str, str | None] | None = None,
    images: Path | None = None,
    support: Path | None = None,
    tower_dir: str | None = None,
) -> tuple[int, list[str]]:
    """Tag the posts of a file; the target appears whole or not at all.

    Args:
        ckpt: a checkpoint, or the folder of a run.
        source: JSON lines, or a data file of posts.
        target: JSON lines with entities, word and character offsets; what is there is replaced.
        plugin: refuse a checkpoint of another method.
        dotted: options of decoding, as text by dotted name.
        images: folder of the pictures that the source names; default: the source's.
        support: labelled posts in place of the checkpoint's support.
        tower_dir: folder with a frozen tower's weights.

    Returns:
        The number of posts, and remarks about their pictures.

    Raises:
        DataError: a malformed line, or no posts.
        CheckpointError: no checkpoint, or a damaged one.
    """
    quiet()
    from tqdm import tqdm

    from mnerkit.data.batches.inputs import read_input
    from mnerkit.methods import checkpoint
    from mnerkit.methods.predictor import Predictor
    from mnerkit.methods.tagger import make_method
    from mnerkit.runs.config.configuration import resolve

    content = checkpoint.read(ckpt)
    configuration = resolve(plugin, dotted=dotted, base=content["mnerkit"]["config"])
    root = images or source.parent
    labelled = list(read_input(support, root)) if support is not None else None
    method = checkpoint.restore(make_method(configuration.content), content, tower_dir)
    predictor = Predictor(method, labelled)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    count = 0
    try:
        with draft.open("w", encoding="utf-8") as stream:
            rows = method.rows(predictor.stream(read_input(source, root)))
            for row in tqdm(rows, unit=" posts", disable=None):  # progress where someone watches
                stream.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        if not count:
            raise DataError(f"--input {source} holds no posts")
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)
    return count, list(predictor.warnings())
