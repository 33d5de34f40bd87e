"""Saved models: whoever changes a file can note its digest as well."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from fuzzing.mutations import json_text, mutated, restructured
from fuzzing.packed import files_in, packed, unpacked
from fuzzing.plain_json import loads
from fuzzing.reader import VALID, Input, Reader
from fuzzing.weights import CONFIGS, no_seed, template, tensors

DESCRIPTION = "mnerkit.json"
DTYPES = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64", "I64": "int64", "U8": "uint8"}


@cache
def saved(number: int) -> dict[str, bytes]:
    """The files of a small model; the last one has a tokenizer."""
    from mnerkit.methods import model_folder

    with tempfile.TemporaryDirectory() as place:
        content = template(number) if number < len(CONFIGS) else with_tokenizer(Path(place))
        folder = model_folder.write(content, Path(place) / "model")
        return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix != ".md"}


def with_tokenizer(place: Path) -> dict[str, Any]:
    """A model whose text tower is a transformer of a few hundred weights."""
    import torch
    import transformers

    from mnerkit.data.corpus.post import CorpusFacts
    from mnerkit.methods.model_folder import content_of
    from mnerkit.methods.tagger import make_method
    from mnerkit.runs.config.configuration import filled

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Ann", "##a", "cat", "the"]
    tokenizer = transformers.BertTokenizer(vocab={word: at for at, word in enumerate(words)}, do_lower_case=False)
    tokenizer.save_pretrained(place / "tower")
    sizes: dict[str, Any] = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=16, **sizes)
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(place / "tower")
    options = {"plugin": "bert", "model": {"text": str(place / "tower"), "max_tokens": 16}, "seed": 0}
    method = make_method(filled(options, new=True))
    method.build(CorpusFacts(("PER",), ("the", "Ann")), n_way=2)
    record = method.record() | {"config": filled(options, new=True), "support": [], "support_types": []}
    return content_of(method) | {"mnerkit": content_of(method)["mnerkit"] | record | {"trained_on": torch.tensor([3])}}


def model(draw: Random) -> Input:
    """A saved model with one file changed; its digest is noted most of the time."""
    number = draw.randrange(len(CONFIGS) + 1)
    files = dict(saved(number))
    if draw.random() < VALID:
        return Input(packed(files), True)
    name = DESCRIPTION if draw.random() < 0.4 else draw.choice([each for each in files if each != DESCRIPTION])
    if name.endswith(".safetensors"):
        files[name] = changed_tensors(draw, files[name])
    elif draw.random() < 0.05:
        del files[name]
    else:
        files[name] = mutated(draw, "json", files[name], saved((number + 1) % len(CONFIGS)).get(name, b"[]"))
    if name in files and name != DESCRIPTION and draw.random() < 0.9:
        described = json.loads(files[DESCRIPTION])
        described["files"][name] = hashlib.sha256(files[name]).hexdigest()
        files[DESCRIPTION] = json.dumps(described).encode()
    return Input(packed(files), False)


def changed_tensors(draw: Random, content: bytes) -> bytes:
    """A file of safetensors with other bytes, another head, or another length of it."""
    how, end = draw.random(), 8 + int.from_bytes(content[:8], "little")
    if how < 0.3:
        return mutated(draw, "bytes", content, content)
    if how < 0.4:
        return draw.choice((0, 1, end, len(content), 1 << 40, (1 << 64) - 1)).to_bytes(8, "little") + content[8:]
    head = mutated(draw, "json", content[8:end], content[8:end])
    if how < 0.7:
        head = json_text(draw, restructured(draw, json.loads(content[8:end]))).encode("utf-8", "surrogatepass")
    return len(head).to_bytes(8, "little") + head + content[end:]


def read_model(path: Path) -> Any:
    from mnerkit.methods import checkpoint
    from mnerkit.methods.tagger import make_method

    content = checkpoint.read(unpacked(path))
    record = content["mnerkit"]
    method = checkpoint.restore(make_method(record["config"]), content)
    support = [(post.id, list(post.words), list(post.tags or ())) for post in method.support]
    return {
        "types": record["facts"]["types"],
        "words": record["facts"]["words"],
        "support": support,
        "trained on": method.trained_on,
        "weights": tensors(method.state_dict()),
    }


def plain_model(path: Path) -> Any:
    files = files_in(path)
    described = loads(files[DESCRIPTION].decode())
    for name, digest in described["files"].items():
        assert hashlib.sha256(files[name]).hexdigest() == digest
    words, support = (
        loads(files[name].decode()) if name in described["files"] else [] for name in ("words.json", "support.json")
    )
    _, _, numbers = plain_tensors(files["data.safetensors"])["trained_on"]
    return {
        "types": described["types"],
        "words": words,
        "support": [(post["id"], post["words"], post["tags"]) for post in support],
        "trained on": [int.from_bytes(numbers[at : at + 8], "little", signed=True) for at in range(0, len(numbers), 8)],
        "weights": plain_tensors(files["model.safetensors"]),
    }


def plain_tensors(content: bytes) -> dict[str, Any]:
    """Name, type, shape and bytes of each tensor of a file of safetensors."""
    end = 8 + int.from_bytes(content[:8], "little")
    head = loads(content[8:end].decode())
    head.pop("__metadata__", None)
    found = {}
    for name, each in head.items():
        first, last = each["data_offsets"]
        width = 8 if "64" in each["dtype"] else 1 if each["dtype"] == "U8" else 2 if "16" in each["dtype"] else 4
        assert last - first == math.prod(each["shape"]) * width and end + last <= len(content)
        found[name] = (f"torch.{DTYPES[each['dtype']]}", each["shape"], content[end + first : end + last])
    return found


READERS = (Reader("saved models", "model.zip", "bytes", no_seed, read_model, plain_model, make=model),)
