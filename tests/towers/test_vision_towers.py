"""Vision towers: the right pixels in, regions and a pooled vector out, whatever the batch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.data.pictures.picture_loader import PictureLoader
from mnerkit.errors import TowerError, UsageError
from mnerkit.towers.by_name import vision_tower
from mnerkit.towers.interface import VisionTower
from mnerkit.towers.saved_state import tower_from_state, tower_state
from mnerkit.towers.vision.pretrained import CLIP, IMAGENET, ResNetTower

Folder = Callable[[str], str]
NAMES = ["tiny", "random:resnet18", "clip", "vit"]


def make(folder_of: Folder, name: str, **options: object) -> VisionTower:
    torch.manual_seed(1)
    return vision_tower(folder_of(name) if name in ("clip", "vit") else name, **options).eval()


def pixels_for(tower: VisionTower, count: int = 2) -> torch.Tensor:
    size = min(tower.picture.size, 64)
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_what_it_returns_has_the_promised_shape(folder_of: Folder, name: str) -> None:
    tower = make(folder_of, name)
    states = tower(pixels_for(tower))
    rows, columns = states.grid
    assert states.regions.shape == (2, rows * columns, tower.width)
    assert states.pooled.shape == (2, tower.pooled_width)
    assert tower.joint(states.regions).shape == (2, rows * columns, tower.joint_width)
    if name == "random:resnet18":
        assert [each.shape[1:] for each in states.stages] == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]
        torch.testing.assert_close(states.stages[-1].flatten(2).transpose(1, 2), states.regions)
    if name in ("clip", "vit"):
        assert states.tokens.shape == (2, 1 + rows * columns, tower.width)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_does_not_see_its_batch_mates(folder_of: Folder, name: str) -> None:
    tower = make(folder_of, name)
    pixels = pixels_for(tower, 3)
    together, alone = tower(pixels), tower(pixels[1:2])
    torch.testing.assert_close(together.pooled[1:2], alone.pooled, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.regions[1:2], alone.regions, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_regions_reach_every_trainable_parameter(folder_of: Folder, name: str) -> None:
    tower = make(folder_of, name)
    tower(pixels_for(tower)).regions.pow(2).sum().backward()
    assert not [n for n, p in tower.named_parameters() if p.requires_grad and p.grad is None]


def test_clip_equals_the_librarys_own(folder_of: Folder) -> None:
    from transformers import CLIPModel

    tower, clip = make(folder_of, "clip"), CLIPModel.from_pretrained(folder_of("clip")).eval()
    pixels = pixels_for(tower)
    theirs = clip.get_image_features(pixels)
    torch.testing.assert_close(tower(pixels).pooled, theirs.pooler_output)
    assert tower.picture == PictureFormat(24, (0.1, 0.2, 0.3), (0.5, 0.5, 0.25)), "as preprocessor_config.json says"


def test_normalisation_without_a_preprocessor_file_is_the_familys(folder_of: Folder, tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(folder_of("clip"), folder)
    settings = folder / "preprocessor_config.json"
    settings.write_text(json.dumps({"image_mean": [1, 2], "image_std": [1, 1]}))
    with pytest.raises(TowerError, match="three numbers"):
        vision_tower(str(folder))
    settings.unlink()
    assert vision_tower(str(folder)).picture == PictureFormat(24, *CLIP)
    assert vision_tower("random:resnet18").picture == PictureFormat(224, *IMAGENET)


def test_vit_regions_are_the_patches_row_by_row(folder_of: Folder) -> None:
    tower = make(folder_of, "vit")
    pixels = pixels_for(tower, 1)
    other = pixels.clone()
    other[:, :, 8:16, 16:24] += 1  # row 1, column 2 of 3 x 3
    embed = tower.model.embeddings
    changed = (embed(pixels) - embed(other)).abs().sum(-1)[0, 1:] > 1e-6
    assert changed.nonzero().flatten().tolist() == [5] and tower.grid == (3, 3)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_resnet_takes_torchvisions_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    from safetensors.torch import save_file
    from torchvision import models

    torch.manual_seed(5)
    theirs = models.resnet18(weights=None).eval()
    file = tmp_path / f"resnet18-abc{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(theirs.state_dict(), file)
    tower = vision_tower(f"resnet18:{file}", freeze=True)
    pixels = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(theirs.fc(tower(pixels).pooled), theirs(pixels))
    saved = tower_state(tower)
    assert saved["external"]
    again = tower_from_state({**saved, "spec": "resnet18"}, tmp_path)
    torch.testing.assert_close(again(pixels).pooled, tower(pixels).pooled)
    with pytest.raises(TowerError, match="not those of torchvision's resnet34"):
        vision_tower(f"resnet34:{file}")


def test_a_resnet_file_with_a_pickle_payload_is_refused(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"x": Payload()}, tmp_path / "bad.pth")
    (tmp_path / "text.pth").write_text("hello")
    for name in ("bad.pth", "text.pth"):
        with pytest.raises(TowerError, match="contains no plain weights"):
            vision_tower(f"resnet18:{tmp_path / name}")
    assert not (tmp_path / "owned").exists()
    with pytest.raises(TowerError, match="no such file"):
        vision_tower(f"resnet18:{tmp_path / 'none.pth'}")


def test_an_unreachable_site_says_how_to_give_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.error import URLError

    def fails(*_: object, **__: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fails)
    with pytest.raises(TowerError, match=r"(?s)download\.pytorch\.org.*resnet50:FILE"):
        vision_tower("resnet50")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_tower_is_rebuilt_from_plain_data(folder_of: Folder, name: str, frozen: bool, tmp_path: Path) -> None:
    tower = make(folder_of, name, freeze=frozen)
    saved = tower_state(tower)
    assert saved["external"] == (frozen and name in ("clip", "vit"))
    torch.save({"tower": saved}, tmp_path / "x.pt")
    again = tower_from_state(torch.load(tmp_path / "x.pt", weights_only=True)["tower"])
    assert again.frozen == frozen and again.picture == tower.picture
    if not saved["external"]:
        again.load_state_dict(tower.state_dict())
    pixels = pixels_for(tower)
    torch.testing.assert_close(again.eval()(pixels).regions, tower(pixels).regions)


def test_a_text_model_is_no_vision_tower(folder_of: Folder) -> None:
    with pytest.raises(TowerError, match="'bert' is not a vision encoder"):
        vision_tower(folder_of("bert"))
    with pytest.raises(UsageError, match="has no option 'size'"):
        vision_tower("random:resnet18", size=3)


def test_a_clip_of_vit_l_14_size_has_the_papers_parameters() -> None:
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24}
    with torch.device("meta"):
        halves = (
            CLIPTextModelWithProjection(CLIPTextConfig(projection_dim=768, **text)),
            CLIPVisionModelWithProjection(
                CLIPVisionConfig(projection_dim=768, patch_size=14, image_size=224, **vision)
            ),
        )
    # one number more than both halves: CLIP's temperature
    assert sum(p.numel() for half in halves for p in half.parameters()) + 1 == 427_616_513


def test_real_pictures_pass_through_resnet_and_clip(real_data: Path, folder_of: Folder) -> None:
    files = sorted((real_data / "twitter2017_images").iterdir())[:2]
    for tower in (make(folder_of, "clip", freeze=True), make(folder_of, "random:resnet18", freeze=True)):
        loader = PictureLoader(tower.picture)
        pixels = torch.stack([torch.from_numpy(loader.whole(ImageRef(file.name, file))) for file in files])
        pooled = tower(pixels).pooled
        assert torch.isfinite(pooled).all() and not torch.allclose(pooled[0], pooled[1])


def test_torchvision_can_be_imported_after_mnerkit() -> None:
    code = "import mnerkit, torchvision; torchvision.models.resnet18"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_frozen_resnet_is_the_same_class(folder_of: Folder) -> None:
    assert isinstance(make(folder_of, "random:resnet18", freeze=True), ResNetTower)
