"""One rehearsal: a run of the sweep with stand-ins for its towers and its corpus, two steps long, and its record."""

from __future__ import annotations

import gc
import json
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_json, write_text
from mnerkit.plain_yaml import yaml_text
from mnerkit.reproduce.rehearsal import sample_corpus
from mnerkit.reproduce.rehearsal.stand_in_towers import Size, stand_in
from mnerkit.reproduce.training import Training
from mnerkit.runs.config.configuration import Configuration
from mnerkit.runs.run_folder import Place
from mnerkit.strict_json import read_json

STEPS = 2
EPISODES = 1
# of a shrunk rehearsal: posts of a batch, and of each split
BATCH, POSTS = 2, 4
# of each split where supports or shares are drawn from it: every type is there often enough
DRAWN = 40
TOWERS = ("text", "vision")


@dataclass(frozen=True)
class Trial:
    """The rehearsal of a run; plain data that a process is sent.

    Attributes:
        name: digest of the run without its seed.
        training: how the run itself is trained.
        size: `shrunk` or `full`.
        folder: of all rehearsals of this size.
        first: name of the rehearsal whose file this one reads, the file, and the option that names it.
        leaves: files of the run folder that other rehearsals read.
    """

    name: str
    training: Training
    size: Size
    folder: Path
    first: tuple[str, str, str] | None = None
    leaves: tuple[str, ...] = ()

    @property
    def record_file(self) -> Path:
        """Where its record stands."""
        return self.folder / "records" / f"{self.name}.json"

    @property
    def config_file(self) -> Path:
        """The configuration of a rehearsal that failed."""
        return self.folder / "failed" / f"{self.name}.yaml"

    @property
    def command(self) -> tuple[str, ...]:
        """The command that repeats the rehearsal alone."""
        return ("fit", "--config", str(self.config_file), "--test")

    def record(self) -> dict[str, Any] | None:
        """Its record; None where it was not rehearsed, or failed."""
        try:
            return read_json(self.record_file) if self.record_file.is_file() else None
        except Exception:  # damaged: it is rehearsed again
            return None

    def do(self) -> None:
        """Rehearse, and write the record; the run folder is removed in either case."""
        from mnerkit.reproduce.rehearsal.meter import Meter, device_name
        from mnerkit.runs.fit import fit_configured

        started, worked = time.perf_counter(), time.process_time()
        whole = self.training.configuration().content
        config = self._rehearsed(whole)
        write_text(self.config_file, yaml_text(config))
        meter, place = Meter(), Place(self.name, self.folder / "work", overwrite=True, test=True)
        _start_counting()
        folder = place.folder(Configuration(config, {})).path
        try:
            fit_configured(Configuration(config, {}), place, callbacks=[meter])
            metrics = json.loads((folder / "metrics.json").read_text())
            for file in self.leaves:
                kept = self.folder / "left" / self.name / file
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / file, kept)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            gc.collect()
        data, protocol = config["data"], metrics["protocol"]
        episodes = sum((protocol.get("queries") or {}).values())
        measured = {
            "steps": meter.steps,
            "predicted": meter.predicted,
            "items": episodes or 2 * data["limit"],
            "posts": 3 * data["limit"],
            "reads": {tower: dict(reads) for tower, reads in meter.reads.items()},
            "kept": meter.kept,
            "peak": _peak(),
            "batch": None if protocol.get("train_mode") == "episodic" else data["batch_size"],
        }
        write_json(
            self.record_file,
            {
                "plugin": config["plugin"],
                "corpus": data["corpus"],
                "size": self.size,
                "device": device_name(),
                "towers": {name: whole["model"][name] for name in TOWERS if isinstance(whole["model"].get(name), str)},
                "parameters": _parameters(whole),
                "whole_batch": whole["data"]["batch_size"],
                "epochs": whole["trainer"]["max_epochs"],
                "counts": self._counts(whole, protocol),
                "measured": measured,
                "seconds": time.perf_counter() - started,
                "cpu": time.process_time() - worked,
            },
        )
        self.config_file.unlink()

    def _rehearsed(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of the rehearsal."""
        model, data, trainer = (dict(config[section]) for section in ("model", "data", "trainer"))
        texts = _texts(self.folder / "root")
        for name in TOWERS:
            if isinstance(model.get(name), str):
                model[name] = stand_in(model[name], self.size, self.folder / "towers", texts)
        data |= {"cache": str(self.folder / "cache"), "dev_episodes": EPISODES, "eval_episodes": EPISODES}
        data |= {"episodes_per_epoch": STEPS, "train_limit": None, "episode_file": None}
        if data["corpus"] != "probe":
            data |= {"root": str(self.folder / "root"), "variant": None}
            data |= {name: None for name in ("boxes", "captions") if data[name] != "none"}
        if self.first is not None:
            name, file, option = self.first
            section, _, key = option.partition(".")
            {"model": model, "data": data}[section][key] = str(self.folder / "left" / name / file)
        fewshot = data["train_types"] is not None
        if self.size == "full":
            data["limit"] = min(sample_corpus.POSTS, max(DRAWN, STEPS * data["batch_size"]))
        else:
            data |= {"workers": 0, "limit": DRAWN if fewshot or data["train_fraction"] else POSTS}
            data["batch_size"] = min(data["batch_size"], BATCH)
        if data["train_fraction"]:  # so that there are two batches of the smallest share
            data["batch_size"] = max(1, min(data["batch_size"], int(data["limit"] * data["train_fraction"]) // STEPS))
        trainer |= {"max_epochs": 1, "limit_train_batches": STEPS, "enable_progress_bar": False}
        return {**config, "model": model, "data": data, "trainer": trainer}

    def _counts(self, config: Mapping[str, Any], protocol: Mapping[str, Any]) -> dict[str, int]:
        """Steps of an epoch, and what dev and test hold of posts or episodes, with the corpus itself."""
        mode, data = protocol.get("train_mode") or "plain", {**config["data"], "relevance": None}
        return _counts_of(json.dumps(data, sort_keys=True), config["seed"], mode, bool(protocol["episodic"]))


@cache
def _texts(root: Path) -> list[str]:
    return sample_corpus.words_of(root)


@cache
def _counts_of(options: str, seed: int, mode: Any, episodic: bool) -> dict[str, int]:
    from mnerkit.data.datamodule import MnerData

    data = MnerData(seed=seed, **json.loads(options))
    data.reads_support, data.train_mode = episodic, mode
    posts = {split: len(data.posts(split)) for split in ("train", "dev", "test")}
    counts = {f"{split}_posts": number for split, number in posts.items()}
    if mode == "episodic":
        counts["steps"] = data.options.episodes_per_epoch
    else:
        counts["steps"] = math.ceil(len(data.plain_posts()) / data.options.batch_size)
    for split in ("dev", "test"):
        episodes = data.split_episodes.evaluation_numbers(split, data.episodes(split)) if data.few_shot else None
        counts[split] = posts[split] if episodes is None else len(episodes)
    return counts


_PARAMETERS: dict[tuple[Any, ...], list[int]] = {}


def _parameters(config: Mapping[str, Any]) -> list[int]:
    """Numbers of parameters of the run itself, all and trainable; runs that differ only in sizes share the first's."""
    from mnerkit.methods.parameter_counts import count

    model = config["model"]
    head = (model.get("head") or {}).get("name")
    key = (config["plugin"], config.get("ablation"), head, *(model.get(name) for name in TOWERS))
    if key not in _PARAMETERS:
        parts = count(dict(config))[0]
        _PARAMETERS[key] = [sum(part.parameters for part in parts), sum(part.trainable for part in parts)]
    return _PARAMETERS[key]


def _start_counting() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak() -> int | None:
    """The most memory of the GPU since `_start_counting`, in bytes; None without one."""
    import torch

    return int(torch.cuda.max_memory_reserved()) if torch.cuda.is_available() else None
