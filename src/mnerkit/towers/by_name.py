"""Towers by name.

A spec names a tower:

| spec | tower |
|---|---|
| `tiny` | trains from scratch in a minute (text and vision) |
| `tiny-bert` | the same with BERT's architecture: takes a prefix, reads pieces (text) |
| `tiny-vit` | the same with the architecture of CLIP's vision half (vision) |
| `bilstm` | word vectors, characters, BiLSTM (text) |
| a folder | config.json, tokenizer and weights as written by `save_pretrained` |
| a hub name | `bert-base-uncased`, `openai/clip-vit-large-patch14`, `google/vit-base-patch16-224` ... |
| `resnet50`, `resnet50:FILE` | torchvision's ResNets (18 to 152), from its site or from a .pth or .safetensors file |
| `random:X` | the architecture of folder X (or its config.json), or of `random:resnet50`, with new weights |
| `random:resnet50/8`, `resnet50/8:FILE` | a ResNet with an eighth of its width (`mnerkit reproduce --rehearse`) |
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from mnerkit.data.batches.needs import Reader
from mnerkit.data.corpus.post import CorpusFacts
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.errors import TowerError, UsageError, did_you_mean
from mnerkit.towers.frozen.memory import freeze as fix
from mnerkit.towers.hub import (
    Source,
    new_model,
    read_config,
    read_json,
    read_model,
    read_tokenizer,
    source_of,
)
from mnerkit.towers.interface import TextTower, VisionTower
from mnerkit.towers.text.bilstm import BiLstmTower
from mnerkit.towers.text.piece_tower import BertTower, ClipTextTower, PieceTower, WordPool
from mnerkit.towers.text.pieces import PieceReader
from mnerkit.towers.text.text_reader import VocabularyReader
from mnerkit.towers.vision.pretrained import CLIP, HALF, RESNETS, ClipVisionTower, ResNetTower, VitTower, picture_of
from mnerkit.towers.vision.resnet_files import read_resnet


def text_tower(
    spec: str,
    *,
    facts: CorpusFacts,
    freeze: bool = False,
    max_tokens: int = 128,
    word_pieces: int | None = None,
    word_pool: WordPool = "first",
    second_words: int = 24,
    last_layers: int = 1,
    pos_interp: bool = False,
    weights: bool = True,
    **options: Any,
) -> TextTower:
    """Make a text tower.

    Args:
        spec: name of the tower (see the module).
        facts: facts about the corpus, for towers with a vocabulary.
        freeze: freeze the weights.
        max_tokens: maximum number of pieces of a row, special pieces included; lowered to the tower's positions.
        word_pieces: maximum number of pieces of a word, its first ones; None: all. Ignored by towers of whole words.
        word_pool: a word is its first piece, or the mean over its pieces.
        second_words: maximum number of words of a second segment.
        last_layers: states are the mean over this many last layers.
        pos_interp: for CLIP: stretch the position embeddings to `max_tokens`, if there are fewer.
        weights: read the weights; False: new ones, to be replaced by the caller.
        options: options of the tiny towers or the BiLSTM; other towers have none.

    Raises:
        TowerError: files are unavailable or do not fit.
        UsageError: the tower does not have an option.

    """
    tower: TextTower
    if spec in ("tiny", "bilstm", "tiny-bert"):
        if pos_interp:
            raise UsageError(f"pos_interp stretches the positions of a CLIP; tower {spec} has none")
        if spec == "tiny-bert":
            from mnerkit.towers.text.tiny import tiny_reader

            pooling = {"word_pool": word_pool, "last_layers": last_layers}
            reader = tiny_reader(facts, max_tokens, second_words, word_pieces)
            tower = build_tiny_bert(reader, pooling, options)
        else:
            tower = build_word_tower(spec, VocabularyReader(facts.words, second_words), options)
    else:
        _refuse(spec, options, ())
        source = source_of(spec)
        config = read_config(source)
        try:
            reader = PieceReader.of(read_tokenizer(source), max_tokens, second_words, word_pieces)
        except TowerError as error:
            raise error if spec in str(error) else TowerError(f"tower {spec}: {error}") from None
        pooling = {"word_pool": word_pool, "last_layers": last_layers, **({"pos_interp": True} if pos_interp else {})}
        tower = build_piece_tower(source if weights else None, config, reader, pooling, spec)
    return fix(tower) if freeze else tower


def text_reader(spec: str, facts: CorpusFacts, max_tokens: int = 128) -> Reader:
    """The reader of a text tower, with the length limit that the tower would have, without reading its weights.

    Args:
        spec: name of the tower (see the module).
        facts: facts about the corpus, for towers with a vocabulary.
        max_tokens: maximum number of pieces of a row, special pieces included; lowered to the tower's positions.

    Raises:
        TowerError: files are unavailable or do not fit.

    """
    if spec in ("tiny", "bilstm"):
        return VocabularyReader(facts.words)
    if spec == "tiny-bert":
        return text_tower(spec, facts=facts, max_tokens=max_tokens).reader
    source = source_of(spec)
    config, reader = read_config(source), PieceReader.of(read_tokenizer(source), max_tokens)
    with torch.device("meta"):  # only the number of positions is needed
        return build_piece_tower(None, config, reader, {}, spec).reader


def vision_tower(spec: str, *, freeze: bool = False, weights: bool = True, **options: Any) -> VisionTower:
    """Make a vision tower.

    Args:
        spec: name of the tower (see the module).
        freeze: freeze the weights, BatchNorm statistics included.
        weights: read the weights; False: new ones, to be replaced by the caller.
        options: options of the tiny towers; other towers have none.

    Raises:
        TowerError: files are unavailable or do not fit.
        UsageError: the tower does not have an option.

    """
    tower: VisionTower
    if spec == "tiny":
        from mnerkit.towers.vision.tiny_cnn import TinyVision

        _refuse(spec, options, inspect.signature(TinyVision).parameters)
        tower = TinyVision(**options)
        tower.options = options
    elif spec == "tiny-vit":
        from mnerkit.towers.tiny_sizes import PICTURE
        from mnerkit.towers.vision.tiny_vit import tiny_vit_config

        _refuse(spec, options, inspect.signature(tiny_vit_config).parameters)
        model = new_model(tiny_vit_config(**options), clip_vision_class(clip=True))
        tower = build_patch_tower(spec, model, PICTURE, loaded=False)
        tower.options = {}
    else:
        _refuse(spec, options, ())
        tower = _resnet(spec, weights) if _resnet_name(spec) else _of_patches(source_of(spec), weights)
        tower.options = {}
    return fix(tower) if freeze else tower


def build_word_tower(spec: str, reader: Any, options: dict[str, Any]) -> TextTower:
    """Build a tower of whole words for the vocabulary of `reader`, with new weights."""
    from mnerkit.towers.text.tiny import TinyText

    tower: TextTower
    family = TinyText if spec == "tiny" else BiLstmTower
    _refuse(spec, options, [name for name in inspect.signature(family).parameters if name not in ("facts", "words")])
    if spec == "tiny":
        tower = TinyText(CorpusFacts((), reader.words), **options)
    else:
        tower = BiLstmTower(reader.words, **options)
        # store only the width of the vectors, so that a checkpoint does not need their file
        options = {**options, "word_width": tower.word_width, "vectors": None}
    tower.reader, tower.options = reader, options
    return tower


def build_tiny_bert(reader: PieceReader, pooling: dict[str, Any], sizes: dict[str, Any]) -> TextTower:
    """Build a small BERT for the words of a corpus, with new weights."""
    from mnerkit.towers.text.tiny import TinyBert, tiny_config

    _refuse("tiny-bert", sizes, [name for name in inspect.signature(tiny_config).parameters if name != "vocabulary"])
    tower = TinyBert("tiny-bert", tiny_config(reader.vocabulary, **sizes), reader, **pooling)
    tower.options = {**pooling, **sizes}
    return tower


def build_piece_tower(
    source: Source | None, config: Any, reader: Any, options: dict[str, Any], spec: str = ""
) -> PieceTower:
    """Build a tower of pieces with the weights of `source`, or with new weights if it is None."""
    clip = config.model_type in ("clip", "clip_text_model")
    if clip:
        config = _clip_half(config, "text_config")
    spec = source.spec if source is not None else spec
    if not hasattr(config, "vocab_size") or not hasattr(config, "hidden_size"):
        raise TowerError(
            f"tower {spec}: {config.model_type!r} is not a text encoder; give one like BERT, RoBERTa or CLIP"
        )
    if config.vocab_size < reader.vocabulary:
        raise TowerError(
            f"tower {spec}: the tokenizer has {reader.vocabulary} pieces and the model {config.vocab_size}: "
            "they do not belong together"
        )
    if options.get("pos_interp") and not clip:
        raise UsageError(f"pos_interp stretches the positions of a CLIP, and tower {spec} is {config.model_type!r}")
    model_class = _clip_class("CLIPTextModelWithProjection") if clip else None
    model = read_model(source, config, model_class) if source is not None else new_model(config, model_class)
    family = ClipTextTower if clip else BertTower
    tower = family(spec, model, reader, **options)
    tower.options = options
    tower.loaded = source is not None and source.kind != "random"
    return tower


def _of_patches(source: Source, weights: bool) -> VisionTower:
    config = read_config(source)
    clip = config.model_type in ("clip", "clip_vision_model")
    preprocessor = read_json(source, "preprocessor_config.json")
    if clip:
        config = _clip_half(config, "vision_config")
    _check_patches(source.spec, config)
    picture = picture_of(config, preprocessor, CLIP if clip else HALF)
    model_class = clip_vision_class(clip)
    model = read_model(source, config, model_class) if weights else new_model(config, model_class)
    return build_patch_tower(source.spec, model, picture, weights and source.kind != "random")


def build_patch_tower(spec: str, model: Any, picture: PictureFormat, loaded: bool) -> VisionTower:
    """Build a tower of patches around a CLIP or ViT model.

    Args:
        spec: name of the tower.
        model: the transformers model.
        picture: size and normalisation of its pictures.
        loaded: whether the model has pretrained weights.
    """
    tower = (ClipVisionTower if model.config.model_type == "clip_vision_model" else VitTower)(spec, model, picture)
    tower.loaded = loaded
    return tower


def _check_patches(spec: str, config: Any) -> None:
    if not all(isinstance(getattr(config, name, None), int) for name in ("image_size", "patch_size", "hidden_size")):
        raise TowerError(f"tower {spec}: {config.model_type!r} is not a vision encoder; give a CLIP, a ViT or a ResNet")


def _clip_half(config: Any, half: str) -> Any:
    """Configuration of CLIP's text or vision half, with the width of the joint space."""
    inner = getattr(config, half, None)
    if inner is None:
        return config
    inner.projection_dim = config.projection_dim
    inner._commit_hash = getattr(config, "_commit_hash", None)
    return inner


def _clip_class(name: str) -> Any:
    import transformers

    return getattr(transformers, name)


def clip_vision_class(clip: bool) -> Any:
    """The transformers class of CLIP's vision half; for other models None, which stands for the default class."""
    return _clip_class("CLIPVisionModelWithProjection") if clip else None


def _resnet_name(spec: str) -> str:
    """The ResNet that a spec names, or an empty string."""
    name = spec.removeprefix("random:").split(":", 1)[0]
    network, slash, divisor = name.partition("/")
    narrow = divisor in ("2", "4", "8", "16") and name != spec
    return name if network in RESNETS and (narrow or not slash) else ""


def _resnet(spec: str, weights: bool) -> ResNetTower:
    tower = ResNetTower(spec, _resnet_name(spec))
    if weights and not spec.startswith("random:"):
        tower.load_torchvision(read_resnet(spec, tower.name))
        tower.loaded = True
    return tower


def _refuse(spec: str, options: dict[str, Any], names: Any) -> None:
    for name in options:
        if name not in names:
            raise UsageError(f"tower {spec} has no option {name!r}.{did_you_mean(name, names)}")
