"""Ours computes what the authors' released code computed, on the cases that lie beside the checkout."""

from __future__ import annotations

import importlib
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[1]
PLACES = [folder / "shared" / "parity" for folder in ROOT.parents]
CASES = next((place for place in PLACES if place.is_dir()), PLACES[0])
METHODS = sorted(
    path.stem
    for path in (ROOT / "benchmarks" / "parity_methods").glob("*.py")
    if path.stem not in ("__init__", "base", "case", "comparing")
)
FILES = [(name, path) for name in METHODS for path in sorted((CASES / name).glob("*.json"))]


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    for name in [name for name in sys.modules if name.split(".")[0] in ("parity", "parity_methods")]:
        monkeypatch.delitem(sys.modules, name)
    log = logging.getLogger("mnerkit")
    monkeypatch.setattr(log, "level", log.level)  # which `main` raises
    return importlib.import_module("parity")


@pytest.mark.skipif(not FILES, reason=f"there are no parity cases in {CASES}")
@pytest.mark.parametrize("name, path", FILES, ids=[f"{name}-{path.stem}" for name, path in FILES])
def test_every_tensor_of_a_case_is_within_tolerance(
    parity: Any, name: str, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = parity.compare(name, path)
    assert not failed, capsys.readouterr().out


@pytest.mark.skipif(not FILES, reason=f"there are no parity cases in {CASES}")
@pytest.mark.parametrize("name", ["hvpnet", "maf", "mkgformer", "tpm_mi", "visualpt_moe"])
def test_a_page_says_how_far_each_default_is_from_the_released_reading(
    parity: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first column of figures of its table is what `--sane` prints of the emissions of case 0."""
    page = (ROOT / "plugins" / name / "README.md").read_text(encoding="utf-8")
    row = r"^\| (?:`(\w+: [\w.]+)`|all defaults together)[^|]*\| ([\d.]+) \|"
    said = {reading or "all": float(value) for reading, value in re.findall(row, page, re.M)}
    parity.main([name, str(CASES / name / "case0.json"), "--sane"])
    out = capsys.readouterr().out
    found = dict(re.findall(r"^  (\w+: \S+) .*?emissions (\S+?),", out, re.M))
    found["all"] = re.findall(r"^output/emissions +(\S+)", out, re.M)[0]
    apart = {
        reading.replace(": False", ": false").replace(": True", ": true"): float(v) for reading, v in found.items()
    }
    assert said == pytest.approx({reading: apart[reading] for reading in said}, rel=0.06)
    assert {reading for reading, value in apart.items() if value > 1e-3} == said.keys()


@pytest.mark.skipif(not FILES, reason=f"there are no parity cases in {CASES}")
def test_a_tensor_that_is_off_or_that_ours_lacks_fails(
    parity: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = CASES / "hvpnet" / "case1.json"
    tensors = load_file(source.with_suffix(".safetensors"))
    tensors["output/emissions"][0, 0, 0] += 1e-3
    tensors["output/states"][0, 0, 0] = torch.nan
    tensors["output/of_nobody"] = torch.zeros(1)
    tensors["input/word_label"] = torch.zeros(1, dtype=torch.long)  # an input may be anything
    save_file(tensors, tmp_path / "case1.safetensors")
    (tmp_path / "case1.json").write_text(source.read_text())
    assert parity.main(["hvpnet", str(tmp_path / "case1.json")]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    failed = {line[0] for line in lines if "FAIL" in line and line[0].startswith("output/")}
    assert failed == {"output/emissions", "output/states", "output/of_nobody"}


@pytest.mark.skipif(not FILES, reason=f"there are no parity cases in {CASES}")
def test_weights_that_are_unknown_or_missing_are_named(parity: Any, tmp_path: Path) -> None:
    source = CASES / "hvpnet" / "case1.json"
    tensors = load_file(source.with_suffix(".safetensors"))
    (tmp_path / "case1.json").write_text(source.read_text())
    save_file({**tensors, "weights/fc2.weight": torch.zeros(1)}, tmp_path / "case1.safetensors")
    with pytest.raises(Exception, match=r"unknown are fc2\.weight"):
        parity.compare("hvpnet", tmp_path / "case1.json")
    save_file({n: v for n, v in tensors.items() if n != "weights/fc.bias"}, tmp_path / "case1.safetensors")
    with pytest.raises(Exception, match=r"nothing is there for head\.linear\.bias"):
        parity.compare("hvpnet", tmp_path / "case1.json")


def test_differences_count_nan_and_misplaced_infinities_as_failures(parity: Any) -> None:
    difference, At = (getattr(sys.modules["parity_methods.comparing"], name) for name in ("difference", "At"))
    inf = float("inf")
    theirs = torch.tensor([1.0, -inf, 3.0])
    assert difference(torch.tensor([1.0, -inf, 3.4]), theirs) == pytest.approx(0.1)
    for ours in ([1.0, inf, 3.0], [1.0, 0.0, 3.0], [inf, -inf, 3.0], [float("nan"), -inf, 3.0]):
        assert difference(torch.tensor(ours), theirs) == inf
    assert difference(At(torch.tensor([9.0, -inf, 3.0]), torch.tensor([False, True, True])), theirs) == 0


def test_a_comparison_of_nothing_fails(parity: Any) -> None:
    comparing = sys.modules["parity_methods.comparing"]
    ours = comparing.At(torch.zeros(2, 3), torch.zeros(2, dtype=torch.bool))
    assert not comparing.compared("output/states", ours, torch.zeros(2, 3), {}).passes


def test_cases_that_are_absent_are_named(parity: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main(["--all", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "hvpnet: no cases in" in printed and "no case, so nothing is shown" in printed
    for wrong in (["hvpnet"], ["nobody", "case0.json"], ["hvpnet", str(tmp_path / "case7.json")]):
        with pytest.raises(SystemExit):
            parity.main(wrong)


def test_a_case_that_cannot_be_run_fails_in_one_line(
    parity: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, alone, other = (tmp_path / folder / "case0.json" for folder in ("umt", "maf", "nobody"))
    for path, text in ((broken, "{"), (alone, '{"method": "maf"}'), (other, "{}")):
        path.parent.mkdir()
        path.write_text(text)
    assert parity.main(["--all", str(tmp_path)]) == 1
    failed = [line.split(":")[0] for line in capsys.readouterr().out.splitlines() if "FAIL  " in line]
    assert failed == [f"maf, {alone}", f"umt, {broken}", "nobody"]
    assert parity.main(["umt", str(alone)]) == 1
    assert "FAIL" in (line := capsys.readouterr().out.splitlines()[1]) and "maf" in line
