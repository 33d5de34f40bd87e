"""`mnerkit data stats|verify|show|convert|episodes|objects CORPUS`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnerkit.atomic_files import write_text
from mnerkit.cli.arguments import Parser, below, out_file, positive, share, with_verbs
from mnerkit.data.corpus.catalogue import CORPORA, find_corpus
from mnerkit.data.corpus.conversion import FORMS
from mnerkit.data.corpus.corpus_files import BOX_FORMAT, BOX_VERSION, SPLITS
from mnerkit.data.options import EpisodeOptions
from mnerkit.data.pictures.noun_phrases import MOST_PHRASES, TYPE_PROMPTS
from mnerkit.errors import UsageError
from mnerkit.options import declared, make
from mnerkit.printable import json_text, show

if TYPE_CHECKING:
    from mnerkit.data.batches.needs import Needs
    from mnerkit.data.corpus.corpus import Corpus

_CORPORA = "\n".join(f"  {name:<14}{entry.about}" for name, entry in CORPORA.items())
_ABOUT = f"""Look at a corpus.

corpora:
{_CORPORA}
  a path        your own folder: train, valid (or dev) and test as .txt, .json or .jsonl

`verify` exits with 1 and says why where the copy is not whole: files that are missing or malformed, pictures that are
missing or broken, ids in two splits or repeated, another number of posts than the papers print. An unknown release,
other entity counts, orphan tags, repeated texts, odd types and odd pictures are remarks and no faults.
"""
_OBJECTS = f"""\
Look for objects in the pictures of a corpus and write their boxes to FILE, for methods that look at objects
(--data.boxes FILE). A run that was stopped goes on when its command is given again.

detectors (through transformers):
  detr            80 classes; facebook/detr-resnet-50
  grounding-dino  looks for the noun phrases of the post; IDEA-Research/grounding-dino-tiny
  owlv2           likewise; google/owlv2-base-patch16-ensemble
  a folder        with config.json, weights and processor of one of these (no hub needed), or another hub name

what --data.boxes reads:
  JSON lines      a line a picture: {{"image": "O_26.jpg", "objects": [{{"box": [x0, y0, x1, y1], "score": 0.9,
                  "label": "dog"}}]}}; "id" in place of "image" where the post has one picture. Boxes are in pixels, or
                  with "unit": "shares" in shares of width and height, from the upper left corner; "size": [width,
                  height] must be of its shape. The first line may be {{"format": "{BOX_FORMAT}", "version":
                  {BOX_VERSION}, "unit": "pixels", "corpus": ..., "detector": ..., "revision": ...}}, as this command
                  writes
  a folder        of Pascal-VOC files, each called like its picture (O_26.xml); corners are pixels counted from 1
  a folder        of crops, <corpus>_aux_images with <split>/crops/ or crops/, and <corpus>_<split>_dict.pth in it or
                  beside the data: the crops are the objects, their boxes are not known

A box of which most lies outside its picture is refused, one that sticks out is clipped and counted. A picture without
objects is seen at its centre and in its quarters.
"""


_CONVERT = """\
Write a corpus, or one file of posts, in another form. What is written is read back and compared with what was read:
a form that can't hold a post is refused. OUT must not exist; pictures are not copied, OUT/images is a link to them.

forms (--to):
""" + "\n".join(f"  {name:<14}{form.about}" for name, form in FORMS.items())


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
        "convert": _convert,
        "episodes": _episodes,
        "objects": _objects,
    }
    return run[options.verb](options)


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    abouts = {
        "stats": "count posts, words, entities, pictures, duplicates",
        "verify": "check that a copy is whole; exit 1 with the reasons where it is not",
        "show": "write a page of posts with pictures and highlighted entities",
        "convert": "write a corpus, or one file of posts, in another form, without a loss",
        "episodes": "freeze few-shot episodes in a file, to be replayed by every method (--data.episode_file)",
        "objects": "find the objects in the pictures with a detector, for methods that look at them (--data.boxes)",
    }
    parser, verbs = with_verbs("mnerkit data", _ABOUT, abouts)
    for verb in verbs.values():
        verb.add_argument("corpus", metavar="CORPUS", help=f"{', '.join(CORPORA)}, or the path of a folder")
        verb.add_argument("--root", metavar="DIR", help="folder of the corpora (default: $MNERKIT_DATA, else data)")
        verb.add_argument("--variant", metavar="V", help="a release below DIR/variants, or a preset of probe")
        verb.add_argument("--columns", metavar="C", help="which columns of your own files are read, as word,_,_,tag")
        verb.add_argument("--captions", metavar="FILE", help="lines of '<picture> :<caption>' (none: without)")
    verbs["stats"].add_argument("--json", action="store_true", help="print JSON instead of a table")
    tower = "count what a text tower does not read of long posts: tiny-bert, a folder or a hub name"
    verbs["stats"].add_argument("--tower", metavar="NAME", help=tower)
    limit = "the tower's length limit in pieces, as --model.max_tokens (default: 128)"
    verbs["stats"].add_argument("--max_tokens", type=positive, metavar="N", help=limit)
    verbs["verify"].add_argument("--text_only", action="store_true", help="do not look at the pictures")
    show = verbs["show"]
    show.add_argument("--out", metavar="PAGE", required=True, help="the HTML file to write")
    show.add_argument("--split", default="train", choices=SPLITS, help="which posts (default: train)")
    show.add_argument("--limit", type=positive, default=50, metavar="N", help="at most N posts (default: 50)")
    show.add_argument("--overwrite", action="store_true", help="replace PAGE where it exists")
    convert = verbs["convert"]
    convert.description, convert.formatter_class = _CONVERT, argparse.RawDescriptionHelpFormatter
    convert.add_argument("out", metavar="OUT", help="the folder to make; for one file, the file to write")
    convert.add_argument("--to", choices=tuple(FORMS), help="the form (default: jsonl, or by OUT's ending)")
    _add_episodes(verbs["episodes"])
    _add_objects(verbs["objects"])
    return parser, verbs


def _add_episodes(verb: argparse.ArgumentParser) -> None:
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


def _add_objects(verb: argparse.ArgumentParser) -> None:
    """Declare the options."""
    verb.description, verb.formatter_class = _OBJECTS, argparse.RawDescriptionHelpFormatter
    verb.add_argument("--detector", metavar="NAME", required=True, help="detr, grounding-dino, owlv2 or a folder")
    verb.add_argument("--out", metavar="FILE", required=True, help="the JSON lines to write")
    verb.add_argument("--score", type=share, metavar="P", help="least score (default: 0.5, 0.3, 0.2 of the three)")
    verb.add_argument("--most", type=positive, default=20, metavar="N", help="at most N boxes a picture (default: 20)")
    verb.add_argument(
        "--prompts",
        choices=("phrases", "types"),
        default="phrases",
        help=f"noun phrases of the post (at most {MOST_PHRASES}), or {', '.join(TYPE_PROMPTS)} (default: phrases)",
    )
    verb.add_argument("--batch_size", type=positive, default=8, metavar="N", help="pictures at once (default: 8)")
    verb.add_argument("--device", default="cpu", metavar="D", help="cpu, cuda, cuda:1 ... (default: cpu)")
    verb.add_argument("--limit", type=positive, metavar="N", help="only the first N posts of each split")
    verb.add_argument("--overwrite", action="store_true", help="begin anew where FILE exists")


def _corpus(options: argparse.Namespace, **how: Any) -> Corpus:
    """The corpus that is named; `how` holds further arguments of `load_corpus`."""
    from mnerkit.data.corpus.corpus import load_corpus

    given = {"captions": options.captions, "columns": options.columns}
    return load_corpus(options.corpus, options.root, options.variant, **{**given, **how})


def _splits_there(options: argparse.Namespace) -> Corpus:
    """The corpus that is named, with the splits that have files."""
    there = find_corpus(options.corpus, options.root, options.variant).files if options.corpus != "probe" else SPLITS
    return _corpus(options, splits=tuple(there))


def _stats(options: argparse.Namespace) -> int:
    from mnerkit.data.corpus.corpus import CorpusReading
    from mnerkit.data.corpus.post import CorpusFacts
    from mnerkit.data.corpus.stats import corpus_stats, stats_of_files, table

    if options.max_tokens is not None and options.tower is None:
        raise UsageError("--max_tokens needs --tower NAME: whose pieces are counted")

    def needs_of(facts: CorpusFacts) -> Needs:
        from mnerkit.data.batches.needs import Needs
        from mnerkit.towers.by_name import text_reader

        return Needs(text_reader(options.tower, facts, options.max_tokens or 128), frozenset({"second"}))

    if options.corpus == "probe" and options.columns is None:
        corpus = _corpus(options)
        facts = CorpusFacts.of(corpus.types, corpus.splits["train"])
        stats = corpus_stats(corpus, needs=needs_of(facts) if options.tower is not None else None)
    else:
        reading = CorpusReading(
            options.corpus, options.root, options.variant, options.captions, columns=options.columns
        )
        stats = stats_of_files(reading, needs_of if options.tower is not None else None)
        for remark in reading.remarks():
            show(remark, to=sys.stderr)
    show(json_text(stats, 2) if options.json else table(stats))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from mnerkit.data.corpus.verify import verify

    corpus = _splits_there(options)
    verdict = verify(corpus, pictures=not options.text_only)
    what = "annotations" if options.text_only else "annotations and pictures"
    show(f"{corpus.name}: {'not whole' if verdict.reasons else 'whole'} ({what})")
    for kind, texts in (("fault", verdict.reasons), ("remark", verdict.remarks)):
        for text in texts:
            show(f"  {kind:<8}{text}")
    return 1 if verdict.reasons else 0


def _show(options: argparse.Namespace) -> int:
    out = out_file(options.out, options.overwrite)
    from mnerkit.data.corpus.show import page

    limit = options.limit if options.corpus == "probe" else None
    corpus = _corpus(options, splits=(options.split,), limit=limit)
    content = page(corpus, options.split, options.limit)
    write_text(out, content)
    show(f"wrote {out} ({len(content) / 1e6:.1f} MB)", to=sys.stderr)
    return 0


def _convert(options: argparse.Namespace) -> int:
    from mnerkit.data.corpus.conversion import convert

    names = ("to", "root", "variant", "captions", "columns")
    how = {name: getattr(options, name) for name in names}
    convert(options.corpus, options.out, **how, report=lambda line: show(line, to=sys.stderr))
    return 0


def _episodes(options: argparse.Namespace) -> int:
    """Draw, write and count.

    Raises:
        UsageError: options that do not fit, or a file that exists.
        DataError: see `load_corpus` and `DrawnEpisodes`.
    """
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
    corpus = _corpus(options, limit=options.limit)
    file = freeze_episodes(corpus, protocol, out, split=options.split, episodes=many, seed=options.seed)
    show(summary(file, corpus))
    show(f"wrote {out}", to=sys.stderr)
    return 0


def _objects(options: argparse.Namespace) -> int:
    """Detect what is not in the file yet.

    Raises:
        UsageError: the file was written with other settings, or can't be written there.
        DataError: see `corpora.load_corpus`; a line of the file is damaged; the detector can read no picture at all.
        TowerError: a detector that can't be had.
    """
    out = Path(options.out)
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"--out {out}: give the name of a file in a folder that exists.")
    from mnerkit.towers.vision.box_file import write_boxes

    corpus = _corpus(options, captions="none", limit=options.limit)
    names = ("score", "most", "prompts", "batch_size", "device", "overwrite")
    file = write_boxes(corpus, options.detector, out, **{name: getattr(options, name) for name in names})
    broken = file.broken | file.refused
    lost = f", {len(broken)} broken ones left out, the first: {next(iter(broken.values()))}" if broken else ""
    show(f"{file.written} pictures -> {out} ({file.before} were there){lost}", to=sys.stderr)
    return 0
