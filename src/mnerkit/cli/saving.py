"""`mnerkit save RUN DIR`: a model in a folder that loads anywhere; `--push OWNER/NAME` commits it to the hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from mnerkit.cli.arguments import Parser, read
from mnerkit.errors import UsageError
from mnerkit.printable import show

_ABOUT = """Write a trained model into a folder that loads anywhere: weights as safetensors, options, labels and
tokenizer as JSON, and a model card (README.md) with the scores and all that they depend on. Wherever mnerkit takes a
checkpoint it takes such a folder, and the name of one on the Hugging Face hub:

  mnerkit save RUN DIR                      write the folder
  mnerkit save RUN --push OWNER/NAME        commit it to the hub, as whoever is logged in (`hf auth login`, HF_TOKEN)
  mnerkit predict DIR --text "..."          use it
  mnerkit predict OWNER/NAME@REVISION --text "..."

A frozen tower that the hub has stays a name with its revision; one of a local folder is copied."""


def main(argv: list[str]) -> int:
    """Save a model, push it, or both.

    Raises:
        UsageError: an option that does not exist, a folder that is not free, or nobody is logged in.
        CheckpointError: there is no such model, or the hub refuses it.
    """
    options = read(_parser(), argv)
    if options.folder is None and options.push is None:
        raise UsageError("`mnerkit save` needs a folder, or --push OWNER/NAME")
    if options.private and options.push is None:
        raise UsageError("--private has no effect without --push")
    if options.overwrite and options.folder is None:
        raise UsageError("--overwrite has no effect without a folder; the hub keeps former commits")
    if options.push is not None:
        from mnerkit.methods.model_hub import check_name

        check_name(options.push)
    from mnerkit.methods.predictor import Predictor
    from mnerkit.runs.reporting import quiet

    quiet()
    predictor = Predictor.from_checkpoint(options.run, options.tower_dir)
    if options.folder is not None:
        folder = predictor.save_pretrained(
            options.folder, copy_towers=options.copy_towers, overwrite=options.overwrite, name=options.push
        )
        for path in sorted(folder.iterdir()):
            show(f"{path.stat().st_size / 1e6:>10.2f} MB  {path}")
        show(f'load it with mnerkit.load("{folder}")')
    if options.push is not None:
        name = predictor.push_to_hub(options.push, private=options.private, copy_towers=options.copy_towers)
        show(f'load it with mnerkit.load("{name}")')
    return 0


def _parser() -> Parser:
    parser = Parser(
        "mnerkit save",
        usage="mnerkit save RUN [DIR] [options]",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="a run, a checkpoint, or a saved model")
    parser.add_argument("folder", metavar="DIR", nargs="?", type=Path, help="a new or empty folder")
    parser.add_argument("--push", metavar="OWNER/NAME", help="commit the model to this repository of the hub")
    parser.add_argument("--private", action="store_true", help="with --push: make a new repository private")
    parser.add_argument("--copy_towers", action="store_true", help="copy frozen towers of the hub, too")
    parser.add_argument("--tower_dir", metavar="DIR", help="folder with a frozen tower's weights")
    parser.add_argument("--overwrite", action="store_true", help="replace the model in DIR")
    return parser
