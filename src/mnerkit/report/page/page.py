"""One self-contained HTML page of a report: tables, ablations, sweeps, figures, signatures, and the error browser.

All that comes from data goes into the page as JSON in which `<`, `>`, `&` and line separators are escaped, and from
there into text nodes alone. The page's policy lets only its own script run, and loads nothing.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mnerkit.atomic_files import is_figure
from mnerkit.data.batches.truncation import losses
from mnerkit.errors import DataError
from mnerkit.release import RELEASE
from mnerkit.report.figures.gallery import Gallery
from mnerkit.report.folders import Record, mapping, sequence
from mnerkit.report.page.overview import interval_over_posts, overview
from mnerkit.report.posts import browser
from mnerkit.report.posts.answers import Library, file_of, predicted_split
from mnerkit.report.posts.corrected import counts
from mnerkit.report.posts.groups import Training, by_groups
from mnerkit.report.tables import formats
from mnerkit.report.tables.evaluation_setting import fold_of, joined
from mnerkit.report.tables.reasons import missing
from mnerkit.report.tables.run_tables import protocol_of
from mnerkit.report.tables.sweeps import series
from mnerkit.report.tables.tables import Figure, Filled
from mnerkit.runs.tiny_towers import warning
from mnerkit.scoring.post_sets import PostSet
from mnerkit.templates import as_json, asset, render
from mnerkit.type_colours import colours_of, letters_on

PACKAGE = "mnerkit.report.page"
# one after the other, they are the page's script
SCRIPTS = ("parts", "charts", "overview", "learning", "tables", "runs", "breakdown", "posts", "figures", "frame")
MOST_TYPES = 40  # of a table of confusion
SHOWN_SCORE = re.compile(r"f1|precision|recall|f1_strict|type/.*/f1", re.DOTALL)
# rules of a few-shot protocol that a figure's signature names
_RULES = (
    *("n_way", "k_shot", "train_types", "test_types", "support", "out_of_play", "train_out_of_play"),
    *("query_has_entity", "episode_seed"),
)


def page(
    title: str,
    records: Sequence[Record],
    library: Library,
    problems: list[str],
    tables: Sequence[Filled] = (),
    ablations: Sequence[Filled] = (),
    shown: Sequence[browser.Shown] = (),
    root: Path | None = None,
    picture_bytes: int = browser.PICTURE_BYTES,
    board: Filled | None = None,
    first: tuple[str, str] | None = None,
) -> str:
    """The page.

    Args:
        title: its title.
        records: the runs, in the order of their numbers.
        library: predictions of the runs.
        problems: what was left out, and why; what is wrong with figures is added.
        tables: tables and figures.
        ablations: of each method, the full one and what is left out of it.
        shown: posts for the error browser, from `browser.sets`.
        root: folder of the corpora, for the pictures of figures; that of each run's configuration where None.
        picture_bytes: at most so many bytes of pictures; those of figures come first.
        board: the table of all runs, for the overview.
        first: kind and split of the figure that each run's figures begin with.
    """
    pictures = browser.Pictures(picture_bytes)
    number = {record.path.resolve(): place for place, record in enumerate(records)}
    gallery = Gallery(number, pictures, problems, root)
    training = {each.set: each.training for each in shown}
    facts: dict[str, Any] = {
        "title": title,
        "mnerkit": RELEASE,
        "problems": problems,
        "overview": overview(board, number, library),
        "tables": [
            _table(filled, number) | {"counts": counts(filled, library), "figures": gallery.of_table(filled)}
            for filled in tables
        ],
        "figures": [drawn for record in records if (drawn := gallery.of_run(record, first))],
        "ablations": [_table(filled, number) for filled in ablations],
        "runs": [_run(record, library, training) for record in records],
        "sets": len(shown),
    }
    sets = [browser.plain(posts, pictures) for posts in shown]
    types = {name for content in (*sets, *_drawn(facts)) for name in content.get("types", ())}
    facts["colours"] = {name: (colour, letters_on(colour)) for name, colour in colours_of(sorted(types)).items()}
    style, script = _asset("page.css"), "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    return render(
        PACKAGE,
        "page.html",
        title=title,
        hash=_hash,
        style=Markup(style),
        script=Markup(script),
        facts=as_json(facts),
        sets=as_json(sets),
        pictures=as_json(pictures.sources),
    )


def _drawn(facts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All figures of a page."""
    yield from (drawn for table in facts["tables"] for drawn in table["figures"])
    yield from (drawn for run in facts["figures"] for drawn in run["drawn"])


def _asset(name: str) -> str:
    return asset(PACKAGE, name).strip()


def _hash(content: str) -> str:
    """The name of an inline style or script in a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


# ------------------------------------------------------------------ tables


def _table(filled: Filled, number: dict[Path, int]) -> dict[str, Any]:
    table = filled.table
    letters = formats.notes(filled)
    return {
        "id": table.experiment,
        "paper": table.paper,
        "title": table.title or table.experiment,
        "what": table.what,
        "profile": table.profile,
        "smoke": table.smoke,
        "about": list(filled.about.items()),
        "facts": list(filled.facts.items()),
        "note": table.note,
        "rows": [[row.name, row.plugin, row.printed_only] for row in table.rows],
        "columns": [[column.name, column.corpus, column.split, column.metric] for column in table.columns],
        "baseline": table.baseline_row,
        "tests": filled.tests,
        "legend": formats.legend(filled),
        "notes": [(letter, remark) for remark, letter in letters.items()],
        "cells": [_cell(figure, letters, number) for figure in filled.figures.values()],
        "series": series(filled),
    }


def _cell(figure: Figure, letters: dict[str, str], number: dict[Path, int]) -> dict[str, Any]:
    cell, test = figure.cell, figure.test
    content = {
        "r": cell.row,
        "c": cell.column,
        "state": figure.state,
        "printed": cell.printed_text or None,
        "reference": figure.reference,
        "mean": figure.mean,
        "half": figure.half,
        "seeds": sorted(figure.values),
        "difference": figure.difference,
        "verdict": figure.verdict,
        "best": figure.best,
        "notes": [letters[remark] for remark in formats.remarks(figure)],
        "runs": [number[record.path.resolve()] for record in figure.records],
    }
    if test is not None:
        content["test"] = [figure.against, test.difference, test.p, test.p_holm, test.mark]
    return content


# ------------------------------------------------------------------ runs


def _run(record: Record, library: Library, training: Mapping[PostSet, Training]) -> dict[str, Any]:
    """A run with the signature of its figures, its scores, its confusion of types, and counts by groups of entities."""
    content: dict[str, Any] = {
        "label": record.label,
        "path": record.path.as_posix(),
        "plugin": record.plugin,
        "ablation": record.ablation or "",
        "corpus": record.corpus,
        "protocol": protocol_of(record),
        "seed": record.seed,
        "origin": record.origin,
        "seconds": record.seconds,
        "parameters": record.parameters,
        "date": record.date,
        "configuration": record.configuration,
        "signature": signature(record),
        "command": shlex.join(map(str, sequence(record.env.get("command")))),
        "repeat": shlex.join(["mnerkit", "runs", "repeat", record.path.as_posix()]),
        "scores": {
            split: {
                key: value
                for key, value in record.metrics[split].items()
                if SHOWN_SCORE.fullmatch(key) and is_figure(value)
            }
            for split in record.splits()
        },
    }
    split = predicted_split(record)
    if split:
        content["reliability"] = _reliability(mapping(record.metrics.get(f"{split}:reliability")))
    if record.splits():
        content["split"] = record.splits()[0]
        content["interval"] = interval_over_posts([record], record.splits()[0], library)
    if split:
        # damaged predictions are among the problems already
        with contextlib.suppress(DataError):
            posts = library.of(record.path, split)
            content["groups"] = by_groups(posts, file_of(record.path, split), training.get(posts, {}))
            if len(posts.types) <= MOST_TYPES:
                matrix = posts.confusion(file_of(record.path, split), posts.types)
                content["confusion"] = [split, posts.types, matrix.tolist()]
    return content


def _reliability(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `mnerkit.scoring.reliability` measured, as far as it is what that writes; else None."""
    bins = [row for row in sequence(found.get("bins")) if len(sequence(row)) == 4 and all(map(is_figure, row))]
    if not bins or not is_figure(found.get("error")):
        return None
    return {"bins": bins, "error": found["error"], "calibrated": found.get("calibrated") is not False}


def signature(record: Record) -> list[tuple[str, str]]:
    """What a figure of the run was measured on and with: names and values, in a fixed order."""
    protocol, model = record.protocol, mapping(record.settings.get("model"))
    data = mapping(record.settings.get("data"))
    release = protocol.get("release")
    return [
        ("corpus", record.corpus),
        ("release", str(release) if release else "not known"),
        ("digest", str(protocol.get("digest") or "?")[:12]),
        ("posts", f"first {protocol['limit']} of each split" if protocol.get("limit") is not None else "all"),
        *([("fold", f"{fold} of train and dev posts")] if (fold := fold_of(protocol)) else []),
        ("chunking", "lenient (an I- without a beginning starts an entity); where it says strict, such an I- is none"),
        ("pictures", _pictures(record)),
        ("protocol", _protocol(record)),
        *([("length", text)] if (text := _truncation(record)) else ()),
        *([("remark", text)] if (text := warning(record.settings)) else ()),
        *([("trained on", trained)] if (trained := _trained(protocol)) else []),
        ("text tower", str(model.get("text") or "-")),
        ("image tower", str(model.get("vision") or "-")),
        ("captions", str(data.get("captions") or "-")),
        ("head", str(mapping(model.get("head")).get("name") or "-")),
        ("seed", str(record.seed)),
        ("mnerkit", str(record.env.get("mnerkit") or "not kept")),
        ("behaviour", _behaviour(record.env)),
        ("device", str(record.env.get("device") or "not kept")),
    ]


def _behaviour(env: Mapping[str, Any]) -> str:
    """The behaviour numbers of a run; for a run of an older version, the digest of its source files."""
    numbers = mapping(env.get("behaviours"))
    if numbers:
        return ", ".join(f"{part} {number}" for part, number in numbers.items())
    return f"source {str(env['source_digest'])[:12]}" if env.get("source_digest") else "not kept"


def _trained(protocol: Mapping[str, Any]) -> str:
    """How many dev and test posts the model was trained on, and whether they count; empty without any."""
    trained = mapping(protocol.get("trained_on"))
    counts = "; ".join(
        f"{split} " + ", ".join(f"{count} by {kind}" for kind, count in mapping(trained[split]).items())
        for split in ("dev", "test")
        if mapping(trained.get(split))
    )
    return counts and f"{counts} ({'left out' if trained.get('left_out') else 'like a training post, and scored'})"


def _pictures(record: Record) -> str:
    protocol = record.protocol
    most = protocol.get("max_images")
    if most is None:
        return "none are seen"
    objects = mapping(protocol.get("objects"))
    source = "set places" if objects.get("source") == "none" else objects.get("file") or objects.get("source")
    boxes = f"; objects: {mapping(objects.get('about')).get('detector') or source}" if objects else ""
    counts = f" ({absent})" if (absent := missing(protocol)) else ""
    policy = f"missing ones: {protocol.get('missing_images')}{counts}"
    return f"{protocol.get('pictures')}, up to {most} a post; {policy}{boxes}"


def _truncation(record: Record) -> str:
    """What the posts lose that are longer than the text tower reads; empty if nothing."""
    counts = mapping(record.metrics.get("truncation"))
    texts = [f"{split}: {text}" for split, each in counts.items() if (text := losses(mapping(each)))]
    return "; ".join(texts)


def _protocol(record: Record) -> str:
    protocol = record.protocol
    if not protocol.get("episodic"):
        return "all posts"
    return "episodes: " + ", ".join(f"{rule} {joined(protocol[rule])}" for rule in _RULES if rule in protocol)
