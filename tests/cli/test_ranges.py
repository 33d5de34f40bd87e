"""A number that an option can't take is refused before anything is read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mnerkit.cli import main, method_verbs
from mnerkit.errors import UsageError
from mnerkit.methods.options import TaggerOptions, TowerOptions
from mnerkit.options import COUNT, DROPOUT, POSITIVE, SHARE, WEIGHT, Range, check, declared


@pytest.mark.parametrize(
    ("rule", "inside", "outside", "said"),
    [
        (COUNT, (1, 9), (0, -1), "at least 1"),
        (WEIGHT, (0, 0.0, 3), (-1e-9,), "at least 0"),
        (POSITIVE, (1e-9, 5), (0, -1), "above 0"),
        (SHARE, (0, 0.5, 1), (-0.1, 1.1), "at least 0 and at most 1"),
        (DROPOUT, (0, 0.999), (-0.1, 1.0), "at least 0 and below 1"),
        (Range(1, 2), (1, 2), (0, 3), "at least 1 and at most 2"),
    ],
)
def test_a_range_holds_its_bounds_and_says_them(rule: Range, inside: tuple, outside: tuple, said: str) -> None:
    check("model", rule, several=None, x=inside[0])
    assert all(value in rule for value in inside)
    for value in (*outside, math.nan, math.inf, -math.inf):
        with pytest.raises(UsageError) as refusal:
            check("model", rule, fine=inside[0], x=value)
        assert str(refusal.value) == f"--model.x {value}: give {said}"


@pytest.mark.parametrize(
    ("plugin", "option", "value"),
    [
        ("bert", "model.lr", "0"),
        ("bert", "model.head_lr", "-1e-3"),
        ("bert", "model.weight_decay", "-1"),
        ("bert", "model.warmup", "1"),
        ("bert", "model.dropout", "1.0"),
        ("bert", "model.head.dropout", "-0.1"),
        ("bert", "model.max_tokens", "0"),
        ("bert", "model.word_pieces", "0"),
        ("bert", "data.batch_size", "0"),
        ("bert", "data.n_way", "0"),
        ("bert", "early_stopping.patience", "0"),
        ("bert", "early_stopping.patience", "soon"),
        ("bilstm", "model.dropout", "2"),
        ("bilstm", "model.width", "0"),
        ("captions", "model.second_words", "0"),
        ("cross", "model.heads", "0"),
        ("cross", "model.matching", "-1"),
        ("mousing", "model.gamma", "1.5"),
        ("mousing", "model.flip", "-0.5"),
        ("mousing", "model.trade_off", "2"),
        ("mousing", "model.num_env", "3"),
        ("mousing", "model.head.dist_scale", "0"),
    ],
)
def test_a_number_out_of_range_is_one_line_before_data_is_read(
    plugin: str, option: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # data that is not there would be exit code 1
    argv = ["fit", "--plugin", plugin, "--data.corpus", "twitter2017", "--data.root", str(tmp_path / "absent")]
    assert main([*argv, f"--{option}", value, "--runs_dir", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"mnerkit: --{option} ") and said.err.count("\n") == 1
    assert "run " not in said.out
    assert not list((tmp_path / "runs").rglob("config.yaml"))


@pytest.mark.parametrize(
    ("verb", "option", "said"),
    [
        ("predict", "data.corpus", "takes --model.X ("),
        ("predict", "trainer.precision", "takes --model.X ("),
        ("predict", "early_stopping.patience", "takes --model.X ("),
        ("predict", "model.lr", "an option of training"),
        ("test", "model.warmup", "an option of training"),
        ("test", "wandb.group", "takes --model.X and --data.X and --trainer.X ("),
    ],
)
def test_an_option_without_effect_is_refused(verb: str, option: str, said: str) -> None:
    with pytest.raises(UsageError) as refusal:
        method_verbs.parse(verb, [f"--{option}", "1"])
    assert str(refusal.value).startswith(f"--{option} has no effect on `mnerkit {verb}`")
    assert said in str(refusal.value)


def test_options_with_effect_are_taken_by_predict() -> None:
    options = method_verbs.parse("predict", ["--model.head.constrain_bio", "true"])
    assert options.dotted == {"model.head.constrain_bio": "true"}


def test_the_options_of_training_are_those_of_the_tagger() -> None:
    assert {*method_verbs.TRAINING} == {*declared(TaggerOptions), *declared(TowerOptions)}
