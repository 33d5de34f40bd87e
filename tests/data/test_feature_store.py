"""The feature cache on disk: what comes back is what was put, or nothing; and the disk never stops a run."""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import logging
import os
import pickle
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors import safe_open
from safetensors.numpy import save_file

from mnerkit.data.features import feature_store, shards
from mnerkit.data.features.feature_store import FeatureStore, folder_digest
from mnerkit.data.features.shards import entry_digest

READING = {"weights": "w", "view": "text"}
SHAPES = {"words": (3, 4), "pooled": (4,)}


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def entry(number: int) -> dict[str, np.ndarray]:
    """What belongs to `key(number)`: every value tells the number."""
    words = number + np.arange(12, dtype=np.float32).reshape(3, 4) / 16
    return {"words": words, "pooled": words[0] / 2}


def same(found: dict[str, np.ndarray] | None, number: int) -> bool:
    return found is not None and all(found[part].tobytes() == value.tobytes() for part, value in entry(number).items())


def filled(root: Path, numbers: range = range(5), each_alone: bool = False) -> FeatureStore:
    store = FeatureStore(root, READING, "a tower")
    for number in numbers:
        store.put(key(number), entry(number))
        if each_alone:
            store.flush()
    store.flush()
    return store


def shard_files(store: FeatureStore) -> list[Path]:
    return sorted(store.folder.glob("shard-*.safetensors"))


def run(code: str, *argv: object) -> subprocess.Popen[str]:
    """Another process that has `key`, `entry` and `FeatureStore`."""
    begin = f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_feature_store import *\n"
    command = [sys.executable, "-c", begin + textwrap.dedent(code), *map(str, argv)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# ------------------------------------------------------------------ round trips


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.integers(0, 99),
        st.dictionaries(
            st.sampled_from(["words", "pooled", "regions"]),
            arrays(np.float32, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)),
            min_size=1,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_put_comes_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, entries) -> None:
    root = tmp_path_factory.mktemp("store")
    store = FeatureStore(root, READING)
    for number, parts in entries.items():
        store.put(key(number), parts)
    for flush in (False, True):
        if flush:
            store.flush()
        for reader in (store, FeatureStore(root, READING)) if flush else (store,):
            assert len(reader) == len(entries)
            for number, parts in entries.items():
                found = reader.get(key(number), {name: value.shape for name, value in parts.items()})
                assert found is not None and found.keys() == parts.keys()
                for name, value in parts.items():
                    assert found[name].shape == value.shape and found[name].tobytes() == value.tobytes()


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    with safe_open(shard_files(filled(tmp_path))[0], "np") as theirs:
        assert len(list(theirs.keys())) == 10 and len(theirs.metadata()) == 5
        assert np.array_equal(theirs.get_tensor(f"{key(3)}.words"), entry(3)["words"])


def test_another_reading_is_another_folder(tmp_path: Path) -> None:
    store = filled(tmp_path)
    other = FeatureStore(tmp_path, {**READING, "weights": "x"})
    assert other.folder != store.folder and key(0) not in other and other.get(key(0), SHAPES) is None
    said = json.loads((store.folder / "reading.json").read_text())
    assert said == {"about": "a tower", "reading": READING} and folder_digest(READING) == store.folder.name


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features", READING)
    assert key(0) not in store and not (tmp_path / "features").exists()


def test_what_is_read_can_be_changed_without_changing_the_file(tmp_path: Path) -> None:
    store = FeatureStore(filled(tmp_path).folder.parent, READING)
    found = store.get(key(1), SHAPES)
    assert found is not None
    found["words"][:] = 0
    assert same(FeatureStore(tmp_path, READING).get(key(1), SHAPES), 1)


# ------------------------------------------------------------------ gathering, merging, other processes


def test_many_small_entries_make_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path, READING)
    for number in range(500):
        store.put(key(number), entry(number))
    assert not store.folder.exists() and len(store) == 500
    store.flush()
    store.flush()
    assert len(shard_files(store)) == 1
    monkeypatch.setattr(feature_store, "SHARD_BYTES", 64 * 10)
    for number in range(500, 525):
        store.put(key(number), entry(number))
    assert len(shard_files(store)) == 3, "ten entries of 64 bytes fill a shard"


def test_what_was_gathered_is_written_when_the_store_is_let_go(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, READING)
    store.put(key(1), entry(1))
    del store
    gc.collect()
    assert same(FeatureStore(tmp_path, READING).get(key(1), SHAPES), 1)


def test_what_was_gathered_is_written_when_the_process_ends(tmp_path: Path) -> None:
    done = run("kept = FeatureStore(Path(sys.argv[1]), READING); kept.put(key(1), entry(1))", tmp_path)
    assert done.wait() == 0
    assert same(FeatureStore(tmp_path, READING).get(key(1), SHAPES), 1)


def test_a_forked_worker_reads_and_does_not_write_what_its_parent_gathered(tmp_path: Path) -> None:
    store = filled(tmp_path, range(3))
    store.put(key(7), entry(7))
    child = os.fork()
    if child == 0:
        good = same(store.get(key(1), SHAPES), 1) and same(store.get(key(7), SHAPES), 7)
        store.flush()
        os._exit(0 if good and len(shard_files(store)) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    store.flush()
    assert len(shard_files(store)) == 2


def test_a_pickled_store_opens_the_folder_for_itself(tmp_path: Path) -> None:
    store = filled(tmp_path, range(2))
    store.put(key(7), entry(7))
    again = pickle.loads(pickle.dumps(store))
    assert same(again.get(key(1), SHAPES), 1) and key(7) not in again


def test_shards_of_others_are_noticed(tmp_path: Path) -> None:
    mine, theirs = FeatureStore(tmp_path, READING), FeatureStore(tmp_path, READING)
    for number in range(4):
        assert key(number) not in mine
        theirs.put(key(number), entry(number))
        theirs.flush()
        assert same(mine.get(key(number), SHAPES), number)


def test_shards_are_noticed_where_clocks_are_coarse(tmp_path: Path) -> None:
    mine, theirs = filled(tmp_path, range(1)), FeatureStore(tmp_path, READING)
    assert key(1) not in mine
    before = mine.folder.stat()
    theirs.put(key(1), entry(1))
    theirs.flush()
    os.utime(mine.folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert key(1) in mine


def test_small_shards_become_one_while_others_read_them(tmp_path: Path) -> None:
    store = filled(tmp_path, range(20), each_alone=True)
    assert len(shard_files(store)) == 20 and key(19) in store
    again = FeatureStore(tmp_path, READING)
    assert len(shard_files(store)) == 1
    for reader in (store, again):
        assert all(same(reader.get(key(number), SHAPES), number) for number in range(20))


def test_merging_leaves_a_damaged_shard_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = filled(tmp_path, range(20), each_alone=True)
    flip(shard_files(store)[0], -1)
    again = FeatureStore(tmp_path, READING)
    found = [again.get(key(number), SHAPES) for number in range(20)]
    assert sum(each is None for each in found) == 1 and len(shard_files(store)) == 1
    assert all(each is None or same(each, number) for number, each in enumerate(found))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


FILL = """
    feature_store.SHARD_BYTES = 64 * 7
    store = FeatureStore(Path(sys.argv[1]), READING)
    print("go", flush=True)
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        store.put(key(number), entry(number))
"""


def test_two_processes_fill_at_once(tmp_path: Path) -> None:
    both = [run(FILL, tmp_path, *bounds) for bounds in ((0, 200), (100, 300))]
    assert [process.wait() for process in both] == [0, 0]
    store = FeatureStore(tmp_path, READING)
    assert len(store) == 300 and all(same(store.get(key(number), SHAPES), number) for number in range(300))
    assert not list(store.folder.glob(".*"))


def test_a_fill_that_is_killed_leaves_nothing_half_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for attempt in range(3):
        filling = run(FILL, tmp_path, attempt * 100_000, (attempt + 1) * 100_000)
        assert filling.stdout is not None and filling.stdout.readline() == "go\n"
        time.sleep(0.15 + 0.1 * attempt)
        filling.send_signal(signal.SIGKILL)
        assert filling.wait() == -signal.SIGKILL
    store = FeatureStore(tmp_path, READING)
    there = [number for number in range(300_000) if key(number) in store]
    assert there and all(same(store.get(key(number), SHAPES), number) for number in there)
    assert not caplog.records


def test_a_shard_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path, READING)
    store.put(key(0), entry(0))

    def killed(draft: Path, path: Path) -> None:
        if path.suffix != ".safetensors":
            return replaced(draft, path)
        assert not path.exists() and shards.Shard(draft).keys == [key(0)], "whole before it has its name"
        raise KeyboardInterrupt

    replaced = os.replace
    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        store.flush()
    assert [path.name for path in store.folder.iterdir()] == ["reading.json"]


def test_drafts_of_earlier_releases_without_a_process_go_once_they_are_old(tmp_path: Path) -> None:
    store = filled(tmp_path)
    drafts = [store.folder / f".shard-{letter * 32}.part" for letter in "ab"]
    for draft in drafts:
        draft.write_bytes(b"half")
    os.utime(drafts[0], (0, 0))
    FeatureStore(tmp_path, READING)
    assert [draft.exists() for draft in drafts] == [False, True]


# ------------------------------------------------------------------ damage


def flip(path: Path, place: int, bit: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= bit
    path.write_bytes(content)


@settings(max_examples=150)
@given(st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.booleans())
def test_damage_gives_the_right_entry_or_none(
    tmp_path_factory: pytest.TempPathFactory, share: float, bit: int, cut: bool
) -> None:
    root = tmp_path_factory.mktemp("damage")
    store = filled(root, range(2))
    (path,) = shard_files(store)
    place = int(share * path.stat().st_size)
    if cut:
        path.write_bytes(path.read_bytes()[:place])
    else:
        flip(path, place, 1 << bit)
    again = FeatureStore(root, READING)
    for number in range(2):
        found = again.get(key(number), SHAPES)
        assert found is None or same(found, number)
    for number in range(2):
        if again.get(key(number), SHAPES) is None:
            again.put(key(number), entry(number))
    again.flush()
    after = FeatureStore(root, READING)
    assert all(same(after.get(key(number), SHAPES), number) for number in range(2))


def test_a_damaged_shard_is_dropped_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = filled(tmp_path, range(6), each_alone=True)
    for path in shard_files(store)[:2]:
        flip(path, -1)
    again = FeatureStore(tmp_path, READING)
    assert len(again) == 6, "damage shows when an entry is read"
    assert sum(again.get(key(number), SHAPES) is None for number in range(6)) == 2
    assert len(shard_files(store)) == 4 and len(again) == 4
    assert len(caplog.records) == 1 and "computed again" in caplog.text


def hostile(folder: Path, header: object, data: bytes = b"", length: int | None = None) -> None:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = struct.pack("<Q", len(content) if length is None else length)
    (folder / f"shard-{'0' * 32}.safetensors").write_bytes(size + content + data)


ARRAY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "length"),
    [
        (b"", b"", 0),
        (b"{}", b"", 1 << 62),
        (b"{}" + b" " * 100, b"", (32 << 20) + 1),
        (b"[" * 100_000, b"", None),
        (b"\xff\xfe", b"", None),
        ([1, 2], b"", None),
        ({f"{key(0)}.words": ARRAY}, bytes(8), None),
        ({f"{key(0)}.words": ARRAY, "__metadata__": {key(1): "x"}}, bytes(8), None),
        *(({f"{key(0)}.words": ARRAY, "__metadata__": said}, bytes(8), None) for said in (None, 3, [[1]], [key(0)])),
        ({f"{key(0)}.words": ARRAY, "__metadata__": {key(0): 5}}, bytes(8), None),
        ({f"{key(0)}.words": ARRAY, "__metadata__": {key(0): "x"}}, bytes(7), None),
        ({f"{key(0)}.words": {**ARRAY, "shape": [1 << 60, 1 << 60]}, "__metadata__": {key(0): "x"}}, bytes(8), None),
        ({f"{key(0)}.words": {**ARRAY, "shape": [-2]}, "__metadata__": {key(0): "x"}}, bytes(8), None),
        ({f"{key(0)}.words": {**ARRAY, "data_offsets": [-8, 0]}, "__metadata__": {key(0): "x"}}, bytes(8), None),
        ({f"{key(0)}.words": {**ARRAY, "dtype": "I32"}, "__metadata__": {key(0): "x"}}, bytes(8), None),
        ({f"{key(0)}.words": {**ARRAY, "shape": [1] * 50}, "__metadata__": {key(0): "x"}}, bytes(8), None),
        ({"weight": ARRAY}, bytes(8), None),
    ],
)
def test_a_hostile_shard_is_damage(tmp_path: Path, caplog, header: object, data: bytes, length: int | None) -> None:
    store = filled(tmp_path, range(2))
    hostile(store.folder, header, data, length)
    again = FeatureStore(tmp_path, READING)
    assert all(same(again.get(key(number), SHAPES), number) for number in range(2))
    assert len(caplog.records) == 1 and not (store.folder / f"shard-{'0' * 32}.safetensors").exists()


def test_a_shard_that_agrees_with_itself_and_has_another_shape_is_damage(tmp_path: Path) -> None:
    folder = filled(tmp_path, range(1, 3)).folder
    wide = {"words": np.zeros((3, 9), np.float32), "pooled": np.zeros(9, np.float32)}
    tensors = {f"{key(0)}.{part}": array for part, array in wide.items()}
    save_file(tensors, folder / f"shard-{'0' * 32}.safetensors", {key(0): entry_digest(key(0), wide)})
    again = FeatureStore(tmp_path, READING)
    assert key(0) in again and again.get(key(0), SHAPES) is None and key(0) not in again
    assert same(again.get(key(1), SHAPES), 1)


def test_an_entry_under_another_key_is_damage(tmp_path: Path) -> None:
    folder = filled(tmp_path, range(1)).folder
    tensors = {f"{key(5)}.{part}": array for part, array in entry(0).items()}
    save_file(tensors, folder / f"shard-{'0' * 32}.safetensors", {key(5): entry_digest(key(0), entry(0))})
    assert FeatureStore(tmp_path, READING).get(key(5), SHAPES) is None


def test_a_pipe_called_shard_is_not_waited_for(tmp_path: Path) -> None:
    folder = filled(tmp_path, range(1)).folder
    os.mkfifo(folder / f"shard-{'0' * 32}.safetensors")
    assert same(FeatureStore(tmp_path, READING).get(key(0), SHAPES), 0)


def test_a_folder_of_another_tower_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = filled(tmp_path).folder
    (folder / "reading.json").write_text(json.dumps({"about": "other", "reading": {**READING, "weights": "x"}}))
    before = sorted(folder.iterdir())
    again = FeatureStore(tmp_path, READING)
    assert key(0) not in again and not again.usable
    again.put(key(9), entry(9))
    again.flush()
    assert sorted(folder.iterdir()) == before
    assert len(caplog.records) == 1 and "cache of another tower" in caplog.text


def test_a_lost_or_damaged_description_is_written_again(tmp_path: Path) -> None:
    folder = filled(tmp_path).folder
    (folder / "reading.json").write_text("{")
    store = filled(tmp_path, range(5, 6))
    assert feature_store.read_description(folder) is not None and same(store.get(key(0), SHAPES), 0)


# ------------------------------------------------------------------ a disk that takes nothing


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int
) -> None:
    store = filled(tmp_path, range(2))

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(feature_store, "write_shard", full)
    for each in range(2, 6):
        store.put(key(each), entry(each))
        store.flush()
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING
    assert os.strerror(number) in caplog.text and not store.usable
    assert same(store.get(key(0), SHAPES), 0), "what is there is still read"


def test_a_disk_that_fills_up_in_the_middle_of_a_file_leaves_no_file(tmp_path: Path) -> None:
    code = """
        import resource
        store = filled(Path(sys.argv[1]), range(2))
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        for number in range(2, 2000):
            store.put(key(number), entry(number))
        store.flush()
        print(store.usable, same(store.get(key(1), SHAPES), 1))
    """
    done = run(code, tmp_path)
    said, warned = done.communicate()
    assert said == "False True\n" and warned.count("\n") == 1 and "can't be written" in warned
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.iterdir())) == 2


def test_a_file_in_place_of_the_folder_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "features").write_text("")
    store = filled(tmp_path / "features")
    assert not store.usable and len(caplog.records) == 1 and store.get(key(0), SHAPES) is None


def test_a_folder_that_was_cleared_in_between_is_made_again(tmp_path: Path) -> None:
    store = filled(tmp_path, range(2))
    for path in store.folder.iterdir():
        path.unlink()
    store.folder.rmdir()
    store.put(key(5), entry(5))
    store.flush()
    assert store.usable and same(FeatureStore(tmp_path, READING).get(key(5), SHAPES), 5)


def test_counting_entries_needs_no_numpy(tmp_path: Path) -> None:
    (path,) = shard_files(filled(tmp_path))
    assert shards.count(path) == 5 and shards.count(tmp_path / "none") == 0
    code = "import sys, mnerkit.data.features.cache_folder, mnerkit.cli.cache; "
    code += "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("code", [errno.EINVAL, errno.EIO, errno.ENOLCK, errno.EAGAIN])
def test_where_no_lock_is_to_be_had_nobody_tidies(code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fcntl.flock", refuse)
    with feature_store._alone(tmp_path) as alone:
        assert not alone
