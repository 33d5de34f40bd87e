"""A finished run as an object: its configuration, scores, predictions and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mnerkit.errors import DataError
from mnerkit.runs.run_folder import RunFolder
from mnerkit.strict_json import loads


class Run:
    """One run's folder, read.

    Attributes:
        folder: its files.

    Examples:
        >>> small = {"data": {"limit": 40}, "trainer": {"max_epochs": 1, "enable_progress_bar": False}}
        >>> run = mnerkit.fit("bilstm", **small, test=True, report=lambda line: None)
        >>> len(run.predictions("test")), sorted(run.predictions("test")[0])
        (40, ['entities', 'gold', 'id', 'words'])
    """

    def __init__(self, path: str | Path) -> None:
        """Take the folder as it is; nothing is read yet."""
        self.folder = RunFolder(Path(path))

    @property
    def path(self) -> Path:
        """The folder."""
        return self.folder.path

    @property
    def config(self) -> dict[str, Any]:
        """The configuration that the run was trained with."""
        return self.folder.config()

    @property
    def metrics(self) -> dict[str, Any]:
        """Scores by split (`run.metrics["test"]["f1"]`), protocol and times.

        Raises:
            DataError: the run is not finished, or the file is damaged.
        """
        if not self.folder.finished:
            raise DataError(f"run {self.path} is not finished; fit it again, and it goes on")
        return self.folder.metrics()

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return self.folder.finished

    def predictions(self, split: str = "test") -> list[dict[str, Any]]:
        """The best checkpoint's answers for each post of a split, as `predictions.<split>.jsonl` has it.

        Raises:
            DataError: the run has no predictions of the split.
        """
        file = self.path / f"predictions.{split}.jsonl"
        try:
            with file.open(encoding="utf-8", newline="\n") as stream:
                return [loads(line) for line in stream]
        except (OSError, ValueError, RecursionError) as problem:
            raise DataError(f"{file}: {getattr(problem, 'strerror', None) or problem}") from None

    def figure(self, kind: str, split: str = "test", posts: list[str] | None = None, limit: int = 8) -> Path:
        """Compute a figure of the best checkpoint and keep it in the run's folder, where `mnerkit report` finds it.

        Args:
            kind: `attention`, `adjacency` or `tsne`.
            split: of which posts.
            posts: ids of the posts; default: the first ones.
            limit: at most so many posts with maps.

        Returns:
            The file with the figure's data.
        """
        from mnerkit.runs.draw import keep

        return keep(kind, self.path, split, posts, limit)

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        copy_towers: bool = False,
        overwrite: bool = False,
        tower_dir: str | None = None,
    ) -> Path:
        """Write the best checkpoint into a folder that `mnerkit.load` reads anywhere; see `Predictor.save_pretrained`.

        Args:
            folder: a new or empty folder.
            copy_towers: copy frozen towers of the hub, too.
            overwrite: replace a saved model in the folder.
            tower_dir: folder with a frozen tower's weights, where its own name can't be reached.
        """
        from mnerkit.methods.predictor import Predictor

        predictor = Predictor.from_checkpoint(self.path, tower_dir)
        return predictor.save_pretrained(folder, copy_towers=copy_towers, overwrite=overwrite)

    def push_to_hub(
        self, name: str, *, private: bool = False, copy_towers: bool = False, tower_dir: str | None = None
    ) -> str:
        """Commit the best checkpoint to the Hugging Face hub; see `Predictor.push_to_hub`.

        Args:
            name: `owner/name`; the repository is made if there is none.
            private: make a new repository private.
            copy_towers: copy frozen towers of the hub, too.
            tower_dir: folder with a frozen tower's weights, where its own name can't be reached.

        Returns:
            The name with the commit: `owner/name@revision`.
        """
        from mnerkit.methods.predictor import Predictor

        return Predictor.from_checkpoint(self.path, tower_dir).push_to_hub(
            name, private=private, copy_towers=copy_towers
        )

    def __repr__(self) -> str:
        scores = ""
        if self.finished:
            splits = ((name, value) for name, value in self.metrics.items() if isinstance(value, dict))
            scores = "".join(f", {name} F1 {figures['f1']:.2f}" for name, figures in splits if "f1" in figures)
        return f"Run({str(self.path)!r}{scores or ', not finished'})"


def load_run(path: str | Path) -> Run:
    """The run in a folder.

    Raises:
        DataError: no run was ever begun there.

    Examples:
        >>> small = {"data": {"limit": 40}, "trainer": {"max_epochs": 1, "enable_progress_bar": False}}
        >>> run = mnerkit.fit("bilstm", **small, test=True, report=lambda line: None)
        >>> mnerkit.load_run(run.path).metrics == run.metrics
        True
    """
    run = Run(path)
    run.folder.existing()
    return run
