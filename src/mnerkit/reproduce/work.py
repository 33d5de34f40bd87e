"""What a process of a sweep does: it trains a run, or computes a figure of one.

Both are plain data that other processes and machines can be sent, and both know the command that does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mnerkit.runs import draw, fit
from mnerkit.runs.config.configuration import Configuration, resolve
from mnerkit.runs.run_folder import Place


class Work(Protocol):
    """Something to be done."""

    @property
    def command(self) -> tuple[str, ...]:
        """The command of mnerkit that does it, from its verb on."""
        ...

    def do(self) -> object:
        """Do it, in this process."""
        ...


@dataclass(frozen=True)
class Training:
    """A run to be trained and scored on test: layers of its configuration, and where it is kept.

    Attributes:
        plugin: name of the method; None: the one that a file names.
        ablation: a named set of overrides of the plugin.
        files: configuration files.
        options: values by dotted name (`model.head.distance`); that of `model.head` is the head's name.
        seed: of weights, data order and episodes; None: that of the files.
        dashboard: a configuration file with the settings of the W&B dashboard; it decides no figure.
        place: where the run is kept; the command leaves it out where it has no name.
    """

    plugin: str | None = None
    ablation: str | None = None
    files: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    dashboard: str | None = None
    place: Place = field(default_factory=Place)

    def configuration(self) -> Configuration:
        """All layers merged and checked.

        Raises:
            UsageError: an unknown name, or a value that its option does not take.
        """
        files = (*self.files, self.dashboard) if self.dashboard else self.files
        values = nested({**self.options, "trainer.enable_progress_bar": False})
        return resolve(self.plugin, files=files, ablation=self.ablation, values=values, seed=self.seed)

    @property
    def command(self) -> tuple[str, ...]:
        """The command that trains it, from `fit` on."""
        given: list[tuple[str, Any]] = [("plugin", self.plugin), ("ablation", self.ablation)]
        given += [("config", file) for file in self.files]
        words = [word for name, value in given if value is not None for word in (f"--{name}", value)]
        words += [word for name, value in self.options.items() for word in (f"--{name}", text_of(value))]
        words += [] if self.seed is None else ["--seed", str(self.seed)]
        words += ["--test", "--trainer.enable_progress_bar", "false"]
        words += ["--config", self.dashboard] if self.dashboard else []
        if self.place.name is not None:
            words += ["--runs_dir", str(self.place.runs_dir), "--name", self.place.name]
        return ("fit", *words, *(["--overwrite"] if self.place.overwrite else []))

    def do(self) -> object:
        """Train it, or continue it."""
        return fit.fit_configured(self.configuration(), self.place)


@dataclass(frozen=True)
class Drawing:
    """A figure of a run that takes a network, to be computed and kept in the run's folder."""

    kind: str
    run: Path
    split: str

    @property
    def command(self) -> tuple[str, ...]:
        """The command that computes it, from `draw` on."""
        return ("draw", self.kind, str(self.run), "--split", self.split, "--overwrite")

    def do(self) -> object:
        """Compute it."""
        return draw.keep(self.kind, self.run, self.split)


def nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by dotted name as the sections of a configuration."""
    sections: dict[str, Any] = {}
    for name, value in options.items():
        *path, key = ("model.head.name" if name == "model.head" else name).split(".")
        section = sections
        for part in path:
            section = section.setdefault(part, {})
        section[key] = value
    return sections


def text_of(value: Any) -> str:
    """A value as a word of a command."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(text_of, value)) + "]"
    return str(value)
