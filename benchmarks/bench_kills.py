"""Commands that are cut off at any moment go on to the same result: `make bench-kills N=50 COMMAND=fit`.

A command first runs undisturbed. Then, N times, it begins anew, meets a fault at a random moment, and the same command
is given again:

kill        SIGKILL to all its processes
term        SIGTERM: exit code 143, and one line
interrupt   SIGINT to all its processes (Ctrl-C): exit code 130, and one line
full        its disk is full after a random number of bytes (ENOSPC on a tmpfs; without the right to mount one, files
            may not grow beyond a random size: EFBIG): exit code 1, and one line
read-only   its folders can't be written from a random moment on (EACCES): exit code 1, and one line

What must hold then: no traceback, the same files as undisturbed, the same figures, predictions, weights, curves and
boxes, and no lock or half-written file. Of `cache` the fault meets the feature cache alone; a run goes on without it,
and what it kept is right. Runs that were complete before a sweep was cut off are not touched.

Each moment is a line of COMMAND.jsonl in `--folder`; what is there is not done again, so that the same command goes on.
Processes are forked from a server that has torch imported. Exit code 1 when something does not hold.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import csv
import ctypes
import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench_sweep_kills as sweep

from mnerkit.atomic_files import write_json
from mnerkit.cli import main as mnerkit_main
from mnerkit.runs.run_folder import RunFolder
from mnerkit.text_table import table

RESULTS = Path(__file__).resolve().parent / "results" / "kills.json"
FAULTS = ("kill", "term", "interrupt", "full", "read-only")
# while Python starts and ends, the system's own handling of a signal ends it: shells report 143 and 130 then, too
CODES = {
    "kill": (-signal.SIGKILL,),
    "term": (143, -signal.SIGTERM),
    "interrupt": (130, -signal.SIGINT),
    "full": (1,),
    "read-only": (1,),
}
PRELOADED = (
    *("mnerkit", "mnerkit.runs.fit", "mnerkit.runs.build", "mnerkit.runs.predict", "mnerkit.cli.method_verbs"),
    *("mnerkit.cli.data", "mnerkit.cli.reproduce", "mnerkit.towers.vision.detectors", "mnerkit.data.batches.inputs"),
    *("transformers.models.detr.modeling_detr", "transformers.models.vit.modeling_vit"),
)
NAMESPACE = "MNERKIT_KILLS_NAMESPACE"  # set in the process that has mounts of its own
MOST = 1 << 30  # bytes of the disk
PATIENCE = 120.0  # seconds until a process must have ended
SMALL = ("--data.limit", "60", "--data.batch_size", "8", "--trainer.enable_progress_bar", "false")

# ---------------------------------------------------------------------- commands


@dataclass(frozen=True)
class Places:
    """Folders: `disk` meets the faults, `beside` does not, `inputs` is read."""

    disk: Path
    beside: Path
    inputs: Path


@dataclass(frozen=True)
class Command:
    """A command, and what it leaves.

    Attributes:
        words: the command.
        result: what of its files must be equal, by name.
        prepare: writes what it reads.
    """

    words: Callable[[Places], list[str]]
    result: Callable[[Places], dict[str, Any]]
    prepare: Callable[[Path], None] = lambda inputs: None


def fit_words(runs: Path, plugin: str, *more: str) -> list[str]:
    """A training in `runs`."""
    return ["fit", "--plugin", plugin, *SMALL, "--test", "--name", "one", "--runs_dir", str(runs), *more]


def run_result(runs: Path) -> dict[str, Any]:
    """Figures, predictions, weights and curve of the run in `runs`; nothing where there is none."""
    from mnerkit.methods.checkpoint import content_digest, read

    found: dict[str, Any] = {}
    for folder in sorted(runs.glob("*/*/one")):
        run = RunFolder(folder)
        with (folder / "curve" / "metrics.csv").open(newline="") as stream:
            rows = [{name: row[name] for name in row if "seconds" not in name} for row in csv.DictReader(stream)]
        found |= {
            "figures": {**run.metrics(), "seconds": None},
            "weights": content_digest(read(run.best)["state_dict"]),
            "curve": [row for row in rows if row.get("dev/f1")],
            "files": names(folder),
        }
        found |= {path.name: digest(path) for path in sorted(folder.glob("predictions.*.jsonl"))}
    return found


def cache_result(places: Places) -> dict[str, Any]:
    """The run, and what the feature cache holds of each input."""
    from mnerkit.data.features.table import Table
    from mnerkit.data.features.table_files import read_description

    entries: dict[str, str] = {}
    for path in sorted(places.disk.rglob("*.table")):
        description = read_description(path.parent)
        if description is not None:
            rows = Table(path.parents[1], description["reading"])
            for key, (shard, row) in rows._index.items():
                if shard.done(row):
                    shard.verify(row)
                    vectors = shard.vectors[shard.firsts[row] :][: shard.counts[row]]
                    entries[key.hex()] = hashlib.sha256(vectors.tobytes()).hexdigest()
    return {**run_result(places.beside), "entries": entries}


def sweep_result(places: Places) -> dict[str, Any]:
    """Figures of all runs, and the tables."""
    out = places.disk / "out"
    files = [out / "report" / f"tables/{sweep.NAME}.{kind}" for kind in ("md", "tex")]
    return {
        "runs": {name: state.figures for name, state in sweep.states(out).items()},
        "cells": json.loads((out / sweep.NAME / "table.json").read_text("utf-8"))["cells"],
        "files": names(out),
        **{path.name: digest(path) for path in files},
    }


def file_result(name: str) -> Callable[[Places], dict[str, Any]]:
    """One file, and that there is no other."""
    return lambda places: {"bytes": digest(places.disk / name), "files": names(places.disk)}


def write_sweep(inputs: Path) -> None:
    """An experiment of four short runs."""
    text = sweep.SWEEP.replace("[0.0, 0.1, 0.2, 0.3]", "[0.0, 0.2]")
    profile = sweep.PROFILE.replace("data.limit: 120, trainer.max_epochs: 4", "data.limit: 24, trainer.max_epochs: 2")
    for path, content in {f"{sweep.NAME}.yaml": text, "profiles/short.yaml": profile}.items():
        (inputs / "experiments" / path).parent.mkdir(parents=True, exist_ok=True)
        (inputs / "experiments" / path).write_text(content, "utf-8")


def write_posts(inputs: Path) -> None:
    """A checkpoint, and some thousand posts."""
    with contextlib.redirect_stdout(sys.stderr):
        assert mnerkit_main(fit_words(inputs / "runs", "bilstm", "--trainer.max_epochs", "1")) == 0
    draw, words = random.Random(0), ("Ann", "sees", "Paris", "with", "the", "team", "of", "ACME", "today")
    rows = ({"id": str(number), "text": " ".join(draw.choices(words, k=draw.randint(1, 20)))} for number in range(2000))
    (inputs / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_detector(inputs: Path) -> None:
    """A tiny DETR with random weights."""
    import torch
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessor, ResNetConfig

    torch.manual_seed(0)
    layers = {f"{part}_layers": 1 for part in ("encoder", "decoder")} | {"d_model": 16, "num_queries": 6}
    inner = {
        f"{part}_{what}": 2 * size
        for part in ("encoder", "decoder")
        for what, size in (("ffn_dim", 8), ("attention_heads", 1))
    }
    sizes: dict[str, Any] = {**layers, **inner, "use_timm_backbone": False, "backbone": None, "num_labels": 3}
    stages: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4}
    stages |= {"layer_type": "basic", "out_features": ["stage4"]}
    config = DetrConfig(backbone_config=ResNetConfig(**stages), **sizes)
    DetrForObjectDetection(config).save_pretrained(inputs / "detr")
    DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(inputs / "detr")


def write_tower(inputs: Path) -> None:
    """A small ViT with random weights."""
    import torch
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    ViTModel(ViTConfig(patch_size=8, image_size=24, num_hidden_layers=2, **sizes)).save_pretrained(inputs / "vit")


COMMANDS = {
    "fit": Command(
        lambda at: fit_words(at.disk / "runs", "bert", "--trainer.max_epochs", "4", "--model.head.dropout", "0.2"),
        lambda at: run_result(at.disk / "runs"),
    ),
    "reproduce": Command(
        lambda at: [
            *("reproduce", "--experiments", str(at.inputs / "experiments"), "--profile", "short"),
            *("--out", str(at.disk / "out"), "--jobs", "2"),
        ],
        sweep_result,
        write_sweep,
    ),
    "objects": Command(
        lambda at: [
            *("data", "objects", "probe", "--limit", "60", "--detector", str(at.inputs / "detr"), "--score", "0"),
            *("--batch_size", "2", "--out", str(at.disk / "boxes.jsonl")),
        ],
        file_result("boxes.jsonl"),
        write_detector,
    ),
    "predict": Command(
        lambda at: [
            *("predict", "--ckpt_path", str(at.inputs / "runs" / "bilstm" / "probe" / "one" / "best.ckpt"), "--resume"),
            *("--input", str(at.inputs / "posts.jsonl"), "--output", str(at.disk / "out.jsonl")),
        ],
        file_result("out.jsonl"),
        write_posts,
    ),
    "cache": Command(
        lambda at: fit_words(
            *(at.beside, "cross", "--trainer.max_epochs", "1", "--model.vision", str(at.inputs / "vit")),
            *("--model.freeze_vision", "true", "--data.cache", str(at.disk / "cache")),
        ),
        cache_result,
        write_tower,
    ),
}


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------------- a process


def server() -> Any:
    """A context of processes that begin with torch and the methods imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def work(ready: Any, words: Sequence[str], log: Path, largest: int | None) -> None:
    """Run a command in a process group of its own, as a user without the rights of root would.

    Args:
        ready: where to say that the command begins.
        words: the command.
        log: what it prints.
        largest: bytes that a file may have.
    """
    os.setsid()
    for stream in (1, 2):
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    give_up_rights()
    from mnerkit.data.features import table as feature_table
    from mnerkit.reproduce.executors import local
    from mnerkit.runs import predict

    feature_table.ROWS = 20  # so that a small cache takes several files
    defaults: Any = predict.predict_file.__kwdefaults__
    defaults["block_lines"] = 256  # and a small prediction several blocks
    fork = multiprocessing.get_context("fork")
    local.multiprocessing.get_context = lambda method=None: fork  # type: ignore[assignment]  # of a sweep's workers
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    ready.send(os.getpid())
    code = 1
    try:
        code = mnerkit_main(list(words))
        atexit._run_exitfuncs()  # a forked process would leave them out
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def give_up_rights() -> None:
    """Where this process is root's, let it obey the modes of files (capabilities DAC_OVERRIDE, DAC_READ_SEARCH)."""
    if os.geteuid() != 0:
        return
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    if library.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    for place in (0, 1):  # effective, permitted
        sets[place] &= ~0b110
    if library.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")


@dataclass
class Trial:
    """A process, from its begin to its end.

    Attributes:
        code: exit code; minus the signal that killed it.
        seconds: how long it took.
        peak: largest number of bytes on the disk.
    """

    code: int
    seconds: float
    peak: int = 0


def tried(
    words: Sequence[str], log: Path, disk: Path, fault: Callable[[int], None] | None = None, **limits: Any
) -> Trial:
    """Run a command to its end; `fault` is called with its process number once it has begun."""
    context = server()
    here, there = context.Pipe()
    process = context.Process(target=work, args=(there, words, log, limits.get("largest")))
    process.start()
    group = here.recv()
    started, peak = time.monotonic(), 0
    if fault is not None:
        fault(group)
    while process.is_alive() and time.monotonic() - started < PATIENCE:
        peak = max(peak, used(disk))
        process.join(0.02)
    seconds = time.monotonic() - started
    lives = process.is_alive()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    process.join()
    sweep._wait_for(group)
    return Trial(-1000 if lives else process.exitcode, seconds, peak)


# ---------------------------------------------------------------------- a disk


def used(disk: Path) -> int:
    """Bytes that are taken of the file system of a folder."""
    about = os.statvfs(disk)
    return (about.f_blocks - about.f_bfree) * about.f_frsize


def resize(mount: Path, size: int) -> None:
    """Let a tmpfs hold so many bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(mount)], check=True)


def own_mounts() -> bool:
    """Whether this process may mount a tmpfs, in a namespace that goes with it; begins it anew in one where it can."""
    if NAMESPACE in os.environ:
        return os.environ[NAMESPACE] == "1"
    for options in (["--mount"], ["--mount", "--map-root-user"]):
        command = ["unshare", *options, "--"]
        with tempfile.TemporaryDirectory() as name, contextlib.suppress(OSError):
            if subprocess.run([*command, "mount", "-t", "tmpfs", "none", name], capture_output=True).returncode == 0:
                os.environ[NAMESPACE] = "1"
                os.execvp("unshare", [*command, sys.executable, *sys.argv])
    os.environ[NAMESPACE] = "0"
    return False


def modes(folder: Path, mode: int) -> None:
    """Change the mode of a folder and those below it."""
    for path in (*(path for path in folder.rglob("*") if path.is_dir()), folder):
        path.chmod(mode)


# ---------------------------------------------------------------------- moments


@dataclass
class Bench:
    """The moments of one command.

    Attributes:
        name: of the command.
        places: its folders.
        log: what its processes print.
        mounted: whether `places.disk` is a tmpfs.
        whole: its undisturbed result, seconds and peak of bytes.
    """

    name: str
    places: Places
    log: Path
    mounted: bool
    whole: dict[str, Any]

    @property
    def command(self) -> Command:
        return COMMANDS[self.name]

    def clear(self) -> None:
        """Empty the folders, and the log."""
        if self.mounted:
            resize(self.places.disk, MOST)
        for folder in (self.places.disk, self.places.beside):
            if folder.is_dir():
                modes(folder, 0o755)
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.log.write_text("")

    def undisturbed(self) -> None:
        """Run the command alone."""
        self.clear()
        trial = tried(self.command.words(self.places), self.log, self.places.disk)
        if trial.code:
            raise SystemExit(f"{self.name} ended with {trial.code}:\n{self.log.read_text()[-3000:]}")
        result = self.command.result(self.places)
        self.whole = {"result": result, "seconds": trial.seconds, "peak": trial.peak}

    def moment(self, number: int, seed: int) -> dict[str, Any]:
        """Meet a fault at a random moment, go on, and look at what there is then."""
        draw = random.Random(f"{seed} {self.name} {number}")
        fault, share = draw.choice(FAULTS), draw.random()
        words = self.command.words(self.places)
        while True:
            self.clear()
            base = used(self.places.disk)
            with self.fault(fault, share, base) as (act, limits):
                trial = tried(words, self.log, self.places.disk, act, **limits)
            if trial.code != 0 or self.name == "cache" or share < 0.01:
                break
            share /= 2  # it ended before the fault
        printed = self.log.read_text("utf-8", "replace")
        wrong = self.wrong_end(fault, trial.code, printed)
        before = sweep.states(self.places.disk / "out") if self.name == "reproduce" else {}
        self.log.write_text("")
        again = tried(words, self.log, self.places.disk)
        wrong += self.wrong_result(again, before)
        return {
            **{"number": number, "seed": seed, "fault": fault, "share": round(share, 4), "exit": trial.code},
            **{"seconds": round(trial.seconds, 2), "again": round(again.seconds, 2), "wrong": wrong},
            "printed": [line for line in printed.splitlines() if line.startswith("mnerkit: ")][-1:],
        }

    @contextlib.contextmanager
    def fault(self, kind: str, share: float, base: int) -> Iterator[tuple[Callable[[int], None], dict[str, Any]]]:
        """What is done to a process that has begun, and limits that it begins with; undone when the block ends."""
        seconds, disk = share * self.whole["seconds"], self.places.disk
        limits: dict[str, Any] = {}
        free = int(share * (self.whole["peak"] - base) * 1.1)
        if kind == "full" and not self.mounted:
            limits["largest"] = int(share * max(1, self.whole["peak"]))
        if kind == "full" and self.mounted:
            resize(disk, base + max(4096, free))

        def act(group: int) -> None:
            if kind == "full":
                return
            time.sleep(seconds)
            with contextlib.suppress(ProcessLookupError):
                if kind == "kill":
                    os.killpg(group, signal.SIGKILL)
                elif kind == "term":
                    os.kill(group, signal.SIGTERM)
                elif kind == "interrupt":
                    os.killpg(group, signal.SIGINT)
                else:
                    modes(disk, 0o555)

        try:
            yield act, limits
        finally:
            modes(disk, 0o755)
            if self.mounted:
                resize(disk, MOST)

    def wrong_end(self, fault: str, code: int, printed: str) -> list[str]:
        """What is wrong with how the command ended."""
        wrong = []
        tolerated = (0,) if self.name == "cache" and fault in ("full", "read-only") else ()
        if code not in (*CODES[fault], *tolerated) and not (code == 0 and self.name == "cache"):
            wrong.append(f"exit code {code}, not {CODES[fault][0]}")
        if "Traceback" in printed:
            wrong.append(f"a traceback: {printed[printed.index('Traceback') :].splitlines()[-1]}")
        if code > 0 and not any(line.startswith(("mnerkit: ", "failed: ")) for line in printed.splitlines()):
            wrong.append("no line that says why")
        return wrong

    def wrong_result(self, again: Trial, before: dict[str, Any]) -> list[str]:
        """What is wrong once the same command has been given again."""
        printed = self.log.read_text("utf-8", "replace")
        # a kill after the last step leaves the whole file, which the same command does not replace
        over = self.name == "predict" and again.code == 2 and f"{self.places.disk / 'out.jsonl'} exists" in printed
        wrong = []
        if again.code and not over:
            wrong.append(f"again: exit code {again.code}: {printed[-300:].strip()}")
        if "Traceback" in printed:
            wrong.append("again: a traceback")
        try:
            result = self.command.result(self.places)
        except Exception as problem:
            return [*wrong, f"no result: {type(problem).__name__}: {problem}"]
        wanted = dict(self.whole["result"])
        if self.name == "cache":  # a cache that could not be written holds less, and nothing else
            kept, all_of_them = result.pop("entries"), wanted.pop("entries")
            wrong += [f"cache: entry {key[:8]} differs" for key in kept if all_of_them.get(key) != kept[key]]
        wrong += [f"another {name}" for name in {**wanted, **result} if wanted.get(name) != result.get(name)]
        if self.name == "reproduce":
            after = sweep.states(self.places.disk / "out")
            wrong += [f"{name}: touched" for name in before if sweep._touched(name, before, after)]
        hidden = [path for folder in (self.places.disk, self.places.beside) for path in folder.rglob(".*")]
        return wrong + [f"left behind: {path.name}" for path in hidden]


def bench_of(name: str, folder: Path, mounted: bool) -> Bench:
    """The bench of a command, with its undisturbed result."""
    places = Places(folder / "disk", folder / f"beside-{name}", folder / f"inputs-{name}")
    if not (folder / f"{name}.prepared").exists():
        shutil.rmtree(places.inputs, ignore_errors=True)
        places.inputs.mkdir(parents=True)
        COMMANDS[name].prepare(places.inputs)
        (folder / f"{name}.prepared").touch()
    bench = Bench(name, places, folder / f"{name}.log", mounted, {})
    bench.undisturbed()
    seconds = [bench.whole["seconds"]]
    result = bench.whole["result"]
    bench.undisturbed()  # so that a result that changes by itself is no fault, and the time is that of a warm machine
    if bench.whole["result"] != result:
        raise SystemExit(f"{name}: two undisturbed runs differ")
    print(f"{name}: undisturbed in {seconds[0]:.1f} and {bench.whole['seconds']:.1f} s", flush=True)
    return bench


def rows_of(file: Path, seed: int) -> dict[int, dict[str, Any]]:
    """The moments of a seed that were done."""
    lines = file.read_text("utf-8").split("\n") if file.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("}")]
    return {row["number"]: row for row in rows if row["seed"] == seed}


def summary(rows: dict[str, list[dict[str, Any]]]) -> str:
    """A row for each command and fault."""
    cells = []
    for name, moments in rows.items():
        for fault in FAULTS:
            of = [row for row in moments if row["fault"] == fault]
            bad = sum(bool(row["wrong"]) for row in of)
            cells.append([name, fault, str(len(of)), str(len(of) - bad), str(bad)])
        bad = sum(bool(row["wrong"]) for row in moments)
        cells.append([name, "all", str(len(moments)), str(len(moments) - bad), str(bad)])
    return table(["command", "fault", "moments", "same result", "other"], cells)


def main() -> int:
    """Do what is left of the moments, and print what all of them gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", choices=(*COMMANDS, "all"), default="all", help="which (default: all)")
    parser.add_argument("--moments", type=int, default=10, help="of each command (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and faults (default: 0)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mnerkit-kills", help="results")
    parser.add_argument("--seconds", type=float, help="begin no moment after so many seconds")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {RESULTS.name}")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # begun in the background, it would ignore interrupts
    mounted = own_mounts()
    folder: Path = options.folder.resolve()
    (folder / "disk").mkdir(parents=True, exist_ok=True)
    if mounted:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MOST}", "none", str(folder / "disk")], check=True)
    end = time.monotonic() + (options.seconds or float("inf"))
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in COMMANDS if options.command == "all" else (options.command,):
        file = folder / f"{name}.jsonl"
        left = [number for number in range(options.moments) if number not in rows_of(file, options.seed)]
        bench = bench_of(name, folder, mounted) if left and time.monotonic() < end else None
        for number in left:
            if bench is None or time.monotonic() > end:
                break
            row = bench.moment(number, options.seed)
            with file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
            print(f"{name} {number}: {row['fault']} -> {'; '.join(row['wrong']) or 'the same result'}", flush=True)
        done = rows_of(file, options.seed)
        rows[name] = [done[number] for number in sorted(done) if number < options.moments]
    print(summary(rows))
    missing = sum(options.moments - len(moments) for moments in rows.values())
    if missing:
        print(f"{missing} moments are left: the same command goes on")
    if options.write:
        kept = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
        write_json(RESULTS, {**kept, **{name: counts(moments, options.seed) for name, moments in rows.items()}})
    return int(bool(missing) or any(row["wrong"] for moments in rows.values() for row in moments))


def counts(moments: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """How many moments of each fault gave the same result, and what the others gave."""
    by_fault = {fault: [row for row in moments if row["fault"] == fault] for fault in FAULTS}
    return {
        "seed": seed,
        "moments": {fault: len(rows) for fault, rows in by_fault.items()},
        "same": {fault: sum(not row["wrong"] for row in rows) for fault, rows in by_fault.items()},
        "wrong": [row for row in moments if row["wrong"]],
    }


if __name__ == "__main__":
    sys.exit(main())
