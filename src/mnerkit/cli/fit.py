"""`mnerkit fit`, `validate` and `test`."""

from __future__ import annotations

from mnerkit.errors import UsageError
from mnerkit.runs.requests import Request, place_of


def report(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def fit(request: Request) -> int:
    """Train, or continue training, and score the best checkpoint on dev (and once on test with `--test`)."""
    configuration = request.configuration()
    from mnerkit.runs.fit import fit_configured

    fit_configured(configuration, place_of(request), report)
    return 0


def score(request: Request) -> int:
    """Score a checkpoint on dev or test, on its own corpus or another one."""
    flags = request.flags
    if "ckpt_path" not in flags:
        raise UsageError(f"`mnerkit {request.verb}` needs --ckpt_path FILE (best.ckpt of a run folder)")
    from mnerkit.runs.score import score as score_checkpoint

    score_checkpoint(
        flags["ckpt_path"],
        "dev" if request.verb == "validate" else "test",
        config=flags.get("config", []),
        plugin=flags.get("plugin"),
        dotted=request.dotted,
        tower_dir=flags.get("tower_dir"),
        report=report,
    )
    return 0
