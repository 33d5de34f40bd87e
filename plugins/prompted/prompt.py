"""The prompt: a file that people read and change, and what a model is asked about a post."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from mnerkit.data.corpus.post import ImageRef, Post
from mnerkit.data.corpus.tags import entities
from mnerkit.data.pictures.decoding import decode
from mnerkit.errors import DataError
from mnerkit.plain_yaml import read_yaml
from mnerkit.validation import Content, Text, validated
from mnerkit_plugins.prompted.options import Pictures

MOST_PIXELS = 768  # of the longer side of a picture that is sent
PACKAGED = Path(__file__).with_name("prompt.yaml")
Message = dict[str, Any]
Long = Annotated[str, Field(max_length=1 << 16)]


class PromptFile(Content):
    """The content of the file."""

    system: Long
    types: dict[Text, Long]
    post: Long
    caption: Long
    answer: Long
    reasons: Long


@dataclass(frozen=True)
class Question:
    """What a model is asked about a post.

    Attributes:
        id: of the post.
        messages: roles and contents, as OpenAI's interface has them; a picture is a data URL.
        digest: of the messages and of what else decides the reply, sixteen hex digits.
    """

    id: str
    messages: list[Message]
    digest: str

    @property
    def characters(self) -> int:
        """Length of its texts, for an estimate of its tokens."""
        return sum(len(text) for message in self.messages for text in _texts(message["content"]))


class Prompt:
    """Makes questions of posts.

    Args:
        file: the prompt's; default: the packaged one.
        reasons: whether the model is asked for reasons first.
        pictures: what is shown of them.
        max_images: of a post.
        max_new_tokens: limit of the reply, a part of the digest.

    Attributes:
        digest: of the file's content, sixteen hex digits.

    Raises:
        DataError: the file is missing or malformed.
    """

    def __init__(
        self, file: str | None, reasons: bool, pictures: Pictures, max_images: int, max_new_tokens: int
    ) -> None:
        path = PACKAGED if file is None else Path(file).expanduser()
        self.file: PromptFile = validated(PromptFile, read_yaml(path), path)
        if "{text}" not in self.file.post or "{types}" not in self.file.system:
            raise DataError(f"{path}: `post` needs {{text}} and `system` needs {{types}}, which are filled in")
        self.digest = _digest(self.file.model_dump())
        self.end = self.file.reasons if reasons else self.file.answer
        self.pictures, self.max_images, self.max_new_tokens = pictures, max_images, max_new_tokens

    def question(self, post: Post, types: Sequence[str], examples: Sequence[Post] = ()) -> Question:
        """What is asked about a post.

        Args:
            post: the post; its tags are not read.
            types: those that are asked for.
            examples: posts whose entities the model is shown.
        """
        system = _filled(self.file.system, types="\n".join(self._type(kind) for kind in types))
        messages: list[Message] = [{"role": "system", "content": system.strip()}]
        for each in examples:
            messages.append({"role": "user", "content": self._text(each)})
            messages.append({"role": "assistant", "content": answer_of(each, types)})
        images = post.images[: self.max_images] if self.pictures == "pixels" else ()
        urls = [_data_url(ref) for ref in images if ref.present]
        text = self._text(post)
        content = [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
        messages.append({"role": "user", "content": content if urls else text})
        return Question(post.id, messages, _digest([messages, self.max_new_tokens]))

    def _type(self, kind: str) -> str:
        definition = self.file.types.get(kind)
        return f"- {kind}" if definition is None else f"- {kind}: {definition}"

    def _text(self, post: Post) -> str:
        lines = [_filled(self.file.post, text=" ".join(post.words))]
        if self.pictures == "captions":
            captions = enumerate((ref.caption for ref in post.images[: self.max_images]), start=1)
            lines += [_filled(self.file.caption, number=str(n), caption=text) for n, text in captions if text]
        return "\n".join(line.strip() for line in (*lines, self.end))


def answer_of(post: Post, types: Sequence[str]) -> str:
    """The reply that is right for a tagged post, as an example shows it."""
    spans = [span for span in entities(post.tags or ()) if span.type in types]
    return json.dumps(
        {"entities": [{"text": " ".join(post.words[span.start : span.end]), "type": span.type} for span in spans]},
        ensure_ascii=False,
    )


def picture_of(part: dict[str, Any]) -> Any:
    """The picture of a part of a message, as Pillow has it."""
    from PIL import Image

    return Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _filled(template: str, **values: str) -> str:
    """The template with values in place of their names in braces; braces within values stay."""
    return re.sub(r"\{(\w+)\}", lambda name: values.get(name[1], name[0]), template)


def _texts(content: Any) -> list[str]:
    return [content] if isinstance(content, str) else [part.get("text", "") for part in content]


def _data_url(ref: ImageRef) -> str:
    """A picture as PNG in a URL, its longer side at most `MOST_PIXELS`."""
    from PIL import Image

    picture = Image.fromarray(decode(ref))
    picture.thumbnail((MOST_PIXELS, MOST_PIXELS))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
