"""Has SLURM run a job again that is about to end, by the signal that Lightning documents for it.

`#SBATCH --signal=SIGUSR1@90` sends it 90 seconds before the time of a job is over. Lightning's own handler is not used:
it writes `hpc_ckpt_1.ckpt` in the midst of a step, which Lightning then loads whenever it is given no checkpoint, also
to score. Nothing here imports torch.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

from mnerkit.printable import show

# Lightning's default; Windows lacks it
SIGNAL: signal.Signals | None = getattr(signal, "SIGUSR1", None)

_requeued: set[str] = set()
_deferring = False
_deferred: Callable[[], None] | None = None


def job() -> str | None:
    """What `scontrol` calls the job of this process; None where Lightning, too, sees none that could be requeued.

    `srun` gives a process its number of tasks; an interactive job is known by its name.
    """
    get = os.environ.get
    if "SLURM_NTASKS" not in os.environ or get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    if array := get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{get('SLURM_ARRAY_TASK_ID')}"
    return get("SLURM_JOB_ID") or None


def handlers(requeue: Callable[[], None] | None = None) -> dict[signal.Signals, Callable[[], None]]:
    """What SLURM's signal does in a process of one of its jobs; empty elsewhere.

    Args:
        requeue: default: `requeue_job`.
    """

    def handle() -> None:
        global _deferred
        if _deferring:
            _deferred = requeue or requeue_job
        else:
            (requeue or requeue_job)()

    return {} if SIGNAL is None or job() is None else {SIGNAL: handle}


def defer(deferring: bool) -> None:
    """Have what the signal does wait, since a checkpoint is to be written before; or no longer."""
    global _deferring, _deferred
    _deferring = deferring
    if not deferring and _deferred is not None:
        requeue, _deferred = _deferred, None
        requeue()


def is_deferred() -> bool:
    """Whether the signal has come and waits for a checkpoint."""
    return _deferred is not None


def requeue_job() -> None:
    """Have SLURM run this process's job again, once; the first rank does it for all.

    SLURM then ends the job by SIGTERM. Until it does, the work goes on.
    """
    from mnerkit.runs.run_folder import is_first_rank

    number = job()
    if number is None or number in _requeued or not is_first_rank():
        return
    try:
        done = subprocess.run(["scontrol", "requeue", number], capture_output=True, text=True, check=False)
        problem = (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else None
    except OSError as error:
        problem = error.strerror
    if problem is None:
        _requeued.add(number)
        line = f"job {number} is requeued, and its command goes on when it runs again"
    else:
        line = f"`scontrol requeue {number}` failed ({' '.join(problem.split())}); submit the job again to go on"
    show("", f"mnerkit: {line}", to=sys.stderr)
