"""A few posts of a corpus with generated pictures, boxes and captions, laid out as a root of corpora."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from mnerkit.atomic_files import write_json, write_lines, write_text
from mnerkit.data.corpus.corpus import load_corpus
from mnerkit.data.corpus.corpus_files import BOX_FORMAT, BOX_VERSION
from mnerkit.data.corpus.post import Post
from mnerkit.data.random_draws import stream

# posts of each split: two of the papers' largest batches
POSTS = 128
SIZE, COARSE = (320, 240), (40, 30)
LABELS = ("person", "car", "dog", "bottle", "sports ball")
CAPTION = "a group of people in front of a large screen"


def write(name: str, root: str | None, folder: Path) -> None:
    """Write the sample of a corpus below `folder`, unless it is there.

    Args:
        name: the corpus.
        root: where its files lie.
        folder: a new root; its pictures are noise, each with five boxes and a caption.
    """
    done = folder / f"{name}.json"
    if done.is_file():
        return
    corpus = load_corpus(name, root)
    names: dict[str, None] = {}
    for split, posts in corpus.splits.items():
        chosen = list(_varied(posts, corpus.types))
        names.update(dict.fromkeys(ref.name for post in chosen for ref in post.images))
        write_lines(folder / name / f"{split}.jsonl", [_record(post) for post in chosen])
    pixels = stream("rehearsal", name)
    for picture in names:
        path = folder / f"{name}_images" / picture
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.frombytes("RGB", COARSE, pixels.randbytes(COARSE[0] * COARSE[1] * 3))
        noise.resize(SIZE).save(path, "JPEG")
    boxes = [{"format": BOX_FORMAT, "version": BOX_VERSION}]
    write_lines(
        folder / "boxes" / f"{name}.jsonl", [*boxes, *({"image": each, "objects": _objects()} for each in names)]
    )
    write_text(folder / "captions" / f"{name}.txt", "".join(f"{each} :{CAPTION}\n" for each in names))
    write_text(folder / "words" / f"{name}.txt", "\n".join(" ".join(post.words) for post in corpus.splits["train"]))
    write_json(done, {"corpus": corpus.name, "digest": corpus.digest, "posts": POSTS})


def _varied(posts: Sequence[Post], types: Sequence[str]) -> Iterator[Post]:
    """Posts with entities, each type in its turn."""
    waiting = {kind: [post for post in posts if f"B-{kind}" in (post.tags or ())][::-1] for kind in types}
    taken: set[str] = set()
    while len(taken) < POSTS and any(waiting.values()):
        for own in waiting.values():
            while own and own[-1].id in taken:
                own.pop()
            if own and len(taken) < POSTS:
                taken.add(own[-1].id)
                yield own.pop()


def _record(post: Post) -> dict[str, object]:
    images = [ref.name for ref in post.images]
    return {"id": post.id, "text": list(post.words), "label": list(post.tags or ()), "images": images}


def _objects() -> list[dict[str, object]]:
    places = [[20.0 * place, 10.0, 20.0 * place + 160.0, 200.0] for place in range(len(LABELS))]
    return [
        {"box": box, "score": 0.95 - 0.02 * place, "label": label}
        for place, (box, label) in enumerate(zip(places, LABELS, strict=True))
    ]


def words_of(folder: Path) -> list[str]:
    """The training texts of all corpora that have a sample, for tokenizers."""
    return [text for file in sorted((folder / "words").glob("*.txt")) for text in file.read_text("utf-8").split("\n")]
