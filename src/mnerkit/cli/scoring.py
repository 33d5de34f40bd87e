"""`mnerkit score --gold CORPUS|FILE --predictions FILE`: scores of predictions that any program wrote."""

from __future__ import annotations

import argparse

from mnerkit.cli.arguments import Parser, read
from mnerkit.data.corpus.catalogue import CORPORA
from mnerkit.errors import UsageError
from mnerkit.printable import json_text, show

_ABOUT = """Score predictions that any program wrote: micro F1, strict F1, scores by type and of entities that training
posts have or lack, with a 95 % interval; and a paired test against a run or another file.

A file of predictions is
  columns       a word a line, a blank line between posts, the predicted tag last; the column before it may be the gold
                tag. Posts stand in the order of the gold posts, or are named by IMGID: lines. BIO, IOB1 or BIOES
  JSON lines    {"id": "16_05_01_107", "entities": [{"start": 7, "end": 8, "type": "PER"}]}, bounds in words, the end
                not included; or {"id": ..., "predictions": ["O", "B-PER", ...]}, or "tags" in its place

Every post of the gold side is to be there once, in its order. A post that is not is named, and nothing is scored."""


def main(argv: list[str]) -> int:
    """Score, and print.

    Raises:
        UsageError: an option that does not exist, or a folder that is not free.
        DataError: see `runs.foreign.score_predictions`.
    """
    options = read(_parser(), argv)
    if options.overwrite and options.out is None:
        raise UsageError("--overwrite has no effect without --out")
    from mnerkit.cli import runs_compare
    from mnerkit.runs.foreign import score_predictions

    names = ("gold", "split", "root", "variant", "columns", "against", "name", "out", "overwrite")
    result = score_predictions(
        options.predictions,
        **{name: getattr(options, name) for name in names},
        report=(lambda _: None) if options.json else show,
    )
    if options.json:
        show(json_text(result, 2))
    elif "comparison" in result:
        show("", runs_compare.text(result["comparison"]))
    return 0


def _parser() -> Parser:
    parser = Parser(
        "mnerkit score",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--predictions", metavar="FILE", required=True, help="what is scored")
    parser.add_argument(
        "--gold",
        metavar="GOLD",
        help=f"{', '.join(CORPORA)}, the folder of a corpus, or a file of posts (default: the gold column of FILE)",
    )
    parser.add_argument("--split", default="test", metavar="SPLIT", help="of the corpus: dev or test (default: test)")
    parser.add_argument("--root", metavar="DIR", help="folder of the corpora (default: $MNERKIT_DATA, else data)")
    parser.add_argument("--variant", metavar="V", help="a release below DIR/variants, or a preset of probe")
    parser.add_argument("--columns", metavar="C", help="which columns of the gold files are read, as word,_,_,tag")
    parser.add_argument("--against", metavar="RUN", help="a run, or another file of predictions, to test against")
    parser.add_argument("--name", metavar="NAME", help="what the system is called (default: the name of FILE)")
    parser.add_argument("--out", metavar="RUN", help="make a run of it, which `mnerkit runs` and `report` show")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser
