"""Options of `prompted` (`--model.X`). Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from mnerkit.errors import UsageError
from mnerkit.methods.options import MethodOptions
from mnerkit.options import POSITIVE, SIZE, WEIGHT, Range, option

Pictures = Literal["captions", "pixels", "none"]


@dataclass(frozen=True, kw_only=True)
class PromptedOptions(MethodOptions):
    """Options of the model that is asked, of the prompt, and of the requests."""

    llm: str | None = option(
        None,
        "the language model that is asked: with endpoint the name that the server knows it by, else a hub name or a "
        "folder of a chat model, or with pictures pixels of an image-text model (transformers). To be named, since "
        "scores are of this model",
    )
    endpoint: str | None = option(
        None,
        "address of a server with OpenAI's interface, up to its version, such as http://127.0.0.1:8000/v1 (vLLM, "
        "Ollama, llama.cpp); its key is read from the environment variable MNERKIT_LLM_KEY",
    )
    replies: str | None = option(
        None,
        'JSON lines {"id", "reply"} with "model" and "prompt_digest": replies that somebody has collected, in place of '
        "asking. A post without one has no entities",
    )
    prompt: str | None = option(None, "YAML file with the prompt, in place of plugins/prompted/prompt.yaml")
    reasons: bool = option(False, "ask for reasons before the entities (chain of thought)")
    pictures: Pictures = option(
        "captions", "what the prompt has of the pictures: their captions, pixels for models that see, or none"
    )
    max_images: int = option(1, "use this many images of a post, the first ones", SIZE)
    examples: Literal["none", "nearest", "support"] = option(
        "none",
        "posts with their entities that the prompt shows: none, the training posts whose texts are nearest (shots), or "
        "in episodes the support",
    )
    shots: int = option(4, "with examples nearest, so many posts", SIZE)
    text: str | None = option(
        None, "with examples nearest, the frozen text tower that compares texts: tiny, a hub name, or a folder"
    )
    max_tokens: int = option(128, "with examples nearest, length limit of that tower in pieces", SIZE)
    max_new_tokens: int = option(512, "the model stops after so many tokens of its reply", SIZE)
    batch: int = option(8, "questions that a model of transformers answers at once", SIZE)
    parallel: int = option(4, "requests that are made at the same time", Range(1, 256))
    per_second: float | None = option(None, "limit of the requests a second; default: none", POSITIVE)
    timeout: float = option(120.0, "seconds within which a request has to be answered", POSITIVE)
    retries: int = option(5, "how often a request is tried again when the server is busy or fails", Range(0, 100))
    backoff: float = option(1.0, "seconds before the first retry; each further one waits twice as long", WEIGHT)

    def check(self) -> None:
        """Refuse an address that is no plain URL, or that holds a password, which would be written into files."""
        super().check()
        if self.endpoint is not None and self.replies is not None:
            raise UsageError("--model.endpoint asks a server, and --model.replies reads a file: give one of them")
        if self.examples == "nearest" and self.text is None:
            raise UsageError("--model.examples nearest needs the text tower that compares texts, --model.text NAME")
        if self.endpoint is None:
            return
        try:
            url = urlsplit(self.endpoint)
            plain = url.scheme in ("http", "https") and url.hostname and (url.port or 1) and self.endpoint.isascii()
        except ValueError:
            plain = False
        if not plain or url.query or url.fragment or any(letter.isspace() for letter in self.endpoint):
            raise UsageError(f"--model.endpoint {self.endpoint}: give an address such as http://127.0.0.1:8000/v1")
        if url.username is not None or url.password is not None:
            raise UsageError("--model.endpoint holds a user name or password: give the key in MNERKIT_LLM_KEY instead")
