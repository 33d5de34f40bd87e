"""`mnerkit demo CKPT`: a page on this machine where a person types a post and sees its entities."""

from __future__ import annotations

import argparse
from pathlib import Path

from mnerkit.cli.arguments import Parser, read, share
from mnerkit.printable import show

_ABOUT = """Serve a page on this machine (127.0.0.1): type a text, choose a picture, and see the entities that a
checkpoint finds, their scores, and where the method looked. Nothing that is typed is kept."""


def main(argv: list[str]) -> int:
    """Serve until the command is stopped.

    Raises:
        UsageError: an option that does not exist, a port that is taken, or a method that tags nothing.
        CheckpointError: no checkpoint, or a damaged one.
    """
    parser = Parser("mnerkit demo", description=_ABOUT, allow_abbrev=False)
    parser.add_argument("ckpt_path", metavar="CKPT", help="a checkpoint, or the folder of a run")
    parser.add_argument("--port", type=_port, default=8000, metavar="N", help="of the page (default: 8000); 0: any")
    parser.add_argument("--threshold", type=share, default=0.0, metavar="P", help="least score of an entity")
    parser.add_argument("--support", metavar="FILE", help="labelled posts in place of the checkpoint's support")
    parser.add_argument("--tower_dir", metavar="DIR", help="folder with a frozen tower's weights")
    options = read(parser, argv)
    from mnerkit.demo.answer import Demo
    from mnerkit.demo.server import DemoServer
    from mnerkit.runs.predict import load_predictor
    from mnerkit.runs.reporting import quiet

    quiet()
    support = Path(options.support) if options.support else None
    folder = support.parent if support else Path()
    predictor = load_predictor(options.ckpt_path, None, None, folder, support, options.tower_dir)
    predictor.threshold = options.threshold
    with DemoServer(Demo(predictor), options.port) as server:
        show(f"{server.address} (Ctrl-C ends it)")
        server.serve_forever()
    return 0


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 16):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 65535")
    return int(text)
