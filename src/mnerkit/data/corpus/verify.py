"""Is a copy of a corpus whole? Reasons why not, and remarks that are no faults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mnerkit.data.corpus.catalogue import CORPORA
from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.corpus_files import SPLITS
from mnerkit.data.corpus.oddities import odd_pictures, odd_types, repeated_texts
from mnerkit.data.corpus.releases import table
from mnerkit.data.corpus.stats import broken_pictures, corpus_stats, shared


@dataclass
class Verdict:
    """What `verify` found.

    Attributes:
        reasons: faults; the corpus is not whole.
        remarks: things to know, none of them a fault.
    """

    reasons: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def verify(corpus: Corpus, pictures: bool = True) -> Verdict:
    """Compare a corpus with what is known of it.

    Faults are: splits without a file, pictures that are missing or broken, ids in more than one split, posts without
    words, ids that repeat, and for a corpus known by name another number of posts (or pictures) than the papers print,
    as a file that was cut short or read wrongly has. Malformed files have raised before, on loading.

    Remarks are: how files of other layouts were read, an unknown release (for a corpus known by name), entity counts
    that differ from the papers' tables (relabelled releases do), orphan tags, equal texts in two splits or in one, odd
    types and pictures (`oddities`), pictures without a caption.

    Args:
        corpus: all of its splits that are there.
        pictures: whether to look at the pictures; without, a copy for text or captions alone can be whole.
    """
    verdict = Verdict(remarks=list(corpus.remarks))
    stats = corpus_stats(corpus, pictures=False)
    if absent := [split for split in SPLITS if corpus.files and split not in corpus.files]:
        there = ", ".join(f"{split} {len(posts)}" for split, posts in corpus.splits.items())
        verdict.reasons.append(
            f"no {' and no '.join(absent)} split, which training needs; posts that are there: {there}"
        )
    if corpus.name in CORPORA and corpus.name != "probe":
        _release(corpus, verdict)
        _printed(corpus.name, stats, verdict)
    for id_, places in list(shared(corpus.splits, lambda post: post.id).items())[:1]:
        verdict.reasons.append(
            f"{stats['shared_ids']} ids are in more than one split, the first is {id_!r} ({', '.join(places)})"
        )
    counts = corpus.counts
    if counts.get("without_words"):
        verdict.reasons.append(f"{counts['without_words']} posts have no words (they are left out)")
    if counts.get("repeated_ids"):
        verdict.reasons.append(f"{counts['repeated_ids']} ids repeat within a split (their posts are renamed)")
    if pictures:
        _pictures(corpus, verdict)
    if counts.get("orphans") or counts.get("switches"):
        verdict.remarks.append(
            f"{counts['orphans']} I- tags after O and {counts['switches']} after another type are kept; lenient"
            " chunking starts an entity at each, strict chunking ignores them"
        )
    if stats["duplicates"]:
        verdict.remarks.append(f"texts that are in more than one split, under different ids: {stats['duplicates']}")
    if corpus.name != "probe":  # generated posts repeat by design
        verdict.remarks += odd_types(corpus) + repeated_texts(corpus) + (odd_pictures(corpus) if pictures else [])
    if corpus.captions is not None and counts.get("without_caption"):
        verdict.remarks.append(f"{corpus.captions} lacks the captions of {counts['without_caption']} pictures")
    return verdict


def _release(corpus: Corpus, verdict: Verdict) -> None:
    releases = [name for name, release in table()["releases"].items() if release["corpus"] == corpus.name]
    if corpus.release is not None:
        verdict.remarks.append(f"release {corpus.release}, from {table()['releases'][corpus.release]['source']}")
    elif releases:
        verdict.remarks.append(f"digest {corpus.digest[:16]} is of no release that is known ({', '.join(releases)})")
    else:
        verdict.remarks.append(f"no digest of {corpus.name} is on record; the counts alone are compared")


def _printed(name: str, stats: dict[str, Any], verdict: Verdict) -> None:
    printed = table()["printed"][name]
    differences = []
    for place, split in enumerate(SPLITS):
        figures = stats["splits"].get(split)
        if figures is None:
            continue
        if figures["posts"] != printed["posts"][place]:
            verdict.reasons.append(f"{split} has {figures['posts']} posts, {printed['by']}: {printed['posts'][place]}")
        images = sum(figures["images"].values())
        if "images" in printed and images != printed["images"][place]:
            verdict.reasons.append(f"{split} names {images} pictures, {printed['by']}: {printed['images'][place]}")
        for kind, count in figures["entities"]["strict"].items():
            if kind in printed and count != printed[kind][place]:
                differences.append(f"{split} {kind} {count} ({printed[kind][place]})")
    if differences:
        verdict.remarks.append(
            f"entities, strict, that differ from {printed['by']} (in brackets): {', '.join(differences)}"
        )
        verdict.remarks.extend(table()["notes"].get(name, []))
    elif len(stats["splits"]) == len(SPLITS):
        verdict.remarks.append(f"all entity counts (strict) equal {printed['by']}")


def _pictures(corpus: Corpus, verdict: Verdict) -> None:
    posts = [post for each in corpus.splits.values() for post in each]
    missing = [ref.name for post in posts for ref in post.images if not ref.present]
    if missing:
        total = sum(len(post.images) for post in posts)
        where = (
            ", ".join(str(folder) for folder in corpus.folders) or f"no folder called {corpus.name}_images or images"
        )
        reason = f"{len(missing)} of {total} pictures are missing, the first is {missing[0]}; looked in {where}"
        source = table()["images"].get(corpus.name)
        verdict.reasons.append(f"{reason}; {source}" if source else reason)
    broken = broken_pictures(posts)
    if broken:
        verdict.reasons.append(f"{len(broken)} pictures are broken:")
        shown = [f"  {problem}".replace("\n", " ") for problem in list(broken.values())[:20]]
        more = [f"  and {len(broken) - 20} more"] if len(broken) > 20 else []
        verdict.reasons += shown + more
