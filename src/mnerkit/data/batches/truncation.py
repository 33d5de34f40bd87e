"""Posts that are longer than a text tower reads: how many words and entities a split loses by that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mnerkit.data.batches.needs import Needs
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import entities


@dataclass
class Truncation:
    """Counts over some posts.

    Attributes:
        limit: maximum number of pieces of a row, special pieces included; None: the tower reads whole words, all.
        windows: whether long posts are read in windows: then no word is unread.
        posts: number of posts.
        long_posts: posts that are longer than the limit.
        words_unread: words that the tower does not read; they are tagged O.
        entities: gold entities.
        entities_lost: gold entities of which no word is read.
        entities_cut: gold entities of which some words are not read.
        captions_cut: posts whose caption is cut, since it or post and caption together are longer than the limit.
    """

    limit: int | None = None
    windows: bool = False
    posts: int = 0
    long_posts: int = 0
    words_unread: int = 0
    entities: int = 0
    entities_lost: int = 0
    entities_cut: int = 0
    captions_cut: int = 0

    def add(self, post: Post, needs: Needs, types: Collection[str] | None = None) -> None:
        """Count a post.

        Args:
            post: the post; without tags it has no gold entities.
            needs: whose reader and captions count.
            types: entity types that count; None: all.
        """
        self.posts += 1
        read = needs.reader.words_read(post.words)
        self.long_posts += read < len(post.words)
        self.captions_cut += _cuts_captions(post, needs, self.windows)
        read = len(post.words) if self.windows else read
        self.words_unread += len(post.words) - read
        for entity in entities(post.tags or ()):
            if types is None or entity.type in types:
                self.entities += 1
                self.entities_lost += entity.start >= read
                self.entities_cut += entity.start < read < entity.end

    def record(self) -> dict[str, Any]:
        """The counts as plain data."""
        return asdict(self)


def _cuts_captions(post: Post, needs: Needs, windows: bool) -> bool:
    """Whether the length limit cuts a caption, as second segment of the words or as a text of its own."""
    reader = needs.caption_reader
    if reader is not None and any(reader.words_read(caption) < len(caption) for caption in needs.captions(post)):
        return True
    second = needs.second_segment(post)
    spans = needs.reader.windows(post.words, second) if windows else [(0, len(post.words))]
    return any(needs.reader.cuts_second(post.words[start:end], second) for start, end in spans)


def truncation(
    posts: Iterable[Post], needs: Needs, windows: bool = False, types: Collection[str] | None = None
) -> Truncation:
    """Count the words and entities that a tower does not read of `posts`; see `Truncation.add`."""
    counts = Truncation(getattr(needs.reader, "max_tokens", None), windows)
    for post in posts:
        counts.add(post, needs, types)
    return counts


def sentence(counts: Mapping[str, Mapping[str, Any]], long_posts: bool = True) -> str:
    """One line about the splits that lose words or captions, or are read in windows; empty if there are none.

    Args:
        counts: `Truncation.record` by split.
        long_posts: whether the method has that option.
    """
    texts = {split: text for split, each in counts.items() if (text := losses(each))}
    if not texts:
        return ""
    limit = next(counts[split]["limit"] for split in texts)
    cut = [split for split, each in counts.items() if each["words_unread"]]
    windows = "; --model.long_posts windows scores whole posts" if long_posts and {*cut} - {"train"} else ""
    hint = f" (--model.max_tokens sets the limit{windows})" if cut else ""
    return f"longer than {limit} pieces: {'; '.join(f'{split} {text}' for split, text in texts.items())}{hint}"


def losses(counts: Mapping[str, Any]) -> str:
    """What the posts of a split lose, in words; empty if nothing was cut and nothing read in windows.

    Args:
        counts: `Truncation.record`, or what a file holds of it: whatever is not a count is zero.
    """
    number = {name: value for name, value in counts.items() if isinstance(value, int) and value > 0}
    texts = []
    if number.get("long_posts"):
        texts.append(f"{number['long_posts']:,} of {number.get('posts', 0):,} posts")
        if counts.get("windows") is True:
            texts[0] += " read in windows"
        if number.get("words_unread"):
            texts.append(f"{number['words_unread']:,} words unread")
        lost, cut = number.get("entities_lost", 0), number.get("entities_cut", 0)
        if lost or cut:
            in_part = f" and {cut:,} in part" if cut else ""
            texts.append(f"{lost:,} of {number.get('entities', 0):,} entities lost{in_part}")
    if number.get("captions_cut"):
        texts.append(f"{number['captions_cut']:,} captions cut")
    return ", ".join(texts)
