"""Why figures of some runs can't be compared with printed ones, as far as the runs themselves show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mnerkit.report.folders import Record, mapping
from mnerkit.report.tables.table_file import Column

# share of a split's pictures; a few have no file in the released corpora either, and the papers put a blank one there
MOST_MISSING = 0.01
# known releases with labels that no printed figure was taken on
RELABELLED = ("twitter2015-relabelled",)


def own_reasons(column: Column, records: Sequence[Record]) -> list[str]:
    """Why figures of these runs can't be compared with printed ones: corpus, labels, chunking, pictures, tower."""
    reasons = []
    protocols = [record.protocol for record in records]
    corpora = {str(protocol.get("corpus")) for protocol in protocols}
    # scores on another corpus than a run's own have a split of their own
    if column.corpus is not None and "@" not in column.split and corpora != {column.corpus}:
        reasons.append(f"corpus: {', '.join(sorted(corpora))}, not {column.corpus}")
    if len({str(protocol.get("digest")) for protocol in protocols}) > 1:
        reasons.append("its runs are of different data")
    elif corpora != {"probe"} and protocols[0].get("release") is None:
        reasons.append("data: a release that is not known by its digest")
    variants = {
        str(protocol.get("variant") or "default") for protocol in protocols if protocol.get("corpus") != "probe"
    }
    reasons += [f"labels: variant {name}" for name in sorted(variants - {"default"})]
    releases = {str(protocol.get("release")) for protocol in protocols}
    reasons += [f"labels: of the release {name}" for name in sorted(releases.intersection(RELABELLED))]
    if column.metric.endswith("_strict"):
        reasons.append("chunking: strict, and printed figures are lenient")
    limits = {protocol.get("limit") for protocol in protocols} - {None}
    reasons += [f"data: the first {limit} posts of each split" for limit in sorted(limits, key=str)]
    for what in ("pictures", "captions"):
        shares = (missing(protocol, what, MOST_MISSING) for protocol in protocols)
        reasons += dict.fromkeys(f"{what}: {share}" for share in shares if share)
    if any(mapping(protocol.get("objects")).get("source") == "none" for protocol in protocols):
        reasons.append("objects: none are known, set places of each picture are seen")
    towers = {str(mapping(record.settings.get("model")).get("text")) for record in records}
    reasons += [f"tower: {tower}, trained from scratch" for tower in sorted(towers & {"tiny", "tiny-bert"})]
    return reasons


def missing(protocol: Mapping[str, Any], what: str = "pictures", most: float = 0.0) -> str:
    """How many pictures (or their captions) of each split are missing; mostly empty.

    Args:
        protocol: what a run's scores were taken on.
        what: `pictures` or `captions`.
        most: splits where no larger share is missing are left out.
    """
    texts = []
    for split, counts in mapping(protocol.get(f"missing_{what}")).items():
        absent, total = (mapping(counts).get(name) for name in ("missing", "of"))
        if isinstance(absent, int) and isinstance(total, int) and absent > most * total:
            texts.append(f"{absent:,} of {total:,} ({split})")
    return f"{', '.join(texts)} are missing" if texts else ""
