"""One self-contained HTML page of posts: words with highlighted entities, pictures, captions."""

from __future__ import annotations

import base64
import io
from html import escape

from markupsafe import Markup

from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.tags import entities
from mnerkit.data.pictures.decoding import decode
from mnerkit.errors import DataError
from mnerkit.templates import render

THUMBNAIL = 480  # pixels of the longer side
_HUES = (212, 142, 32, 292, 352, 182, 82, 252)  # degrees, one an entity type, told apart when adjacent


def page(corpus: Corpus, split: str, limit: int = 50) -> str:
    """The page of at most `limit` posts of a split.

    Posts with a picture that can be shown come first, so that an incomplete download still shows something; among
    them, and among the others, the order is the file's. Everything from the data is escaped; the page loads nothing.

    Args:
        corpus: the corpus.
        split: one of its splits.
        limit: at most so many posts.
    """
    posts = corpus.splits[split]
    shown = sorted(posts, key=lambda post: not any(ref.present for ref in post.images))[:limit]
    with_picture = sum(any(ref.present for ref in post.images) for post in shown)
    variant = "" if corpus.variant == "default" else f" ({corpus.variant})"
    facts = [
        f"{len(shown):,} of {len(posts):,} posts of the {split} split",
        f"{with_picture:,} of them with a picture",
        corpus.release or "no release that is known",
    ]
    return render(
        "mnerkit.data.corpus",
        "show.html",
        escape,
        title=f"{corpus.name}{variant}, {split}",
        facts=facts,
        types=corpus.types,
        hues={kind: _HUES[number % len(_HUES)] for number, kind in enumerate(corpus.types)},
        posts=[(post, _segments(post), [(ref, *_picture(ref)) for ref in post.images]) for post in shown],
        digest=corpus.digest,
    )


def _segments(post: Post) -> list[tuple[str, str]]:
    """The words of a post in order, entities whole, each with its type; other words have none."""
    segments: list[tuple[str, str]] = []
    done = 0
    for entity in entities(post.tags or ()):
        segments += [(word, "") for word in post.words[done : entity.start]]
        segments.append((" ".join(post.words[entity.start : entity.end]), entity.type))
        done = entity.end
    return segments + [(word, "") for word in post.words[done:]]


def _picture(ref: ImageRef) -> tuple[Markup, str]:
    """The source of a picture, or an empty one and why there is nothing to show."""
    if not ref.present:
        return Markup(), f"{ref.name} is missing"
    try:
        return Markup(thumbnail(ref)), ""
    except DataError as problem:
        return Markup(), str(problem)


def thumbnail(
    ref: ImageRef,
    side: int = THUMBNAIL,
    exact: int = 128,
    kind: str = "jpeg",
    quality: int = 82,
    optimize: bool = False,
) -> str:
    """The picture as a data URI, its longer side at most `side` pixels; small generated ones are kept exactly.

    Args:
        ref: the picture.
        side: pixels of the longer side, at most.
        exact: a picture whose longer side has at most so many pixels becomes a PNG.
        kind: the format of others.
        quality: of their compression, up to 100.
        optimize: look for the smallest PNG.

    Raises:
        DataError: see `decode`.
    """
    from PIL import Image

    image = Image.fromarray(decode(ref, max(side, exact + 1)))
    small = max(image.size) <= exact
    image.thumbnail((side, side))
    kind = "png" if small else kind
    content = io.BytesIO()
    # WebP's usual method, 4, takes almost three times as long and saves 4 % of the bytes
    image.save(content, kind, **({"optimize": optimize} if small else {"quality": quality, "method": 2}))
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
