"""Counts over a corpus: as plain data, and as a table to read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mnerkit import text_table
from mnerkit.data.batches.needs import Needs
from mnerkit.data.batches.truncation import truncation
from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.tags import Chunking, entities, orphans, switches
from mnerkit.data.pictures.decoding import check
from mnerkit.errors import DataError
from mnerkit.printable import Printable, printable


def corpus_stats(corpus: Corpus, pictures: bool = True, needs: Needs | None = None) -> dict[str, Any]:
    """Statistics of a corpus, as plain data.

    Args:
        corpus: the corpus.
        pictures: whether to decode every picture, to tell the broken ones; else they count as present.
        needs: what a text tower reads, to count what its length limit takes from each split (`truncation`).

    Returns:
        `corpus`, `variant`, `digest`, `release`, `types`, `captions`, `crops`; `splits`: for each split `posts`,
        `words`, `entities` (`strict` and `lenient`: number by type and `all`), `orphans` (`I-` tags after O),
        `switches` (`I-` tags after another type), `without_entities` (posts), `images` (`present`, `missing`,
        `broken`), `by_images` (posts by their number of images), `digest`; `duplicates` (number of `duplicate_texts`);
        `shared_ids` (ids in more than one split); `counts` of the corpus.
    """
    splits = {}
    for split, posts in corpus.splits.items():
        splits[split] = {
            "posts": len(posts),
            "words": sum(len(post.words) for post in posts),
            "entities": {"strict": _entities(posts, corpus, "strict"), "lenient": _entities(posts, corpus, "lenient")},
            "orphans": sum(orphans(post.tags or ()) for post in posts),
            "switches": sum(switches(post.tags or ()) for post in posts),
            "without_entities": sum(not entities(post.tags or ()) for post in posts),
            "images": _images(posts, pictures),
            "by_images": dict(sorted(Counter(len(post.images) for post in posts).items())),
            "digest": corpus.digests.get(split),
        }
        if needs is not None:
            splits[split]["truncation"] = truncation(posts, needs).record()
    return {
        "corpus": corpus.name,
        "variant": corpus.variant,
        "digest": corpus.digest,
        "release": corpus.release,
        "types": list(corpus.types),
        "captions": None if corpus.captions is None else str(corpus.captions),
        "crops": None if corpus.crops is None else str(corpus.crops),
        "splits": splits,
        "duplicates": len(duplicate_texts(corpus.splits)),
        "shared_ids": len(shared(corpus.splits, lambda post: post.id)),
        "counts": dict(corpus.counts),
    }


def shared(splits: dict[str, list[Post]], key: Any) -> dict[Any, dict[str, list[str]]]:
    """Keys that posts of more than one split have: the ids of these posts by split.

    Args:
        splits: posts by split.
        key: function of a post.
    """
    ids_by_key: dict[Any, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for split, posts in splits.items():
        for post in posts:
            ids_by_key[key(post)][split].append(post.id)
    return {shared_key: dict(ids) for shared_key, ids in ids_by_key.items() if len(ids) > 1}


def duplicate_texts(splits: dict[str, list[Post]]) -> dict[tuple[str, ...], dict[str, list[str]]]:
    """Groups of posts with exactly the same words, of which at least two lie in different splits.

    Repetition within one split is not counted. There are 7 such groups in Twitter-2015 and 1 in Twitter-2017.
    """
    return shared(splits, lambda post: post.words)


def broken_pictures(posts: Iterable[Post]) -> dict[str, str]:
    """Name of each picture that is there and can't be decoded, and what is wrong with it."""
    refs = [ref for post in posts for ref in post.images if ref.path is not None]
    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
        problems = list(pool.map(_problem, refs))
    return {ref.name: problem for ref, problem in zip(refs, problems, strict=True) if problem}


def table(stats: dict[str, Any]) -> Printable:
    """The statistics of `corpus_stats` as text."""
    splits = stats["splits"]
    rows: list[list[Any]] = []
    rows.append(["posts", *(each["posts"] for each in splits.values())])
    rows.append(["words", *(each["words"] for each in splits.values())])
    for rule in ("strict", "lenient"):
        rows.append([f"entities, {rule}", *(each["entities"][rule]["all"] for each in splits.values())])
        rows += [[f"  {kind}", *(each["entities"][rule][kind] for each in splits.values())] for kind in stats["types"]]
    rows.append(["orphan I- tags", *(each["orphans"] for each in splits.values())])
    rows.append(["I- tags after another type", *(each["switches"] for each in splits.values())])
    rows.append(["posts without entities", *(each["without_entities"] for each in splits.values())])
    for state in ("present", "missing", "broken"):
        rows.append([f"images {state}", *(each["images"][state] for each in splits.values())])
    for number in sorted({number for each in splits.values() for number in each["by_images"]}):
        what = f"posts with {number} image{'s' * (number != 1)}"
        rows.append([what, *(each["by_images"].get(number, 0) for each in splits.values())])
    rows += _of_length([each.get("truncation") or {} for each in splits.values()])
    counts = stats["counts"]
    notes = [
        ("duplicate texts", f"{stats['duplicates']} across splits"),
        ("shared ids", f"{stats['shared_ids']} ids in more than one split" if stats["shared_ids"] else ""),
        ("labels", f"{counts['mapped_labels']:,} tags renamed to MISC" if counts.get("mapped_labels") else ""),
        ("left out", f"{counts['without_words']} posts without words" if counts.get("without_words") else ""),
        ("renamed", f"{counts['repeated_ids']} repeated ids" if counts.get("repeated_ids") else ""),
        ("captions", _captions(stats)),
        ("crops", stats["crops"] or ""),
        ("digest", stats["digest"]),
        ("release", stats["release"] or "none that is known"),
    ]
    variant = "" if stats["variant"] == "default" else f", variant {stats['variant']}"
    body = text_table.table([f"{stats['corpus']}{variant}", *splits], rows)
    return printable(body, "", *(f"{name:<16}{text}" for name, text in notes if text))


def _of_length(counts: list[dict[str, Any]]) -> list[list[Any]]:
    """Rows about posts that are longer than the tower reads; none without a tower."""
    if not all(counts):
        return []
    limit = counts[0]["limit"]
    what = "posts longer than the tower reads" if limit is None else f"posts longer than {limit} pieces"
    names = {"long_posts": what, "words_unread": "  words unread", "entities_lost": "  entities lost"}
    names |= {"entities_cut": "  entities lost in part", "captions_cut": "captions cut as second segment"}
    return [[text, *(each[name] for each in counts)] for name, text in names.items()]


def _captions(stats: dict[str, Any]) -> str:
    if stats["captions"] is None:
        return ""
    lacking = stats["counts"].get("without_caption")
    return stats["captions"] + (f", lacks {lacking:,} pictures" if lacking else "")


def _entities(posts: list[Post], corpus: Corpus, chunking: Chunking) -> dict[str, int]:
    counts = dict.fromkeys((*corpus.types, "all"), 0)
    for post in posts:
        for entity in entities(post.tags or (), chunking):
            counts[entity.type] += 1
            counts["all"] += 1
    return counts


def _images(posts: list[Post], pictures: bool) -> dict[str, int]:
    broken = broken_pictures(posts) if pictures else {}
    refs = [ref for post in posts for ref in post.images]
    missing = sum(not ref.present for ref in refs)
    bad = sum(ref.name in broken for ref in refs)
    return {"present": len(refs) - missing - bad, "missing": missing, "broken": bad}


def _problem(ref: ImageRef) -> str | None:
    try:
        check(ref)
    except DataError as problem:
        return str(problem)
    return None
