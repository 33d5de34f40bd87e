"""A parity case: what its files hold, and what makes our towers and batches of it."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch, PictureBatch, TextBatch
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.towers.interface import ImageStates, VisionTower


class Case:
    """One case of a method.

    Attributes:
        about: the JSON.
        config: its sizes.
        tags: the released tags, in the order of their numbers.
        weights: released parameters under their own names.
        tensors: everything else, by its full name (`input/labels`, `output/emissions` ...).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        self.config: dict[str, Any] = self.about.get("config", {})
        tags = self.about.get("labels", self.about.get("tags", ()))
        self.tags = tuple(sorted(tags, key=tags.__getitem__)) if isinstance(tags, dict) else tuple(tags)
        content = load_file(path.with_suffix(".safetensors"))
        self.weights = {name[8:]: value for name, value in content.items() if name.startswith("weights/")}
        self.tensors = {name: value for name, value in content.items() if not name.startswith("weights/")}

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix`, without it."""
        return {name[len(prefix) :]: value for name, value in self.tensors.items() if name.startswith(prefix)}

    def sized(self, *names: str) -> Any:
        """The first of these sizes that the JSON gives: the cases call one thing by several names."""
        for name in names:
            if name in self.config:
                return self.config[name]
        raise KeyError(f"size {' or '.join(names)}")


def types_of(tags: Sequence[str]) -> tuple[str, ...]:
    """The types of BIO tags, in their order."""
    return tuple(tag[2:] for tag in tags if tag.startswith("B-"))


def bert_config(weights: Mapping[str, Tensor], prefix: str, heads: int, **others: Any) -> Any:
    """The configuration of a BERT whose parameters stand below `prefix`."""
    from transformers import BertConfig

    table = {
        part: weights[f"{prefix}.embeddings.{part}_embeddings.weight"] for part in ("word", "position", "token_type")
    }
    layers = {name.split(".layer.")[1].split(".")[0] for name in weights if name.startswith(f"{prefix}.encoder.layer.")}
    sizes = {
        "vocab_size": len(table["word"]),
        "hidden_size": table["word"].shape[1],
        "max_position_embeddings": len(table["position"]),
        "type_vocab_size": len(table["token_type"]),
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "intermediate_size": len(weights[f"{prefix}.encoder.layer.0.intermediate.dense.weight"]),
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    return BertConfig(**{**sizes, **others})


def tower_folder(folder: Path, config: Any) -> str:
    """Write a configuration and a tokenizer of six pieces; the spec of a text tower of this architecture."""
    from transformers import BertTokenizer

    config.save_pretrained(folder)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    BertTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}).save_pretrained(folder)
    return f"random:{folder}"


def two_stream_towers(case: Case, folder: Path) -> dict[str, str]:
    """Options `text` and `vision` of the two streams that MKGformer's code has, and MGIPS-CL's after it."""
    from transformers import CLIPVisionConfig

    weights, heads = case.weights, case.sized("heads")
    stream = {
        name.replace("model.text_embeddings", "bert.embeddings").replace(
            "model.encoder.text_layer", "bert.encoder.layer"
        ): value
        for name, value in weights.items()
    }
    width, _, patch, _ = weights["model.vision_embeddings.patch_embedding.weight"].shape
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=len(weights["model.encoder.vision_layers.0.mlp.fc1.weight"]),
        num_hidden_layers=case.sized("layers"),
        num_attention_heads=heads,
        image_size=case.sized("image"),
        patch_size=patch,
        projection_dim=width,
    )
    vision.save_pretrained(folder / "vision")
    text = tower_folder(folder / "text", bert_config(stream, "bert", heads))
    return {"text": text, "vision": f"random:{folder / 'vision'}"}


def vit_folder(folder: Path, weights: Mapping[str, Tensor], prefix: str, heads: int, **others: Any) -> str:
    """Write the configuration of the ViT (names of transformers 4) whose parameters stand below `prefix`; its spec."""
    from transformers import ViTConfig

    patches = weights[f"{prefix}.embeddings.patch_embeddings.projection.weight"]  # (d, 3, side, side)
    layers = {name.split(".layer.")[1].split(".")[0] for name in weights if name.startswith(f"{prefix}.encoder.layer.")}
    grid = math.isqrt(weights[f"{prefix}.embeddings.position_embeddings"].shape[1] - 1)
    sizes = {
        "hidden_size": len(patches),
        "patch_size": patches.shape[-1],
        "image_size": patches.shape[-1] * grid,
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "intermediate_size": len(weights[f"{prefix}.encoder.layer.0.intermediate.dense.weight"]),
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    ViTConfig(**{**sizes, **others}).save_pretrained(folder)
    return f"random:{folder}"


class TableTower(VisionTower):
    """A vision tower that returns states which the case gives; a picture's pixel is the number of its row.

    Args:
        pooled: (N, d), or None.
        regions: (N, R, d), or None.
        stages: maps (N, c, h, w).
        tokens: (N, 1 + R, d), or None.
    """

    def __init__(
        self,
        pooled: Tensor | None = None,
        regions: Tensor | None = None,
        stages: Sequence[Tensor] = (),
        tokens: Tensor | None = None,
    ) -> None:
        super().__init__()
        if regions is None:
            if stages:
                regions = stages[-1].flatten(2).transpose(1, 2)
            else:
                assert pooled is not None
                regions = pooled.unsqueeze(1)
        pooled = regions.mean(1) if pooled is None else pooled
        self.states = ImageStates(pooled, regions, (1, regions.shape[1]), tuple(stages), tokens)
        self.spec, self.width, self.pooled_width = "parity", regions.shape[-1], pooled.shape[-1]
        self.stage_widths = tuple(each.shape[1] for each in stages)
        self.picture, self.frozen, self.options = PictureFormat(1), True, {}

    def forward(self, pixels: Tensor) -> ImageStates:
        rows, given = pixels.flatten(1)[:, 0].long(), self.states
        tokens = None if given.tokens is None else given.tokens[rows]
        stages = tuple(each[rows] for each in given.stages)
        return ImageStates(given.pooled[rows], given.regions[rows], given.grid, stages, tokens)

    def see(self, pictures: PictureBatch) -> ImageStates:
        return self(pictures.pixels())


def numbered(mask: Tensor, first: int = 0) -> Tensor:
    """Pictures (B, k, 3, 1, 1) that a `TableTower` reads as its rows `first`, `first` + 1 ..., row by row."""
    numbers = torch.arange(mask.numel(), dtype=torch.float).view(mask.shape) + first
    return numbers[..., None, None, None].expand(*mask.shape, 3, 1, 1).contiguous()


def words_batch(
    ids: Tensor, mask: Tensor, firsts: Tensor, labels: Tensor | None, tags: Sequence[str], types: Sequence[str]
) -> Batch:
    """A batch of words from pieces, `[CLS]` first and `[SEP]` last.

    Args:
        ids: (B, n) piece numbers.
        mask: (B, n), 1 for real pieces with the special ones.
        firsts: (B, n), 1 for the first piece of a word.
        labels: (B, n) released tag numbers; those of first pieces are read.
        tags: released tags in the order of their numbers.
        types: the types of our tag set.
    """
    ids, mask, firsts = ids.long(), mask.bool(), firsts.bool()
    size, n = ids.shape
    tagset, width = TagSet(tuple(types)), max(1, int(firsts.sum(1).max()))
    word_mask, first_piece = torch.zeros(size, width, dtype=torch.bool), torch.full((size, width), -1)
    piece_word, numbers = torch.full((size, n), -1), torch.zeros(size, width, dtype=torch.long)
    posts, words = [], []
    for row in range(size):
        places, end = torch.nonzero(firsts[row]).flatten(), int(mask[row].sum()) - 1
        count = len(places)
        word_mask[row, :count], first_piece[row, :count] = True, places
        inside = slice(int(places[0]) if count else end, end)
        piece_word[row, inside] = firsts[row, inside].long().cumsum(0) - 1
        words.append(tuple(f"word{number}" for number in range(count)))
        of_words = None
        if labels is not None:
            of_words = tuple(tags[int(label)] for label in labels[row, places])
            numbers[row, :count] = torch.tensor(tagset.encode(of_words), dtype=torch.long)
        posts.append(Post(str(row), words[-1], of_words))
    text = TextBatch(words, word_mask, ids, mask, torch.zeros_like(ids), piece_word, first_piece)
    query = torch.ones(size, dtype=torch.bool)
    return Batch(posts, text, tagset, query, tags=None if labels is None else numbers)


def first_pieces_of(starts: Tensor, shape: Sequence[int]) -> Tensor:
    """Places of first pieces (B, W), -1 behind, as a mask (B, n)."""
    mask = torch.zeros(tuple(shape), dtype=torch.bool)
    rows, columns = torch.nonzero(starts >= 0, as_tuple=True)
    mask[rows, starts[rows, columns].long()] = True
    return mask


class Call(NamedTuple):
    """One call of a watched module or method."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any


class Watch:
    """Records the calls of modules and of an object's methods, to read intermediate tensors."""

    def __init__(self) -> None:
        self.calls: dict[Any, list[Call]] = defaultdict(list)

    def module(self, name: Any, module: nn.Module) -> None:
        """Record a module's calls under `name`."""
        module.register_forward_hook(
            lambda _, args, kwargs, output: self.calls[name].append(Call(args, kwargs, output)), with_kwargs=True
        )

    def method(self, name: Any, owner: Any, attribute: str) -> None:
        """Record calls of a method of `owner`; the object is changed."""
        original: Callable[..., Any] = getattr(owner, attribute)

        def watched(*args: Any, **kwargs: Any) -> Any:
            output = original(*args, **kwargs)
            self.calls[name].append(Call(args, kwargs, output))
            return output

        object.__setattr__(owner, attribute, watched)

    def bert(self, model: Any) -> None:
        """Record embeddings and layers of a BERT as `("states", 0)`, 1 ..., and attention as `("attention", 0)` ..."""
        self.module(("states", 0), model.embeddings)
        for number, layer in enumerate(model.encoder.layer):
            self.module(("states", number + 1), layer)
            self.module(("attention", number), layer.attention.self)

    def weights(self, name: Any, attention: nn.Module) -> Callable[[], Tensor]:
        """Record an attention's calls; what is returned computes the weights (B, heads, queries, keys) of its first."""
        self.module(name, attention)

        def computed() -> Tensor:
            args, kwargs, _ = self.calls[name][0]
            weights: Tensor = attention(*args, **{**kwargs, "need_weights": True})[1]
            return weights

        return computed

    def __getitem__(self, name: Any) -> Any:
        """The last output recorded under `name`."""
        return self.calls[name][-1].output

    def states(self, number: int) -> Tensor:
        """States (B, n, d) of a BERT after a layer, 0 for the embeddings."""
        output = self["states", number]
        return output[0] if isinstance(output, tuple) else output

    def attention(self, number: int) -> Tensor:
        """Attention (B, heads, n, keys) of a BERT's layer, from 0 on."""
        return self["attention", number][1]
