"""`mnerkit data stats|verify|show|episodes|objects CORPUS`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from mnerkit.cli import episodes, objects
from mnerkit.cli.arguments import Parser, positive
from mnerkit.data.catalogue import CORPORA, find_corpus
from mnerkit.data.layout import SPLITS
from mnerkit.errors import DataError, UsageError, did_you_mean

_CORPORA = "\n".join(f"  {name:<14}{entry.about}" for name, entry in CORPORA.items())
_ABOUT = f"""Look at a corpus.

corpora:
{_CORPORA}
  a path        your own folder: train, valid (or dev) and test as .txt, .json or .jsonl

`verify` exits with 1 and says why where the copy is not whole: files that are missing or malformed, pictures that are
missing or broken, ids in two splits or repeated, another number of posts than the papers print. An unknown release,
other entity counts and orphan tags are remarks and no faults.
"""


def main(argv: list[str]) -> int:
    """Run one of the verbs; return the exit code.

    Raises:
        UsageError: an option or name that does not exist.
        DataError: see `corpora.load_corpus`.
    """
    parser, verbs = _parsers()
    for word in argv:
        if not word.startswith("-"):
            if word not in verbs:
                raise UsageError(f"no verb {word!r} of mnerkit data: {', '.join(verbs)}.{did_you_mean(word, verbs)}")
            break
    options, rest = parser.parse_known_args(argv)
    if options.verb is None:
        parser.print_help()
        return 0
    if rest:
        known = [name for action in verbs[options.verb]._actions for name in action.option_strings]
        wrong = rest[0].split("=")[0]
        kind = "option" if wrong.startswith("-") else "argument"
        raise UsageError(f"no {kind} {wrong!r} of mnerkit data {options.verb}.{did_you_mean(wrong, known)}")
    run = {"stats": _stats, "verify": _verify, "show": _show, "episodes": episodes.main, "objects": objects.main}
    return run[options.verb](options)


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser("mnerkit data", description=_ABOUT, formatter_class=raw, allow_abbrev=False)
    below = parser.add_subparsers(dest="verb", metavar="VERB")
    abouts = {
        "stats": "count posts, words, entities, pictures, duplicates",
        "verify": "check that a copy is whole; exit 1 with the reasons where it is not",
        "show": "write a page of posts with pictures and highlighted entities",
        "episodes": "freeze few-shot episodes in a file, to be replayed by every method (--data.episode_file)",
        "objects": "find the objects in the pictures with a detector, for methods that look at them (--data.boxes)",
    }
    verbs: dict[str, Parser] = {}
    for name, about in abouts.items():
        verb = below.add_parser(name, help=about, description=about.capitalize() + ".", allow_abbrev=False)
        verb.add_argument("corpus", metavar="CORPUS", help=f"{', '.join(CORPORA)}, or the path of a folder")
        verb.add_argument("--root", metavar="DIR", help="folder of the corpora (default: $MNERKIT_DATA, else data)")
        verb.add_argument("--variant", metavar="V", help="a release below DIR/variants, or a preset of probe")
        verb.add_argument("--captions", metavar="FILE", help="lines of '<picture> :<caption>' (none: without)")
        verbs[name] = verb
    verbs["stats"].add_argument("--json", action="store_true", help="print JSON instead of a table")
    verbs["verify"].add_argument("--text_only", action="store_true", help="do not look at the pictures")
    show = verbs["show"]
    show.add_argument("--out", metavar="PAGE", required=True, help="the HTML file to write")
    show.add_argument("--split", default="train", choices=SPLITS, help="which posts (default: train)")
    show.add_argument("--limit", type=positive, default=50, metavar="N", help="at most N posts (default: 50)")
    show.add_argument("--overwrite", action="store_true", help="replace PAGE where it exists")
    episodes.add_arguments(verbs["episodes"])
    objects.add_arguments(verbs["objects"])
    return parser, verbs


def _stats(options: argparse.Namespace) -> int:
    from mnerkit.data.corpora import load_corpus
    from mnerkit.data.stats import corpus_stats, table

    there = find_corpus(options.corpus, options.root, options.variant).files if options.corpus != "probe" else SPLITS
    found = corpus_stats(load_corpus(options.corpus, options.root, options.variant, options.captions, tuple(there)))
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else table(found))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from mnerkit.data.corpora import load_corpus
    from mnerkit.data.verify import verify

    corpus = load_corpus(options.corpus, options.root, options.variant, options.captions)
    verdict = verify(corpus, pictures=not options.text_only)
    what = "annotations" if options.text_only else "annotations and pictures"
    print(f"{corpus.name}: {'not whole' if verdict.reasons else 'whole'} ({what})")
    for kind, texts in (("fault", verdict.reasons), ("remark", verdict.remarks)):
        for text in texts:
            print(f"  {kind:<8}{text}")
    return 1 if verdict.reasons else 0


def _show(options: argparse.Namespace) -> int:
    out = Path(options.out)
    if out.is_dir():
        raise UsageError(f"{out} is a folder.\nGive --out the name of a file.")
    if out.exists() and not options.overwrite:
        raise UsageError(f"{out} exists.\nGive --overwrite to replace it, or another --out.")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent} to write {out.name} into.")
    from mnerkit.data.corpora import load_corpus
    from mnerkit.data.show import page

    limit = options.limit if options.corpus == "probe" else None
    corpus = load_corpus(
        options.corpus, options.root, options.variant, options.captions, splits=(options.split,), limit=limit
    )
    content = page(corpus, options.split, options.limit)
    half = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        half.write_text(content, encoding="utf-8")
        half.replace(out)
    except OSError as problem:
        half.unlink(missing_ok=True)
        raise DataError(f"{out} can't be written: {problem.strerror}.") from None
    print(f"wrote {out} ({len(content) / 1e6:.1f} MB)", file=sys.stderr)
    return 0
