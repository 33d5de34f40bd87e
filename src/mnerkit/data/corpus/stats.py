"""Counts over a corpus: as plain data, and as a table to read."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from mnerkit import text_table
from mnerkit.data.batches.needs import Needs
from mnerkit.data.batches.truncation import truncation
from mnerkit.data.corpus.corpus import Corpus, CorpusReading
from mnerkit.data.corpus.post import CorpusFacts, ImageRef, Post
from mnerkit.data.corpus.tags import Chunking, entities, orphans_and_switches
from mnerkit.data.pictures.decoding import check
from mnerkit.errors import DataError
from mnerkit.printable import Printable, printable

_DIGEST = 16  # bytes of the digest of a text or id: no two of any corpus collide
_AT_ONCE = 4096  # posts whose pictures are decoded together


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
        `broken`), `by_images` (posts by their number of images), `digest`; `duplicates` (number of texts, word by word
        the same, that are in more than one split: 7 in Twitter-2015, 1 in Twitter-2017); `shared_ids` (ids in more than
        one split); `counts` of the corpus.
    """
    counts = {split: _SplitCounts.of(posts, pictures) for split, posts in corpus.splits.items()}
    return _stats(corpus, counts, corpus.splits, needs)


def stats_of_files(reading: CorpusReading, needs_of: Callable[[CorpusFacts], Needs] | None = None) -> dict[str, Any]:
    """`corpus_stats` of all splits that have files, without ever holding their posts in memory.

    Args:
        reading: of the files, before anything was read.
        needs_of: what a text tower reads that is made for a corpus; the files are read again for it.

    Raises:
        DataError: see `load_corpus`.
    """

    def posts(split: str) -> Iterator[Post]:
        return reading.completed(reading.posts(split))

    counts = {split: _SplitCounts.of(posts(split)) for split in reading.place.files}
    corpus = reading.corpus()
    corpus.counts = reading.checked_counts()
    needs = None
    if needs_of is not None:
        needs = needs_of(CorpusFacts.of(corpus.types, posts("train") if "train" in counts else ()))
    return _stats(corpus, counts, {split: posts(split) for split in counts}, needs)


@dataclass
class _SplitCounts:
    """What is counted of the posts of a split; of each text and id only a digest is kept.

    Attributes:
        entities: by chunking rule and type.
        by_images: posts by their number of images.
        images: by state.
        texts: digests of the words of each post, of `_DIGEST` bytes.
        ids: digests of the ids.
    """

    posts: int = 0
    words: int = 0
    orphans: int = 0
    switches: int = 0
    without_entities: int = 0
    entities: dict[Chunking, Counter[str]] = field(default_factory=lambda: {"strict": Counter(), "lenient": Counter()})
    by_images: Counter[int] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    texts: bytearray = field(default_factory=bytearray)
    ids: bytearray = field(default_factory=bytearray)

    @classmethod
    def of(cls, posts: Iterable[Post], pictures: bool = True) -> _SplitCounts:
        """Count posts; see `corpus_stats`."""
        counts, stream = cls(), iter(posts)
        while some := list(islice(stream, _AT_ONCE)):
            for post in some:
                counts.add(post)
            counts.images["broken"] += len(_broken(some)) if pictures else 0
        return counts

    def add(self, post: Post) -> None:
        """Count a post, all but its broken pictures."""
        tags = post.tags or ()
        orphans, switches = orphans_and_switches(tags)
        lenient = [entity.type for entity in entities(tags)]
        irregular = orphans or switches  # without these the rules agree
        strict = [entity.type for entity in entities(tags, "strict")] if irregular else lenient
        self.posts += 1
        self.words += len(post.words)
        self.orphans += orphans
        self.switches += switches
        self.without_entities += not lenient
        for kind in lenient:
            self.entities["lenient"][kind] += 1
        for kind in strict:
            self.entities["strict"][kind] += 1
        self.by_images[len(post.images)] += 1
        for ref in post.images:
            self.images["present" if ref.present else "missing"] += 1
        self.texts += _digest("\0".join(post.words))
        self.ids += _digest(post.id)

    def record(self, types: Sequence[str], digest: str | None) -> dict[str, Any]:
        """The counts as plain data."""
        by_rule: dict[str, dict[str, int]] = {
            rule: {kind: counts[kind] for kind in types} | {"all": counts.total()}
            for rule, counts in self.entities.items()
        }
        broken = self.images["broken"]
        return {
            "posts": self.posts,
            "words": self.words,
            "entities": by_rule,
            "orphans": self.orphans,
            "switches": self.switches,
            "without_entities": self.without_entities,
            "images": {
                "present": self.images["present"] - broken,
                "missing": self.images["missing"],
                "broken": broken,
            },
            "by_images": dict(sorted(self.by_images.items())),
            "digest": digest,
        }


def _stats(
    corpus: Corpus, counts: Mapping[str, _SplitCounts], posts: Mapping[str, Iterable[Post]], needs: Needs | None
) -> dict[str, Any]:
    splits = {split: each.record(corpus.types, corpus.digests.get(split)) for split, each in counts.items()}
    if needs is not None:
        for split, record in splits.items():
            record["truncation"] = truncation(posts[split], needs).record()
    return {
        "corpus": corpus.name,
        "variant": corpus.variant,
        "digest": corpus.digest,
        "release": corpus.release,
        "types": list(corpus.types),
        "captions": None if corpus.captions is None else str(corpus.captions),
        "crops": None if corpus.crops is None else str(corpus.crops),
        "splits": splits,
        "duplicates": _in_several([each.texts for each in counts.values()]),
        "shared_ids": _in_several([each.ids for each in counts.values()]),
        "counts": dict(corpus.counts),
    }


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()


def _in_several(digests: Iterable[bytearray]) -> int:
    """How many digests are in more than one of these arrays."""
    import numpy as np  # here: other verbs that look at posts do without it

    arrays = [np.unique(np.frombuffer(each, dtype=f"S{_DIGEST}")) for each in digests]
    if not arrays:
        return 0
    return int((np.unique(np.concatenate(arrays), return_counts=True)[1] > 1).sum())


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


def broken_pictures(posts: Iterable[Post]) -> dict[str, str]:
    """Name of each picture that is there and can't be decoded, and what is wrong with it."""
    return dict(_broken(posts))


def _broken(posts: Iterable[Post]) -> list[tuple[str, str]]:
    """The same for each post that has such a picture."""
    refs = [ref for post in posts for ref in post.images if ref.path is not None]
    if not refs:
        return []
    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter's lock
        problems = list(pool.map(_problem, refs))
    return [(ref.name, problem) for ref, problem in zip(refs, problems, strict=True) if problem]


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


def _problem(ref: ImageRef) -> str | None:
    try:
        check(ref)
    except DataError as problem:
        return str(problem)
    return None
