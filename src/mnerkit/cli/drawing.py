"""`mnerkit draw adjacency|attention|cases|relevance|tsne`."""

from __future__ import annotations

import argparse
import re
import sys
from itertools import chain, count, islice
from pathlib import Path

from mnerkit.atomic_files import write_bytes, write_text
from mnerkit.cli.arguments import Parser, below, out_file, positive, with_verbs
from mnerkit.cli.method_verbs import dotted_of
from mnerkit.data.corpus.corpus_files import SPLITS
from mnerkit.errors import MnerkitError, UsageError, first_line
from mnerkit.printable import complain, show

_ABOUT = """Figures from checkpoints and runs.

`attention`, `adjacency` and `tsne` ask the best checkpoint of each run, and keep what it says in the run's folder
(`figures/`), where `mnerkit report` finds it; --out PAGE writes one HTML page of the figures, too. They take options of
the data (--data.root DIR ...). `adjacency --ckpt_path FILE --out DIR` draws one PNG a post instead. `relevance` draws
the R that a run of plugin relevance gave to images; `cases` writes a page of posts as several runs tagged them.
"""
_VERBS = {
    "adjacency": "posts' graphs before (A) and after (A') the update, words and patches or caption words on the axes",
    "attention": "what each entity attends to: images, objects, or cells of a grid",
    "tsne": "states of the words of gold entities in a plane, by type",
    "relevance": "how R spreads over images, and R under the pictures of posts",
    "cases": "a page of posts with what each of several runs found",
}
_FEW = 8  # posts with maps
_COMPUTED = ("adjacency", "attention", "tsne")
_PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf"}


def main(argv: list[str]) -> int:
    """Run one of the verbs; return the exit code.

    Raises:
        UsageError: an option or name that does not exist.
        DataError: files that are missing or malformed, or posts that are not there.
    """
    parser, verbs = _parsers()
    arguments = below(parser, verbs, argv, dotted=_COMPUTED)
    if arguments is None:
        return 0
    options, data_options = arguments
    if options.verb == "cases":
        return _cases(options)
    if options.verb == "adjacency" and bool(options.runs) == bool(options.ckpt_path):
        raise UsageError("`mnerkit draw adjacency` takes run folders, or --ckpt_path FILE and --out DIR, not both.")
    if options.verb == "adjacency" and options.ckpt_path:
        if options.out is None:
            raise UsageError("--ckpt_path draws one PNG a post: give --out DIR, a folder for them.")
        return _adjacency(options, data_options)
    return _figures(options, data_options)


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    parser, verbs = with_verbs("mnerkit draw", _ABOUT, _VERBS)
    for name, verb in verbs.items():
        single = name == "adjacency"
        about = {"cases": "run folders with predictions of the split"}.get(name, "run folders")
        verb.add_argument("runs", nargs="*" if single else "+", metavar="RUN", help=about)
        pages = {"cases": "the HTML file to write", "adjacency": "the page, or with --ckpt_path the folder of figures"}
        out = pages.get(name, "an HTML page of the figures")
        verb.add_argument("--out", metavar="PAGE", required=name in ("cases", "relevance"), help=out)
        if single:
            verb.add_argument("--ckpt_path", metavar="FILE", help="a checkpoint or run, to draw as one PNG a post")
        if name in _COMPUTED:
            verb.add_argument("--post", metavar="ID", nargs="+", help="ids of the posts (default: the first ones)")
            verb.add_argument("--tower_dir", metavar="DIR", help="folder with a frozen tower's weights")
        if name in ("adjacency", "attention"):
            verb.add_argument("--limit", type=positive, metavar="N", help=f"at most N posts (default: {_FEW})")
        if name == "cases":
            verb.add_argument("--differ", action="store_true", help="only posts of which the runs do not say the same")
            verb.add_argument("--limit", type=positive, default=50, metavar="N", help="at most N posts (default: 50)")
        root = "folder of the corpora, for the pictures (default: the first run's)"
        verb.add_argument("--root", metavar="DIR", help=root)
        verb.add_argument("--split", default="test", choices=SPLITS, help="which posts (default: test)")
        again = "ask the checkpoint anew, and replace the page" if name in _COMPUTED else "replace what is there"
        verb.add_argument("--overwrite", action="store_true", help=again)
    return parser, verbs


def _page_file(options: argparse.Namespace) -> Path:
    """The HTML file to write.

    Raises:
        UsageError: it can't be written, or is named like a picture.
    """
    out = out_file(options.out, options.overwrite)
    if out.suffix.lower() in _PICTURES:
        raise UsageError(
            f"--out {out}: `mnerkit draw {options.verb}` writes an HTML page; give a name like {out.stem}.html"
        )
    return out


# ---------------------------------------------------------------------- figures of runs


def _figures(options: argparse.Namespace, data_options: list[str]) -> int:
    out = None if options.out is None else _page_file(options)
    runs = [Path(run) for run in options.runs]
    for run in runs:
        if not (run / "config.yaml").is_file():
            raise UsageError(f"{run} is no run folder; `mnerkit runs` lists them")
    if options.verb in _COMPUTED:
        dotted = dotted_of(f"draw {options.verb}", data_options)
        from mnerkit.runs.draw import keep
        from mnerkit.runs.figure_file import file_of

        limit = getattr(options, "limit", None)
        recompute = bool(options.overwrite or options.post or limit or data_options)
        for run in runs:
            path = file_of(run, options.verb, options.split)
            if recompute or not path.is_file():
                path = keep(options.verb, run, options.split, options.post, limit or _FEW, dotted, options.tower_dir)
            show(path)
    if out is not None:
        from mnerkit.report.page.writing import figure_page

        content, problems = figure_page(options.verb, runs, options.split, Path(options.root) if options.root else None)
        for problem in problems:
            complain(problem)
        write_text(out, content)
        show(f"wrote {out} ({len(content) / 1e6:.1f} MB)", to=sys.stderr)
    return 0


# ---------------------------------------------------------------------- a PNG a post


def _adjacency(options: argparse.Namespace, data_options: list[str]) -> int:
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; give a folder")
    from mnerkit.report.figures.graph_figure import load_figure, png

    load_figure()  # its absence is reported before a checkpoint is read
    from mnerkit.runs.draw import graphs

    dotted = dotted_of("draw adjacency", data_options)
    drawn = graphs(options.ckpt_path, options.split, options.post, dotted, options.tower_dir)
    names: set[str] = set()
    for graph in islice(drawn, options.limit or _FEW):
        target = out / _file_name(graph.prediction.post.id, graph.prediction.episode, names)
        if target.exists() and not options.overwrite:
            raise UsageError(f"{target} is there already; --overwrite replaces it")
        write_bytes(target, png(graph))
        show(target)
    return 0


def _file_name(post: str, episode: int | None, used: set[str]) -> str:
    """A plain file name for a post, whatever its id holds; no name is given twice."""
    stem = re.sub(r"[^\w.-]", "_", post).strip(".")[:80] or "post"
    of_episode = [] if episode is None else [f"{stem}-episode{episode}"]
    names = chain([stem, *of_episode], (f"{stem}-{number}" for number in count(2)))
    name = next(name for name in names if name not in used)
    used.add(name)
    return f"{name}.png"


# ---------------------------------------------------------------------- cases


def _cases(options: argparse.Namespace) -> int:
    out = _page_file(options)
    from mnerkit.report.posts import cases
    from mnerkit.report.posts.browser import corpus_posts
    from mnerkit.scoring.comparison import common_posts, differing_posts

    runs = [cases.read_run(Path(run), options.split) for run in options.runs]
    answers = [run.cases for run in runs]
    keys = common_posts([run.folder for run in runs], answers)
    shown = (differing_posts(answers, keys) if options.differ else keys)[: options.limit]
    try:
        posts = corpus_posts(runs[0].config, options.split, options.root)
    except MnerkitError as problem:
        complain(f"pictures are left out: {first_line(problem)}")
        posts = {}
    content = cases.page(runs, keys, shown, posts)
    write_text(out, content)
    show(f"wrote {out}: {len(shown)} posts ({len(content) / 1e6:.1f} MB)", to=sys.stderr)
    return 0
