"""Pretrained text towers: BERT-like models, and CLIP's."""

from __future__ import annotations

import inspect
import json
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import TextBatch
from mnerkit.errors import UsageError
from mnerkit.towers.frozen.memory import FeatureMemory, input_digest, weight_digest
from mnerkit.towers.frozen.reading import Reading
from mnerkit.towers.fusion.prefix import ARGUMENT, Passing, Prefix, Recording, accept_joining, uses_sdpa
from mnerkit.towers.hub import architecture_of
from mnerkit.towers.interface import TextStates, TextTower
from mnerkit.towers.layers import joint_products, layers_of
from mnerkit.towers.text.pieces import PieceReader

WordPool = Literal["first", "mean"]


def pool_words(pieces: Tensor, text: TextBatch, pool: WordPool) -> Tensor:
    """States of words from states of their pieces.

    Args:
        pieces: (B, n, d).
        text: the batch that the pieces belong to.
        pool: a word is its first piece, or the mean over its pieces.

    Returns:
        (B, W, d), zeros where a word is padding or was cut off.

    """
    first, owner = text.first_piece, text.piece_word
    if first is None or owner is None:
        raise ValueError("the batch contains no pieces: it must come from the tower's own reader")
    if pool == "first":
        places = first.clamp_min(0).unsqueeze(-1).expand(-1, -1, pieces.shape[-1])
        return pieces.gather(1, places) * (first >= 0).unsqueeze(-1)
    words = torch.arange(first.shape[1], device=first.device)
    share = (owner.unsqueeze(1) == words.unsqueeze(-1)).to(pieces.dtype)  # (B, W, n)
    return share @ pieces / share.sum(-1, keepdim=True).clamp_min(1)


class PieceTower(TextTower):
    """Base of the towers that read pieces: a transformers model, its reader, and the pooling of pieces to words.

    A frozen tower caches its output for each row (`FeatureMemory`), and returns neither pieces nor layers unless
    `keep_layers` is on.

    Attributes:
        model: the transformers model.
        config: its configuration.
        revision: the commit of the weights on the hub, if known.
        keep_layers: whether to return the states of all layers (and of the pieces, if frozen).
        first_position: number of the first piece's position.

    """

    model: Any
    first_position: int = 0

    def __init__(
        self, spec: str, model: Any, reader: PieceReader, word_pool: WordPool = "first", last_layers: int = 1
    ) -> None:
        """Wrap a model.

        Args:
            spec: the user's name for the tower.
            model: a transformers model that reads `input_ids`.
            reader: its tokenizer; its length limit is lowered to the number of the model's positions.
            word_pool: a word is its first piece, or the mean over its pieces.
            last_layers: the states are the mean over this many last layers.

        """
        super().__init__()
        self.spec, self.model, self.reader = spec, model, reader
        self.config: Any = self.model.config
        self.revision: str | None = getattr(self.config, "_commit_hash", None)
        self.word_pool, self.last_layers, self.keep_layers = word_pool, last_layers, False
        self.memory: Any = FeatureMemory()
        self.width = self.config.hidden_size
        reader.max_tokens = min(reader.max_tokens, self._positions())

    def architecture(self) -> dict[str, Any]:
        """The model's configuration as plain data."""
        return architecture_of(self.config)

    def _positions(self) -> int:
        """Maximum number of pieces that the position embeddings allow."""
        return getattr(self.config, "max_position_embeddings", self.reader.max_tokens)

    def begin_at(self, position: int) -> None:
        """Let the pieces' positions begin at this one; the reader's length limit is lowered to those that are left.

        Raises:
            UsageError: the tower's positions can't be moved, or none would be left.
        """
        raise UsageError(
            f"--model.text {self.spec}: its positions can't be moved; give a tower whose positions are those of BERT"
        )

    def _read(self, text: TextBatch, want_layers: bool, **options: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        """States of the pieces (B, n, d) and, if `want_layers`, of each layer, embeddings first.

        `options` are passed to the model.
        """
        raise NotImplementedError

    def _sentence(self, pieces: Tensor, text: TextBatch) -> Tensor:
        """(B, d) vector of each row."""
        return pieces[:, 0]

    def forward(self, text: TextBatch, prefix: Prefix | None = None) -> TextStates:
        """Read words.

        Args:
            text: from the tower's own reader.
            prefix: additional keys and values of each layer.
        """
        if self.frozen and not self.keep_layers and prefix is None:
            return self.memory.text(self, text, self._states)
        return self._states(text, prefix)

    def staged(self, text: TextBatch, count: int) -> TextStates:
        """The states, with the words' states (B, W, d) after `count` evenly spaced layers as `layers`."""
        if self.frozen:
            return self.memory.text(self, text, lambda rows: self._staged(rows, count), count)
        return self._staged(text, count)

    def _staged(self, text: TextBatch, count: int) -> TextStates:
        pieces, layers = self._read(text, True)
        last = torch.stack(layers[-self.last_layers :]).mean(0) if self.last_layers > 1 else pieces
        depth = len(layers) - 1  # the embeddings come first
        chosen = [layers[depth * stage // count] for stage in range(1, count + 1)]
        words, *stages = (pool_words(each, text, self.word_pool) for each in (last, *chosen))
        return TextStates(words, self._sentence(last, text), layers=tuple(stages))

    def keys_values(self, text: TextBatch) -> list[tuple[Tensor, Tensor]]:
        """Of each layer, what its own maps make of the words: keys and values (B, W, d), heads side by side."""
        accept_joining(self.model, self.spec)
        recording = Recording()
        self._read(text, False, **{ARGUMENT: recording})
        return [
            (
                pool_words(keys.transpose(1, 2).flatten(2), text, self.word_pool),
                pool_words(values.transpose(1, 2).flatten(2), text, self.word_pool),
            )
            for keys, values in recording.layers
        ]

    def reading(self) -> Reading:
        """Settings that determine the output, as part of the cache key."""
        settings = json.dumps(self.reader.state(), sort_keys=True)
        if self.first_position:
            settings += f" from position {self.first_position}"
        return Reading(
            weights=weight_digest(self),
            view="text",
            preprocessing=input_digest((settings,)),
            length_limit=self.reader.max_tokens,
            layers=self.last_layers,
            pooling=self.word_pool,
        )

    def _states(self, text: TextBatch, prefix: Prefix | None = None) -> TextStates:
        want_layers = self.keep_layers or self.last_layers > 1
        passing = Passing(self.model, self.spec, prefix)
        pieces, layers = self._read(text, want_layers, **passing.options)
        pieces = passing.check_used(pieces)
        if self.last_layers > 1:
            pieces = torch.stack(layers[-self.last_layers :]).mean(0)
        words = pool_words(pieces, text, self.word_pool)
        return TextStates(words, self._sentence(pieces, text), pieces, layers if self.keep_layers else ())


def pieces_of(text: TextTower) -> PieceTower:
    """Check that a text tower takes a prefix, and return it.

    Raises:
        UsageError: it reads whole words.
    """
    if not isinstance(text, PieceTower):
        raise UsageError(
            f"--model.text {text.spec}: takes no prefix; give a tower like BERT, RoBERTa or CLIP, or tiny-bert"
        )
    return text


class BertTower(PieceTower):
    """BERT, RoBERTa and similar encoders (any that transformers' `AutoModel` loads).

    The pooler is removed: word states do not pass through it, and DDP fails on a layer without gradients.

    Attributes:
        typed: whether the model distinguishes segments.
    """

    def __init__(self, spec: str, model: Any, reader: PieceReader, **options: Any) -> None:
        """As `PieceTower`."""
        if hasattr(model, "pooler"):
            model.pooler = None
        super().__init__(spec, model, reader, **options)
        if uses_sdpa(model):
            accept_joining(model, spec)
        accepted = inspect.signature(model.forward).parameters
        self.typed: bool = "token_type_ids" in accepted and getattr(self.config, "type_vocab_size", 1) > 1

    def _positions(self) -> int:
        limit = super()._positions()
        # RoBERTa's positions start after the number of its padding piece
        offset = getattr(getattr(self.model, "embeddings", None), "padding_idx", None)
        return limit if offset is None or not self._offset_positions() else limit - offset - 1

    def _offset_positions(self) -> bool:
        positions = getattr(getattr(self.model, "embeddings", None), "position_embeddings", None)
        return getattr(positions, "padding_idx", None) is not None

    def begin_at(self, position: int) -> None:
        embeddings: Any = getattr(self.model, "embeddings", None)
        left = self._positions() - position
        if left < 3 or not hasattr(embeddings, "position_embeddings") or self._offset_positions():
            super().begin_at(position)
        self.first_position, self.reader.max_tokens = position, min(self.reader.max_tokens, left)

    def with_unknown_words(self, text: TextBatch) -> TextBatch:
        """The batch that the tower reads: a subclass may replace some words by the unknown word in training."""
        return text

    def _read(self, text: TextBatch, want_layers: bool, **options: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        if text.input_ids is None or text.attn_mask is None:
            raise ValueError("the batch contains no pieces: it must come from the tower's own reader")
        if self.first_position:
            places = torch.arange(text.input_ids.shape[1], device=text.input_ids.device) + self.first_position
            options["position_ids"] = places.unsqueeze(0)
        text = self.with_unknown_words(text)
        if self.typed:
            options["token_type_ids"] = text.type_ids
        with joint_products(layers_of(self)):
            out = self.model(text.input_ids, attention_mask=text.attn_mask, output_hidden_states=want_layers, **options)
        return out.last_hidden_state, tuple(out.hidden_states) if want_layers else ()


class ClipTextTower(PieceTower):
    """CLIP's text half. It is causal: a piece attends only to preceding pieces.

    States are those after the final layer norm; `joint` maps them into the space shared with pictures. That projection
    is frozen, since most methods never use it.
    """

    causal = True

    def __init__(self, spec: str, model: Any, reader: PieceReader, pos_interp: bool = False, **options: Any) -> None:
        """See `PieceTower`; `model` is a `CLIPTextModelWithProjection`.

        `pos_interp` stretches the position embeddings to the reader's length limit, if that is larger.
        """
        limit = reader.max_tokens
        super().__init__(spec, model, reader, **options)
        if pos_interp and limit > reader.max_tokens:
            self._stretch(limit)
        self.model.text_projection.requires_grad_(False)

    def _stretch(self, positions: int) -> None:
        """Interpolate the position embeddings linearly to `positions`; the first and the last do not change."""
        embeddings: Any = self.model.text_model.embeddings
        table = embeddings.position_embedding.weight
        with torch.no_grad():
            longer = nn.functional.interpolate(table.T[None], positions, mode="linear", align_corners=True)[0].T
        embeddings.position_embedding = nn.Embedding.from_pretrained(longer.contiguous(), freeze=False)
        embeddings.position_ids = torch.arange(positions, device=table.device).expand(1, -1)
        self.reader.max_tokens = positions

    @property
    def joint_width(self) -> int:
        """Width of the space shared with pictures."""
        return self.model.text_projection.out_features

    def joint(self, states: Tensor) -> Tensor:
        """(..., width) to (..., joint_width)."""
        return self.model.text_projection(states)

    def _read(self, text: TextBatch, want_layers: bool, **options: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        if text.input_ids is None:
            raise ValueError("the batch contains no pieces: it must come from the tower's own reader")
        inner: Any = self.model.text_model
        # no mask is needed: under causal attention, pieces never attend to the padding on their right
        out = inner(text.input_ids, output_hidden_states=want_layers, **options)
        layers = tuple(inner.final_layer_norm(each) for each in out.hidden_states) if want_layers else ()
        return out.last_hidden_state, layers

    def _sentence(self, pieces: Tensor, text: TextBatch) -> Tensor:
        ends = (text.input_ids == self.reader.end_ids[0]).int().argmax(1)  # the first end of text
        return pieces[torch.arange(len(ends), device=ends.device), ends]
