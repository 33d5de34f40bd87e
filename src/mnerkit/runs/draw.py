"""From a run's checkpoint to a figure: the method, the posts, and the file in the run's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnerkit.errors import DataError, MnerkitError, did_you_mean

if TYPE_CHECKING:
    from mnerkit.data.batches.batch import Batch
    from mnerkit.data.corpus.post import Post
    from mnerkit.methods.figures.graphs import PostGraph
    from mnerkit.runs.build import Assembly


def assembled(ckpt_path: str, dotted: Mapping[str, str | None], tower_dir: str | None) -> Assembly:
    """Data and method of a checkpoint, or of a run's best one, as `mnerkit test` puts them together.

    Args:
        ckpt_path: the checkpoint, or a run folder.
        dotted: options of the data that differ from the run's, as text by dotted name.
        tower_dir: folder with a frozen tower's weights.

    Raises:
        MnerkitError: see `checkpoint.restore`.
    """
    from mnerkit.methods import checkpoint
    from mnerkit.runs.build import Assembly
    from mnerkit.runs.config.configuration import resolve

    content = checkpoint.read(ckpt_path)
    configuration = resolve(dotted=dotted, base=content["mnerkit"]["config"])
    assembly = Assembly.of_checkpoint(content, configuration.content, tower_dir)
    assembly.data.windows = False  # maps and graphs are those of a row that the tower reads
    return assembly


def batches_of(assembly: Assembly, split: str, ids: list[str] | None = None) -> Iterator[Batch]:
    """Batches that hold the named posts as queries, or all batches of the split; only those are read.

    Raises:
        DataError: the split has no such post.
    """
    data = assembly.data
    loader = data.loader(split, share=False)
    if ids is None:
        yield from loader
        return
    names = {post.id for post in data.posts(split)}
    for name in ids:
        if name not in names:
            raise DataError(f"--post {name}: no such post in the split {split}.{did_you_mean(name, names)}")
    drawn, dataset = set[str](), loader.dataset
    for key in loader.sampler:
        here = _scored(dataset, key)
        if matches := set(ids) & {post.id for post in here}:
            drawn |= matches
            batch: Any = dataset[key]
            if isinstance(batch, MnerkitError):
                raise batch
            yield batch
    if missing := sorted(set(ids) - drawn):
        raise DataError(
            f"--post {missing[0]}: no episode of the split {split} asks for it (no entity of a type in play)"
        )


def _scored(dataset: Any, key: Any) -> list[Post]:
    """Posts that a batch of the loader scores; no picture is read for it."""
    if hasattr(dataset, "source"):
        return [dataset.source.posts[place] for place in dataset.source.episode(key).query]
    return [dataset.posts[place] for place in key]


def graphs(
    ckpt_path: str,
    split: str,
    ids: list[str] | None = None,
    dotted: Mapping[str, str | None] | None = None,
    tower_dir: str | None = None,
) -> Iterator[PostGraph]:
    """Graphs of posts before and after the update of a checkpoint's method, with what it predicts for them.

    Args:
        ckpt_path: the checkpoint, or a run folder.
        split: which posts.
        ids: posts to draw; all where None.
        dotted: options of the data that differ from the run's, as text by dotted name.
        tower_dir: folder with a frozen tower's weights.

    Raises:
        UsageError: the method's encoder traces no graph.
        DataError: the split has no posts.
    """
    import torch

    from mnerkit.methods.figures.graphs import post_graphs
    from mnerkit.runs.reporting import quiet

    quiet()
    assembly = assembled(ckpt_path, dotted or {}, tower_dir)
    method = assembly.method
    empty = True
    for batch in batches_of(assembly, split, ids):
        with torch.inference_mode():
            of_batch = list(post_graphs(method, batch.to(method.device)))
        for graph in of_batch:
            if ids is None or graph.prediction.post.id in ids:
                empty = False
                yield graph
    if empty:
        raise DataError(f"nothing of the split {split} was drawn: it has no posts")


def keep(
    kind: str,
    run: Path,
    split: str,
    ids: list[str] | None = None,
    limit: int = 8,
    dotted: Mapping[str, str | None] | None = None,
    tower_dir: str | None = None,
) -> Path:
    """Compute a figure of a run and keep it in the run's folder.

    Args:
        kind: one of `figure_file.COMPUTED`.
        run: its folder.
        split: which posts.
        ids: posts to draw; the first ones that have something to draw where None.
        limit: at most so many posts with maps.
        dotted: options of the data that differ from the run's, as text by dotted name.
        tower_dir: folder with a frozen tower's weights.

    Returns:
        The file.

    Raises:
        UsageError: the method has nothing of the kind to draw.
        DataError: no post has.
    """
    import torch

    from mnerkit.methods.figures import MOST_CELLS, maps, points
    from mnerkit.runs import figure_file
    from mnerkit.runs.reporting import quiet

    quiet()
    assembly = assembled(str(run), dotted or {}, tower_dir)
    method = assembly.method
    with torch.inference_mode(not method.tunes):
        if kind in figure_file.POINTS:
            return figure_file.write(run, kind, split, points.figure(method, batches_of(assembly, split, ids), split))

        def drawn() -> Iterator[dict[str, Any]]:
            taken = set()
            for batch in batches_of(assembly, split, ids):
                for post in maps.posts(kind, method, batch.to(method.device)):
                    # a post may be a query of several episodes
                    if post["id"] not in taken and (ids is None or post["id"] in ids):
                        taken.add(post["id"])
                        yield post

        posts = list(islice(drawn(), min(limit, figure_file.MOST_POSTS)))
    if not posts:
        raise DataError(
            f"run {run}: no {'one of these posts' if ids else f'post of the split {split}'} has something to draw "
            f"(an entity and a picture, and at most {MOST_CELLS:,} weights)"
        )
    return figure_file.write(run, kind, split, {"about": maps.ABOUT[kind], "posts": posts})
