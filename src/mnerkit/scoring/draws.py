"""What intervals and p-values draw; what they hold for follows from it. Imports no numpy, for the command line."""

from __future__ import annotations

from typing import Literal, get_args

# posts, so that they hold for the runs at hand; runs of other seeds; other training posts, too
Draw = Literal["posts", "posts,seeds", "posts,seeds,folds"]
DRAWS: tuple[Draw, ...] = get_args(Draw)
