"""Towers, posts and batches for the tests of methods with a visual prefix."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.post import CorpusFacts, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.data.probe import generate, types_of
from mnerkit.towers.by_name import text_tower
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.fusion.sight import Sight
from mnerkit.towers.text.piece_tower import BertTower, PieceTower
from mnerkit.towers.text.pieces import PieceReader
from mnerkit.towers.text.tiny import tiny_tokenizer
from mnerkit.towers.vision.pretrained import ResNetTower
from mnerkit.towers.vision.tiny_cnn import TinyVision

TYPES = types_of("default")
WIDTH, LAYERS, STAGES = 32, 2, 4


@cache
def posts() -> list[Post]:
    return generate("default", "train", 6)


def bare(post: Post) -> Post:
    """The post without its picture."""
    return replace(post, id=post.id + "-bare", images=(), truth=None)


def towers(captions: bool = False, frozen: bool = True) -> tuple[PieceTower, Sight]:
    """A BERT of two layers and a CNN of four stages, or a copy of the BERT that reads captions."""
    torch.manual_seed(0)
    facts = CorpusFacts.of(TYPES, posts())
    sizes: dict[str, Any] = {"width": WIDTH, "layers": LAYERS, "heads": 2}
    text = text_tower("tiny-bert", facts=facts, **sizes)
    vision = text_tower("tiny-bert", facts=facts, **sizes) if captions else TinyVision(width=WIDTH, channels=4)
    if frozen:
        freeze(vision)
    assert isinstance(text, PieceTower)
    return text, Sight(vision)


def batch_of(encoder: Any, rows: list[Post], objects: int = 3, images: int = 1) -> Batch:
    """The posts as the encoder wants to see them."""
    needs = encoder.sight.needs(encoder.text.reader, ("whole", "objects"), max_images=images, max_objects=objects)
    loader = PictureLoader(needs.picture) if needs.picture is not None else None
    return Collator(needs, loader, TagSet(TYPES))(rows)


def paper_towers() -> tuple[BertTower, Sight]:
    """BERT-base and ResNet-50 without weights; to be called under `torch.device("meta")`."""
    from transformers import BertConfig, BertModel

    reader = PieceReader(tiny_tokenizer(["a"]), "[UNK]")
    return BertTower("bert", BertModel(BertConfig()), reader), Sight(freeze(ResNetTower("random:resnet50", "resnet50")))


def own_parameters(encoder: torch.nn.Module) -> dict[str, int]:
    """Numbers of each part of an encoder besides its towers."""
    counts: dict[str, int] = {}
    for name, weight in encoder.named_parameters():
        part = name.split(".")[0]
        if part not in ("text", "sight"):
            counts[part] = counts.get(part, 0) + weight.numel()
    return counts


def without_gradient(encoder: torch.nn.Module) -> list[str]:
    """Trainable weights that a backward pass left out; they would stop distributed training."""
    return [name for name, each in encoder.named_parameters() if each.requires_grad and each.grad is None]


def assert_read_alike_alone(encoder: Any, together: Tensor) -> None:
    """Each of `posts()` has the states that it has among the others, `together` (B, W, d), with zeros behind them."""
    for number in (0, 3):
        alone = encoder(batch_of(encoder, [posts()[number]])).states[0, 0]
        torch.testing.assert_close(together[number, : len(alone)], alone, atol=1e-5, rtol=1e-4)
        assert not together[number, len(alone) :].any()


class VisualPrefixCases:
    """What holds of every encoder whose prefix shows image and objects; a test class inherits it and makes one."""

    def encoder(self) -> Any:
        raise NotImplementedError

    def test_a_post_without_pictures_is_read_as_bert_reads_it(self) -> None:
        made = self.encoder()
        batch = batch_of(made, [bare(each) for each in posts()])
        assert torch.equal(made(batch).states[0], made.text(batch.text).words)

    def test_the_order_of_objects_does_not_matter(self) -> None:
        made = self.encoder()
        batch = batch_of(made, posts())
        states = made(batch).states
        order = torch.tensor([2, 0, 1])
        batch.crops, batch.crop_mask, batch.crop_image = (
            each[:, order] for each in (batch.crops, batch.crop_mask, batch.crop_image)
        )
        batch.crop_sources = None
        torch.testing.assert_close(made(batch).states, states, atol=1e-5, rtol=1e-4)

    def test_a_frozen_trunk_stays_as_it_is(self) -> None:
        made = self.encoder().train()
        before = {name: value.clone() for name, value in made.sight.state_dict().items()}
        made(batch_of(made, posts())).states.square().sum().backward()
        assert all(torch.equal(value, before[name]) for name, value in made.sight.state_dict().items())
        assert all(each.grad is None for each in made.sight.parameters())
