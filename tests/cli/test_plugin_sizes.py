"""`mnerkit plugins NAME --params`: counts at full size, without weights, memory or a hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mnerkit.cli import main
from mnerkit.methods import parameter_counts
from mnerkit.towers.architectures import without_weights
from mnerkit.towers.hub import new_model, read_config, source_of

# as their model cards and papers count them; BERT-like ones without the pooler, which the towers leave out
PUBLIC = {
    "bert-base-uncased": 109_482_240,
    "bert-base-cased": 108_310_272,
    "roberta-base": 124_645_632,
    "openai/clip-vit-base-patch32": 151_277_313,
    "openai/clip-vit-large-patch14": 427_616_513,
    "google/vit-base-patch16-224": 86_389_248,
}
SETTINGS = str(Path(__file__).resolve().parents[2] / "experiments" / "twitter2017-mousing.yaml")


def counted(capsys: pytest.CaptureFixture[str], *argv: str) -> dict:
    capsys.readouterr()
    assert main(["plugins", *argv, "--params", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("spec", PUBLIC)
def test_a_public_network_has_as_many_parameters_as_its_authors_count(spec: str, tmp_path: Path) -> None:
    named = without_weights(spec, tmp_path)
    assert named is not None
    with torch.device("meta"):
        model = new_model(read_config(source_of(named)))
    assert sum(each.numel() for each in model.parameters()) == PUBLIC[spec]


def test_mousing_has_as_many_parameters_as_its_paper_prints(capsys: pytest.CaptureFixture[str]) -> None:
    found = counted(capsys, "mousing", "--config", SETTINGS, "--model.head.transitions", "full")
    assert found["trainable"] == 6_400_931 and found["types"] == 2
    parts = {each["part"]: each for each in found["parts"]}
    # CLIP's temperature is in neither tower
    assert parts["tower text"]["parameters"] + parts["tower vision"]["parameters"] == 427_616_512
    assert parts["tower text"]["trainable"] == 0 and parts["head"]["parameters"] == 35
    assert found["parameters"] == sum(each["parameters"] for each in found["parts"])
    smaller = counted(capsys, "mousing", "--config", SETTINGS, "--ablation", "no_image")
    assert "tower vision" not in {each["part"] for each in smaller["parts"]}


# the parts of the methods as their specifications count them
PARTS = {
    "gei": {"reader": 7_087_872, "span_reader": 7_087_872, "token_map": 393_728, "visual": 1_049_088},
    "gifr": {"prompts": 21_233_664, "graph": 3_072 + 7_087_872},
    "gmf": {"to_prefix": 14_155_776, "csa": 1_450_812, "pyramid": 2_952_192, "match_image": 2_164_224},
    "hvpnet": {"to_slices": 7_994_144, "gate": 294_960},
    "maf": {"visual": 7_087_872, "region_map": 1_573_632, "gate": 1_181_184, "matching": 3_074, "sentence": 590_592},
    "mgips_cl": {"mge_image": 7_100_305, "mge_text": 7_098_296, "gate": 1_180_416},
    "mkgformer": {"crops": 46_080, "fusions": 9_449_472},
    "relevance": {"scorer": 1_181_697},
    "tpm_mi": {"prompts": 19_680_256, "graph": 3_072 + 5_513_984},
    "umt": {"auxiliary": 7_087_872, "region_map": 1_573_632, "gate": 1_180_416, "spans": 5_383 + 63},
    # six layers with four maps in the attention among objects, without what would be idle in the last one
    "umgf": {"object_reader": 4_196_352, "object_map": 1_311_744, "word_map": 393_728, "layers": 21_307_136},
    "visualpt_moe": {"experts": 104_692_736, "routers": 737_340},
}


@pytest.mark.parametrize("plugin", PARTS)
def test_every_method_is_counted_with_the_settings_of_its_file(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = counted(capsys, plugin)
    assert found["settings"]
    parts = {each["part"]: each["parameters"] for each in found["parts"]}
    assert {part: parts[f"encoder {part}"] for part in PARTS[plugin]} == PARTS[plugin]
    assert found["parameters"] == sum(parts.values()) > parts["tower text"] + parts["tower vision"]


def test_mgips_cl_as_released_has_what_its_authors_model_has(capsys: pytest.CaptureFixture[str]) -> None:
    found = counted(capsys, "mgips_cl", "--ablation", "released")
    parts = {each["part"]: each["parameters"] for each in found["parts"]}
    # two biases of each extractor shift a softmax, each gate adds two, and a norm is overwritten before it is read
    assert parts["encoder mge_image"] == 7_100_307 - 2
    assert parts["encoder mge_text"] == 7_101_834 - 2 - 2 * 768
    assert parts["encoder gate"] + parts["encoder image_gate"] == 3_076 - 2
    assert parts["encoder contrast"] == 91 and parts["head"] == 9_396
    pooler, further_positions, projection = 768 * 768 + 768, 12 * 768, 512 * 768
    idle = pooler + further_positions + 2 * 768 + 4 + 2
    assert found["parameters"] - projection + idle == 211_199_024


def test_a_plain_head_is_counted_for_the_types_of_its_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--model.text", "bert-base-cased", "--data.corpus", "twitter2017"]
    found = counted(capsys, "bert", *options)
    tower = PUBLIC["bert-base-cased"] - (768 * 768 + 768)
    parts = {each["part"]: each["trainable"] for each in found["parts"]}
    # a linear layer on nine tags, and the CRF's start, end and transitions
    assert parts == {"tower text": tower, "head": 768 * 9 + 9 + 9 + 9 + 81} and found["types"] == 4
    found = counted(  # StructShot's first stage
        capsys, "bert", *options, "--model.head", "nearest", "--data.train_types", "PER+LOC+ORG+MISC"
    )
    assert found["parts"][-1]["parameters"] == 6_921 and found["parts"][0]["parameters"] == tower == 107_719_680
    found = counted(capsys, "bert", *options, "--model.head", "nearest", "--data.train_types", "PER")
    assert found["types"] == 1 and found["parts"][-1]["parameters"] == 768 * 3 + 3


def test_a_method_that_looks_at_its_weights_when_it_is_made_is_counted_with_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mnerkit_plugins.bert.tagger import BertTagger

    make = BertTagger.make_encoder
    made = []

    def curious(self: BertTagger) -> nn.Module:
        encoder = make(self)
        made.append(next(encoder.parameters()).device.type)
        assert next(encoder.parameters()).sum().item() != 0
        return encoder

    monkeypatch.setattr(BertTagger, "make_encoder", curious)
    parts, _ = parameter_counts.count({"plugin": "bert", "model": {"text": "tiny"}, "data": {}})
    assert made == ["meta", "cpu"] and sum(each.trainable for each in parts) > 0


def test_the_table_names_settings_and_parts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "mousing", "--params", "--config", SETTINGS]) == 0
    page = capsys.readouterr().out
    assert SETTINGS in page and "tower vision" in page and "openai/clip-vit-large-patch14" in page
    assert page.strip().split("\n")[-1].split()[0] == "all"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--params"], "give its name"),
        (["mousing", "--params", "--modl.width", "3"], "Did you mean 'model'?"),
        (["mousing", "--params", "--model.lr", "1"], "no effect on `mnerkit plugins NAME --params`"),
        (["mousing", "--params", "--trainer.devices", "1"], "which takes --model.X and --data.X"),
        (["mousing", "--model.width", "3"], "it takes a name, --params and --json"),
    ],
)
def test_a_mistake_gets_a_line(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", *argv]) == 2
    assert said in capsys.readouterr().err
