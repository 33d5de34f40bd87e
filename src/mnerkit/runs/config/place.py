"""Where a run is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnerkit.errors import UsageError
from mnerkit.runs.config.configuration import Configuration
from mnerkit.runs.run_folder import RunFolder, deciding


@dataclass(frozen=True)
class Place:
    """Where a run is kept, and what is done besides training it.

    Attributes:
        name: of the run's folder; default: the configuration's, else a digest of what is given, and the seed.
        runs_dir: where run folders lie.
        overwrite: replace a run of that name.
        test: look at the test split once, with the best checkpoint, when training is over.
        logger: `csv` (always written), or `wandb` besides; default: the configuration's.
    """

    name: str | None = None
    runs_dir: str | Path = "runs"
    overwrite: bool = False
    test: bool = False
    logger: str | Sequence[str] | None = None

    def folder(self, configuration: Configuration) -> RunFolder:
        """The folder of a run: by plugin, corpus and variant, and its name.

        Raises:
            UsageError: the name is no plain folder name.
        """
        content = configuration.content
        data = content["data"]
        corpus = Path(str(data["corpus"])).name or "corpus"
        name = self.name or content.get("name") or f"{digest(configuration.given)}-s{configuration.seed}"
        if Path(name).name != name or name.startswith("."):
            raise UsageError(f"--name {name!r} must be a plain folder name")
        variant = data["variant"]
        return RunFolder(
            Path(self.runs_dir) / content["plugin"] / (f"{corpus}-{variant}" if variant else corpus) / name
        )

    def loggers(self, configuration: Configuration) -> list[str]:
        """Names of the loggers.

        Raises:
            UsageError: there is no such logger.
        """
        given = self.logger or configuration.content.get("logger") or "csv"
        names = given.strip("[]").split(",") if isinstance(given, str) else [str(each) for each in given]
        if unknown := [each for each in names if each not in ("csv", "wandb")]:
            raise UsageError(f"no logger {unknown[0]!r}; loggers: csv (always written), wandb")
        return names


def digest(given: Mapping[str, Any]) -> str:
    """Eight hex digits that name what is given, seed apart; what does not change a result is left out."""
    kept = {key: value for key, value in deciding(given).items() if key != "seed"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]
