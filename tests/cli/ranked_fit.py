"""`mnerkit fit --plugin relevance` whose ranks would each compute other rankings: FOLDER OPTIONS.

`FOLDER/computed` gets the number of each rank that computes, `FOLDER/rank<N>.json` what rank N learns from.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnerkit.cli import main
from mnerkit.data.corpus.post import Post
from mnerkit_plugins.relevance import method
from mnerkit_plugins.relevance.preference import Ranked


def by_rank(posts: Sequence[Post], *_: Any) -> tuple[list[Ranked], float]:
    """Worths that differ in sign from rank to rank, in place of those of taggers."""
    rank = int(os.environ.get("LOCAL_RANK") or 0)
    with (folder / "computed").open("a") as stream:
        stream.write(f"{rank}\n")
    return [Ranked(post, (1.0 - 2 * rank,) * len(post.images)) for post in posts if post.images], 0.25


def told(self: method.RelevanceMethod) -> None:
    """Write down what a rank learns from."""
    said = {
        "worths": self.worths,
        "margin": self.criterion.margin,
        "train": [post.id for post in self.trainer.datamodule.posts("train")],
        "selection": [post.id for post in self.trainer.datamodule.posts("selection")],
    }
    (folder / f"rank{self.global_rank}.json").write_text(json.dumps(said))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    method.utility = by_rank
    method.RelevanceMethod.on_train_start = told
    sys.exit(main(["fit", "--plugin", "relevance", *sys.argv[2:]]))
