"""Small pretrained towers, written by the tests in the form that the hub has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_tokenizers import byte_pieces

import mnerkit  # noqa: F401 (prepares torchvision before transformers is imported)

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *".?#@", "the", "cat", "##ant"]
PIECES += ["##" + letter for letter in "abcdefghijklmnopqrstuvwxyz"]
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 3}


def _bert(folder: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizer

    BertTokenizer(vocab={piece: number for number, piece in enumerate(PIECES)}).save_pretrained(folder)
    BertModel(BertConfig(vocab_size=len(PIECES), max_position_embeddings=40, **SIZES)).save_pretrained(folder)


def _roberta(folder: Path) -> None:
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    vocabulary, merges = byte_pieces(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    RobertaTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    config = RobertaConfig(vocab_size=len(vocabulary), max_position_embeddings=42, type_vocab_size=1, **SIZES)
    RobertaModel(config).save_pretrained(folder)


def _clip(folder: Path) -> None:
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    vocabulary, merges = byte_pieces(["<|startoftext|>", "<|endoftext|>"], "</w>")
    CLIPTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    text = {**SIZES, "vocab_size": len(vocabulary), "max_position_embeddings": 24, "eos_token_id": 1, "bos_token_id": 0}
    vision = {**SIZES, "hidden_size": 40, "patch_size": 8, "image_size": 24}
    CLIPModel(CLIPConfig(projection_dim=20, text_config=text, vision_config=vision)).save_pretrained(folder)
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.5, 0.25], "crop_size": 24}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))


def _vit(folder: Path) -> None:
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(patch_size=8, image_size=24, **SIZES)).save_pretrained(folder)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Folder of a small `bert`, `roberta`, `clip` or `vit`, with random weights."""
    makers = {"bert": _bert, "roberta": _roberta, "clip": _clip, "vit": _vit}
    made: dict[str, str] = {}

    def folder(name: str) -> str:
        if name not in made:
            torch.manual_seed(0)
            path = tmp_path_factory.mktemp("towers") / name
            path.mkdir()
            makers[name](path)
            made[name] = str(path)
        return made[name]

    return folder
