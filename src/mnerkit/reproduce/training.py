"""How a run of a sweep is trained: plain data that other processes and machines can be sent, and its command.

And options by their dotted names, in layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonargparse import Namespace

from mnerkit.runs import fit, run_folder
from mnerkit.runs.config.configuration import Configuration, resolve
from mnerkit.runs.run_folder import Place


@dataclass(frozen=True)
class Training:
    """A run to be trained and scored on test: layers of its configuration, and its place.

    Attributes:
        plugin: name of the method; None: the one that a file names.
        ablation: a named set of overrides of the plugin.
        files: configuration files.
        options: values by dotted name (`model.head.distance`); that of `model.head` is the head's name.
        seed: of weights, data order and episodes; None: that of the files.
        dashboard: a configuration file with the settings of the W&B dashboard; it decides no figure.
        place: the run's folder; the command leaves it out where it has no name.
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
        sections = Namespace()
        for name, value in {**self.options, "trainer.enable_progress_bar": False}.items():
            sections["model.head.name" if name == "model.head" else name] = value
        return resolve(self.plugin, files=files, ablation=self.ablation, values=sections.as_dict(), seed=self.seed)

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


def text_of(value: Any) -> str:
    """A value as a word of a command."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(text_of, value)) + "]"
    return str(value)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Options of two layers; another head leaves the options of the one before behind."""
    head = above.get("model.head")
    if head is not None and head != below.get("model.head"):
        below = {name: value for name, value in below.items() if not name.startswith("model.head.")}
    # what both give stands where the upper layer has it
    return {**{name: value for name, value in below.items() if name not in above}, **above}


def dotted(content: Mapping[str, Any]) -> dict[str, Any]:
    """Options of an ablation by their dotted names; a head's name is that of `model.head`."""
    options = {name: value for name, value in run_folder.dotted(content).items() if value != {}}
    return {"model.head" if name == "model.head.name" else name: value for name, value in options.items()}
