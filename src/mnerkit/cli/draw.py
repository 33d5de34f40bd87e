"""`mnerkit draw adjacency|cases`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnerkit.cli.arguments import Parser, positive
from mnerkit.data.layout import SPLITS
from mnerkit.errors import DataError, MnerkitError, UsageError, did_you_mean
from mnerkit.runs import write_bytes, write_text

if TYPE_CHECKING:
    from mnerkit.cli.assembly import Assembly
    from mnerkit.data.batch import Batch
    from mnerkit.data.post import Post
    from mnerkit.report.cases import RunCases

_ABOUT = """Figures from checkpoints and runs.

`adjacency` draws, for posts of a split, the picture with its grid beside the graph before (A) and after (A') the
update, words and patches (or caption words) on the axes. It takes options of the data, too (--data.root DIR ...).
`cases` writes a page of the same posts as several runs tagged them.
"""


def main(argv: list[str]) -> int:
    """Run one of the verbs; return the exit code.

    Raises:
        UsageError: an option or name that does not exist.
        DataError: files that are missing or malformed, or posts that are not there.
    """
    parser, verbs = _parsers()
    word = next((each for each in argv if not each.startswith("-")), None)
    if word is not None and word not in verbs:
        raise UsageError(f"no verb {word!r} of mnerkit draw: {', '.join(verbs)}.{did_you_mean(word, verbs)}")
    options, rest = parser.parse_known_args(argv)
    if options.verb is None:
        parser.print_help()
        return 0
    # what is left over must be options of the data, and where nothing is trained there are none
    dotted = options.verb == "adjacency"
    for each in rest:
        if each.startswith("--") and not (dotted and "." in each):
            known = [name for action in verbs[options.verb]._actions for name in action.option_strings]
            name = each.split("=")[0]
            raise UsageError(f"no option {name!r} of mnerkit draw {options.verb}.{did_you_mean(name, known)}")
    if rest and not dotted:
        raise UsageError(f"no argument {rest[0]!r} of mnerkit draw {options.verb}")
    return _adjacency(options, rest) if dotted else _cases(options)


def _parsers() -> tuple[Parser, dict[str, Parser]]:
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser("mnerkit draw", description=_ABOUT, formatter_class=raw, allow_abbrev=False)
    below = parser.add_subparsers(dest="verb", metavar="VERB")
    abouts = {
        "adjacency": "a post's picture beside its graph before and after the update, one PNG a post",
        "cases": "a page of posts with what each of several runs found",
    }
    verbs: dict[str, Parser] = {}
    for name, about in abouts.items():
        verbs[name] = below.add_parser(name, help=about, description=about.capitalize() + ".", allow_abbrev=False)
    verb = verbs["adjacency"]
    verb.add_argument("--ckpt_path", metavar="FILE", required=True, help="a checkpoint, or a run folder with best.ckpt")
    verb.add_argument("--post", metavar="ID", nargs="+", help="ids of the posts (default: the first ones)")
    verb.add_argument("--out", metavar="DIR", required=True, help="folder of the figures; made where it is missing")
    verb.add_argument("--tower_dir", metavar="DIR", help="folder with a frozen tower's weights")
    verb.add_argument("--limit", type=positive, default=8, metavar="N", help="at most N figures (default: 8)")
    verb = verbs["cases"]
    verb.add_argument("runs", nargs="+", metavar="RUN", help="run folders with predictions of the split")
    verb.add_argument("--out", metavar="PAGE", required=True, help="the HTML file to write")
    verb.add_argument(
        "--root", metavar="DIR", help="folder of the corpora, for the pictures (default: the first run's)"
    )
    verb.add_argument("--differ", action="store_true", help="only posts of which the runs do not say the same")
    verb.add_argument("--limit", type=positive, default=50, metavar="N", help="at most N posts (default: 50)")
    for verb in verbs.values():
        verb.add_argument("--split", default="test", choices=SPLITS, help="which posts (default: test)")
        verb.add_argument("--overwrite", action="store_true", help="replace what is there")
    return parser, verbs


# ---------------------------------------------------------------------- adjacency


def _adjacency(options: argparse.Namespace, rest: list[str]) -> int:
    out = Path(options.out)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; give a folder")
    from mnerkit.report.graph_figure import load_figure, png

    load_figure()  # its absence is told before a checkpoint is read
    from mnerkit.cli.training import quiet

    quiet()
    import torch

    from mnerkit.report.graphs import post_graphs

    assembly = _assembly(options, rest)
    drawn = 0
    taken: set[str] = set()
    for batch in _batches(assembly, options.split, options.post):
        with torch.inference_mode():
            for graph in post_graphs(assembly.method, batch.to(assembly.method.device)):
                if drawn == options.limit or (options.post and graph.post.id not in options.post):
                    continue
                target = out / _file_name(graph.post.id, graph.episode, taken)
                if target.exists() and not options.overwrite:
                    raise UsageError(f"{target} is there already; --overwrite replaces it")
                write_bytes(target, png(graph))
                print(target)
                drawn += 1
        if drawn == options.limit:
            break
    if not drawn:
        raise DataError(f"nothing of the split {options.split} was drawn: it has no posts")
    return 0


def _assembly(options: argparse.Namespace, rest: list[str]) -> Assembly:
    """Data and tagger of the checkpoint, as `mnerkit test` puts them together."""
    from mnerkit.cli import options as configuration
    from mnerkit.cli.assembly import Assembly
    from mnerkit.tagging import checkpoint

    request = configuration.parse("draw adjacency", rest)
    content = checkpoint.read(options.ckpt_path)
    configuration.resolve(request, base=content["mnerkit"]["config"])
    assembly = Assembly.of(request.config, None, [], curve=False)
    checkpoint.restore(assembly.method, content, options.tower_dir)
    assembly.connect()
    return assembly


def _batches(assembly: Assembly, split: str, ids: list[str] | None) -> Iterator[Batch]:
    """Batches that hold the asked posts as queries, or all batches of the split; only those are read."""
    data = assembly.data
    loader = data.loader(split, share=False)
    if ids is None:
        yield from loader
        return
    known = {post.id for post in data.posts(split)}
    for name in ids:
        if name not in known:
            raise DataError(f"--post {name}: no such post in the split {split}.{did_you_mean(name, known)}")
    wanted, seen, dataset = set(ids), set(), loader.dataset
    for key in loader.sampler:
        here = _scored(dataset, key)
        if found := wanted & {post.id for post in here}:
            seen |= found
            batch: Any = dataset[key]
            if isinstance(batch, MnerkitError):
                raise batch
            yield batch
    if missing := sorted(wanted - seen):
        raise DataError(
            f"--post {missing[0]}: no episode of the split {split} asks for it (no entity of a type in play)"
        )


def _scored(dataset: Any, key: Any) -> list[Post]:
    """Posts that a batch of the loader scores, told without reading pictures."""
    if hasattr(dataset, "source"):
        return [dataset.source.posts[place] for place in dataset.source.episode(key).query]
    return [dataset.posts[place] for place in key]


def _file_name(post: str, episode: int | None, taken: set[str]) -> str:
    """A plain file name for a post, whatever its id holds; no name is given twice."""
    stem = re.sub(r"[^\w.-]", "_", post).strip(".")[:80] or "post"
    name, number = stem, 1
    if episode is not None and name in taken:
        name = f"{stem}-episode{episode}"
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name)
    return f"{name}.png"


# ---------------------------------------------------------------------- cases


def _cases(options: argparse.Namespace) -> int:
    out = Path(options.out)
    if out.is_dir():
        raise UsageError(f"{out} is a folder.\nGive --out the name of a file.")
    if out.exists() and not options.overwrite:
        raise UsageError(f"{out} exists.\nGive --overwrite to replace it, or another --out.")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent} to write {out.name} into.")
    from mnerkit.report import cases

    runs = [cases.read_run(Path(run), options.split) for run in options.runs]
    keys = cases.common(runs)
    if options.differ:
        keys = cases.differing(runs, keys)
    posts = _posts(runs[0], options)
    content = cases.page(runs, keys, posts, options.limit)
    write_text(out, content)
    print(f"wrote {out}: {min(len(keys), options.limit)} posts ({len(content) / 1e6:.1f} MB)", file=sys.stderr)
    return 0


def _posts(run: RunCases, options: argparse.Namespace) -> dict[str, Post]:
    """The corpus's posts by id, for their pictures; without the corpus there are none, and that is said."""
    from mnerkit.data.corpora import load_corpus

    data = run.data
    try:
        corpus = load_corpus(
            str(data.get("corpus", "probe")),
            options.root or data.get("root"),
            data.get("variant"),
            splits=(options.split,),
            limit=data.get("limit"),
        )
    except MnerkitError as problem:
        print(f"mnerkit: pictures are left out: {str(problem).splitlines()[0]}", file=sys.stderr)
        return {}
    return {post.id: post for post in corpus.splits[options.split]}
