"""Towers by name, and towers from checkpoints.

A tower is named by a spec:

| spec | tower |
|---|---|
| `tiny` | trains from scratch in a minute (text and vision) |
| `tiny-bert` | likewise, with BERT's architecture: takes a prefix, reads pieces (text) |
| `tiny-vit` | likewise, with the architecture of CLIP's vision half (vision) |
| `bilstm` | word vectors, characters, BiLSTM (text) |
| a folder | config.json, tokenizer and weights as `save_pretrained` writes them |
| a hub name | `bert-base-uncased`, `openai/clip-vit-large-patch14`, `google/vit-base-patch16-224` ... |
| `resnet50`, `resnet50:FILE` | torchvision's ResNets (18 to 152), from its site or from a .pth or .safetensors file |
| `random:X` | the architecture of folder X (or its config.json), or of `random:resnet50`, with new weights |
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mnerkit.data.batches.pieces import PieceReader
from mnerkit.data.batches.text_reader import VocabularyReader, reader_from_state
from mnerkit.data.corpus.corpus_facts import CorpusFacts
from mnerkit.data.pictures.picture_format import PictureFormat
from mnerkit.errors import CheckpointError, TowerError, UsageError, did_you_mean
from mnerkit.towers.frozen.memory import freeze as fix
from mnerkit.towers.frozen.memory import weight_digest
from mnerkit.towers.hub import (
    Source,
    config_from_dict,
    new_model,
    read_config,
    read_json,
    read_model,
    read_tokenizer,
    source_of,
)
from mnerkit.towers.interface import TextTower, Tower, VisionTower
from mnerkit.towers.text.bilstm import BiLstmTower
from mnerkit.towers.text.piece_tower import BertTower, ClipTextTower, PieceTower, WordPool
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
    **options: Any,
) -> TextTower:
    """Make a text tower.

    Args:
        spec: which one (see the module).
        facts: what is known of the corpus, for towers with a vocabulary.
        freeze: fix its weights.
        max_tokens: most pieces of a row, special pieces included; lowered to what the tower's positions allow.
        word_pieces: most pieces of a word, its first ones; None: all. Towers that read whole words do not ask.
        word_pool: a word is its first piece, or the mean over its pieces.
        second_words: most words of a second segment.
        last_layers: states are the mean over this many last layers.
        pos_interp: CLIP: stretch the position embeddings to `max_tokens`, where that is more than they are.
        options: those of the tiny towers or the BiLSTM; another tower of pieces has no more.

    Raises:
        TowerError: files that can't be had or do not fit.
        UsageError: an option that the tower does not have.

    """
    tower: TextTower
    if spec in ("tiny", "bilstm", "tiny-bert"):
        if pos_interp:
            raise UsageError(f"pos_interp stretches the positions of a CLIP; tower {spec} has none")
        if spec == "tiny-bert":
            from mnerkit.towers.text.tiny_bert import tiny_reader

            own = {"word_pool": word_pool, "last_layers": last_layers}
            reader = tiny_reader(facts, max_tokens, second_words, word_pieces)
            tower = _tiny_bert(reader, own, options)
        else:
            tower = _of_words(spec, VocabularyReader(facts.words, second_words), options)
    else:
        _refuse(spec, options, ())
        source = source_of(spec)
        config = read_config(source)
        try:
            reader = PieceReader.of(read_tokenizer(source), max_tokens, second_words, word_pieces)
        except TowerError as error:
            raise error if spec in str(error) else TowerError(f"tower {spec}: {error}") from None
        own = {"word_pool": word_pool, "last_layers": last_layers, **({"pos_interp": True} if pos_interp else {})}
        tower = _of_pieces(source, config, reader, own)
    return fix(tower) if freeze else tower


def vision_tower(spec: str, *, freeze: bool = False, **options: Any) -> VisionTower:
    """Make a vision tower.

    Args:
        spec: which one (see the module).
        freeze: fix its weights, BatchNorm statistics included.
        options: those of the tiny towers; others have none.

    Raises:
        TowerError: files that can't be had or do not fit.
        UsageError: an option that the tower does not have.

    """
    tower: VisionTower
    if spec == "tiny":
        from mnerkit.towers.tiny import TinyVision

        _refuse(spec, options, inspect.signature(TinyVision).parameters)
        tower = TinyVision(**options)
        tower.options = options
    elif spec == "tiny-vit":
        from mnerkit.towers.tiny import PICTURE
        from mnerkit.towers.vision.tiny_vit import tiny_vit_config

        _refuse(spec, options, inspect.signature(tiny_vit_config).parameters)
        model = new_model(tiny_vit_config(**options), _vision_class(clip=True))
        tower = _patch_tower(spec, model, PICTURE, loaded=False)
        tower.options = {}
    else:
        _refuse(spec, options, ())
        tower = _resnet(spec) if _resnet_name(spec) else _of_patches(source_of(spec))
        tower.options = {}
    return fix(tower) if freeze else tower


def tower_state(tower: Tower) -> dict[str, Any]:
    """All that `tower_from_state` rebuilds a tower from, as plain data; without weights.

    A frozen tower whose weights lie in a hub or folder is told by its spec and weight digest; any other tower's
    weights must be stored beside this.
    """
    state: dict[str, Any] = {
        "family": type(tower).__name__,
        "spec": tower.spec,
        "options": dict(tower.options),
        "frozen": tower.frozen,
        "external": tower.external,
        "digest": weight_digest(tower) if tower.external else None,
    }
    if isinstance(tower, TextTower):
        state["reader"] = tower.reader.state()
    if isinstance(tower, VisionTower):
        state["picture"] = tower.picture.state()
    if isinstance(tower, PieceTower | VitTower | ClipVisionTower | ResNetTower):
        state["architecture"] = tower.architecture()
        state["revision"] = getattr(tower, "revision", None)
    return state


def tower_from_state(state: dict[str, Any], tower_dir: str | Path | None = None) -> Any:
    """Rebuild a tower from `tower_state`.

    Args:
        state: from a checkpoint.
        tower_dir: where to look first for the weights of a tower that is told by its spec: its own folder (or, for a
            ResNet, its file), or a folder that holds it by name.

    Returns:
        The tower. Where the checkpoint stores its weights, they are still to be loaded.

    Raises:
        TowerError: weights that can't be had, or that are not the ones it was trained with.
        CheckpointError: the state is of no known tower.

    """
    families: dict[str, Callable[[dict[str, Any], str | Path | None], Tower]] = {
        "TinyText": lambda state, _: _of_words("tiny", reader_from_state(state["reader"]), state["options"]),
        "BiLstmTower": lambda state, _: _of_words("bilstm", reader_from_state(state["reader"]), state["options"]),
        "TinyVision": lambda state, _: vision_tower("tiny", **state["options"]),
        "BertTower": _saved_text,
        "TinyBert": _saved_tiny_bert,
        "ClipTextTower": _saved_text,
        "VitTower": _saved_patches,
        "ClipVisionTower": _saved_patches,
        "ResNetTower": _saved_resnet,
    }
    make = families.get(state.get("family", ""))
    if make is None:
        raise CheckpointError(f"unknown tower {state.get('family')!r} in the checkpoint; known: {', '.join(families)}")
    tower = make(state, tower_dir)
    tower.spec, tower.options = state["spec"], dict(state["options"])
    if state["frozen"]:
        fix(tower)
    if not has_weights_of(tower, state):
        where = f"{tower_dir} or {state['spec']}" if tower_dir else state["spec"]
        raise TowerError(
            f"tower {state['spec']}: the weights found ({where}) are not those that the checkpoint was trained with.\n"
            "Give the folder with the same release of the weights as --tower_dir."
        )
    return tower


def has_weights_of(tower: Tower, state: dict[str, Any]) -> bool:
    """Whether a tower has the weights that `tower_state` told by their digest; True where it told none."""
    return not state["external"] or weight_digest(tower) == state["digest"]


def _of_words(spec: str, reader: Any, options: dict[str, Any]) -> TextTower:
    """A tower of whole words for the vocabulary of `reader`, with new weights."""
    from mnerkit.towers.tiny import TinyText

    tower: TextTower
    family = TinyText if spec == "tiny" else BiLstmTower
    _refuse(spec, options, [name for name in inspect.signature(family).parameters if name not in ("facts", "words")])
    if spec == "tiny":
        tower = TinyText(CorpusFacts((), reader.words), **options)
    else:
        tower = BiLstmTower(reader.words, **options)
        # a checkpoint's user need not have the file of vectors: what is kept is the width that it decided
        options = {**options, "word_width": tower.word_width, "vectors": None}
    tower.reader, tower.options = reader, options
    return tower


def _tiny_bert(reader: PieceReader, own: dict[str, Any], sizes: dict[str, Any]) -> TextTower:
    """A small BERT for the words of a corpus, with new weights."""
    from mnerkit.towers.text.tiny_bert import TinyBert, tiny_config

    _refuse("tiny-bert", sizes, [name for name in inspect.signature(tiny_config).parameters if name != "vocabulary"])
    tower = TinyBert("tiny-bert", new_model(tiny_config(reader.vocabulary, **sizes)), reader, **own)
    tower.options = {**own, **sizes}
    return tower


def _of_pieces(source: Source | None, config: Any, reader: Any, options: dict[str, Any], spec: str = "") -> PieceTower:
    """A tower of pieces: with the weights of `source`, or new ones where it is None."""
    clip = config.model_type in ("clip", "clip_text_model")
    if clip:
        config = _clip_half(config, "text_config")
    spec = source.spec if source is not None else spec
    if not hasattr(config, "vocab_size") or not hasattr(config, "hidden_size"):
        raise TowerError(f"tower {spec}: {config.model_type!r} is no text encoder; give one like BERT, RoBERTa or CLIP")
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


def _of_patches(source: Source) -> VisionTower:
    config = read_config(source)
    clip = config.model_type in ("clip", "clip_vision_model")
    preprocessor = read_json(source, "preprocessor_config.json")
    if clip:
        config = _clip_half(config, "vision_config")
    _check_patches(source.spec, config)
    picture = picture_of(config, preprocessor, CLIP if clip else HALF)
    return _patch_tower(source.spec, read_model(source, config, _vision_class(clip)), picture, source.kind != "random")


def _patch_tower(spec: str, model: Any, picture: PictureFormat, loaded: bool) -> VisionTower:
    tower = (ClipVisionTower if model.config.model_type == "clip_vision_model" else VitTower)(spec, model, picture)
    tower.loaded = loaded
    return tower


def _check_patches(spec: str, config: Any) -> None:
    if not all(isinstance(getattr(config, name, None), int) for name in ("image_size", "patch_size", "hidden_size")):
        raise TowerError(f"tower {spec}: {config.model_type!r} is no vision encoder; give a CLIP, a ViT or a ResNet")


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


def _vision_class(clip: bool) -> Any:
    return _clip_class("CLIPVisionModelWithProjection") if clip else None


def _resnet_name(spec: str) -> str:
    """The ResNet that a spec names, or an empty string."""
    name = spec.removeprefix("random:").split(":", 1)[0]
    return name if name in RESNETS else ""


def _resnet(spec: str) -> ResNetTower:
    tower = ResNetTower(spec, _resnet_name(spec))
    if not spec.startswith("random:"):
        tower.load_torchvision(read_resnet(spec, tower.name))
        tower.loaded = True
    return tower


def _saved_source(state: dict[str, Any], tower_dir: str | Path | None) -> Source | None:
    return source_of(state["spec"], tower_dir, state.get("revision")) if state["external"] else None


def _saved_text(state: dict[str, Any], tower_dir: str | Path | None) -> Tower:
    config, reader = config_from_dict(state["architecture"]), reader_from_state(state["reader"])
    return _of_pieces(_saved_source(state, tower_dir), config, reader, state["options"], state["spec"])


def _saved_tiny_bert(state: dict[str, Any], _: str | Path | None) -> Tower:
    from mnerkit.towers.text.tiny_bert import TinyBert, tiny_config

    config, reader = config_from_dict(state["architecture"]), reader_from_state(state["reader"])
    if not isinstance(reader, PieceReader):
        raise CheckpointError("tower tiny-bert of the checkpoint does not read pieces")
    # its sizes are those of the architecture
    sizes = inspect.signature(tiny_config).parameters
    own = {name: value for name, value in state["options"].items() if name not in sizes}
    return TinyBert(state["spec"], new_model(config), reader, **own)


def _saved_patches(state: dict[str, Any], tower_dir: str | Path | None) -> Tower:
    config, source = config_from_dict(state["architecture"]), _saved_source(state, tower_dir)
    model_class = _vision_class(config.model_type == "clip_vision_model")
    model = read_model(source, config, model_class) if source is not None else new_model(config, model_class)
    return _patch_tower(state["spec"], model, PictureFormat.from_state(state["picture"]), source is not None)


def _saved_resnet(state: dict[str, Any], tower_dir: str | Path | None) -> Tower:
    tower = ResNetTower(state["spec"], state["architecture"]["name"], PictureFormat.from_state(state["picture"]))
    if state["external"]:
        tower.load_torchvision(read_resnet(state["spec"], tower.name, tower_dir))
        tower.loaded = True
    return tower


def _refuse(spec: str, options: dict[str, Any], known: Any) -> None:
    for name in options:
        if name not in known:
            raise UsageError(f"tower {spec} has no option {name!r}.{did_you_mean(name, known)}")
