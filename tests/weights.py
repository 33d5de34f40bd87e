"""What two trainings have in common where they are the same: more than scores, which may be equal by chance."""

from __future__ import annotations

import hashlib

from mnerkit.runs.run_folder import RunFolder


def digest(run: RunFolder) -> str:
    """A digest of every bit of the weights that a run chose."""
    from mnerkit.methods import checkpoint

    found = hashlib.sha256()
    for name, tensor in sorted(checkpoint.read(run.best)["state_dict"].items()):
        found.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return found.hexdigest()
