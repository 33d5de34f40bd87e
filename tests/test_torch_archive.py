"""Writing archives of torch."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest
import torch

from mnerkit import torch_archive
from mnerkit.errors import Stopped

CONTENT = {"a": torch.arange(50_000), "b": [1, "x"]}


class Failing(io.BytesIO):
    """A stream whose third write raises."""

    def __init__(self, problem: BaseException) -> None:
        super().__init__()
        self.problem, self.writes = problem, 0

    def write(self, content: object) -> int:
        self.writes += 1
        if self.writes == 3:
            raise self.problem
        return super().write(content)  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    with (tmp_path / "a.pt").open("wb") as stream:
        torch_archive.write(CONTENT, stream)
    read = torch_archive.read_plain(tmp_path / "a.pt")
    assert torch.equal(read["a"], CONTENT["a"]) and read["b"] == CONTENT["b"]


@pytest.mark.parametrize("problem", [Stopped(15), OSError(errno.ENOSPC, "No space left on device")])
def test_a_signal_or_a_full_disk_while_an_archive_is_written_is_raised_as_itself(problem: BaseException) -> None:
    with pytest.raises(type(problem)) as raised:
        torch_archive.write(CONTENT, Failing(problem))
    assert raised.value is problem
