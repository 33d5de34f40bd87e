"""`mnerkit predict` in blocks: bad lines, interruptions, and outputs that are no files."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnerkit import atomic_files
from mnerkit.cli import main
from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.pictures import picture_loader
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.errors import DataError, MnerkitError, UsageError
from mnerkit.runs.predict import predict_file
from mnerkit.runs.prediction_file import FileOutput

WORDS = ("Ann", "sees", "Paris", "with", "the", "team", "of", "ACME", "today")


class Killed(BaseException):
    """The process is gone: nothing tidies up."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    fit = ["fit", "--plugin", "bilstm", "--name", "one", "--runs_dir", str(runs), "--data.limit", "24"]
    assert main([*fit, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]) == 0
    return runs / "bilstm" / "probe" / "one" / "best.ckpt"


def line(number: int) -> bytes:
    draw = random.Random(number)
    text = " ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 12)))
    return json.dumps({"id": f"p{number}", "text": text}).encode()


# what an input may hold: a byte order mark, CRLF, blank lines, U+2028 and U+0085 inside a line, no last line feed
ODD = b"\xef\xbb\xbf" + b"\n".join(
    [
        *map(line, range(12)),
        b"",
        line(12) + b"\r",
        b"{broken",
        '{"text": "Ann\u2028sees\u0085Paris"}'.encode(),
        b'{"id": "twice", "words": "no list"}',
        b'{"text": "caf\xe9"}',
        b'{"text": "' + b"a" * (1 << 20) + b'"}',
        b" \t",
        *map(line, range(13, 24)),
    ]
)


def rows(file: Path) -> list[dict[str, Any]]:
    """The records of a file, whose lines end at line feeds alone."""
    return [json.loads(text) for text in file.read_bytes().decode().rstrip("\n").split("\n")]


def predicted(checkpoint: Path, folder: Path, **options: Any) -> bytes:
    """The bytes that the posts of `in.jsonl` become without an interruption."""
    predict_file(checkpoint, folder / "in.jsonl", folder / "whole.jsonl", overwrite=True, **options)
    return (folder / "whole.jsonl").read_bytes()


def test_blocks_of_any_size_give_the_same_bytes_and_skipped_lines_keep_their_places(
    checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_bytes(ODD)
    first = predicted(checkpoint, tmp_path, on_bad_line="skip")
    for lines in (1, 2, 5, 13):
        assert predicted(checkpoint, tmp_path, on_bad_line="skip", block_lines=lines) == first
    found = rows(tmp_path / "whole.jsonl")
    assert [row.get("id") for row in found[:13]] == [f"p{number}" for number in range(13)]
    broken, odd, twice, bytes_, long = found[13:18]
    assert broken == {"line": 15, "error": broken["error"]} and broken["error"].startswith("neither JSON")
    assert odd["id"] == "16" and "entities" in odd
    assert twice == {"id": "twice", "line": 17, "error": "'words' must be a list of strings, found str: no list."}
    assert (bytes_["line"], bytes_["error"][:9]) == (18, "not UTF-8")
    assert long == {"line": 19, "error": "the line is longer than 1048576 bytes."}
    assert [row["id"] for row in found[18:]] == [f"p{number}" for number in range(13, 24)]


def interrupted(monkeypatch: pytest.MonkeyPatch, moment: int, work: Callable[[], Any]) -> bool:
    """Do something and kill it at a moment, counted in calls that write to the disk; whether it was killed."""
    count = 0

    def counted(real: Any, tidy: bool = False) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == moment:
                if real is os.write and len(arguments[1]) > 1:
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2])
                raise Killed
            if count > moment:
                raise Killed
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for name in ("write", "fsync", "replace", "ftruncate"):
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        patch.setattr(FileOutput, "close", lambda self: os.close(self._descriptor) if self._descriptor >= 0 else None)
        try:
            work()
        except Killed:
            return True
    return False


def test_a_prediction_that_is_killed_at_any_moment_resumes_to_the_same_bytes(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.jsonl").write_bytes(ODD)
    options: dict[str, Any] = {"on_bad_line": "skip", "block_lines": 7}
    whole, target = predicted(checkpoint, tmp_path, **options), tmp_path / "out.jsonl"
    monkeypatch.setattr(atomic_files, "_lives", lambda process: False)  # this one was killed

    def again() -> None:
        predict_file(checkpoint, tmp_path / "in.jsonl", target, resume=True, **options)

    moment, killed = 0, True
    while killed:
        moment += 1
        target.unlink(missing_ok=True)
        killed = interrupted(monkeypatch, moment, again)
        if killed:
            interrupted(monkeypatch, 1 + moment % 5, again)  # and once more
        if not target.exists() or (tmp_path / ".out.jsonl.part.json").exists():
            again()
        assert target.read_bytes() == whole, moment
        assert {path.name for path in tmp_path.iterdir()} == {"in.jsonl", "out.jsonl", "whole.jsonl"}, moment
    assert moment > 20


def test_a_bad_line_stops_and_leaves_what_is_finished(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target, part = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / ".out.jsonl.part"
    posts = b"".join(line(number) + b"\n" for number in range(4110))
    begin = ["predict", "--ckpt_path", str(checkpoint), "--input", str(source), "--output", str(target)]
    source.write_bytes(posts + b"{broken\n" + line(4110))
    assert main(begin) == 1
    error = capsys.readouterr().err
    assert f"mnerkit: {source}:4111: neither JSON" in error and "--on_bad_line skip, and go on with --resume" in error
    assert not target.exists() and [row["id"] for row in rows(part)] == [f"p{number}" for number in range(4096)]
    # not lost silently
    assert main(begin) == 2
    error = capsys.readouterr().err
    assert "holds 4096 posts" in error and "--resume" in error and "--overwrite" in error
    shutil.copytree(tmp_path, saved := tmp_path / "saved")
    # goes on with the mended input, from the block of the bad line on
    source.write_bytes(posts + line(4110))
    changed = rows(part)
    part.write_bytes(part.read_bytes().replace(b'"p0"', b'"P0"', 1))
    assert main([*begin, "--resume"]) == 0
    assert rows(target)[0]["id"] == "P0" and len(rows(target)) == 4111 and rows(target)[1:4096] == changed[1:]
    assert not part.exists()
    # or with the bad line skipped
    shutil.copy(saved / "in.jsonl", source)
    for name in (".out.jsonl.part", ".out.jsonl.part.json"):
        shutil.copy(saved / name, tmp_path)
    assert main([*begin, "--resume"]) == 2 and "exists" in capsys.readouterr().err
    target.unlink()
    assert main([*begin, "--resume", "--on_bad_line", "skip"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"4,111 posts -> {target}\n"
    assert f"1 lines can't be read; their places hold the error. The first: {source}:4111: neither" in shown.err
    assert rows(target)[4110]["line"] == 4111


def test_only_the_same_job_is_resumed(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    posts = [line(number) + b"\n" for number in range(9)]
    source.write_bytes(b"".join(posts) + b"{broken")

    def again(ckpt: Path = checkpoint, **options: Any) -> None:
        predict_file(ckpt, source, target, **{"block_lines": 3, "resume": True, **options})

    with pytest.raises(DataError, match="The 9 posts"):
        again()
    part = target.with_name(".out.jsonl.part").read_bytes()
    other = tmp_path / "other.ckpt"
    other.write_bytes(checkpoint.read_bytes() + b"\n")
    for wrong, said in (
        ({"ckpt": other}, "another checkpoint"),
        ({"dotted": {"model.head.constrain_bio": "false"}}, "another set of options"),
        ({"images": checkpoint.parent}, "another folder of pictures"),
        ({"block_lines": 4}, "another size of a block"),
        ({"resume": False}, "holds 9 posts of an unfinished prediction"),
    ):
        with pytest.raises(UsageError, match=said):
            again(**wrong)  # type: ignore[arg-type]
    source.write_bytes(b"".join([posts[1], *posts[1:]]))
    with pytest.raises(DataError, match="has changed within its first 9 lines"):
        again()
    assert target.with_name(".out.jsonl.part").read_bytes() == part
    source.write_bytes(b"".join(posts))
    target.with_name(".out.jsonl.part").write_bytes(part[:-1])
    with pytest.raises(DataError, match="shorter than it was"):
        again()
    target.with_name(".out.jsonl.part.json").write_text('{"format": 1}')
    with pytest.raises(DataError, match=r"part\.json"):
        again()
    again(resume=False, overwrite=True)
    assert target.read_bytes() == predicted(checkpoint, tmp_path, block_lines=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "other.ckpt", "out.jsonl", "whole.jsonl"]


def test_two_processes_do_not_write_one_output(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.jsonl").write_bytes(line(1))
    real, said = FileOutput.add, []

    def add(self: FileOutput, content: bytes, progress: Any) -> Any:
        with pytest.raises(MnerkitError, match="another process is writing") as problem:
            predict_file(checkpoint, tmp_path / "in.jsonl", tmp_path / "out.jsonl", overwrite=True)
        said.append(problem)
        return real(self, content, progress)

    monkeypatch.setattr(FileOutput, "add", add)
    predict_file(checkpoint, tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert len(said) == 1 and len(rows(tmp_path / "out.jsonl")) == 1


def test_columns_and_lists_have_blocks_and_bad_posts_too(checkpoint: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    columns = b"IMGID:1\nAnn\tB-PER\n\nIMGID:2\nAnn\n\nIMGID:3\n\nIMGID:4\nParis\tO\n\nParis\tO\n\nIMGID:5\nBob\tO"
    source.write_bytes(columns)
    for lines in (1, 2, 4096):
        count, remarks = predict_file(checkpoint, source, target, on_bad_line="skip", overwrite=True, block_lines=lines)
        assert count == 2
        found = rows(target)
        assert [row["id"] for row in found] == ["1", "2", "3", "4", "5"]
        assert [(row["line"], row["error"][:12]) for row in found if "error" in row] == [
            (4, "expected wor"),
            (7, "a post, IMGI"),
            (9, "the word 'Pa"),
        ]
        assert remarks[-1].startswith(f"3 lines can't be read; their places hold the error. The first: {source}:5: ")
    source.write_bytes(b"\n" + json.dumps([{"text": "Ann"}, 7, {"id": "x", "text": 8}, {"text": "Bob"}]).encode())
    predict_file(checkpoint, source, target, on_bad_line="skip", overwrite=True)
    assert [(row.get("id"), row.get("line")) for row in rows(target)] == [("1", None), (None, 2), ("x", 3), ("4", None)]
    whole = target.read_bytes()
    with pytest.raises(DataError, match=r"in\.jsonl, record 2: expected an object"):
        predict_file(checkpoint, source, target, overwrite=True, block_lines=1)
    predict_file(checkpoint, source, target, on_bad_line="skip", resume=True, block_lines=1)
    assert target.read_bytes() == whole


def test_pipes_devices_and_standard_streams_are_written_to_and_never_replaced(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    source, fifo = tmp_path / "in.jsonl", tmp_path / "pipe"
    source.write_bytes(b"".join(line(number) + b"\n" for number in range(5)))
    whole = predicted(checkpoint, tmp_path)
    begin = ["predict", "--ckpt_path", str(checkpoint), "--input"]
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    assert main([*begin, str(source), "--output", str(fifo)]) == 0
    reader.join()
    assert read == [whole] and stat.S_ISFIFO(fifo.stat().st_mode)
    assert main([*begin, str(source), "--output", "/dev/null"]) == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    capfdbinary.readouterr()
    for name in ("-", "/dev/stdout"):
        assert main([*begin, str(source), "--output", name]) == 0
        shown = capfdbinary.readouterr()
        assert shown.out == whole and f"5 posts -> {name}".encode() in shown.err
    # into a file that is open already: what stands in it stays
    log = tmp_path / "log"
    with log.open("wb") as stream:
        stream.write(b"begun\n")
        stream.flush()
        assert main([*begin, str(source), "--output", f"/dev/fd/{stream.fileno()}"]) == 0
    assert log.read_bytes() == b"begun\n" + whole
    assert main([*begin, str(source), "--output", "-", "--resume"]) == 2
    # standard input, and a pipe as input
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(source.read_bytes())))
    assert main([*begin, "-", "--output", "out.jsonl"]) == 0
    assert (tmp_path / "out.jsonl").read_bytes() == whole
    writer = threading.Thread(target=lambda: fifo.write_bytes(source.read_bytes()))
    writer.start()
    assert main([*begin, str(fifo), "--output", "out.jsonl", "--overwrite"]) == 0
    writer.join()
    assert (tmp_path / "out.jsonl").read_bytes() == whole
    # a link stays, the file that it leads to is written
    (tmp_path / "link").symlink_to("far.jsonl")
    assert main([*begin, str(source), "--output", "link"]) == 0
    assert (tmp_path / "link").is_symlink() and (tmp_path / "far.jsonl").read_bytes() == whole


def test_remarks_about_pictures_say_that_they_lack_the_posts_of_an_earlier_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fit = ["fit", "--plugin", "cross", "--name", "one", "--runs_dir", str(tmp_path / "runs"), "--data.limit", "12"]
    assert main([*fit, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]) == 0
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [json.dumps({"text": "Ann", "images": ["absent.jpg"]}).encode() + b"\n" for _ in range(3)]
    source.write_bytes(b"".join(lines) + b"{broken")
    checkpoint = tmp_path / "runs" / "cross" / "probe" / "one" / "best.ckpt"
    with pytest.raises(DataError, match=r"in\.jsonl:4: neither JSON"):
        predict_file(checkpoint, source, target, block_lines=2)
    source.write_bytes(b"".join(lines))
    count, remarks = predict_file(checkpoint, source, target, block_lines=2, resume=True)
    assert count == 3 and len(remarks) == 1
    assert remarks[0].startswith("1 picture missing, 0 broken")
    assert remarks[0].endswith("absent.jpg is missing (without the first 2 posts, which were tagged before --resume)")


def test_what_is_remembered_of_pictures_does_not_grow_with_the_posts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_loader, "MOST_REMEMBERED", 3)
    monkeypatch.setattr(picture_loader, "_contents", {})
    loader = picture_loader.PictureLoader(PictureFormat(8))
    for number in range(10):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(b"no picture %d" % number)
        assert loader.whole(ImageRef(path.name, path)) is None
    assert len(picture_loader._contents) <= 3 and len(loader._faults) <= 3
