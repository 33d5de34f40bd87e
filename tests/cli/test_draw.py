"""`mnerkit draw adjacency`: from a checkpoint to one figure a post."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mnerkit.cli import main
from mnerkit.data.corpora import load_corpus

SMALL = [
    "--data.limit",
    "60",
    "--data.episodes_per_epoch",
    "2",
    "--data.dev_episodes",
    "2",
    "--trainer.max_epochs",
    "1",
]
SMALL += ["--model.hidden", "16", "--trainer.enable_progress_bar", "false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    captions = ["--model.image_nodes", "captions"]  # no tower to train first
    assert main(["fit", "--plugin", "mousing", "--name", "a", "--runs_dir", str(runs), *SMALL, *captions]) == 0
    return runs / "mousing" / "probe-fewshot" / "a"


def test_posts_are_drawn_one_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    posts = load_corpus("probe", variant="fewshot", splits=("test",), limit=60).splits["test"]
    kinds = ("VEH", "ANI", "FOOD", "MUS")
    chosen = [post for post in posts if any(tag[2:] in kinds for tag in post.tags or ())][3]
    command = ["draw", "adjacency", "--ckpt_path", str(run), "--out", str(tmp_path / "figures")]
    assert main([*command, "--post", chosen.id]) == 0
    assert main([*command, "--limit", "2", "--split", "dev", "--data.dev_episodes", "3"]) == 0
    files = sorted((tmp_path / "figures").glob("*.png"))
    assert f"{chosen.id}.png" in [each.name for each in files] and len(files) == 3
    for each in files:
        with Image.open(each) as picture:
            picture.load()
            assert picture.width > 1000 and picture.height > 400
    capsys.readouterr()
    assert main([*command, "--post", chosen.id]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*command, "--post", chosen.id + "x"]) == 1
    assert f"Did you mean {chosen.id!r}?" in capsys.readouterr().err
    assert main([*command, "--pots", "1"]) == 2
    assert "Did you mean '--post'?" in capsys.readouterr().err


def test_a_method_without_a_graph_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    small = ["--data.limit", "10", "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]
    assert main(["fit", "--plugin", "bert", "--name", "b", "--runs_dir", str(tmp_path), *small]) == 0
    capsys.readouterr()
    run = tmp_path / "bert" / "probe" / "b"
    assert main(["draw", "adjacency", "--ckpt_path", str(run), "--out", str(tmp_path / "figures")]) == 2
    error = capsys.readouterr().err
    assert "plugin 'bert' has no graph to draw" in error and "Traceback" not in error
    assert not (tmp_path / "figures").exists()
