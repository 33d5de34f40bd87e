"""`mnerkit fit`, `validate` and `test`."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from mnerkit import registry
from mnerkit.atomic_files import write_json
from mnerkit.errors import MnerkitError, UsageError
from mnerkit.runs import configuration, read_files
from mnerkit.runs.configuration import Request
from mnerkit.runs.run_folder import RunFolder
from mnerkit.runs.summary import summary

# warnings of Lightning about what is meant to be so
QUIET = (
    ".*does not have many workers.*",
    ".*args parameter is intended.*",
    ".*Checkpoint directory.*",
    ".*smaller than the logging interval.*",
    ".*predict returned None.*",
    ".*in eval mode.*",
    ".*LeafSpec.*",
    ".*across ranks is necessary.*",
    ".*recommended to use `self.log.*sync_dist.*",
)


def quiet() -> None:
    """Silence what is no user's business: transformers and Lightning say much; the hub gets no telemetry."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for message in QUIET:
        warnings.filterwarnings("ignore", message=message)


def main(request: Request) -> int:
    """Run one of the verbs."""
    quiet()
    return fit(request) if request.verb == "fit" else score(request)


def fit(request: Request) -> int:
    """Train, or continue training, and score the best checkpoint on dev (and once on test with `--test`)."""
    configuration.resolve(request)
    loggers, folder = _loggers(request), folder_of(request)
    with _writing(folder):
        overwrite = bool(request.flags.get("overwrite"))
        state = folder.start(request.config, overwrite) if _is_first() else folder.follow(overwrite)
        if state != "done":
            return _train(request, folder, loggers, state)
    known = folder.metrics()
    read_files.check_finished(folder)
    if request.flags.get("test") and "test" not in known:
        return score(Request("test", {"ckpt_path": str(folder.best)}))
    if _is_first():
        print(f"already finished: {folder.path} (--overwrite trains it again)")
        print(summary(known))
    return 0


def _is_first() -> bool:
    """Whether this process is the first of its run; before Lightning knows, the launchers' variables tell."""
    return all(int(os.environ.get(name) or 0) == 0 for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


def _writing(folder: RunFolder) -> contextlib.AbstractContextManager[None]:
    """Keeps other processes out of a run's folder; the first rank does it for all."""
    return folder.writing() if _is_first() else contextlib.nullcontext()


def _train(request: Request, folder: RunFolder, loggers: list[str], state: str) -> int:
    """Train a `new` run, or continue one (`resume`), and score it."""
    config = request.config
    cells: dict[str, Any] = {}
    splits = ("dev", "test") if request.flags.get("test") else ("dev",)
    started = time.time()
    from mnerkit.methods import checkpoint, wandb_logging
    from mnerkit.runs.build import Assembly
    from mnerkit.runs.curve import carry_on

    try:
        if "wandb" in loggers:
            config, cells = wandb_logging.account(config, folder.path.parts[-2])
        assembly = Assembly.of(config, folder, loggers, curve=True)
        assembly.prepare()
        # here, so that types, shots or files that can't be scored are refused before hours of training
        for split in splits:
            assembly.data.posts(split)
        assembly.data.check_seen()
        protocol = assembly.data.protocol()
        files = read_files.files_of(assembly)
        if state == "resume":
            read_files.check_resumed(folder, files)
    except MnerkitError:
        if state == "new" and _is_first():  # a mistake leaves no run behind, and its name free
            shutil.rmtree(folder.path, ignore_errors=True)
        raise
    trainer, method, data = assembly.trainer, assembly.method, assembly.data
    if _is_first():
        print(f"{'continuing' if state == 'resume' else 'run'} {folder.path}", flush=True)
        noted = {"files": [each._asdict() for each in files]}
        write_json(folder.path / "env.json", environment(config, trainer) | noted)
    if cells:
        wandb_logging.note(trainer.loggers, cells=cells)
    ready = time.time()
    if method.trainable_parameters():
        done = _epochs(folder.last) if state == "resume" else None
        if done is not None and trainer.is_global_zero:
            carry_on(trainer.loggers, done)
        last = None if done is None else folder.last
        trainer.fit(method, data, ckpt_path=last, weights_only=True)
    else:
        assembly.settle(folder)
    trained = time.time()
    if trainer.interrupted:
        raise KeyboardInterrupt
    method.load_weights(checkpoint.read(folder.best)["state_dict"])
    metrics: dict[str, Any] = {
        "plugin": config["plugin"],
        "ablation": config.get("ablation"),
        "seed": request.seed,
        "epochs": trainer.current_epoch,
        "best_epoch": assembly.best_epoch(),
        "selected_by": assembly.selected_by(),
        "parameters": method.trainable_parameters(),
        "protocol": protocol,
        **method.noted,
    }
    for split in splits:
        metrics |= assembly.score(split, folder)
    metrics["looks_at_test"] = int("test" in metrics)
    method.leave(trainer, data, folder.path)
    metrics["seconds"] = {
        "prepare": round(ready - started, 2),
        "train": round(trained - ready, 2),
        "score": round(time.time() - trained, 2),
    }
    if trainer.is_global_zero:
        assembly.log_final(metrics)
        write_json(folder.metrics_file, metrics)
        print(summary(metrics))
        print(f"run {folder.path}")
    return 0


def _epochs(last: Path) -> int | None:
    """How many epochs a checkpoint holds from which a run can go on; None without one.

    A damaged one is told of, and the run begins anew.
    """
    from mnerkit.errors import CheckpointError
    from mnerkit.methods import checkpoint

    if not last.is_file():
        return None
    try:
        return int(checkpoint.read(last)["epoch"]) + 1
    except CheckpointError as problem:
        if _is_first():
            print(f"mnerkit: {problem}; the run begins anew", file=sys.stderr)
        return None


def score(request: Request) -> int:
    """Score a checkpoint on dev or test, on its own corpus or another one."""
    if "ckpt_path" not in request.flags:
        raise UsageError(f"`mnerkit {request.verb}` needs --ckpt_path FILE (best.ckpt of a run folder)")
    from mnerkit.methods import checkpoint

    content = checkpoint.read(request.flags["ckpt_path"])
    own = content["mnerkit"]["config"]
    configuration.resolve(request, base=own)
    path = Path(request.flags["ckpt_path"])
    folder = RunFolder(path if path.is_dir() else path.parent)
    if not folder.finished:  # scores are kept in the folders of finished runs alone
        return _score(request, content, folder, keep=False)
    with _writing(folder):
        return _score(request, content, folder, keep=True)


def _score(request: Request, content: dict[str, Any], run: RunFolder, keep: bool) -> int:
    """Score a checkpoint's `content`; `keep`: add the scores to those in the folder of its run."""
    from mnerkit.methods import checkpoint
    from mnerkit.runs.build import Assembly

    own = content["mnerkit"]["config"]
    assembly = Assembly.of(request.config, None, [], curve=False)
    checkpoint.restore(assembly.method, content, request.flags.get("tower_dir"))
    assembly.connect()
    split = "dev" if request.verb == "validate" else "test"
    if split == "test":
        assembly.check_unseen()
    assembly.data.posts(split)  # with these, objects are looked for
    others = read_files.changed(run, assembly, own)
    folder = run if keep else None
    known = folder.metrics() if folder is not None else {}
    changed = {key: request.config.get(key) for key in ("data", "model") if request.config.get(key) != own.get(key)}
    if others:
        changed["files"] = {each.option: each.content for each in others}
    key = (
        split
        if not changed
        else f"{split}@{assembly.data.protocol()['corpus']}-{configuration.digest({'data': changed})}"
    )
    found = assembly.score(split, folder, key)
    if assembly.trainer.is_global_zero:
        for each in others:
            print(
                f"mnerkit: {each.file} (--{each.option}) is not what it was when the run was trained; scores as {key}",
                file=sys.stderr,
            )
        if folder is not None:
            if split == "test":
                found["looks_at_test"] = int(known.get("looks_at_test", 0)) + 1
            if changed:
                found[f"{key}:protocol"] = assembly.data.protocol()
            write_json(folder.metrics_file, {**known, **found})
        print(summary({**({"plugin": own["plugin"]}), **found}))
        if folder is not None:
            print(f"run {folder.path}")
    return 0


def folder_of(request: Request) -> RunFolder:
    """Where a resolved request's run lies: by plugin, corpus and variant, and its name or what tells it from others."""
    config = request.config
    data = config.get("data") or {}
    corpus = Path(str(data.get("corpus", "probe"))).name or "corpus"
    variant = data.get("variant")
    name = request.flags.get("name") or config.get("name") or f"{configuration.digest(config)}-s{request.seed}"
    if Path(name).name != name or name.startswith("."):
        raise UsageError(f"--name {name!r} must be a plain folder name")
    root = Path(request.flags.get("runs_dir", "runs"))
    return RunFolder(root / config["plugin"] / (f"{corpus}-{variant}" if variant else corpus) / name)


def _loggers(request: Request) -> list[str]:
    given = request.flags.get("logger") or request.config.get("logger") or "csv"
    asked = [str(each) for each in given] if isinstance(given, list) else str(given).strip("[]").split(",")
    if unknown := [each for each in asked if each not in ("csv", "wandb")]:
        raise UsageError(f"no logger {unknown[0]!r}; loggers: csv (always written), wandb")
    return asked


def environment(config: dict[str, Any], trainer: Any) -> dict[str, Any]:
    """Versions, device and source digest: what a figure depends on besides its configuration."""
    import hashlib
    from importlib.metadata import PackageNotFoundError, version

    import torch

    import mnerkit

    sources = sorted(Path(mnerkit.__file__).parent.rglob("*.py")) + sorted(
        registry.get(config["plugin"]).folder.glob("*.py")
    )
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    packages = {}
    for name in ("torch", "lightning", "transformers", "pytorch-crf", "torchvision", "numpy", "pillow"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    return {
        "mnerkit": mnerkit.__version__,
        "source_digest": digest,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "world_size": trainer.world_size,
        "precision": str(trainer.precision),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }
