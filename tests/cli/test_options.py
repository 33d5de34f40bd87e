from __future__ import annotations

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mnerkit import registry
from mnerkit.cli.method_verbs import configuration_of
from mnerkit.errors import UsageError
from mnerkit.options import declared
from mnerkit.plain_yaml import yaml_text
from mnerkit.runs.config import configuration
from mnerkit.runs.config.options import CLASSES, SECTIONS
from mnerkit.runs.run_folder import digest

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def resolved(*argv: str) -> dict:
    """What the layers of a command give; what none gives is left out."""
    return configuration_of(["fit", *argv]).given


def test_an_option_on_the_command_line_beats_config_beats_defaults(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {lr: 0.5, dropout: 0.25}\n")
    config = resolved("--plugin", "bert", "--config", str(file), "--model.dropout", "0.75")
    assert config["model"]["lr"] == 0.5
    assert config["model"]["dropout"] == 0.75
    assert config["data"]["batch_size"] == 32


def test_a_file_may_start_from_the_class_and_not_from_the_settings_for_the_probe(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("defaults: false\nmodel: {lr: 0.5, text: tiny}\n")
    config = resolved("--plugin", "gmf", "--config", str(file), "--ablation", "no_csa")
    assert config["model"] == {"lr": 0.5, "text": "tiny", "csa": False}
    # a saved configuration replays without the settings that it did without
    saved = tmp_path / "saved.yaml"
    saved.write_text(json.dumps(config))
    assert resolved("--config", str(saved)) == config
    assert digest(config) == digest({**config, "defaults": True})
    file.write_text("defaults: class\n")
    with pytest.raises(UsageError, match="defaults: 'class' in a --config; true takes"):
        resolved("--plugin", "gmf", "--config", str(file))


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_file_of_a_paper_s_settings_takes_nothing_from_the_settings_for_the_probe(path: Path) -> None:
    content = configuration.head_named(OmegaConf.to_container(OmegaConf.load(path), resolve=True))
    config = resolved("--config", str(path))
    for section in SECTIONS:
        assert config.get(section, {}) == content.get(section, {})


def test_an_ablation_asked_for_beats_config_which_beats_one_that_it_names(tmp_path: Path) -> None:
    name, option, full, changed = "no_image", "use_image", True, False
    assert registry.get("mousing").ablations[name]["model"] == {option: changed}
    file = tmp_path / "mine.yaml"
    file.write_text(json.dumps({"model": {option: full}}))
    asked = resolved("--plugin", "mousing", "--config", str(file), "--ablation", name)
    assert (asked["model"][option], asked["ablation"]) == (changed, name)
    dotted = resolved("--plugin", "mousing", "--ablation", name, f"--model.{option}", json.dumps(full))
    assert dotted["model"][option] == full
    file.write_text(json.dumps({"ablation": name}))
    assert resolved("--plugin", "mousing", "--config", str(file))["model"][option] == changed
    file.write_text(json.dumps({"ablation": name, "model": {option: full}}))
    assert resolved("--plugin", "mousing", "--config", str(file))["model"][option] == full


def test_the_plugin_may_be_named_in_the_config_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("plugin: bert\nmodel: {lr: 0.5}\n")
    assert resolved("--config", str(file))["plugin"] == "bert"


def test_an_interpolation_sees_the_override(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {lr: 0.5, head_lr: '${model.lr}'}\n")
    config = resolved("--plugin", "bert", "--config", str(file), "--model.lr", "1e-3")
    assert config["model"]["head_lr"] == pytest.approx(1e-3)


def test_another_head_leaves_the_options_of_the_default_head_behind() -> None:
    config = resolved("--plugin", "bert", "--model.head.transitions", "tied")
    assert config["model"]["head"] == {"name": "crf", "transitions": "tied"}
    assert resolved("--plugin", "bert", "--model.head", "softmax")["model"]["head"] == {"name": "softmax"}


def test_a_head_that_is_named_in_full_is_another_head_too() -> None:
    assert resolved("--plugin", "mousing", "--model.head.name", "crf")["model"]["head"] == {"name": "crf"}


def test_a_head_and_its_options_may_stand_in_any_order() -> None:
    words = ["--plugin", "bert", "--model.head.distance", "cosine", "--model.head", "prototype"]
    assert resolved(*words)["model"]["head"] == {"name": "prototype", "distance": "cosine"}


def test_a_list_is_given_with_commas_blanks_or_brackets() -> None:
    for words in (["PER,LOC"], ["PER", "LOC"], ["[PER,LOC]"]):
        assert resolved("--plugin", "bert", "--data.train_types", *words)["data"]["train_types"] == ["PER", "LOC"]


def test_a_single_value_stays_one_where_an_option_takes_either() -> None:
    config = resolved(
        "--plugin", "bert", "--trainer.devices", "2", "--data.train_types", "Per+Loc", "--wandb.tags", "a"
    )
    assert config["trainer"]["devices"] == 2
    assert config["data"]["train_types"] == "Per+Loc"
    assert config["wandb"]["tags"] == ["a"]


def test_options_of_the_base_class_and_of_the_trainer_are_known() -> None:
    config = resolved("--plugin", "bert", "--model.weight_decay", "0.5", "--trainer.precision", "bf16-mixed")
    assert config["model"]["weight_decay"] == 0.5
    assert config["trainer"]["precision"] == "bf16-mixed"


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--plugin", "brt"], "Did you mean 'bert'?"),
        (["--plugin", "bert", "--model.wieght_decay", "1"], "Did you mean '--model.weight_decay'?"),
        (["--plugin", "bert", "--model.num", "1"], "no option --model.num"),
        (["--plugin", "bert", "--model.head.transition", "tied"], "Did you mean '--model.head.transitions'?"),
        (["--plugin", "bert", "--model.head", "crff"], "Did you mean 'crf'?"),
        (["--plugin", "bert", "--model.head"], "--model.head needs a value (one of softmax, crf, "),
        (["--plugin", "bert", "--data.k_shots", "5"], "Did you mean '--data.k_shot'?"),
        (["--plugin", "bert", "--model.k_shot", "5"], "Did you mean '--data.k_shot'?"),
        (["--plugin", "bert", "--trainer.max_epoch", "5"], "Did you mean '--trainer.max_epochs'?"),
        (["--plugin", "bert", "--trainer.logger", "x"], "managed by mnerkit"),
        (["--plugin", "bert", "--modle.lr", "5"], "Did you mean 'model'?"),
        (["--plugin", "bert", "--sede", "5"], "Did you mean 'seed'?"),
        (["--plugin", "bert", "--batchsize", "5"], "Did you mean '--data.batch_size'?"),
        (["--plugin", "bert", "--foo", "5"], "no option --foo for `mnerkit fit`. Options: --plugin, "),
        (["--plugin", "bert", "--seed", "many"], "whole number"),
        (["--plugin", "bert", "--ablation", "nothing"], "no ablation 'nothing'"),
        (["--plugin", "bert", "--config", "absent.yaml"], "no such file"),
        (["--config", "twitter2017-brt"], "Did you mean 'twitter2017-bert'?"),
        (["bert"], "expected an option"),
        ([], "which method?"),
        (["--plugin"], "--plugin needs a value"),
        (["--plugin", "bert", "--test=yes"], "--test takes no value, got 'yes'"),
        (["--plugin", "bert", "--model.lr"], "--model.lr needs a value"),
    ],
)
def test_a_mistake_ends_in_one_line_with_the_way_out(argv: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        resolved(*argv)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_malformed_yaml_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model:\n  lr: [1\n")
    with pytest.raises(UsageError, match=r"mine\.yaml:\d"):
        resolved("--plugin", "bert", "--config", str(file))


def test_yaml_nested_without_end_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: " + "[" * 5000 + "]" * 5000)
    with pytest.raises(UsageError, match=r"--config .*mine\.yaml: "):
        resolved("--plugin", "bert", "--config", str(file))


def test_an_interpolation_that_is_cut_off_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("model: {lr: '${model.'}\n")
    with pytest.raises(UsageError, match=rf"^--config {file}: [^\n]*$"):
        resolved("--plugin", "bert", "--config", str(file))


def test_a_placeholder_of_omegaconf_is_a_value_like_any_other(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("model: {lr: '???'}\n")
    with pytest.raises(UsageError, match=r"--model\.lr \?\?\?: give a number"):
        resolved("--plugin", "bert", "--config", str(file))


def test_an_interpolation_that_leads_nowhere_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {lr: '${model.nothing}'}\n")
    with pytest.raises(UsageError, match="nothing"):
        resolved("--plugin", "bert", "--config", str(file))


def test_the_digest_names_what_changes_a_result_and_nothing_else() -> None:
    plain = resolved("--plugin", "bert")
    assert digest(plain) == digest(resolved("--plugin", "bert", "--trainer.enable_progress_bar", "false"))
    assert digest(plain) == digest(resolved("--plugin", "bert", "--seed", "3"))
    assert digest(plain) != digest(resolved("--plugin", "bert", "--model.lr", "0.5"))


def test_another_corpus_leaves_the_variant_and_types_of_the_default_corpus_behind() -> None:
    data = resolved("--plugin", "mousing", "--data.corpus", "twitter2017", "--data.train_types", "PER+LOC")["data"]
    assert "variant" not in data and "test_types" not in data
    assert data["train_types"] == "PER+LOC"
    assert resolved("--plugin", "mousing", "--data.corpus", "probe")["data"]["variant"] == "fewshot"


@pytest.mark.parametrize("content", ["model: [1]", "model: {head: 3}", "model: {head: null}", "plugin: 3", "data: x"])
def test_a_config_file_of_another_shape_is_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content + "\n")
    with pytest.raises(UsageError, match=r"mine\.yaml"):
        resolved("--plugin", "bert", "--config", str(file))


def test_a_text_is_taken_as_it_is() -> None:
    for text in ("{", "a: b", "2017", "#x"):
        assert resolved("--plugin", "bert", "--data.root", text)["data"]["root"] == text


@pytest.mark.parametrize(
    ("option", "value"),
    [("limit_val_batches", "0"), ("max_epochs", "0"), ("check_val_every_n_epoch", "2"), ("fast_dev_run", "true")],
)
def test_training_without_a_dev_score_is_refused(option: str, value: str) -> None:
    with pytest.raises(UsageError, match=option):
        resolved("--plugin", "bert", f"--trainer.{option}", value)


@pytest.mark.parametrize("name", registry.plugins())
def test_a_saved_configuration_holds_every_option_and_replays_to_itself(name: str, tmp_path: Path) -> None:
    plugin = registry.get(name)
    for more in ([], *(["--ablation", each] for each in list(plugin.ablations)[:1])):
        content = configuration_of(["fit", "--plugin", name, *more]).content
        assert set(content["model"]) - {"head"} == set(declared(plugin.options_class))
        for section, kind in CLASSES.items():
            assert set(content[section]) == set(declared(kind))
        saved = tmp_path / "config.yaml"
        saved.write_text(yaml_text(content))
        assert configuration_of(["fit", "--config", str(saved)]).content == content
        assert configuration.resolve(base=content).content == content
        assert configuration.filled(content) == content
