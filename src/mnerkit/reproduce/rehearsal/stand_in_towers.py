"""Towers of the right architecture with random weights, whole or an eighth as wide; nothing is downloaded."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnerkit import torch_archive
from mnerkit.atomic_files import draft
from mnerkit.errors import UsageError
from mnerkit.towers.architectures import ARCHITECTURES
from mnerkit.towers.vision.pretrained import RESNETS, narrow_resnet

# a shrunk tower has its depth, heads, patches and positions, and this fraction of its widths
DIVISOR = 8
WIDTHS = ("hidden_size", "intermediate_size", "projection_dim")
VOCABULARY = 8000
# names of towers that need no files
BUILT_IN = ("tiny", "tiny-bert", "tiny-vit", "bilstm", "captions")
Size = str  # `shrunk` or `full`


def stand_in(spec: str, size: Size, folder: Path, texts: Sequence[str]) -> str:
    """The spec of a tower that stands for another one, and is made where it is not there yet.

    Args:
        spec: name of the tower.
        size: `shrunk` or `full`.
        folder: where towers are kept; they have weights, so that they are read, cached and left out of checkpoints like
            those of the hub.
        texts: what the tokenizer of a text tower is learnt from.

    Raises:
        UsageError: the architecture is not known.
    """
    if network := network_of(spec):
        return _resnet(network, 1 if size == "full" else DIVISOR, folder)
    if spec in BUILT_IN:
        return spec
    config = config_of(spec)
    place = folder / (Path(spec).name if spec.count("/") <= 1 else Path(spec).parent.name)
    if not (place / "config.json").is_file():
        _write(config if size == "full" else shrunk(config), place, texts)
    return str(place)


def network_of(spec: str) -> str:
    """The ResNet that a spec names, or an empty string."""
    network = spec.removeprefix("random:").split(":", 1)[0]
    return network if network in RESNETS else ""


def config_of(spec: str) -> Any:
    """The architecture: a known one, or that of a local folder."""
    import transformers

    folder, name = Path(spec).expanduser(), spec.rsplit("/", 1)[-1]
    if (folder / "config.json").is_file():
        return transformers.AutoConfig.from_pretrained(folder)
    if name not in ARCHITECTURES:
        raise UsageError(
            f"tower {spec}: its architecture is not known without a download: {', '.join([*ARCHITECTURES, *RESNETS])};"
            " give a local folder"
        )
    family, differences = ARCHITECTURES[name]
    return getattr(transformers, family)(**differences)


def shrunk(config: Any) -> Any:
    """The same with a fraction of its widths."""
    content = json.loads(config.to_json_string(use_diff=False))
    for part in (content, *(content[half] for half in ("text_config", "vision_config") if half in content)):
        for name in WIDTHS:
            if isinstance(part.get(name), int):
                part[name] //= DIVISOR
    return type(config)(**content)


def _resnet(network: str, divisor: int, folder: Path) -> str:
    """The spec of a ResNet with weights in a file, which is written where it is not there yet."""
    import torch

    file = folder / f"{network}-{divisor}.pth"
    if not file.is_file():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            weights = narrow_resnet(network, str(divisor)).state_dict()
        with draft(file) as stream:
            torch_archive.write(weights, stream)
    return f"{network}:{file}" if divisor == 1 else f"{network}/{divisor}:{file}"


def _write(config: Any, place: Path, texts: Sequence[str]) -> None:
    """Write configuration, weights and, where it reads texts, a tokenizer; whole or not at all."""
    import torch

    from mnerkit.towers.hub import new_model

    beside = place.with_name(f"{place.name}.{os.getpid()}")
    text = getattr(config, "text_config", config)
    if hasattr(text, "vocab_size"):
        tokenizer = _tokenizer(config.model_type, texts)
        text.vocab_size = max(text.vocab_size, len(tokenizer))
        # CLIP pools at the end of the text
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(text, name, getattr(tokenizer, name, None))
        tokenizer.save_pretrained(beside)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = new_model(config)
        model.save_pretrained(beside)
    try:
        beside.rename(place)
    except OSError:  # another process was faster
        shutil.rmtree(beside)


def _tokenizer(kind: str, texts: Sequence[str]) -> Any:
    """A tokenizer of an architecture's kind, learnt from texts."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    if kind not in ("clip", "roberta"):
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        learnt = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        learnt.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        pieces = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
        learnt.train_from_iterator(texts, pieces)
        return transformers.BertTokenizer(vocab=learnt.get_vocab(), do_lower_case=False)
    suffix = "</w>" if kind == "clip" else ""
    special = ["<|startoftext|>", "<|endoftext|>"] if suffix else ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learnt = Tokenizer(models.BPE(end_of_word_suffix=suffix) if suffix else models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=not suffix)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    options: dict[str, Any] = {"end_of_word_suffix": suffix} if suffix else {}
    options |= {"initial_alphabet": alphabet, "special_tokens": special, "show_progress": False}
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, **options)
    learnt.train_from_iterator(texts, trainer)
    model = json.loads(learnt.to_str())["model"]
    for letter in alphabet if suffix else ():
        model["vocab"].setdefault(letter + suffix, len(model["vocab"]))
    family: Any = transformers.CLIPTokenizer if suffix else transformers.RobertaTokenizer
    return family(vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]])
