"""`mnerkit data episodes CORPUS`: few-shot episodes drawn once and written down, for every method and paper."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from mnerkit.atomic_files import write_lines
from mnerkit.cli.arguments import out_file
from mnerkit.data.corpus.corpus_files import SPLITS
from mnerkit.data.options import EpisodeOptions
from mnerkit.errors import UsageError
from mnerkit.options import Option, declared, make
from mnerkit.text_table import table

if TYPE_CHECKING:
    from mnerkit.data.corpus.corpus import Corpus
    from mnerkit.data.episodes.episode_file import EpisodeFile
    from mnerkit.data.episodes.sampling import Episodes

# training has no last episode: as many as the plan of one epoch
TRAIN_EPISODES = 500


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Declare the options; those of the protocol are the run's (`--data.X`), with their defaults and help."""
    verb.add_argument("--out", metavar="FILE", required=True, help="the JSON lines to write")
    verb.add_argument("--split", default="test", choices=SPLITS, help="whose episodes (default: test)")
    verb.add_argument(
        "--episodes",
        metavar="N",
        default=None,
        help=f"how many; all_queries: each eligible post is a query once (default: that; {TRAIN_EPISODES} of train)",
    )
    verb.add_argument("--limit", type=int, metavar="N", help="only the first N posts of each split, as --data.limit")
    verb.add_argument("--overwrite", action="store_true", help="replace FILE where it exists")
    for option in declared(EpisodeOptions).values():
        choices = get_args(option.type) if get_origin(option.type) is Literal else None
        default = str(option.default).lower() if option.is_flag else option.default
        verb.add_argument(
            *_spellings(option.name),
            dest=option.name,
            default=option.default,
            type=_reader(option),
            choices=choices,
            nargs="+" if option.is_list else None,
            metavar=None if choices else "TYPE" if option.is_list else option.takes,
            help=option.help.replace("%", "%%") + ("" if default is None else f" (default: {default})"),
        )
    verb.add_argument("--seed", metavar="N", default=0, type=_whole_number, help="of the draws (default: 0)")


def _spellings(name: str) -> tuple[str, ...]:
    """`--n_way` as in --data.n_way, and `--n-way` as in most programs."""
    return tuple(dict.fromkeys((f"--{name}", f"--{name.replace('_', '-')}")))


def _reader(option: Option) -> Callable[[str], Any]:
    """What turns the option's text into its value."""
    return _truth if option.is_flag else _whole_number if option.type is int else str


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def main(options: argparse.Namespace) -> int:
    """Draw, write and count.

    Raises:
        UsageError: options that do not fit, or a file that exists.
        DataError: see `load_corpus` and `DrawnEpisodes`.
    """
    from mnerkit.data.corpus.corpus import check_disjoint, load_corpus
    from mnerkit.data.episodes.episode_file import header_of, read_episode_file
    from mnerkit.data.episodes.protocol import FewShotProtocol

    out = out_file(options.out, options.overwrite)
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit {options.limit}: give at least 1")
    given = make(EpisodeOptions, {name: _one_word(getattr(options, name)) for name in declared(EpisodeOptions)})
    # all splits: types, digest and the check that no test post is trained on are the corpus's
    corpus = load_corpus(options.corpus, options.root, options.variant, options.captions, limit=options.limit)
    check_disjoint(corpus.splits["train"], corpus.splits["test"])
    protocol = FewShotProtocol(given, corpus.types, options.seed)
    source = protocol.draw(options.split, lambda split: corpus.splits[split])
    numbers = _numbers(source, options.split, options.episodes)
    header = header_of(corpus, options.split, protocol, len(numbers))
    write_lines(out, [header, *_drawn(source, numbers)])
    print(summary(read_episode_file(out), corpus))
    print(f"wrote {out}", file=sys.stderr)
    return 0


def _one_word(value: Any) -> Any:
    """Types given as one word stay one word (`Per+Loc`, `source`)."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _numbers(source: Episodes, split: str, episodes: str | None) -> list[int]:
    """Numbers of the episodes that `--episodes` stands for."""
    count = None if episodes in (None, "all_queries") else int(episodes) if str(episodes).isdecimal() else 0
    if count == 0:
        raise UsageError(f"--episodes {episodes}: give a positive number or all_queries")
    if split == "train":
        if episodes == "all_queries":
            raise UsageError("--episodes all_queries: training draws its queries without end; give a number")
        return list(range(count or TRAIN_EPISODES))
    return source.numbers(count or "all_queries")


def _drawn(source: Episodes, numbers: list[int]) -> Iterator[dict[str, Any]]:
    """The records, with progress where someone watches."""
    from tqdm import tqdm

    for number in tqdm(numbers, unit=" episodes", disable=None):
        yield source.record(number)


def summary(file: EpisodeFile, corpus: Corpus) -> str:
    """Table of a file: posts, and entities of the types in play, by role."""
    from mnerkit.data.corpus.tags import entities

    posts = {split: {post.id: post for post in corpus.splits[split]} for split in {file.split, file.support_split}}
    kinds = sorted({kind for row in file.rows for kind in row.types})
    body = []
    for role, split in (("support", file.support_split), ("query", file.split)):
        used = [(each, row.types) for row in file.rows for each in getattr(row, role)]
        counts = Counter(
            span.type for each, types in used for span in entities(posts[split][each].tags or ()) if span.type in types
        )
        body.append([role, split, len(used), len({each for each, _ in used}), *(counts[kind] for kind in kinds)])
    head = (
        f"{len(file.rows)} episodes of {corpus.name} ({corpus.variant}), split {file.split}; entities in play by type"
    )
    return f"{head}\n{table(['role', 'from', 'posts', 'different', *kinds], body)}"
