"""MGIPS-CL at the size of its paper, counted without weights."""

from types import SimpleNamespace
from typing import Any

import torch

from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.towers.text.piece_tower import BertTower
from mnerkit.towers.vision.pretrained import CLIP, ClipVisionTower
from mnerkit_plugins.mgips_cl.model import MgipsEncoder
from mnerkit_plugins.mgips_cl.options import MgipsOptions


def test_parts_have_the_sizes_that_the_paper_leads_to() -> None:
    from transformers import BertConfig, BertModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    reader: Any = SimpleNamespace(max_tokens=40)
    with torch.device("meta"):
        text = BertTower("bert-base-uncased", BertModel(BertConfig()), reader)
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(patch_size=32))
        vision = ClipVisionTower("clip-vit-base-patch32", model, PictureFormat(224, *CLIP))
        made = MgipsEncoder(text, vision, MgipsOptions())
    assert all(each.is_meta for each in made.parameters())
    found = {name: sum(each.numel() for each in part.parameters()) for name, part in made.named_children()}
    pooler = 768 * 768 + 768
    assert found == {
        "text": 109_482_240 - pooler,
        "vision": 87_456_000 + 512 * 768,
        "streams": 0,
        "crops": 48 * 768,
        "mge_image": 7_100_305,
        "mge_text": 7_098_296,
        "gate": 2 * 768 * 768 + 768,
        "contrast": 2 * pooler,
        "dropout": 0,
    }
    assert made.crops is not None and made.crops.length == 49
