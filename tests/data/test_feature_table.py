"""The table of features on disk: what comes back is what was put, or nothing; and the disk never stops a run."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnerkit.data.features import table as tables
from mnerkit.data.features.table import MainMemory, Table
from mnerkit.data.features.table_files import (
    HEAD,
    MAGIC,
    RECORD,
    ROWS,
    VECTORS,
    folder_digest,
    read_description,
    rows_done,
)

READING = {"weights": "w", "view": "text"}
UNIT = 4


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def vectors(number: int) -> np.ndarray:
    """What belongs to `key(number)`: one to three vectors, every value telling the number."""
    return number + np.arange((1 + number % 3) * UNIT, dtype=np.float32).reshape(-1, UNIT) / 16


def read(table: Table, number: int) -> np.ndarray | None:
    """The row of `key(number)`."""
    count = len(vectors(number))
    rows = table.find(key(number), count, UNIT)
    out = np.full((count, UNIT), np.nan, table.dtype)
    table.gather([rows], np.array([[count]]), [count], out)
    return None if rows is None else out


def same(table: Table, number: int) -> bool:
    row = read(table, number)
    return row is not None and row.tobytes() == vectors(number).tobytes()


def put(table: Table, *numbers: int) -> None:
    for number in numbers:
        assert table.put(key(number), vectors(number))
    table.close()


def filled(root: Path, numbers: range = range(5)) -> Table:
    table = Table(root, READING, "a tower")
    put(table, *numbers)
    return table


def folder_of(root: Path) -> Path:
    return root / folder_digest(READING)


def shard_files(root: Path) -> list[Path]:
    return sorted(folder_of(root).glob("shard-*.table"))


def run(code: str, *argv: object) -> subprocess.Popen[str]:
    """Another process that has `key`, `vectors`, `put` and `Table`."""
    begin = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_feature_table import *\n"
    command = [sys.executable, "-c", begin + textwrap.dedent(code), *map(str, argv)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# ------------------------------------------------------------------ round trips


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6), st.integers(1, 5), st.data())
def test_a_batch_is_gathered_part_by_part_from_disk_and_memory(
    tmp_path_factory: pytest.TempPathFactory, counts: list[tuple[int, int]], unit: int, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("table")
    table = Table(root, READING)
    rows = [np.random.default_rng(n).random((sum(count), unit), np.float32) for n, count in enumerate(counts)]
    given_rows = [number for number, count in enumerate(counts) if sum(count)]
    for number in given_rows:
        table.usable = data.draw(st.booleans())  # else it goes to main memory
        assert table.put(key(number), rows[number])
    found = [table.find(key(n), sum(count), unit) if sum(count) else None for n, count in enumerate(counts)]
    widths = [4, 3]
    out = np.full((len(counts) * sum(widths), unit), np.nan, np.float32)
    table.gather(found, np.array(counts).T, widths, out)
    first, second = np.split(out, [len(counts) * 4])
    for number, (row, count) in enumerate(zip(rows, counts, strict=True)):
        for part, width, expected in ((first, 4, row[: count[0]]), (second, 3, row[count[0] :])):
            mine = part.reshape(len(counts), width, unit)[number]
            assert mine[: len(expected)].tobytes() == expected.tobytes() and not mine[len(expected) :].any()
    table.close()


def test_another_reading_is_another_folder(tmp_path: Path) -> None:
    table = filled(tmp_path)
    other = Table(tmp_path, {**READING, "weights": "x"})
    assert other.folder != table.folder and key(0) not in other and read(other, 0) is None
    description = json.loads((folder_of(tmp_path) / "reading.json").read_text())
    assert description == {"about": "a tower", "reading": READING}


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    table = Table(tmp_path / "features", READING)
    assert key(0) not in table and not (tmp_path / "features").exists()


def test_half_precision_takes_half_the_space(tmp_path: Path) -> None:
    put(Table(tmp_path / "half", READING, half=True), 1)
    filled(tmp_path / "full", range(1, 2))
    half, full = (shard_files(tmp_path / name)[0].stat().st_size - VECTORS for name in ("half", "full"))
    assert 2 * half == full
    again = Table(tmp_path / "half", READING, half=True)
    row = read(again, 1)
    assert row is not None and row.dtype == np.float16 and np.array_equal(row, vectors(1).astype(np.float16))
    assert key(1) not in Table(tmp_path / "half", READING), "other numbers are damage"


def test_rows_have_their_place_on_the_disk_before_they_are_computed(tmp_path: Path) -> None:
    table = Table(tmp_path, READING)
    numbers = range(20)
    table.reserve([key(number) for number in numbers], [len(vectors(number)) for number in numbers], UNIT)
    (path,) = shard_files(tmp_path)
    size = path.stat()
    assert size.st_size == VECTORS + (1 + sum(len(vectors(number)) for number in numbers)) * UNIT * 4
    assert size.st_blocks * 512 >= size.st_size, "not a hole"
    assert table.reserved(key(3)) and key(3) not in table and len(table) == 0 and rows_done(path) == 0
    put(table, 3)
    assert key(3) in Table(tmp_path, READING) and rows_done(path) == 1 and path.stat().st_size == size.st_size


def test_many_rows_make_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, range(50))
    put(Table(tmp_path, READING), *range(50, 60))
    assert len(shard_files(tmp_path)) == 1, "a shard takes the rows of several runs"
    monkeypatch.setattr(tables, "ROWS", 64)
    table = filled(tmp_path, range(60, 130))
    assert len(shard_files(tmp_path)) == 3, "60 + 4, 64 and 2"
    again = Table(tmp_path, READING)
    assert len(again) == len(table) == 130 and all(same(again, number) for number in range(130))


def test_vectors_of_another_length_make_another_shard(tmp_path: Path) -> None:
    table = filled(tmp_path, range(2))
    assert table.put(key(7), np.ones((1, 9), np.float32)) and len(shard_files(tmp_path)) == 2
    assert table.find(key(7), 1, 9) is not None and same(table, 1)


def test_main_memory_takes_no_more_than_its_limit() -> None:
    main = MainMemory(100)  # reached by the third row of 48 bytes
    table = Table(None, READING, main=main)
    assert [table.put(key(number), vectors(number)) for number in (2, 5, 8, 11)] == [True, True, True, False]
    assert main.used == 144, "the row with which the limit is reached is the last"
    assert not table.room and len(table) == 3 and same(table, 5) and read(table, 11) is None


# ------------------------------------------------------------------ other processes


def test_rows_of_others_are_noticed(tmp_path: Path) -> None:
    mine, theirs = Table(tmp_path, READING), Table(tmp_path, READING)
    for number in range(4):
        assert key(number) not in mine
        put(theirs, number)
        assert same(mine, number)
        put(mine, number + 10)
        assert same(theirs, number + 10)
    assert len(shard_files(tmp_path)) == 1


def test_shards_are_noticed_where_clocks_are_coarse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = filled(tmp_path, range(1)), Table(tmp_path, READING)
    assert key(1) not in mine
    before = folder_of(tmp_path).stat()
    monkeypatch.setattr(tables, "ROWS", 1)  # the next row makes a new shard
    put(theirs, 1)
    os.utime(folder_of(tmp_path), ns=(before.st_atime_ns, before.st_mtime_ns))
    assert len(shard_files(tmp_path)) == 2 and key(1) in mine


def test_a_forked_worker_sees_what_its_parent_writes(tmp_path: Path) -> None:
    table = filled(tmp_path, range(3))
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(ready, 1)
        os._exit(0 if same(table, 1) and same(table, 7) else 1)
    put(table, 7)
    os.write(done, b"x")
    assert os.waitpid(child, 0)[1] == 0
    for end in (ready, done):
        os.close(end)


FILL = """
    table = Table(Path(sys.argv[1]), READING)
    numbers = range(int(sys.argv[2]), int(sys.argv[3]))
    tables.ROWS = 64
    table.reserve([key(number) for number in numbers], [len(vectors(number)) for number in numbers], UNIT)
    print("go", flush=True)
    put(table, *numbers)
"""


def test_two_processes_fill_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [run(FILL, tmp_path, *bounds) for bounds in ((0, 200), (100, 300))]
    assert [process.wait() for process in both] == [0, 0]
    for process in both:
        process.communicate()
    table = Table(tmp_path, READING)
    assert len(table) == 300 and all(same(table, number) for number in range(300))
    assert sum(rows_done(path) for path in shard_files(tmp_path)) == 300, "each is there once"
    assert not list(folder_of(tmp_path).glob(".*"))


def test_a_fill_that_is_killed_is_gone_on_with(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filling = run(FILL, tmp_path, 0, 20_000)
    assert filling.stdout is not None and filling.stdout.readline() == "go\n"
    time.sleep(0.1)
    filling.send_signal(signal.SIGKILL)
    assert filling.wait() == -signal.SIGKILL
    filling.communicate()
    sizes = [path.stat().st_size for path in shard_files(tmp_path)]
    table = Table(tmp_path, READING)
    there = [number for number in range(20_000) if key(number) in table]
    assert 0 < len(there) < 20_000 and all(same(table, number) for number in there)
    assert table.reserved(key(19_999)), "the rest has its place"
    put(table, 19_999)
    assert same(Table(tmp_path, READING), 19_999) and not caplog.records
    assert [path.stat().st_size for path in shard_files(tmp_path)] == sizes


@pytest.mark.parametrize("moment", ["record", "head", "vectors", "digest"])
def test_a_kill_at_any_write_leaves_nothing_half_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    table = filled(tmp_path, range(3))
    shard = table._shards[0]
    write, left = type(shard)._write, ["record", "head", "vectors", "digest"].index(moment)

    def killed(self: Any, content: Any, place: int) -> None:
        nonlocal left
        if left == 0:
            write(self, memoryview(content)[: len(memoryview(content)) // 2], place)
            raise KeyboardInterrupt
        left -= 1
        write(self, content, place)

    monkeypatch.setattr(type(shard), "_write", killed)
    with pytest.raises(KeyboardInterrupt):
        table.put(key(4), vectors(4))
    monkeypatch.undo()
    again = Table(tmp_path, READING)
    assert read(again, 4) is None or same(again, 4)
    put(again, 4, 5)
    after = Table(tmp_path, READING)
    assert all(same(after, number) for number in (4, 5))
    if moment != "digest":  # half a digest is damage: the shard is dropped
        assert not caplog.records and all(same(after, number) for number in range(3))


def test_an_input_is_claimed_by_one_process(tmp_path: Path) -> None:
    code = """
        table = Table(Path(sys.argv[1]), READING)
        table.reserve([key(1), key(2)], [len(vectors(n)) for n in (1, 2)], UNIT)
        with table.claim(key(1)) as ours:
            print(ours, flush=True)
            sys.stdin.read()
    """
    other = run(code, tmp_path)
    assert other.stdout is not None and other.stdout.readline() == "True\n"
    table = Table(tmp_path, READING)
    for number, free in ((1, False), (2, True)):
        with table.claim(key(number)) as ours:
            assert ours is free
    other.kill()
    other.communicate()
    with table.claim(key(1)) as ours:
        assert ours, "the claim ends with the process"
    table.close()


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO, errno.ENOLCK, errno.EAGAIN])
def test_without_locks_each_process_has_its_own_shards(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr("fcntl.lockf", refuse)
    monkeypatch.setattr(tables, "PATIENCE", 0.0)
    mine, theirs = Table(tmp_path, READING), Table(tmp_path, READING)
    put(mine, 1, 2)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    put(theirs, 3, 4)
    assert len(shard_files(tmp_path)) == 2
    monkeypatch.undo()
    put(Table(tmp_path, READING), 5)
    again = Table(tmp_path, READING)
    assert all(same(again, number) for number in range(1, 6)) and len(shard_files(tmp_path)) == 3


# ------------------------------------------------------------------ damage


def flip(path: Path, place: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= bit
    path.write_bytes(content)


@settings(max_examples=150)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.booleans(), st.booleans())
def test_damage_gives_the_right_row_or_none(
    tmp_path_factory: pytest.TempPathFactory, share: float, bit: int, cut: bool, start: bool
) -> None:
    root = tmp_path_factory.mktemp("damage")
    filled(root, range(3))
    (path,) = shard_files(root)
    size = path.stat().st_size
    # most of the file is records that nobody uses
    places = [*range(HEAD.size + 4 * RECORD.size), *range(VECTORS, size)]
    place = places[int(share * len(places))] if start else int(share * size)
    if cut:
        path.write_bytes(path.read_bytes()[:place])
    else:
        flip(path, place, 1 << bit)
    again = Table(root, READING)
    for number in range(3):
        assert read(again, number) is None or same(again, number)
    put(again, *(number for number in range(3) if read(again, number) is None))
    after = Table(root, READING)
    assert all(same(after, number) for number in range(3))


def test_a_damaged_shard_is_dropped_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROWS", 2)
    filled(tmp_path, range(6))
    for path in shard_files(tmp_path)[:2]:
        flip(path, -1)
    again = Table(tmp_path, READING)
    assert len(again) == 6, "damage shows when a row is read"
    found = [same(again, number) for number in range(6)]
    assert found.count(False) in (2, 3, 4) and len(shard_files(tmp_path)) == 1 and len(again) == 2
    assert len(caplog.records) == 1 and "computed again" in caplog.text


def head(magic: bytes = MAGIC, unit: int = UNIT, itemsize: int = 4, shared: int = 1, rows: int = 1) -> bytes:
    return HEAD.pack(magic, unit, itemsize, shared, rows)


def record(count: int = 1) -> bytes:
    return RECORD.pack(bytes.fromhex(key(0)), b"x" * 32, count)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 10,
        head(),
        *(each.ljust(VECTORS, b"\0") + bytes(64) for each in (
            b"", head(b"mnerkit\x02"), head(unit=0), head(unit=1 << 31), head(itemsize=2), head(itemsize=0),
            head(rows=ROWS + 1), head(rows=1 << 63), head(), head() + record(0), head() + record(1 << 63),
            head() + record(1 << 40), head(rows=2) + record((1 << 63) - 1) + record((1 << 63) - 1), head() + record(4),
        )),
        (head() + record()).ljust(VECTORS, b"\0") + b"\1" * 64,
        b"\x80\x04cos\nsystem\n".ljust(VECTORS + 64, b"."),
    ],
)  # fmt: skip
def test_a_hostile_shard_is_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    filled(tmp_path, range(2))
    path = folder_of(tmp_path) / f"shard-{'0' * 32}.table"
    path.write_bytes(content)
    rows_done(path)
    again = Table(tmp_path, READING)
    assert all(same(again, number) for number in range(2))
    assert len(caplog.records) == 1 and not path.exists()


def test_a_row_that_agrees_with_itself_and_has_another_shape_is_damage(tmp_path: Path) -> None:
    filled(tmp_path, range(1, 3))
    for wrong in (np.zeros((5, UNIT), np.float32), np.zeros((1, 9), np.float32)):
        Table(tmp_path, READING).put(key(0), wrong)
        again = Table(tmp_path, READING)
        assert key(0) in again and read(again, 0) is None and key(0) not in again


def test_what_is_put_in_place_of_a_row_of_another_shape_comes_back(tmp_path: Path) -> None:
    Table(tmp_path, READING).put(key(0), np.zeros((5, UNIT), np.float32))
    put(Table(tmp_path, READING), 0)
    assert same(Table(tmp_path, READING), 0)


def test_padding_that_is_not_zero_is_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path)
    flip(shard_files(tmp_path)[0], VECTORS + 3)
    assert key(1) not in Table(tmp_path, READING) and "padding" in caplog.text and not shard_files(tmp_path)


def test_a_row_under_another_key_is_damage(tmp_path: Path) -> None:
    filled(tmp_path, range(1))
    (path,) = shard_files(tmp_path)
    content = bytearray(path.read_bytes())
    content[HEAD.size : HEAD.size + 32] = bytes.fromhex(key(3))
    path.write_bytes(content)
    again = Table(tmp_path, READING)
    assert key(3) in again and read(again, 3) is None


def test_a_pipe_named_as_a_shard_is_not_waited_for(tmp_path: Path) -> None:
    filled(tmp_path, range(1))
    os.mkfifo(folder_of(tmp_path) / f"shard-{'0' * 32}.table")
    assert same(Table(tmp_path, READING), 0)


def test_a_folder_of_another_tower_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path)
    folder = folder_of(tmp_path)
    (folder / "reading.json").write_text(json.dumps({"about": "other", "reading": {**READING, "weights": "x"}}))
    before = sorted((path, path.read_bytes()) for path in folder.iterdir())
    again = Table(tmp_path, READING)
    assert key(0) not in again and not again.usable
    put(again, 9)
    assert same(again, 9) and sorted((path, path.read_bytes()) for path in folder.iterdir()) == before
    assert len(caplog.records) == 1 and "cache of another tower" in caplog.text


def test_a_lost_or_damaged_description_is_written_again(tmp_path: Path) -> None:
    filled(tmp_path)
    (folder_of(tmp_path) / "reading.json").write_text("{")
    table = filled(tmp_path, range(5, 6))
    assert read_description(folder_of(tmp_path)) is not None and same(table, 0)


def test_drafts_of_earlier_releases_without_a_process_go_once_they_are_old(tmp_path: Path) -> None:
    filled(tmp_path)
    drafts = [folder_of(tmp_path) / f".shard-{letter * 32}.part" for letter in "ab"]
    for draft in drafts:
        draft.write_bytes(b"half")
    os.utime(drafts[0], (0, 0))
    Table(tmp_path, READING)
    assert [draft.exists() for draft in drafts] == [False, True]


# ------------------------------------------------------------------ a disk that takes nothing


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("at", ["_allocate", "draft", "_Shard._write"])
def test_a_disk_that_takes_nothing_is_reported_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int, at: str
) -> None:
    table = filled(tmp_path, range(2))

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tables, "ROWS", 2 if at == "draft" else ROWS)
    monkeypatch.setattr(f"mnerkit.data.features.table.{at}", full)
    put(table, *range(2, 6))
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING
    assert os.strerror(number) in caplog.text and not table.usable
    assert all(same(table, number) for number in range(6)), "what is there is still read; the rest is in main memory"


def test_a_disk_that_fills_up_leaves_a_shard_that_is_whole(tmp_path: Path) -> None:
    code = """
        import resource
        table = filled(Path(sys.argv[1]), range(2))
        resource.setrlimit(resource.RLIMIT_FSIZE, (VECTORS + 2000, VECTORS + 2000))
        put(table, *range(2, 2000))
        print(table.usable, all(same(table, number) for number in range(2000)))
    """
    said, warned = run(code, tmp_path).communicate()
    assert said == "False True\n" and warned.count("\n") == 1 and "can't be written" in warned
    assert len(shard_files(tmp_path)) == 1 and not list(folder_of(tmp_path).glob(".*"))
    again = Table(tmp_path, READING)
    assert 2 < len(again) < 2000 and all(same(again, number) for number in range(len(again)))


def test_room_that_does_not_suffice_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = filled(tmp_path)
    (path,) = shard_files(tmp_path)
    size = path.stat().st_size

    def full(descriptor: int, wanted: int) -> None:
        os.ftruncate(descriptor, wanted - 1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tables, "_allocate", full)
    put(table, 7)
    assert path.stat().st_size == size and not table.usable and all(same(table, number) for number in (0, 7))


def test_a_new_shard_that_the_disk_has_no_room_for_leaves_no_file(tmp_path: Path) -> None:
    code = """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        print(same(filled(Path(sys.argv[1]), range(2)), 1))
    """
    said, warned = run(code, tmp_path).communicate()
    assert said == "True\n" and warned.count("\n") == 1 and "can't be written" in warned
    assert [path.name for path in folder_of(tmp_path).iterdir()] == ["reading.json"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where it may not")
def test_a_folder_that_may_not_be_written_is_read(tmp_path: Path) -> None:
    filled(tmp_path)
    modes: list[tuple[Path, int]] = [(folder_of(tmp_path), 0o555), *((path, 0o444) for path in shard_files(tmp_path))]
    for path, mode in modes:
        path.chmod(mode)
    table = Table(tmp_path, READING)
    put(table, 9)
    assert not table.usable and all(same(table, number) for number in (0, 9))
    folder_of(tmp_path).chmod(0o755)


def test_a_file_in_place_of_the_folder_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "features").write_text("")
    table = filled(tmp_path / "features")
    assert not table.usable and len(caplog.records) == 1 and same(table, 0)


def test_a_folder_that_was_cleared_in_between_is_made_again(tmp_path: Path) -> None:
    table = filled(tmp_path, range(2))
    for path in folder_of(tmp_path).iterdir():
        path.unlink()
    folder_of(tmp_path).rmdir()
    put(table, 5)
    assert table.usable and same(table, 5) and same(Table(tmp_path, READING), 5)


def test_a_shard_that_is_cleared_while_rows_are_reserved_stops_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table, append = Table(tmp_path, READING), tables._Shard.append
    table.put(key(1), vectors(1))

    def cleared(shard: Any, rows: Any) -> int:
        reserved = append(shard, rows)
        shard.path.unlink()
        return reserved

    monkeypatch.setattr(tables._Shard, "append", cleared)
    assert table.put(key(2), vectors(2)) and same(table, 2) and same(table, 1)
    assert "features stay in memory" in caplog.text


def test_counting_rows_needs_no_numpy(tmp_path: Path) -> None:
    filled(tmp_path)
    (path,) = shard_files(tmp_path)
    assert rows_done(path) == 5 and rows_done(tmp_path / "none") == 0
    code = "import sys, mnerkit.data.features.cache_folder, mnerkit.cli.cache; "
    code += "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
