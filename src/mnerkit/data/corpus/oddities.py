"""What is odd in a corpus, though no fault: types, repeated texts, pictures that serve many posts. For `verify`."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.corpus.same_post import MANY, file_digest
from mnerkit.data.corpus.tags import entities
from mnerkit.data.pictures.decoding import decode, picture_size
from mnerkit.errors import DataError

CROP = 224  # pixels: the side of what most vision towers read
_FLAT = 0.05  # bytes a pixel: a picture of one colour takes less


def odd_types(corpus: Corpus) -> list[str]:
    """Remarks about entity types that are rare, in some splits alone, or look like a slip."""
    counts = {
        split: Counter(entity.type for post in posts for entity in entities(post.tags or (), "lenient"))
        for split, posts in corpus.splits.items()
    }
    total = sum(counts.values(), Counter[str]())
    remarks = []
    for kind in sorted(total):
        splits = [split for split in counts if counts[split][kind]]
        where = f"{' and '.join(splits)} alone" if len(splits) < len(counts) else "all splits"
        if len(splits) == 1 or (len(splits) < len(counts) and "train" not in splits):
            remarks.append(f"type {kind!r} is in {where} ({total[kind]} entit{'y' if total[kind] == 1 else 'ies'})")
        elif total[kind] == 1:
            remarks.append(f"type {kind!r} has one entity")
        if "," in kind or " " in kind or kind[:2] in ("B-", "I-"):
            remarks.append(f"type {kind!r} looks like two tags in one ({total[kind]} entities)")
    alike = defaultdict(list)
    for kind in sorted(total):
        alike[kind.casefold()].append(f"{kind} ({total[kind]})")
    remarks += [f"types that differ by case alone: {', '.join(kinds)}" for kinds in alike.values() if len(kinds) > 1]
    return remarks


def repeated_texts(corpus: Corpus) -> list[str]:
    """A remark about posts that repeat the words of another one of their split."""
    repeats = {split: len(posts) - len({post.words for post in posts}) for split, posts in corpus.splits.items()}
    shown = ", ".join(f"{split} {count}" for split, count in repeats.items() if count)
    return [f"posts with the words of another one of their split: {shown}"] if shown else []


def odd_pictures(corpus: Corpus) -> list[str]:
    """Remarks about files that serve several posts, are of one colour, or are smaller than the usual crop."""
    refs = {ref.name: ref for posts in corpus.splits.values() for post in posts for ref in post.images if ref.path}
    names: dict[str, list[str]] = defaultdict(list)
    for name, ref in refs.items():
        if ref.path is not None and (digest := file_digest(ref.path)):
            names[digest].append(name)
    uses = Counter(ref.name for posts in corpus.splits.values() for post in posts for ref in post.images)
    several = [group for group in names.values() if len(group) > 1]
    many = {digest: count for digest, group in names.items() if (count := sum(uses[name] for name in group)) > MANY}
    remarks = []
    if several:
        first = max(several, key=len)
        remarks.append(
            f"{sum(map(len, several))} pictures are {len(several)} files under several names; "
            f"one of them has {len(first)} names ({', '.join(first[:2])} ...)"
        )
    if many:
        most = max(many, key=lambda digest: many[digest])
        remarks.append(
            f"{len(many)} pictures serve more than {MANY} posts each, as stand-ins do: "
            f"{names[most][0]} serves {many[most]}"
        )
    sizes = {name: size for name, ref in refs.items() if (size := picture_size(ref)) is not None}
    small = [name for name, size in sizes.items() if min(size) < CROP]
    if small:
        remarks.append(f"{len(small)} of {len(sizes)} pictures are smaller than {CROP} pixels, the first is {small[0]}")
    flat = [name for name, size in sizes.items() if _flat(refs[name].path, size) and _one_colour(refs[name])]
    if flat:
        remarks.append(f"{len(flat)} pictures are of one colour, the first is {flat[0]}")
    return remarks


def _flat(path: Path | None, size: tuple[int, int]) -> bool:
    return path is not None and path.stat().st_size < 2000 + _FLAT * size[0] * size[1]


def _one_colour(ref: ImageRef) -> bool:
    try:
        pixels = decode(ref)
    except DataError:
        return False
    return bool((pixels.max((0, 1)) - pixels.min((0, 1)) <= 2).all())
