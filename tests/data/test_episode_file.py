"""Frozen episodes: what is replayed is what was drawn, and a file that does not fit is refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mnerkit.cli.data import main
from mnerkit.data.episodes import episode_file
from mnerkit.data.episodes.episode_file import read_episode_file
from mnerkit.data.episodes.protocol import FewShotProtocol
from mnerkit.data.options import EpisodeOptions
from mnerkit.errors import DataError, MnerkitError, UsageError
from tests.data.test_datamodule import connected, corpora_are_read_once, told  # noqa: F401

FEW = {"train_types": "Per+Loc", "k_shot": 4, "seed": 3}
ARGV = ["probe", "--limit", "90", "--train-types", "per+loc", "--k-shot", "4", "--seed", "3"]


def frozen(folder: Path, split: str = "test", *argv: str, name: str | None = None) -> Path:
    out = folder / (name or f"{split}.jsonl")
    assert main(["episodes", *ARGV, "--split", split, "--out", str(out), *argv]) == 0
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return frozen(tmp_path_factory.mktemp("frozen"))


def changed(whole: Path, folder: Path, line: int, **fields: Any) -> Path:
    """The file with other fields in one line (0 is the header)."""
    lines = [json.loads(each) for each in whole.read_text().strip().split("\n")]
    lines[line] |= fields
    out = folder / "changed.jsonl"
    out.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return out


def test_replayed_episodes_are_the_drawn_ones_whatever_the_seed_and_workers(tmp_path: Path):
    files = [str(frozen(tmp_path, split)) for split in ("dev", "test")]
    files.append(str(frozen(tmp_path, "train", "--episodes", "12")))
    drawn = connected("episodic", (), dev_episodes="all_queries", **FEW)
    for workers in (0, 2):
        # another seed, another support: nothing but the file may matter
        replayed = connected(
            "episodic",
            (),
            episode_file=",".join(files),
            workers=workers,
            **{**FEW, "seed": 99, "support": "greedy", "k_shot": 1, "dev_episodes": 3},
        )
        for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
            assert told(getattr(replayed, name)()) == told(getattr(drawn, name)())
    assert replayed.protocol()["queries"] == drawn.protocol()["queries"]
    noted = replayed.protocol()["episode_files"]
    assert noted["test"]["sha256"] == read_episode_file(Path(files[1])).sha256
    assert noted["test"]["protocol"]["k_shot"] == 4
    said = replayed.protocol()
    assert json.loads(json.dumps(said)) == said
    # no rule of the run's own, by which nothing was drawn
    assert said["drawn_splits"] == [] and not {"k_shot", "support", "episode_seed"} & said.keys()
    assert said["n_way"] == 2 and said["test_types"] == drawn.protocol()["test_types"]


def test_the_protocol_names_the_splits_that_the_runs_own_rules_drew(whole: Path):
    said = connected("episodic", (), episode_file=str(whole), **{**FEW, "k_shot": 3}).protocol()
    assert said["drawn_splits"] == ["train", "dev"] and said["k_shot"] == 3
    assert said["episode_files"]["test"]["protocol"]["k_shot"] == 4
    said = connected("plain", (), episode_file=str(whole), **{**FEW, "k_shot": 3}).protocol()
    assert said["drawn_splits"] == ["dev"]


def test_the_protocol_tells_the_types_of_the_file_and_not_those_that_might_have_been(tmp_path: Path):
    types = {"train_types": "PER", "dev_types": "LOC+ORG+MISC", "n_way": 1}
    file = frozen(tmp_path, "dev", "--train-types", "PER", "--dev-types", "MISC", "--n-way", "1", "--episodes", "3")
    said = connected("episodic", (), episode_file=str(file), **{**FEW, **types}).protocol()
    assert said["dev_types"] == ["MISC"] and said["test_types"] == ["LOC", "ORG", "MISC"]


def test_a_short_training_file_is_gone_through_again(tmp_path: Path):
    file = frozen(tmp_path, "train", "--episodes", "5")
    batches = told(connected("episodic", (), episode_file=str(file), **FEW).train_dataloader())
    posts = [each[0] for each in batches]
    assert len(posts) == 12 and posts[5] == posts[0] and posts[11] == posts[1] != posts[0]


def test_other_splits_are_drawn(whole: Path):
    replayed = connected("episodic", (), episode_file=[str(whole)], dev_episodes=5, **FEW)
    drawn = connected("episodic", (), dev_episodes=5, **FEW)
    assert told(replayed.val_dataloader()) == told(drawn.val_dataloader())


def test_supports_from_the_training_split_are_found_there(tmp_path: Path):
    file = frozen(tmp_path, "test", "--support_from", "train")
    data = connected("episodic", (), episode_file=str(file), **FEW)
    assert told(data.test_dataloader()) == told(
        connected("episodic", (), support_from="train", **FEW).test_dataloader()
    )


def test_the_first_line_names_corpus_split_and_protocol(whole: Path):
    file = read_episode_file(whole)
    data = connected("episodic", (), **FEW)
    assert file.header["digest"] == data.content.digest and file.split == "test"
    assert file.header["episodes"] == len(file.rows) == len(data.test_dataloader())
    assert file.header["protocol"]["train_types"] == ["PER", "LOC"]


@pytest.mark.parametrize(
    ("line", "fields", "said"),
    [
        (0, {"digest": "0" * 64}, "another corpus, release of labels"),
        (0, {"format": "x"}, ":1: no episode file"),
        (0, {"version": 2}, ":1: version 2"),
        (0, {"split": "tset"}, ":1: split must be one of train, dev, test, got 'tset'. Did you mean 'test'"),
        (0, {"protocol": 1}, ":1: protocol must be a mapping"),
        (0, {"episodes": 3}, "cut off"),
        (2, {"support": ["nobody"]}, ":3: post 'nobody' is not among the posts of test"),
        (2, {"query": ["nobody"]}, ":3: post 'nobody'"),
        (2, {"query": []}, ":3: query must be a list of at least 1"),
        (2, {"support": [1]}, r":3: support\[0\] must be a text, got 1"),
        (2, {"support": ["a", "b", "a"]}, ":3: support: 'a' stands there twice"),
        (2, {"support": ["a", "q"], "query": ["q"]}, ":3: the support contains the query 'q'"),
        (2, {"number": 0}, ":3: episode 0 stands in .*:2 already"),
        (2, {"number": True}, ":3: number must be a whole number"),
        (2, {"number": -1}, ":3: number must be 0 or more"),
        (2, {"split": "dev"}, ":3: an episode of 'dev'"),
        (2, {"types": ["MISC", "PER"]}, ":3: type 'PER' .* it is a training type"),
        (2, {"types": ["MISC", "XYZ"]}, ":3: type 'XYZ' is not among"),
        (2, {"types": ["MISC"]}, ":3: 1 types in play, --data.n_way 2"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(whole: Path, tmp_path: Path, line, fields, said):
    data = connected("episodic", (), episode_file=str(changed(whole, tmp_path, line, **fields)), **FEW)
    with pytest.raises(DataError, match=said) as caught:
        data.protocol()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "content", "said"),
    [
        (1, b"{", ":2: not JSON"),
        (1, b"[" * 100_000, ":2: not JSON"),
        (1, b"[1]", ":2: expected a JSON object"),
        (1, b"\xff", ":2: not UTF-8"),
        (0, b"", ":2: no episode file"),
    ],
)
def test_malformed_json_is_named_with_its_line(whole: Path, tmp_path: Path, line, content, said):
    lines = whole.read_bytes().split(b"\n")
    lines[line] = content
    (tmp_path / "bad.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(DataError, match=said):
        read_episode_file(tmp_path / "bad.jsonl")


def test_oversized_and_absent_files_are_refused(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(episode_file, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match="larger than"):
        read_episode_file(whole)
    with pytest.raises(DataError, match="no such file"):
        read_episode_file(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="no such file"):
        read_episode_file(tmp_path)


def test_options_that_contradict_the_files_are_refused(whole: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="both hold test episodes"):
        connected("episodic", (), episode_file=[str(whole), str(whole)], **FEW).protocol()
    with pytest.raises(DataError, match="is not among the types of test episodes"):
        connected("episodic", (), episode_file=str(whole), **{**FEW, "train_types": "Org+Misc"}).protocol()
    with pytest.raises(DataError, match="drop_sentence forbids"):
        connected("episodic", (), episode_file=str(whole), out_of_play="drop_sentence", **FEW).protocol()
    with pytest.raises(DataError, match="another content than the run was started with"):
        connected("episodic", (), episode_file=str(whole), episode_digest="0" * 64, **FEW).protocol()
    with pytest.raises(UsageError, match="needs --data"):
        connected("plain", (), episode_file=str(whole))
    digest = read_episode_file(whole).sha256
    assert connected("episodic", (), episode_file=str(whole), episode_digest=digest, **FEW).protocol()


def test_freezing_prints_a_table_and_overwrites_nothing_unasked(tmp_path: Path, capsys):
    out = frozen(tmp_path)
    printed = capsys.readouterr().out
    assert "episodes of probe (default), split test" in printed and "support" in printed and "MISC" in printed
    before = out.read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        frozen(tmp_path)
    assert out.read_bytes() == before
    frozen(tmp_path, "test", "--overwrite", "--episodes", "7")
    assert len(read_episode_file(out).rows) == 7
    assert [each.name for each in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--k-shot", "5000"], "5001 are needed"),
        (["--train-types", "Per+Lok"], "no type 'Lok'"),
        (["--test-types", "Per+Org"], "PER is among the training types"),
        (["--support", "al"], "--support: invalid choice: 'al'"),
        (["--episodes", "0"], "--episodes 0"),
        (["--ensure-all-types", "maybe"], "ensure_all_types maybe: give true or false"),
        (["--n_ways", "2"], "Did you mean '--n_way'"),
        (["--split", "train", "--episodes", "all_queries"], "without end"),
    ],
)
def test_mistakes_end_in_a_line_and_write_nothing(tmp_path: Path, argv: list[str], said: str):
    with pytest.raises(MnerkitError, match=said):
        frozen(tmp_path, "test", *argv)
    assert not list(tmp_path.iterdir())


def test_freezing_needs_no_torch(tmp_path: Path):
    import subprocess
    import sys

    argv = ["data", "episodes", *ARGV, "--out", str(tmp_path / "a")]
    code = f"import sys; from mnerkit.cli import main; main({argv}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_protocol_has_the_defaults_of_the_datamodule():
    data = connected("episodic", ())
    assert data.split_episodes.protocol.record() == FewShotProtocol(EpisodeOptions(), data.content.types).record()
