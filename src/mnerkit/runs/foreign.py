"""Scores of predictions that another program wrote, on a corpus or on gold posts of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnerkit.atomic_files import write_json, write_lines, write_text
from mnerkit.data.corpus.catalogue import CORPORA
from mnerkit.data.corpus.corpus import check_disjoint, load_corpus, renamed_types
from mnerkit.data.corpus.foreign_columns import Columns
from mnerkit.data.corpus.post import Entity, Post
from mnerkit.data.corpus.readers import read_posts
from mnerkit.data.corpus.records import RecordNotes
from mnerkit.data.corpus.releases import combined_digest, content_digest
from mnerkit.data.corpus.tags import entities
from mnerkit.errors import DataError, UsageError, did_you_mean
from mnerkit.plain_yaml import yaml_text
from mnerkit.printable import printable, show
from mnerkit.release import RELEASE
from mnerkit.runs import identity
from mnerkit.runs.new_folder import filling, new_folder
from mnerkit.runs.reporting import Report, summary
from mnerkit.runs.run_folder import RunFolder
from mnerkit.scoring.comparison import Answer, compare, read_answers
from mnerkit.scoring.counts import entity_scores, prf
from mnerkit.scoring.foreign_predictions import aligned, gold_of, read_predictions
from mnerkit.scoring.intervals import counts_by_unit, episode_scores
from mnerkit.scoring.significance import SAMPLES
from mnerkit.text_table import table


@dataclass(frozen=True)
class GoldPosts:
    """The posts that predictions are scored on.

    Attributes:
        name: of the corpus, or of the file.
        posts: with their tags.
        protocol: what a score's signature says of them.
        train_entities: words and type of each entity of the training posts; None where these are not known.
        remarks: lines about how the file was read.
    """

    name: str
    posts: Sequence[Post]
    protocol: Mapping[str, Any]
    train_entities: frozenset[tuple[tuple[str, ...], str]] | None = None
    remarks: Sequence[str] = ()


def score_predictions(
    predictions: str | Path,
    gold: str | Path | None = None,
    *,
    split: str = "test",
    root: str | Path | None = None,
    variant: str | None = None,
    columns: str | None = None,
    against: str | Path | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    report: Report = show,
) -> dict[str, Any]:
    r"""Score a file of predictions that any program wrote. `mnerkit score` from Python.

    Args:
        predictions: columns whose last one is the predicted tag, or JSON lines with entities or tags.
        gold: a corpus, or a file of posts; default: the gold column of the predictions.
        split: of the corpus, `dev` or `test`.
        root: the folder that holds the corpora.
        variant: of the corpus.
        columns: which columns of the gold files are read, `word,_,_,tag`; recognised where None.
        against: a run, or another file of predictions of the same posts, to be tested against.
        name: what the system is called; default: the name of the file.
        out: folder of a run that is made of the predictions, for `mnerkit runs` and `mnerkit report`.
        overwrite: replace a run in that folder.
        report: takes the table of scores.

    Returns:
        Scores by name under the split's, `protocol` and `foreign`; with `against` also `comparison`, in which A is what
        the file is compared with.

    Raises:
        UsageError: no such corpus or split, or a folder that is not free.
        DataError: a file can't be read, or its posts are not those that are scored; the message names the first.

    Examples:
        Columns of word, gold tag and predicted tag, as for conlleval:

        >>> columns = "Ada B-PER B-PER\nflies O O\nto O O\nLima B-LOC B-ORG\n"
        >>> _ = Path("system.txt").write_text(columns)
        >>> scores = mnerkit.score_predictions("system.txt", report=lambda line: None)
        >>> scores["test"]["f1"], scores["test"]["type/PER/f1"]
        (50.0, 100.0)
    """
    path = Path(predictions)
    if not path.is_file():
        raise DataError(f"no file {path}")
    folder = None if out is None else new_folder(out, overwrite)
    predicted = read_predictions(path)
    if gold is None:
        if columns is not None:
            raise UsageError("--columns names those of gold files; give --gold, too")
        own = gold_of(predicted, path)
        posts = GoldPosts(str(path), own, _protocol(path.stem, own))
    else:
        posts = _gold(gold, split, root, variant, columns)
    for remark in posts.remarks:
        report(remark)
    tags = aligned(predicted, posts.posts, posts.name)
    scores = _scores(posts, tags)
    system = name or path.stem
    record = {"name": system, "file": path.name, "content": identity.content_now(str(path))}
    result: dict[str, Any] = {"plugin": system, "protocol": dict(posts.protocol), "foreign": record, split: scores}
    answers = _answers(posts, tags)
    if against is not None:
        result["comparison"] = _compared(against, split, posts, answers)
    if folder is not None:
        _write(folder, result, split, posts, tags, overwrite)
    for line in _lines(result, split, posts):
        report(line)
    if folder is not None:
        report(f"run {folder.path}")
    return result


# ------------------------------------------------------------------ gold posts


def _gold(gold: str | Path, split: str, root: str | Path | None, variant: str | None, columns: str | None) -> GoldPosts:
    """The posts of a corpus's split, or of a file.

    Raises:
        UsageError: there is no such corpus, split or file.
    """
    if Path(gold).is_file() and str(gold) not in CORPORA:
        if root is not None or variant is not None:
            raise UsageError(f"--gold {gold} is a file: --root and --variant have no effect on it")
        notes, chosen = RecordNotes(), None if columns is None else Columns.parse(columns)
        posts = [renamed_types(post) for post in read_posts(Path(gold), None, None, notes, chosen)]
        remarks = [f"{gold}: {remark}" for remark in notes.remarks()]
        return GoldPosts(str(gold), posts, _protocol(Path(gold).stem, posts), remarks=remarks)
    if split not in ("dev", "test"):
        raise UsageError(f"no split {split!r} to score: dev or test.{did_you_mean(split, ('dev', 'test'))}")
    corpus = load_corpus(str(gold), root, variant, captions="none", splits=("train", split), columns=columns)
    train, scored = corpus.splits["train"], corpus.splits[split]
    check_disjoint(train, scored)
    train_entities = frozenset(
        (post.words[span.start : span.end], span.type) for post in train for span in _gold_spans(post)
    )
    protocol = {**corpus.header, "types": list(corpus.types), "posts": len(scored), "episodic": False}
    return GoldPosts(f"{corpus.name} {split}", scored, protocol, train_entities, corpus.remarks)


def _protocol(name: str, posts: Sequence[Post]) -> dict[str, Any]:
    types = sorted({span.type for post in posts for span in _gold_spans(post)})
    digest = combined_digest({"gold": content_digest(posts)})
    return {
        **{"corpus": name, "variant": "default", "release": None, "digest": digest},
        **{"types": types, "posts": len(posts), "episodic": False},
    }


def _gold_spans(post: Post) -> list[Entity]:
    return entities(post.tags or ())


# ------------------------------------------------------------------ scores


def _scores(gold: GoldPosts, tags: Sequence[Sequence[str]]) -> dict[str, float]:
    """Scores, with the interval of F1 over posts, and of entities that training posts have or lack where known."""
    own = [list(post.tags or ()) for post in gold.posts]
    scores: dict[str, float] = entity_scores(own, tags)
    interval = episode_scores(counts_by_unit(range(len(own)), own, tags), SAMPLES)  # of posts: each is a unit
    scores |= {key: interval[key] for key in ("f1_low", "f1_high")}
    if gold.train_entities is None:
        return scores
    counts = {"seen": [0, 0, 0], "unseen": [0, 0, 0]}
    for post, predicted in zip(gold.posts, tags, strict=True):
        gold_spans, predicted_spans = set(_gold_spans(post)), set(entities(predicted))
        for column, group in enumerate((gold_spans, predicted_spans, gold_spans & predicted_spans)):
            for span in group:
                in_training = (post.words[span.start : span.end], span.type) in gold.train_entities
                counts["seen" if in_training else "unseen"][column] += 1
    for kind, row in counts.items():
        precision, recall, f1 = prf(*row)
        scores |= {f"{kind}/f1": f1, f"{kind}/precision": precision, f"{kind}/recall": recall, f"{kind}/gold": row[0]}
    return scores


def _answers(gold: GoldPosts, tags: Sequence[Sequence[str]]) -> list[Answer]:
    return [
        Answer(post.id, post.words, frozenset(_gold_spans(post)), frozenset(entities(own)))
        for post, own in zip(gold.posts, tags, strict=True)
    ]


def _compared(against: str | Path, split: str, gold: GoldPosts, answers: list[Answer]) -> dict[str, Any]:
    """The comparison with a run, or with another file of predictions.

    Raises:
        DataError: it has no predictions, or those of other posts.
    """
    path = Path(against)
    if path.is_dir():
        file = RunFolder(path).existing().path / f"predictions.{split}.jsonl"
        if not file.is_file():
            raise DataError(f"{path} has no predictions of {split!r}")
        others = read_answers(file)
        if others[0].episode is None:  # a run's are in order of their ids
            order = {post.id: place for place, post in enumerate(gold.posts)}
            others = sorted(others, key=lambda answer: order.get(answer.id, len(order)))
    elif path.is_file():
        others = _answers(gold, aligned(read_predictions(path), gold.posts, gold.name))
    else:
        raise DataError(f"--against {path}: neither a run nor a file")
    return {"a": [str(path)], "b": ["these predictions"], "split": split, **compare([(others, answers)])}


# ------------------------------------------------------------------ what is written and shown


def _write(
    folder: RunFolder,
    result: Mapping[str, Any],
    split: str,
    gold: GoldPosts,
    tags: Sequence[Sequence[str]],
    overwrite: bool,
) -> None:
    """Write a run's folder without a checkpoint."""
    protocol = result["protocol"]
    config = {
        "plugin": result["plugin"],
        "seed": None,
        "data": {"corpus": protocol["corpus"], "variant": protocol["variant"]},
    }
    rows = (
        {
            "id": post.id,
            "words": list(post.words),
            "entities": list(post.records(entities(own))),
            "gold": [[span.start, span.end, span.type] for span in _gold_spans(post)],
        }
        for post, own in zip(gold.posts, tags, strict=True)
    )
    metrics = {"plugin": result["plugin"], "ablation": None, "seed": None, "epochs": None, "best_epoch": None}
    with filling(folder, overwrite):
        write_text(folder.config_file, yaml_text(config))
        write_lines(folder.path / f"predictions.{split}.jsonl", rows)
        write_json(folder.path / "env.json", {"mnerkit": RELEASE})
        write_json(folder.metrics_file, metrics | {key: result[key] for key in ("protocol", "foreign", split)})


def _lines(result: Mapping[str, Any], split: str, gold: GoldPosts) -> list[Any]:
    scores, protocol = result[split], result["protocol"]
    lines: list[Any] = [summary({split: scores})]
    lines.append(
        f"F1 {scores['f1']:.2f}, 95 % interval {scores['f1_low']:.2f} to {scores['f1_high']:.2f} "
        f"(bootstrap over posts, {SAMPLES:,} draws)"
    )
    if "seen/f1" in scores:
        body = [
            [kind, scores[f"{kind}/gold"], *(scores[f"{kind}/{score}"] for score in ("f1", "precision", "recall"))]
            for kind in ("seen", "unseen")
        ]
        lines.append(printable("", table(["entities of training posts", "gold", "F1", "P", "R"], body)))
    lines.append("")
    which = split if gold.train_entities is not None else "all"
    lines.append(
        f"on {protocol['corpus']} ({protocol['release'] or protocol['variant']}, digest {protocol['digest'][:12]}), "
        f"{which}: {protocol['posts']} posts; F1 counts an I- without a beginning as "
        f"an entity, F1 strict does not; mnerkit {RELEASE}"
    )
    return lines
