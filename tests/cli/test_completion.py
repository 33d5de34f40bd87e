"""Completion with Tab, called as the shell does after `eval "$(register-python-argcomplete mnerkit)"`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnerkit.cli import VERBS, method_help
from mnerkit.registry import plugins


def completed(line: str, folder: Path) -> list[str]:
    """What the shell is offered with the cursor at the end of a line."""
    env = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n"}
    # argcomplete answers on file descriptor 8; what the program prints elsewhere is lost, as it is in the shell
    command = f"exec 8>&1 1>/dev/null; exec {sys.executable} -m mnerkit"
    done = subprocess.run(["sh", "-c", command], env=env, cwd=folder, capture_output=True, text=True, check=True)
    return [word.strip() for word in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mnerkit da", ["data"]),
        ("mnerkit fit --pl", ["--plugin"]),
        ("mnerkit fit --plugin g", ["gei", "gifr", "gmf", "gvatt"]),
        ("mnerkit fit --plugin gmf --model.csa_n", ["--model.csa_norm"]),
        ("mnerkit fit --plugin gmf --model.csa_norm ", ["bn", "gn"]),
        ("mnerkit fit --plugin gmf --model.vcg ", ["true", "false", "last_stage_only"]),
        ("mnerkit fit --plugin bert --model.head proto", ["prototype", "prototype_crf"]),
        ("mnerkit fit --plugin bert --model.head struct --model.head.ta", ["--model.head.tau"]),
        ("mnerkit fit --trainer.limit_v", ["--trainer.limit_val_batches"]),
        ("mnerkit fit --seed ", []),
        ("mnerkit fit --config twitter2017-b", ["twitter2017-bert"]),
        ("mnerkit fit --plugin mousing --ablation no_im", ["no_image"]),
        ("mnerkit fit --plugin no_such_method --se", ["--seed", "--seeds"]),
        ("mnerkit predict --plugin gmf --inp", ["--input", "--input_format"]),
        ("mnerkit data sta", ["stats"]),
        ("mnerkit data show probe --sp", ["--split"]),
        ("mnerkit data show probe --split ", ["train", "dev", "test"]),
        ("mnerkit plugins mou", ["mousing"]),
        ("mnerkit new mine --from hv", ["hvpnet"]),
        ("mnerkit reproduce --dry-", ["--dry-run"]),
        ("mnerkit report --ti", ["--title"]),
        ("mnerkit runs --js", ["--json"]),
        ("mnerkit runs compare --sp", ["--split"]),
        ("mnerkit cache cl", ["clear"]),
        ("mnerkit draw case", ["cases"]),
    ],
)
def test_tab_offers_what_may_stand_at_the_cursor(line: str, offered: list[str], tmp_path: Path) -> None:
    assert completed(line, tmp_path) == offered


def test_tab_offers_every_verb_and_every_method(tmp_path: Path) -> None:
    assert {*VERBS} <= {*completed("mnerkit ", tmp_path)}
    assert {*plugins()} <= {*completed("mnerkit fit --plugin ", tmp_path)}


def test_tab_offers_files_where_one_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("plugin: bert\n")
    for line in ("mnerkit fit --config mi", "mnerkit test --ckpt_path mi", "mnerkit predict --input mi"):
        assert completed(line, tmp_path) == ["mine.yaml"]


def test_the_trainer_s_options_that_few_use_are_completed_and_not_on_the_page(tmp_path: Path) -> None:
    page = method_help.page("fit", [])
    assert "--trainer.max_epochs" in page and "--trainer.limit_val_batches" not in page
    assert "--trainer.limit_val_batches" in completed("mnerkit fit --trainer.", tmp_path)
