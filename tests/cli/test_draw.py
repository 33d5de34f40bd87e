"""`mnerkit draw`: from a checkpoint to one figure a post, and from runs to figures in their folders and on a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mnerkit.cli import main
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.runs import figure_file

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


def test_a_run_s_figure_is_kept_in_its_folder_and_drawn_on_a_page(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, page = run / "figures" / "adjacency.dev.json", tmp_path / "page.html"
    command = ["draw", "adjacency", str(run), "--split", "dev", "--data.dev_episodes", "3"]
    assert main([*command, "--limit", "2", "--out", str(page)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(kept)]
    drawn = figure_file.read(kept)["posts"]
    assert len(drawn) == len({post["id"] for post in drawn}) == 2
    assert all(len(post["columns"]) > len(post["words"]) for post in drawn), "caption words are nodes"
    assert drawn[0]["id"] in page.read_text() and drawn[1]["id"] in page.read_text()
    before = kept.stat().st_mtime_ns
    assert main(["draw", "adjacency", str(run), "--split", "dev"]) == 0
    assert kept.stat().st_mtime_ns == before, "what is there is not computed again"
    assert main([*command, "--post", drawn[1]["id"]]) == 0
    assert [post["id"] for post in figure_file.read(kept)["posts"]] == [drawn[1]["id"]]
    capsys.readouterr()
    assert main([*command, "--out", str(page)]) == 2 and "--overwrite" in capsys.readouterr().err
    assert main(["report", str(run), "--out", str(tmp_path / "report")]) == 0
    assert "A, before" in (tmp_path / "report" / "index.html").read_text()


def test_entity_words_of_a_run_are_drawn_in_a_plane(run: Path) -> None:
    assert main(["draw", "tsne", "--data.dev_episodes", "3", str(run), "--split", "dev"]) == 0
    found = figure_file.read(run / "figures" / "tsne.dev.json")
    assert len(found["points"]) >= 5 and set(found["types"]) <= {"PER", "LOC", "ORG", "MISC"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["attention", "RUN"], "plugin 'mousing' has no attention"),
        (["relevance", "RUN", "--out", "page.html"], "has no figure relevance of test"),
        (["attention", "nowhere"], "nowhere is no run folder"),
        (["adjacency"], "takes run folders, or --ckpt_path"),
        (["adjacency", "--ckpt_path", "RUN"], "give --out DIR"),
        (["tsne", "RUN", "--out", "plane.PNG"], "writes an HTML page; give a name like plane.html"),
        (["cases", "RUN", "--out", "cases.pdf"], "writes an HTML page; give a name like cases.html"),
        (["tsne", "RUN", "--perplexity", "3"], "no option '--perplexity'"),
        (["tsen", "RUN"], "Did you mean 'tsne'?"),
    ],
)
def test_what_can_t_be_drawn_gets_a_line(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["draw", *(str(run) if word == "RUN" else word for word in words)]) in (1, 2)
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert not (tmp_path / "page.html").exists() and not (run / "figures" / "attention.test.json").exists()
