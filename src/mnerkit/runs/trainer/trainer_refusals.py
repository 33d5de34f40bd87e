"""Options of the Trainer that Lightning refuses when training begins: one line each, before the first step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from traceback import walk_tb
from typing import Any

import lightning.pytorch as lightning
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from mnerkit.data.datamodule import MnerData
from mnerkit.errors import UsageError
from mnerkit.options import declared
from mnerkit.runs.config.options import TrainerOptions


def check_batches(trainer: lightning.Trainer, data: MnerData, splits: Sequence[str]) -> None:
    """Refuse a share of batches that leaves none, and dev to be scored later in an epoch than its end.

    Args:
        trainer: the Trainer.
        data: connected with the method.
        splits: that are scored when training is over.

    Raises:
        UsageError: with the number of batches there is.
    """
    _check_share(trainer, "limit_train_batches", "an epoch", data.train_dataloader)
    _check_share(trainer, "limit_val_batches", "dev", data.val_dataloader)
    for split in splits:
        check_scored(trainer, data, split)
    every = getattr(trainer, "val_check_interval", None)  # Lightning has none where it is a time
    if isinstance(every, int) and every > 1:
        batches, limit = len(data.train_dataloader()), trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        if every > batches:
            raise UsageError(
                f"--trainer.val_check_interval {every}: an epoch has {_count(batches)}; give at most {batches}, or a"
                " share of an epoch (0.5: twice an epoch)"
            )


def check_scored(trainer: lightning.Trainer, data: MnerData, split: str) -> None:
    """Refuse a share of a split's batches that leaves none to score.

    Raises:
        UsageError: with the number of batches there is.
    """
    _check_share(trainer, "limit_predict_batches", split, partial(data.loader, split))


def _check_share(trainer: lightning.Trainer, name: str, what: str, loader: Callable[[], Any]) -> None:
    share = getattr(trainer, name)
    if isinstance(share, float) and 0 < share < 1 and int(share * (batches := len(loader()))) < 1:
        raise UsageError(
            f"--trainer.{name} {share}: {what} has {_count(batches)}, so none would be left; give a number of batches,"
            f" or a share of at least {_rounded_up(1 / batches)}"
        )


def _count(batches: int) -> str:
    return f"{batches} batch{'' if batches == 1 else 'es'}"


def _rounded_up(share: float) -> float:
    """A share of two digits that is not smaller."""
    rounded = float(f"{share:.1e}")
    return rounded if rounded >= share else float(f"{share * 1.05:.1e}")


@contextmanager
def lightning_refusals(config: dict[str, Any]) -> Iterator[None]:
    """Turn what Lightning refuses in this block into a line about the options of the Trainer.

    That is its `MisconfigurationException` and other errors of values, where they name an option or no method was at
    work: what a method does wrong wants its traceback.

    Args:
        config: of the run.

    Raises:
        UsageError: see above.
    """
    try:
        yield
    except (MisconfigurationException, ValueError, TypeError, ArithmeticError) as problem:
        message = " ".join(str(problem).split())
        names = [name for name in re.findall(r"\w+", message) if name in declared(TrainerOptions)]
        owners = [str(frame.f_globals.get("__name__")).partition(".")[0] for frame, _ in walk_tb(problem.__traceback__)]
        inside = owners[owners.index("lightning") :] if owners[-1] == "lightning" else None
        if inside is None or not (names or {"mnerkit", "mnerkit_plugins"}.isdisjoint(inside)):
            raise
        option = f".{names[0]} {config['trainer'][names[0]]}" if names else ""
        raise UsageError(f"--trainer{option}: {message[:300]}") from problem
