"""`mnerkit data stats|verify|show|episodes|objects CORPUS`."""

from __future__ import annotations

import argparse
import json
import sys

from mnerkit.atomic_files import write_text
from mnerkit.cli import data_episodes, data_objects
from mnerkit.cli.arguments import Parser, below, out_file, positive, with_verbs
from mnerkit.data.corpus.catalogue import CORPORA, find_corpus
from mnerkit.data.corpus.corpus_files import SPLITS

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
    parsed = below(parser, verbs, argv)
    if parsed is None:
        return 0
    options, _ = parsed
    run = {
        "stats": _stats,
        "verify": _verify,
        "show": _show,
        "episodes": data_episodes.main,
        "objects": data_objects.main,
    }
    return run[options.verb](options)


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    abouts = {
        "stats": "count posts, words, entities, pictures, duplicates",
        "verify": "check that a copy is whole; exit 1 with the reasons where it is not",
        "show": "write a page of posts with pictures and highlighted entities",
        "episodes": "freeze few-shot episodes in a file, to be replayed by every method (--data.episode_file)",
        "objects": "find the objects in the pictures with a detector, for methods that look at them (--data.boxes)",
    }
    parser, verbs = with_verbs("mnerkit data", _ABOUT, abouts)
    for verb in verbs.values():
        verb.add_argument("corpus", metavar="CORPUS", help=f"{', '.join(CORPORA)}, or the path of a folder")
        verb.add_argument("--root", metavar="DIR", help="folder of the corpora (default: $MNERKIT_DATA, else data)")
        verb.add_argument("--variant", metavar="V", help="a release below DIR/variants, or a preset of probe")
        verb.add_argument("--captions", metavar="FILE", help="lines of '<picture> :<caption>' (none: without)")
    verbs["stats"].add_argument("--json", action="store_true", help="print JSON instead of a table")
    verbs["verify"].add_argument("--text_only", action="store_true", help="do not look at the pictures")
    show = verbs["show"]
    show.add_argument("--out", metavar="PAGE", required=True, help="the HTML file to write")
    show.add_argument("--split", default="train", choices=SPLITS, help="which posts (default: train)")
    show.add_argument("--limit", type=positive, default=50, metavar="N", help="at most N posts (default: 50)")
    show.add_argument("--overwrite", action="store_true", help="replace PAGE where it exists")
    data_episodes.add_arguments(verbs["episodes"])
    data_objects.add_arguments(verbs["objects"])
    return parser, verbs


def _stats(options: argparse.Namespace) -> int:
    from mnerkit.data.corpus.corpus import load_corpus
    from mnerkit.data.corpus.stats import corpus_stats, table

    there = find_corpus(options.corpus, options.root, options.variant).files if options.corpus != "probe" else SPLITS
    stats = corpus_stats(load_corpus(options.corpus, options.root, options.variant, options.captions, tuple(there)))
    print(json.dumps(stats, indent=2, ensure_ascii=False) if options.json else table(stats))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from mnerkit.data.corpus.corpus import load_corpus
    from mnerkit.data.corpus.verify import verify

    corpus = load_corpus(options.corpus, options.root, options.variant, options.captions)
    verdict = verify(corpus, pictures=not options.text_only)
    what = "annotations" if options.text_only else "annotations and pictures"
    print(f"{corpus.name}: {'not whole' if verdict.reasons else 'whole'} ({what})")
    for kind, texts in (("fault", verdict.reasons), ("remark", verdict.remarks)):
        for text in texts:
            print(f"  {kind:<8}{text}")
    return 1 if verdict.reasons else 0


def _show(options: argparse.Namespace) -> int:
    out = out_file(options.out, options.overwrite)
    from mnerkit.data.corpus.corpus import load_corpus
    from mnerkit.data.corpus.show import page

    limit = options.limit if options.corpus == "probe" else None
    corpus = load_corpus(
        options.corpus, options.root, options.variant, options.captions, splits=(options.split,), limit=limit
    )
    content = page(corpus, options.split, options.limit)
    write_text(out, content)
    print(f"wrote {out} ({len(content) / 1e6:.1f} MB)", file=sys.stderr)
    return 0
