"""Checkpoints, towers' weights, word vectors, and the cache of features: whose tensors must be the original's."""

from __future__ import annotations

import contextlib
import io
import tempfile
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.mutations import mutated, restructured
from fuzzing.plain_json import plain_float
from fuzzing.reader import VALID, Input, Reader
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.data.features.table import Table
from mnerkit.data.features.table_files import HEAD, RECORD, VECTORS, folder_digest, rows_done
from mnerkit.runs.config.configuration import filled

# ------------------------------------------------------------------ checkpoints

CONFIGS: tuple[dict[str, Any], ...] = (
    {"plugin": "bilstm", "model": {"width": 8}},
    {"plugin": "bert", "model": {"text": "tiny", "head": {"name": "prototype"}}, "data": {"n_way": 2}},
)


@cache
def template(number: int) -> dict[str, Any]:
    """What is in a small checkpoint, without its digest."""
    import torch

    from mnerkit.methods.tagger import make_method

    torch.manual_seed(0)
    config = filled(CONFIGS[number] | {"seed": 0}, new=True)
    method = make_method(config)
    method.build(CorpusFacts(("PER", "LOC"), ("the", "cat", "Ann")), n_way=2)
    picture = {"name": "a.jpg", "pixels": torch.zeros(2, 2, 3, dtype=torch.uint8), "caption": None}
    post = {"id": "1", "words": ["Ann"], "tags": ["B-PER"], "images": [picture]}
    record = method.record() | {"config": config, "support": [post], "support_types": ["PER", "LOC"]}
    record["trained_on"] = torch.tensor([3, 1])
    state = {name: value.clone() for name, value in method.state_dict().items()}
    return {"epoch": 0, "global_step": 1, "pytorch-lightning_version": "2.5.0", "state_dict": state, "mnerkit": record}


def checkpoint(draw: Random) -> Input:
    """A checkpoint whose bytes, archive, record or weights are changed; its digest is left out, or right for them."""
    content, how = template(draw.randrange(len(CONFIGS))), draw.random()
    older = draw.random() < 0.3
    whole = saved(content, older)
    truth = tensors(content["state_dict"])
    if how < VALID:
        return Input(whole, True, truth)
    if how < 0.5:
        return Input(mutated(draw, "bytes", whole, saved(template(1), older)), False, truth)
    if how < 0.6:
        return Input(repacked(draw, saved(content, False)), False, truth)
    changed = changed_content(draw, content)
    return Input(saved(changed, older), False, tensors(changed.get("state_dict")))


def saved(content: Any, older: bool) -> bytes:
    """As mnerkit writes it, or as a release before digests did."""
    import torch

    from mnerkit.methods.checkpoint import DIGEST, content_digest

    stream = io.BytesIO()
    if not older and isinstance(content, dict):
        with contextlib.suppress(Exception):  # what can't be digested is written without
            content = {**content, DIGEST: content_digest(content)}
    torch.save(content, stream)
    return stream.getvalue()


def changed_content(draw: Random, content: dict[str, Any]) -> Any:
    record = dict(content)
    if draw.random() < 0.6:
        plain = without_tensors(record["mnerkit"])
        return record | {"mnerkit": with_tensors(restructured(draw, plain), record["mnerkit"])}
    record["state_dict"] = changed_state(draw, record["state_dict"])
    if draw.random() < 0.1:
        del record[draw.choice(list(record))]
    return record


def changed_state(draw: Random, weights: dict[str, Any]) -> dict[str, Any]:
    """A state dict with one tensor left out, renamed, or of another kind."""
    import torch

    state = dict(weights)
    name = draw.choice(list(state))
    value, how = state[name], draw.randrange(9)
    if how == 0:
        del state[name]
    elif how == 1:
        state[name + "s"] = state.pop(name)
    else:
        state[name] = [
            torch.full_like(value, float("nan")) if value.is_floating_point() else value,
            value[..., :0],
            value.flatten(),
            torch.zeros(1).expand(1 << 20, 1 << 12),
            torch.zeros(0),
            value.to_sparse(),
            value.tolist(),
        ][how - 2]
    return state


def without_tensors(part: Any) -> Any:
    """Plain data with texts in place of tensors."""
    if isinstance(part, dict):
        return {key: without_tensors(value) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return [without_tensors(value) for value in part]
    return f"<tensor {list(part.shape)}>" if hasattr(part, "shape") else part


def with_tensors(part: Any, original: dict[str, Any]) -> Any:
    """Put the tensors back that are still there."""
    if isinstance(part, dict):
        return {key: with_tensors(value, original) for key, value in part.items()}
    if isinstance(part, list):
        return [with_tensors(value, original) for value in part]
    places = {
        "<tensor [2, 2, 3]>": original["support"][0]["images"][0]["pixels"],
        "<tensor [2]>": original["trained_on"],
    }
    return places.get(part, part) if isinstance(part, str) else part


def repacked(draw: Random, whole: bytes, ways: Sequence[int] = range(6)) -> bytes:
    """The archive with parts left out, empty, very large, twice, reversed or compressed, in one of these ways."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(stream, "w") as new:
        parts = old.infolist()
        at, how = draw.randrange(len(parts)), draw.choice(ways)
        for place, part in enumerate(parts):
            content = old.read(part)
            if place == at:
                if how == 0:
                    continue
                if how == 1:
                    content = b""
                elif how == 2:
                    content = bytes(1 << 24)
                elif how == 3:
                    new.writestr(part.filename, draw.randbytes(len(content)))
                elif how == 4:
                    content = content[::-1]
            packed = how == 5 or (place == at and how == 2)
            new.writestr(part.filename, content, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
    written = stream.getvalue()
    if draw.random() < 0.3:  # a size in the archive's directory that is none
        at = written.find(b"PK\x01\x02", draw.randrange(len(written)))
        size = draw.choice((0, 1, 1 << 30, (1 << 32) - 2)).to_bytes(4, "little")
        if at >= 0:
            place = at + draw.choice((20, 24))
            written = written[:place] + size + written[place + 4 :]
    return written


def tensors(state: Any) -> Any:
    """Name, type, shape and bytes of each tensor."""
    if not isinstance(state, dict):
        return None
    return {
        name: (str(value.dtype), list(value.shape), value.detach().contiguous().numpy().tobytes())
        for name, value in state.items()
        if hasattr(value, "dtype") and str(value.layout) == "torch.strided" and value.numel() < 1 << 24
    }


def read_checkpoint(path: Path) -> Any:
    from mnerkit.methods.checkpoint import load

    return tensors(load(path).state_dict())


# ------------------------------------------------------------------ weights of a ResNet


def resnet(draw: Random) -> Input:
    import torch

    state = {
        "fc.weight": torch.tensor([[draw.random() for _ in range(8)] for _ in range(4)]),
        "fc.bias": torch.zeros(4),
    }
    stream = io.BytesIO()
    torch.save(state, stream)
    content = stream.getvalue()
    truth = tensors(state)
    if draw.random() < VALID:
        return Input(content, True, truth)
    if draw.random() < 0.2:
        return Input(repacked(draw, content, (0, 2, 3, 5)), False, truth)
    return Input(mutated(draw, "bytes", content, content), False, truth)


def read_resnet_file(path: Path) -> Any:
    from mnerkit.towers.vision.resnet_files import read_resnet

    return tensors(read_resnet(f"resnet18:{path}", "resnet18"))


# ------------------------------------------------------------------ word vectors


VOCABULARY = ("the", "cat", "東京")


def vectors(draw: Random) -> bytes:
    words = ["the", "The", "cat", "of a", "dog", "東京"]
    lines = [f"{word} {' '.join(str(round(draw.random(), 3)) for _ in range(5))}\n" for word in words]
    return ("6 5\n" if draw.random() < 0.3 else "").encode() + "".join(lines).encode()


def read_word_vectors(path: Path) -> Any:
    from mnerkit.towers.text.bilstm import read_vectors

    table, numbers = read_vectors(path, VOCABULARY)
    return {
        number: [round(value, 5) for value in row]
        for number, row in zip(numbers.tolist(), table.tolist(), strict=False)
    }


def plain_word_vectors(path: Path) -> Any:
    found: dict[int, list[float]] = {}
    lines = path.read_bytes().decode().split("\n")
    width = 0
    for at, line in enumerate(lines):
        cells = line.rstrip().split(" ")
        if (at == 0 and len(cells) == 2) or (at == len(lines) - 1 and not line):
            continue
        width = width or len(cells) - 1
        word, figures = " ".join(cells[:-width]), cells[-width:]
        number = 2 + VOCABULARY.index(word.lower()) if word.lower() in VOCABULARY else 0
        if number and (number not in found or word == word.lower()):  # of two spellings the one in lower case
            found[number] = [round(plain_float(figure), 5) for figure in figures]
    return found


def near_vectors(read: Any, plain: Any) -> bool:
    return read.keys() == plain.keys() and all(
        len(read[number]) == len(plain[number])
        and all(
            abs(one - other) <= 1e-4 * max(1, abs(other))
            for one, other in zip(read[number], plain[number], strict=False)
        )
        for number in read
    )


# ------------------------------------------------------------------ cached features

READING = {"tower": "x", "weights": "y"}
KEYS = ("a" * 64, "b" * 64)


def shard(draw: Random) -> Input:
    import numpy as np

    truth = {key: [[draw.random() for _ in range(3)]] * 2 for key in KEYS}
    truth = {key: np.array(rows, "<f4").tolist() for key, rows in truth.items()}
    with tempfile.TemporaryDirectory() as place:
        table = Table(Path(place), READING)
        for key, rows in truth.items():
            table.put(key, np.array(rows, "<f4"))
        table.close()
        (path,) = Path(place).rglob("*.table")
        content = path.read_bytes()
    if draw.random() < VALID:
        return Input(content, True, truth)
    # the records between are reserved by nobody, and changing them changes nothing
    used = HEAD.size + len(KEYS) * RECORD.size
    parts = content[:used], content[VECTORS:]
    changed = mutated(draw, "bytes", b"".join(parts), b"".join(parts))
    return Input(changed[:used] + content[used:VECTORS] + changed[used:], False, truth)


def read_shard(path: Path) -> Any:
    import numpy as np

    rows_done(path)
    table, read = Table(path.parents[1], READING), {}
    for key in KEYS:
        row, out = table.find(key, 2, 3), np.empty((2, 3), "<f4")
        if row is not None:
            table.gather([row], np.array([[2]]), [2], out)
            read[key] = out.tolist()
    return read


def subset(read: Any, truth: Any) -> bool:
    """What is damaged is computed anew, what is read is what was written."""
    return all(truth[key] == value for key, value in read.items())


def no_seed(_: Random) -> bytes:
    raise NotImplementedError


def no_plain(_: Path) -> Any:
    raise NotImplementedError


SHARD = f"{folder_digest(READING)}/shard-{'0' * 32}.table"
READERS = (
    Reader("checkpoints", "best.ckpt", "bytes", no_seed, read_checkpoint, no_plain, make=checkpoint),
    Reader("weights of a ResNet", "resnet18.pth", "bytes", no_seed, read_resnet_file, no_plain, make=resnet),
    Reader("word vectors", "vectors.txt", "lines", vectors, read_word_vectors, plain_word_vectors, agree=near_vectors),
    Reader("cached features", SHARD, "bytes", no_seed, read_shard, no_plain, agree=subset, make=shard),
)
