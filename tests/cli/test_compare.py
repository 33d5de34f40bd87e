"""`mnerkit runs compare` and `runs --by-seed`, on run folders written by hand: no training, no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mnerkit.atomic_files import write_json, write_lines
from mnerkit.cli.runs import main
from mnerkit.errors import DataError, MnerkitError, UsageError
from mnerkit.scoring.significance import paired_test


def row(number: int, said: list[list], gold: list[list], episodic: bool = True, **fields: Any) -> dict[str, Any]:
    entities = [{"start": start, "end": end, "type": kind} for start, end, kind in said]
    made: dict[str, Any] = {"id": f"p{number}", "words": list("abcd"), "entities": entities, "gold": gold}
    if episodic:
        made |= {"episode": number, "types": ["LOC", "PER"], "support": ["s1", f"s{number}"]}
    return made | fields


GOLD = [[[0, 1, "PER"]], [[1, 3, "LOC"]], [[0, 1, "PER"], [2, 3, "LOC"]], [], [[0, 2, "PER"]], [[3, 4, "LOC"]]]
A = [[[0, 1, "PER"]], [], [[0, 1, "LOC"]], [[0, 1, "PER"]], [[0, 2, "PER"]], []]
B = [[[0, 1, "PER"]], [[1, 3, "LOC"]], [[0, 1, "PER"], [2, 3, "LOC"]], [], [[0, 1, "PER"]], []]


def rows(answers: list, **fields: Any) -> list[dict[str, Any]]:
    return [row(number, said, gold, **fields) for number, (said, gold) in enumerate(zip(answers, GOLD, strict=True))]


def write_run(folder: Path, name: str, lines: list[dict[str, Any]], seed: int = 0, lr: float = 0.1, **few: Any) -> Path:
    path = folder / "plug" / "corp" / name
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(json.dumps({"plugin": "plug", "model": {"lr": lr}, "seed": seed}))
    protocol = {"corpus": "corp", "train_types": ["PER", "LOC"], **few}
    scores = {"dev": {"f1": 40.0 + seed}, "test": {"f1": 30.0 + 2 * seed, "f1_strict": 29.0}}
    write_json(path / "metrics.json", {"seed": seed, "protocol": protocol, "epochs": 3, **scores})
    write_lines(path / "predictions.test.jsonl", lines)
    return path


def compared(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    assert main(["compare", *map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def tags(spans: list[list]) -> list[str]:
    found = ["O"] * 4
    for start, end, kind in spans:
        found[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return found


@pytest.mark.parametrize("episodic", [True, False])
def test_a_comparison_is_the_paired_test_with_figures_by_type(tmp_path: Path, capsys, episodic: bool):
    a = write_run(tmp_path, "a", rows(A, episodic=episodic))
    b = write_run(tmp_path, "b", rows(B, episodic=episodic))
    found = compared(capsys, a, b)
    wanted = paired_test(*([tags(each) for each in side] for side in (GOLD, A, B)))
    assert {key: found[key] for key in wanted} == pytest.approx(dict(wanted))
    assert found["unit"] == ("episode" if episodic else "post") and found["gold"] == 6
    assert [found[name] for name in ("both", "only_a", "only_b", "neither")] == [1, 1, 3, 1]
    assert found["by_type"]["LOC"] == {
        "gold": 3,
        "f1_a": 0,
        "f1_b": pytest.approx(80),
        "only_a": 0,
        "only_b": 2,
    }
    assert main(["compare", str(a), str(b)]) == 0
    printed = capsys.readouterr().out
    assert f"B - A: {found['difference']:+.2f}" in printed and "only B right" in printed


def test_posts_of_an_episode_are_swapped_and_drawn_together(tmp_path: Path, capsys):
    def together(answers: list) -> list[dict[str, Any]]:
        return [{**each, "episode": place // 3} for place, each in enumerate(rows(answers))]

    a, b = write_run(tmp_path, "a", together(A)), write_run(tmp_path, "b", together(B))
    assert compared(capsys, a, b)["posts"] == 2


def test_a_predicted_entity_with_an_ignored_word_is_neither_right_nor_wrong(tmp_path: Path, capsys):
    a = write_run(tmp_path, "a", rows(A, ignored=[0]))
    b = write_run(tmp_path, "b", rows(B, ignored=[0]))
    found = compared(capsys, a, b)
    # every prediction of a that begins at word 0 is out: nothing is left of it
    assert found["f1_a"] == 0 and found["f1_b"] == pytest.approx(100 * 2 * 2 / (6 + 2))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"id": "other"}, r"line 3, post 'p2' of episode 2: against post 'other'"),
        ({"words": list("abcx")}, r"line 3, .*: words a b c d against a b c x"),
        ({"gold": [[0, 1, "PER"]]}, r"line 3, .*: gold entities a \(PER\) c \(LOC\) against a \(PER\)"),
        ({"episode": 7}, "line 3: episode 2 against episode 7"),
        ({"types": ["ORG", "PER"]}, "types in play LOC PER against ORG PER"),
        ({"support": ["s1", "s9"]}, "line 3, .*: support s1 s2 against s1 s9"),
        ({"ignored": [2]}, "ignored words"),
    ],
)
def test_runs_that_were_not_asked_alike_are_refused(tmp_path: Path, fields: dict[str, Any], said: str):
    lines = rows(B)
    lines[2] |= fields
    a, b = write_run(tmp_path, "a", rows(A)), write_run(tmp_path, "b", lines)
    with pytest.raises(DataError, match=said) as caught:
        main(["compare", str(a), str(b)])
    assert "\n" not in str(caught.value)


def test_a_few_shot_run_is_not_compared_with_a_plain_one_nor_with_part_of_one(tmp_path: Path):
    a, b = write_run(tmp_path, "a", rows(A)), write_run(tmp_path, "b", rows(B, episodic=False))
    with pytest.raises(DataError, match="episode 0 against no episode"):
        main(["compare", str(a), str(b)])
    part = write_run(tmp_path, "part", rows(B)[:-1])
    with pytest.raises(DataError, match="6 predictions against 5"):
        main(["compare", str(a), str(part)])


def test_several_runs_are_paired_by_seed_and_training_types(tmp_path: Path, capsys):
    a = [write_run(tmp_path, f"a{seed}", rows(A), seed=seed) for seed in (0, 1)]
    b = [write_run(tmp_path, f"b{seed}", rows(B), seed=seed) for seed in (1, 0)]
    found = compared(capsys, "--a", *a, "--b", *b)
    assert found["posts"] == 6 and found["gold"] == 12
    assert main(["compare", "--a", *map(str, a), "--b", *map(str, b)]) == 0
    assert "6 episodes with the answers of 2 pairs of runs, 12 gold entities" in capsys.readouterr().out
    assert [Path(each).name for each in found["a"]] == ["a0", "a1"]
    assert [Path(each).name for each in found["b"]] == ["b0", "b1"]
    pattern = compared(capsys, str(a[0].with_name("a?")), str(b[0].with_name("b?")))
    assert pattern == found
    third = write_run(tmp_path, "a2", rows(A), seed=2)
    with pytest.raises(UsageError, match=r"B has no run of corp PER\+LOC seed 2"):
        main(["compare", "--a", *map(str, [*a, third]), "--b", *map(str, b)])
    with pytest.raises(UsageError, match="A has two runs of"):
        main(["compare", "--a", *map(str, [*a, a[0]]), "--b", *map(str, b)])


def test_seeds_are_drawn_where_that_is_asked_for(tmp_path: Path, capsys):
    def many(answers: list) -> list[dict[str, Any]]:
        lines = rows(answers, episodic=False)
        return [each | {"id": f"{each['id']}-{copy}"} for copy in range(20) for each in lines]

    a = [write_run(tmp_path, f"a{seed}", many(A), seed=seed) for seed in (0, 1)]
    b = [write_run(tmp_path, f"b{seed}", many(each), seed=seed) for seed, each in enumerate((B, A))]
    plain = compared(capsys, "--a", *a, "--b", *b)
    found = compared(capsys, "--a", *a, "--b", *b, "--draw", "posts,seeds")
    assert found["seeds"] == 2 and found["difference"] == pytest.approx(plain["difference"])
    assert found["deviation_seeds"] > 0 and found["low"] < plain["low"]
    assert main(["compare", "--a", *map(str, a), "--b", *map(str, b), "--draw", "posts,seeds"]) == 0
    assert "drawing posts,seeds: t with" in capsys.readouterr().out
    with pytest.raises(UsageError, match="with one seed it is unknown"):
        main(["compare", str(a[0]), str(b[0]), "--draw", "posts,seeds"])


def test_folds_are_paired_and_drawn(tmp_path: Path, capsys):
    def fold(name: str, number: int, seed: int, answers: list) -> Path:
        lines = [each | {"id": f"{number}-{each['id']}"} for each in rows(answers, episodic=False)]
        return write_run(tmp_path, f"{name}{number}{seed}", lines, seed=seed, folds=2, fold=number)

    a = [fold("a", number, seed, A) for number in (0, 1) for seed in (0, 1)]
    b = [fold("b", number, seed, (B, A)[number]) for number in (0, 1) for seed in (0, 1)]
    found = compared(capsys, "--a", *a, "--b", *b, "--draw", "posts,seeds,folds")
    assert (found["folds"], found["seeds"], found["posts"]) == (2, 2, 12)
    with pytest.raises(UsageError, match="not all scored on the same posts"):
        main(["compare", "--a", *map(str, a), "--b", *map(str, b), "--draw", "posts,seeds"])


@pytest.mark.parametrize("protocol", [["corp"], {"corpus": "corp", "train_types": "PER"}, None])
def test_a_damaged_protocol_pairs_with_nothing_it_does_not_name(tmp_path: Path, protocol: Any):
    runs = [write_run(tmp_path, f"{name}{seed}", rows(A), seed=seed) for name in "ab" for seed in (0, 1)]
    metrics = json.loads((runs[0] / "metrics.json").read_text())
    write_json(runs[0] / "metrics.json", metrics | {"protocol": protocol})
    with pytest.raises(UsageError, match=r"has no run of .*seed 0, and the other side has"):
        main(["compare", "--a", *map(str, runs[:2]), "--b", *map(str, runs[2:])])


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "takes two runs"),
        (["a"], "takes two runs"),
        (["a", "b", "c"], "takes two runs"),
        (["no/such", "a"], "no run no/such"),
        (["a", "a", "--splt", "x"], "Did you mean '--split'"),
        (["a", "a", "--split", "dev"], "has no predictions of 'dev'; `mnerkit validate"),
        (["a", "a", "--split", "../../x/y"], "has no predictions of"),
        (["a", "bad"], r"predictions.test.jsonl:2: no prediction"),
    ],
)
def test_mistakes_get_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], said: str):
    write_run(tmp_path, "a", rows(A))
    (write_run(tmp_path, "bad", rows(A)) / "predictions.test.jsonl").write_text(json.dumps(rows(A)[0]) + "\n[3]\n")
    monkeypatch.chdir(tmp_path / "plug" / "corp")
    with pytest.raises(MnerkitError, match=said):
        main(["compare", *argv])


def test_seeds_of_one_configuration_are_one_row(tmp_path: Path, capsys):
    for seed in (0, 1, 2):
        write_run(tmp_path, f"one{seed}", rows(A), seed=seed)
    write_run(tmp_path, "other", rows(A), lr=0.2)
    assert main([str(tmp_path), "--by-seed", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.strip().split("\n")]
    assert [each["seeds"] for each in found] == [["0", "1", "2"], ["0"]]
    assert found[0]["test"] == {"mean": 32.0, "half": pytest.approx(4.302653 * 2 / 3**0.5, abs=1e-4), "size": 3}
    assert found[1]["test"] == {"mean": 30.0, "half": None, "size": 1}
    assert main([str(tmp_path), "--by-seed"]) == 0
    assert "32.00 ± 4.97" in capsys.readouterr().out


def test_comparing_needs_no_torch(tmp_path: Path):
    a, b = write_run(tmp_path, "a", rows(A)), write_run(tmp_path, "b", rows(B))
    code = (
        f"import sys; from mnerkit.cli import main; assert main(['runs', 'compare', {str(a)!r}, {str(b)!r}]) == 0;"
        f"assert main(['runs', {str(tmp_path)!r}, '--by-seed']) == 0; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
