"""A run with TensorBoard, read back from the file that it wrote, and what dashboards show of posts."""

from __future__ import annotations

import csv
import io
from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnerkit.cli import main
from mnerkit.data.corpus.post import ImageRef, PictureObject, Post
from mnerkit.methods import checkpoint
from mnerkit.methods.logged_posts import SIDE, confusion_picture, confusions, drawn, pictures_of
from mnerkit.methods.prediction import Prediction
from mnerkit.methods.tensorboard_logging import logger_of
from mnerkit.runs.run_folder import RunFolder
from mnerkit.runs.trainer.continuation import carry_on
from mnerkit.runs.trainer.training_log import TrainingLog

TYPES = ("LOC", "PER")


def fitted(tmp_path: Path, name: str, *more: str) -> RunFolder:
    argv = ["fit", "--plugin", "bert", "--name", name, "--runs_dir", str(tmp_path), "--data.limit", "48"]
    argv += ["--data.batch_size", "16", "--trainer.max_epochs", "2", "--trainer.enable_progress_bar", "false"]
    assert main([*argv, *more]) == 0
    return RunFolder(tmp_path / "bert" / "probe" / name)


def test_a_run_is_logged_and_trains_as_without_a_logger(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = fitted(tmp_path, "logged", "--logger", "tensorboard", "--trainer.log_every_n_steps", "2")
    board = accumulator.EventAccumulator(str(folder.path / "tensorboard"), {"images": 0, "tensors": 0, "scalars": 0})
    board.Reload()
    scalars = {name: [(each.step, each.value) for each in board.Scalars(name)] for name in board.Tags()["scalars"]}
    assert [step for step, _ in scalars["gradient/norm"]] == [0, 2, 4]  # of 6 steps
    assert all(value > 0 for name in ("gradient/norm", "seconds/train", "seconds/dev") for _, value in scalars[name])
    rates = [value for _, value in scalars["rate/head"]]
    assert max(rates) <= folder.config()["model"]["lr"] * 1.0001 and rates[-1] < max(rates)
    metrics = folder.metrics()
    assert scalars["final/dev/f1"][0][1] == pytest.approx(metrics["dev"]["f1"])
    with (folder.path / "curve" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["train/loss"]) for row in rows if row["train/loss"]]
    assert [value for _, value in scalars["train/loss"]] == pytest.approx(losses)
    picture = Image.open(io.BytesIO(board.Images("pictures/0")[0].encoded_image_string))
    assert picture.width >= SIDE and board.Images("confusion")
    text = board.Tensors("predictions/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text.startswith("| id | words | gold | predicted | right |") and text.count("\n") == 1 + 48
    assert "plugin: bert" in board.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()

    plain = fitted(tmp_path, "plain")
    assert not (plain.path / "tensorboard").exists() and rows[0].keys() == csv_names(plain)
    ours, theirs = (checkpoint.read(each.best)["state_dict"] for each in (plain, folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)


def csv_names(folder: RunFolder) -> Any:
    with (folder.path / "curve" / "metrics.csv").open(newline="") as file:
        return next(csv.DictReader(file)).keys()


@pytest.mark.parametrize(
    ("logger", "complaint"),
    [("tensorboard", "pip install 'mnerkit[tensorboard]'"), ("tensorbord", "Did you mean 'tensorboard'?")],
)
def test_a_logger_that_is_not_there_is_one_line_with_the_way_out(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    logger: str,
    complaint: str,
) -> None:
    monkeypatch.setattr("mnerkit.methods.tensorboard_logging.find_spec", lambda _: None)
    assert main(["fit", "--plugin", "bert", "--runs_dir", str(tmp_path / "runs"), "--logger", f"csv,{logger}"]) == 2
    line = capsys.readouterr().err
    assert complaint in line and line.count("\n") == 1
    assert not (tmp_path / "runs").exists() and util.find_spec("csv")


def test_the_norm_is_computed_when_it_is_logged_and_never_else(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    weights[0].grad, weights[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    groups = [{"params": weights[:1], "lr": 0.5, "name": "a"}, {"params": weights[1:], "lr": 0.25, "name": "b"}]
    logged: list[Any] = []
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.append((step, values)))
    trainer: Any = SimpleNamespace(log_every_n_steps=3, is_global_zero=True, current_epoch=7, loggers=[logger])
    computed: list[int] = []
    norms = torch._foreach_norm

    def counted(*args: Any) -> Any:
        computed.append(trainer.global_step)
        return norms(*args)

    monkeypatch.setattr(torch, "_foreach_norm", counted)
    for step in range(7):
        trainer.global_step = step
        TrainingLog().on_before_optimizer_step(trainer, None, SimpleNamespace(param_groups=groups))
    assert computed == [0, 3, 6] == [step for step, _ in logged]
    assert logged[0][1] == {"rate/a": 0.5, "rate/b": 0.25, "gradient/norm": 5.0, "epoch": 7}


def test_pictures_have_their_boxes_and_the_predicted_and_gold_entities_below() -> None:
    pixels = np.full((40, 80, 3), 200, dtype=np.uint8)
    found = PictureObject((0.25, 0.5, 0.75, 1.0), 0.9, "person")
    images = (ImageRef("gone.jpg", None), ImageRef("a.png", pixels=pixels, objects=(found,)))
    post = Post("1", ("Ann", "in", "Oslo"), ("B-PER", "O", "B-LOC"), images=images)
    wrong, right = ["B-PER", "O", "O"], ["B-PER", "O", "B-LOC"]
    (one,), (other,) = (pictures_of([Prediction(post, tags, TYPES)]) for tags in (wrong, right))
    assert one.text == "[Ann PER] in Oslo\ngold: [Ann PER] in [Oslo LOC]" and other.text == "[Ann PER] in [Oslo LOC]"
    picture = drawn(one)
    assert picture.shape[1] == SIDE and picture.shape[0] > SIDE // 2
    edge = picture[140, 80]  # of the box, on the picture four times as large
    assert edge.tolist() == [0xD5, 0x5E, 0x00] and picture[140, 60].tolist() == [200] * 3
    names, gold, predicted = confusions([Prediction(post, wrong, TYPES)])
    assert (names, gold, predicted) == (["O", "LOC", "PER"], [2, 0, 1], [2, 0, 0])
    matrix = confusion_picture(names, gold, predicted)
    cell = matrix.shape[0] // 4
    shades = [[int(matrix[r * cell + 4, c * cell + 4, 0]) for c in (1, 2, 3)] for r in (1, 2, 3)]
    assert [[shade == 0 for shade in row] for row in shades] == [
        [True, False, False],
        [True, False, False],
        [False, False, True],
    ]


def test_a_run_that_goes_on_hides_what_comes_again(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for value, steps in ((1.0, range(6)), (2.0, range(3, 5))):
        logger = logger_of(tmp_path)
        if value == 2:
            carry_on([logger], (1, 3))
        for step in steps:
            logger.log_metrics({"x": value}, step)
        logger.finalize("success")
    board = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert [(each.step, each.value) for each in board.Scalars("x")] == [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)]
