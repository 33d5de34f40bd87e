"""`mnerkit data episodes CORPUS`: few-shot episodes drawn once and written down, for every method and paper."""

from __future__ import annotations

import argparse
import sys

from mnerkit.cli.arguments import out_file, positive
from mnerkit.data.corpus.corpus_files import SPLITS
from mnerkit.data.options import EpisodeOptions
from mnerkit.errors import UsageError
from mnerkit.options import declared, make


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Declare the options; those of the protocol are the run's (`--data.X`), with their defaults and help."""
    verb.add_argument("--out", metavar="FILE", required=True, help="the JSON lines to write")
    verb.add_argument("--split", default="test", choices=SPLITS, help="whose episodes (default: test)")
    many = "how many; all_queries: each eligible post is a query once (default: that; 500 of train)"
    verb.add_argument("--episodes", metavar="N", help=many)
    limit = "only the first N posts of each split, as --data.limit"
    verb.add_argument("--limit", type=positive, metavar="N", help=limit)
    verb.add_argument("--overwrite", action="store_true", help="replace FILE where it exists")
    for option in declared(EpisodeOptions).values():
        default = str(option.default).lower() if option.is_flag else option.default
        verb.add_argument(
            # `--n_way` as in --data.n_way, and `--n-way` as in most programs
            *dict.fromkeys((f"--{option.name}", f"--{option.name.replace('_', '-')}")),
            dest=option.name,
            choices=option.choices or None,
            nargs="+" if option.is_list else None,
            metavar=None if option.choices else "TYPE" if option.is_list else option.takes,
            help=option.help.replace("%", "%%") + ("" if default is None else f" (default: {default})"),
        )
    verb.add_argument("--seed", metavar="N", default=0, type=int, help="of the draws (default: 0)")


def main(options: argparse.Namespace) -> int:
    """Draw, write and count.

    Raises:
        UsageError: options that do not fit, or a file that exists.
        DataError: see `load_corpus` and `DrawnEpisodes`.
    """
    from mnerkit.data.corpus.corpus import load_corpus
    from mnerkit.data.episodes.freezing import freeze_episodes, summary

    out = out_file(options.out, options.overwrite)
    many = options.episodes
    if many is not None and many != "all_queries":
        if not many.isdecimal() or int(many) == 0:
            raise UsageError(f"--episodes {many}: give a positive number or all_queries")
        many = int(many)
    given = {name: value for name in declared(EpisodeOptions) if (value := getattr(options, name)) is not None}
    for name, value in given.items():
        if isinstance(value, list) and len(value) == 1:  # types given as one word stay one word (`Per+Loc`, `source`)
            given[name] = value[0]
    protocol = make(EpisodeOptions, given)
    corpus = load_corpus(options.corpus, options.root, options.variant, options.captions, limit=options.limit)
    file = freeze_episodes(corpus, protocol, out, split=options.split, episodes=many, seed=options.seed)
    print(summary(file, corpus))
    print(f"wrote {out}", file=sys.stderr)
    return 0
