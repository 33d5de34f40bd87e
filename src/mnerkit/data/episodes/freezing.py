"""Few-shot episodes drawn once and written down, to be replayed by every method. Nothing here imports torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from mnerkit.atomic_files import write_lines
from mnerkit.data.corpus.corpus import Corpus, check_disjoint
from mnerkit.data.corpus.tags import entities
from mnerkit.data.episodes.episode_file import EpisodeFile, header_of, read_episode_file
from mnerkit.data.episodes.protocol import FewShotProtocol
from mnerkit.data.options import EpisodeOptions
from mnerkit.errors import UsageError
from mnerkit.printable import Printable, printable
from mnerkit.text_table import table

# training has no last episode: as many as the plan of one epoch
TRAIN_EPISODES = 500


def freeze_episodes(
    corpus: Corpus,
    options: EpisodeOptions,
    out: Path,
    *,
    split: str = "test",
    episodes: int | Literal["all_queries"] | None = None,
    seed: int = 0,
) -> EpisodeFile:
    """Draw episodes and write them to a file.

    Args:
        corpus: with all splits: types, digest and the check that no test post is trained on are the corpus's.
        options: the protocol.
        out: the JSON lines.
        split: whose posts are queries.
        episodes: how many; `all_queries`: each eligible post is a query once; default: that, of train 500.
        seed: of the draws.

    Raises:
        UsageError: options that do not fit.
        DataError: the posts do not suffice.
    """
    check_disjoint(corpus.splits["train"], corpus.splits["test"])
    protocol = FewShotProtocol(options, corpus.types, seed)
    source = protocol.draw(split, lambda split: corpus.splits[split])
    if split != "train":
        numbers = source.numbers(episodes or "all_queries")
    elif episodes == "all_queries":
        raise UsageError("--episodes all_queries: training draws its queries without end; give a number")
    else:
        numbers = list(range(episodes or TRAIN_EPISODES))
    from tqdm import tqdm

    header = header_of(corpus, split, protocol, len(numbers))
    # progress where someone watches
    rows = (source.record(number) for number in tqdm(numbers, unit=" episodes", disable=None))
    write_lines(out, [header, *rows])
    return read_episode_file(out)


def summary(file: EpisodeFile, corpus: Corpus) -> Printable:
    """Table of a file: posts, and entities of the types in play, by role."""
    posts = {split: {post.id: post for post in corpus.splits[split]} for split in {file.split, file.support_split}}
    kinds = sorted({kind for row in file.rows for kind in row.types})
    body = []
    for role, split in (("support", file.support_split), ("query", file.split)):
        used = [(name, row.types) for row in file.rows for name in getattr(row, role)]
        counts = Counter(
            span.type for name, types in used for span in entities(posts[split][name].tags or ()) if span.type in types
        )
        body.append([role, split, len(used), len({name for name, _ in used}), *(counts[kind] for kind in kinds)])
    head = (
        f"{len(file.rows)} episodes of {corpus.name} ({corpus.variant}), split {file.split}; entities in play by type"
    )
    return printable(head, table(["role", "from", "posts", "different", *kinds], body))
