"""`mnerkit data episodes CORPUS`: few-shot episodes drawn once and written down, for every method and paper."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from mnerkit.cli.arguments import out_file
from mnerkit.data.corpus.corpus import Corpus, check_disjoint, load_corpus
from mnerkit.data.corpus.corpus_files import SPLITS
from mnerkit.data.corpus.spans import entities
from mnerkit.data.episodes.episode_file import EpisodeFile, header_of, read_episode_file, write_episode_file
from mnerkit.data.episodes.rules import EpisodeRules
from mnerkit.data.episodes.sampling import Episodes
from mnerkit.errors import UsageError
from mnerkit.runs.signature import Option, class_options
from mnerkit.text_table import table

DATA = ("mnerkit.data.datamodule", "MnerData")
# training has no last episode: as many as the plan of one epoch
TRAIN_EPISODES = 500


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Declare the options; those of the protocol are `MnerData`'s, with its defaults and explanations."""
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
    known = class_options(*DATA)
    for field in fields(EpisodeRules):
        option = known[field.name]
        # --n_way as in --data.n_way, and --n-way as in most programs
        names = dict.fromkeys((f"--{field.name}", f"--{field.name.replace('_', '-')}"))
        default = getattr(EpisodeRules, field.name)
        shown = "" if default is None else f" (default: {str(default).lower() if option.is_flag else default})"
        verb.add_argument(
            *names,
            dest=field.name,
            default=default,
            type=_reader(option),
            choices=option.choices or None,
            nargs="+" if option.is_list else None,
            metavar=None if option.choices else _takes(option),
            help=option.description.replace("%", "%%") + shown,
        )


def _takes(option: Option) -> str:
    if option.is_list:
        return "TYPE"
    return "true|false" if option.is_flag else "N" if option.annotation == "int" else "NAME"


def _reader(option: Option) -> Any:
    """What turns the option's text into its value."""

    def truth(text: str) -> bool:
        if text.lower() not in ("true", "false"):
            raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
        return text.lower() == "true"

    def number(text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None

    if option.is_flag:
        return truth
    return number if option.annotation == "int" else str


def main(options: argparse.Namespace) -> int:
    """Draw, write and count.

    Raises:
        UsageError: options that do not fit, or a file that exists.
        DataError: see `load_corpus` and `EpisodeSource`.
    """
    out = out_file(options.out, options.overwrite)
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit {options.limit}: give at least 1")
    rules = EpisodeRules.of({name: _value(given) for name, given in vars(options).items()})
    # all splits: types, digest and the check that no test post is trained on are the corpus's
    corpus = load_corpus(options.corpus, options.root, options.variant, options.captions, limit=options.limit)
    check_disjoint(corpus.splits["train"], corpus.splits["test"])
    source = rules.source(options.split, lambda split: corpus.splits[split], corpus.types)
    numbers = _numbers(source, options.split, options.episodes)
    header = header_of(corpus, options.split, rules, len(numbers))
    write_episode_file(out, header, _drawn(source, numbers))
    print(summary(read_episode_file(out), corpus))
    print(f"wrote {out}", file=sys.stderr)
    return 0


def _value(given: Any) -> Any:
    """Types given as one word stay one word (`Per+Loc`, `source`)."""
    return given[0] if isinstance(given, list) and len(given) == 1 else given


def _numbers(source: Episodes, split: str, asked: str | None) -> list[int]:
    if asked not in (None, "all_queries") and not (str(asked).isdecimal() and int(str(asked)) > 0):
        raise UsageError(f"--episodes {asked}: give a positive number or all_queries")
    if split == "train":
        if asked == "all_queries":
            raise UsageError("--episodes all_queries: training draws its queries without end; give a number")
        return list(range(int(asked or TRAIN_EPISODES)))
    return source.numbers("all_queries" if asked in (None, "all_queries") else int(str(asked)))


def _drawn(source: Episodes, numbers: list[int]) -> Iterator[dict[str, Any]]:
    """The records, with progress where someone watches."""
    from tqdm import tqdm

    for number in tqdm(numbers, unit=" episodes", disable=None):
        yield source.record(number)


def summary(file: EpisodeFile, corpus: Corpus) -> str:
    """Table of a file: posts, and entities of the types in play, by role."""
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
