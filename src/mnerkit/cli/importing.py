"""`mnerkit import METHOD FILE.pth --out RUN`: weights that a method's authors have released become a run."""

from __future__ import annotations

import argparse

from mnerkit import registry
from mnerkit.cli.arguments import Parser, offer, read, without_dotted
from mnerkit.cli.method_verbs import dotted_of
from mnerkit.errors import UsageError
from mnerkit.printable import show

_ABOUT = """Make a run of weights that the released code of a method's authors has saved, or that you have trained with
that code. Nothing is trained: `mnerkit predict --ckpt_path RUN` tags posts with them, `mnerkit test --ckpt_path RUN`
scores them. Methods: {methods}.

Sizes are read from the weights. What they don't tell is as the authors have it, and options say otherwise:
  --model.text NAME     tokenizer and architecture of the text tower; of a folder, config.json and tokenizer are enough
  --model.vision NAME   the vision tower; its own weights are used where the files hold none
  --model.X VALUE       any other option of the method, such as heads (`mnerkit fit --plugin METHOD --help`)
  --data.X VALUE        the corpus that the run is scored on by default: --data.corpus NAME --data.root DIR
"""


def main(argv: list[str]) -> int:
    """Import weights; return 0.

    Raises:
        UsageError: an option that does not exist, or a folder that does.
        MnerkitError: see `runs.imports.import_run`.
    """
    words, others = without_dotted(argv)
    options = read(_parser(), words)
    dotted = dotted_of("import", others)
    tags = [tag.strip() for word in options.tags or () for tag in word.split(",")]
    if options.tags and not all(tags):
        raise UsageError("--tags: give the tags with commas or blanks between, for instance --tags PAD,O,B-PER,I-PER")
    from mnerkit.runs.imports.import_run import import_released

    import_released(
        options.method,
        options.files,
        options.out,
        tags=tags,
        config=options.config,
        dotted=dotted,
        overwrite=options.overwrite,
        report=show,
    )
    return 0


def _parser() -> Parser:
    methods = [name for name, plugin in registry.plugins().items() if plugin.released_module is not None]
    parser = Parser(
        "mnerkit import",
        usage="mnerkit import METHOD FILE [FILE ...] --out RUN [options]",
        description=_ABOUT.format(methods=", ".join(methods)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    offer(parser.add_argument("method", metavar="METHOD", help="the method, by name"), methods)
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help=".pth, .pt, .bin, .ckpt or .safetensors with a state dict; several where the authors' code saves parts of "
        "the model apart (umt, maf: the model, and the ResNet)",
    )
    parser.add_argument("--out", metavar="RUN", required=True, help="folder of the new run")
    parser.add_argument(
        "--tags",
        nargs="+",
        metavar="TAG",
        help="all tags in the order of their numbers, with commas or blanks between (default: the authors'); OTHER and "
        "MIS are MISC",
    )
    parser.add_argument("--config", action="append", default=[], metavar="FILE", help="a configuration file (YAML)")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    return parser
