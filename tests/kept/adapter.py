"""All that the test of kept checkpoints knows of mnerkit's inside; whoever moves a module adapts this one file.

Public: `mnerkit.load(...)` and `mnerkit.cli.main([...])`. Inside: the class of every head and the method by which it
computes its emissions, `head.decode(encoded, batch)`, and `predictor.method.head`; and `canonical` and `filled` of a
run's configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mnerkit
from mnerkit.cli import main
from mnerkit.runs.config.configuration import filled
from mnerkit.runs.identity import canonical as identity

__all__ = ["filled", "identity", "main", "predictions"]


def predictions(checkpoint: str, posts: Sequence[dict[str, Any]], images: str, towers: str) -> tuple[list, list]:
    """What a checkpoint predicts for `posts`, read in one batch.

    Args:
        checkpoint: the file.
        posts: records as `mnerkit predict` reads them.
        images: folder of the pictures.
        towers: folder of the frozen towers whose weights the checkpoint does not hold.

    Returns:
        The records of `mnerkit predict`, and the emissions from which the head decoded: (E, R, W, K) as nested lists
        (E environments, R posts, W words of the longest, K tags), the mean over environments where the head takes it
        first; empty for methods without a head.
    """
    predictor = mnerkit.load(checkpoint, tower_dir=towers)
    with _emissions_of_every_decoding() as emissions:
        records = predictor.predict(posts, images=images)
    return records, [each.float().tolist() for each in emissions][-1:]


@contextmanager
def _emissions_of_every_decoding() -> Iterator[list[Any]]:
    """The emissions of each `decode` inside, in order; the last is of the layer that decided (`finetune` tunes it)."""
    from mnerkit.methods.heads.crf import CRFHead
    from mnerkit.methods.heads.head import words_of
    from mnerkit.methods.heads.nearest import NearestHead
    from mnerkit.methods.heads.prototype import PrototypeHead
    from mnerkit.methods.heads.prototype_crf import PrototypeCRFHead
    from mnerkit.methods.heads.softmax import SoftmaxHead
    from mnerkit.methods.heads.struct import StructHead

    compute = {
        CRFHead: lambda head, encoded, batch: head.emissions(words_of(encoded, batch), encoded),
        SoftmaxHead: lambda head, encoded, batch: head._log_p(words_of(encoded, batch), encoded),
        PrototypeHead: lambda head, encoded, batch: head.emissions(encoded, batch)[0],
        PrototypeCRFHead: lambda head, encoded, batch: head.emissions(encoded, batch)[0],
        NearestHead: lambda head, encoded, batch: head.similarity(encoded, batch),
        StructHead: lambda head, encoded, batch: head._emissions(encoded, batch),
    }
    computed: list[Any] = []
    decoders = {kind: kind.decode for kind in compute}

    def recording(kind: type) -> Any:
        def decode(head: Any, encoded: Any, batch: Any) -> Any:
            computed.append(compute[kind](head, encoded, batch).detach().clone())
            return decoders[kind](head, encoded, batch)

        return decode

    for kind in compute:
        kind.decode = recording(kind)  # type: ignore[method-assign, assignment]
    try:
        yield computed
    finally:
        for kind, decode in decoders.items():
            kind.decode = decode  # type: ignore[method-assign]
