"""One self-contained HTML page of posts: words with highlighted entities, pictures, captions."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files

from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.tags import entities
from mnerkit.data.pictures.decoding import decode
from mnerkit.errors import DataError

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
    colours = {kind: _HUES[number % len(_HUES)] for number, kind in enumerate(corpus.types)}
    with_picture = sum(any(ref.present for ref in post.images) for post in shown)
    variant = "" if corpus.variant == "default" else f" ({corpus.variant})"
    facts = [
        f"{len(shown):,} of {len(posts):,} posts of the {split} split",
        f"{with_picture:,} of them with a picture",
        corpus.release or "no release that is known",
    ]
    values = {
        "title": escape(f"{corpus.name}{variant}, {split}"),
        "facts": "".join(f"<li>{escaped(fact)}</li>" for fact in facts),
        "legend": "".join(_mark(escape(kind), kind, colours) for kind in corpus.types),
        "digest": escape(corpus.digest),
        "posts": "\n".join(_card(post, colours) for post in shown),
    }
    filled = files("mnerkit.data.corpus").joinpath("show.html").read_text(encoding="utf-8")
    head, _, rest = filled.partition("{{posts}}")
    for name in ("title", "facts", "legend", "digest"):
        head, rest = (part.replace("{{" + name + "}}", values[name]) for part in (head, rest))
    return head + values["posts"] + rest


def _card(post: Post, colours: dict[str, int]) -> str:
    pictures = "".join(_picture(ref) for ref in post.images) or '<p class="none">no picture named</p>'
    return (
        f'<article><div class="pictures n{min(len(post.images), 2)}">{pictures}</div>'
        f'<p class="words">{_words(post, colours)}</p><p class="id">{escaped(post.id)}</p></article>'
    )


def _words(post: Post, colours: dict[str, int]) -> str:
    pieces: list[str] = []
    done = 0
    for entity in entities(post.tags or ()):
        pieces += map(escaped, post.words[done : entity.start])
        pieces.append(_mark(_joined(post.words[entity.start : entity.end]), entity.type, colours))
        done = entity.end
    return " ".join([*pieces, *map(escaped, post.words[done:])])


def _mark(content: str, kind: str, colours: dict[str, int]) -> str:
    return f'<mark style="--hue:{colours.get(kind, 0)}">{content}<b>{escaped(kind)}</b></mark>'


def _joined(words: Sequence[str]) -> str:
    return " ".join(map(escaped, words))


def _picture(ref: ImageRef) -> str:
    caption = f"<figcaption>{escaped(ref.caption)}</figcaption>" if ref.caption else ""
    if not ref.present:
        return f'<figure><div class="missing">{escaped(ref.name)} is missing</div>{caption}</figure>'
    try:
        source = thumbnail(ref)
    except DataError as problem:
        return f'<figure><div class="missing">{escaped(str(problem))}</div>{caption}</figure>'
    return f'<figure><img src="{source}" alt="{escaped(ref.name)}" loading="lazy">{caption}</figure>'


def thumbnail(ref: ImageRef, side: int = THUMBNAIL) -> str:
    """The picture as a data URI, its longer side at most `side` pixels; small generated ones are kept exactly.

    Raises:
        DataError: see `decode`.
    """
    from PIL import Image

    image = Image.fromarray(decode(ref))
    small = max(image.size) <= 128
    image.thumbnail((side, side))
    content = io.BytesIO()
    image.save(content, "PNG" if small else "JPEG", quality=82)
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def escaped(text: str) -> str:
    """Escaped; control characters, which a page may not hold, become the replacement character."""
    return escape("".join(visible(text)))


def visible(text: str) -> Iterable[str]:
    """Characters of a text; those that a page may not hold as the replacement character."""
    return ("\ufffd" if ord(each) < 32 or 127 <= ord(each) < 160 else each for each in text)
