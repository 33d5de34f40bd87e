"""`mnerkit data objects CORPUS`: look for objects in the pictures of a corpus, and write their boxes down."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mnerkit.cli.arguments import positive
from mnerkit.data.corpus.corpus_files import BOX_FORMAT, BOX_VERSION
from mnerkit.data.pictures.noun_phrases import MOST_PHRASES, TYPE_PROMPTS
from mnerkit.errors import UsageError

ABOUT = f"""Look for objects in the pictures of a corpus and write their boxes to FILE, for methods that look at objects
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


def add_arguments(verb: argparse.ArgumentParser) -> None:
    """Declare the options."""
    verb.description, verb.formatter_class = ABOUT, argparse.RawDescriptionHelpFormatter
    verb.add_argument("--detector", metavar="NAME", required=True, help="detr, grounding-dino, owlv2 or a folder")
    verb.add_argument("--out", metavar="FILE", required=True, help="the JSON lines to write")
    verb.add_argument("--score", type=float, metavar="P", help="least score (default: 0.5, 0.3, 0.2 of the three)")
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


def main(options: argparse.Namespace) -> int:
    """Detect what is not in the file yet.

    Raises:
        UsageError: the file was written with other settings, or can't be written there.
        DataError: see `corpora.load_corpus`; a line of the file is damaged; the detector can read no picture at all.
        TowerError: a detector that can't be had.
    """
    out = Path(options.out)
    if out.is_dir() or not out.parent.is_dir():
        raise UsageError(f"--out {out}: give the name of a file in a folder that exists.")
    if options.score is not None and not 0 <= options.score <= 1:
        raise UsageError(f"--score {options.score}: give a number from 0 to 1.")
    from mnerkit.data.corpus.corpus import load_corpus
    from mnerkit.towers.vision.box_file import write_boxes

    corpus = load_corpus(options.corpus, options.root, options.variant, "none", limit=options.limit)
    names = ("score", "most", "prompts", "batch_size", "device", "overwrite")
    file = write_boxes(corpus, options.detector, out, **{name: getattr(options, name) for name in names})
    broken = file.broken | file.refused
    lost = f", {len(broken)} broken ones left out, the first: {next(iter(broken.values()))}" if broken else ""
    print(f"{file.written} pictures -> {out} ({file.before} were there){lost}", file=sys.stderr)
    return 0
