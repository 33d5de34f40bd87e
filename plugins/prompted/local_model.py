"""A chat or image-text model of transformers that answers on this machine: in batches, greedily."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from mnerkit.errors import TowerError, first_line
from mnerkit.printable import counted
from mnerkit.runs.identity import content_of
from mnerkit.towers.hub import explained, read_config, read_tokenizer, source_of, source_options
from mnerkit_plugins.prompted.prompt import Message, Question, picture_of
from mnerkit_plugins.prompted.replies import Reply


class LocalModel:
    """Answers questions; its weights are loaded when the first one comes.

    Args:
        spec: a folder, or a name on the hub.
        sees: whether questions hold pictures.
        max_new_tokens: limit of a reply.
        batch: questions that are answered at once.

    Attributes:
        name: of the model and its version; of a folder with a digest of its files.
        requests: questions that it has answered.
    """

    def __init__(self, spec: str, sees: bool, max_new_tokens: int, batch: int) -> None:
        self.source, self.sees = source_of(spec), sees
        self.max_new_tokens, self.batch, self.requests = max_new_tokens, batch, 0
        if self.source.kind == "folder":
            self.name = f"{self.source.place.rstrip('/').rpartition('/')[2]}@{content_of(self.source.place)[7:19]}"
        else:
            self.name = f"{spec}@{getattr(read_config(self.source), '_commit_hash', None) or 'unknown'}"
        self._model: Any = None

    def ask_all(
        self, questions: Sequence[Question], keep: Callable[[Question, Reply], None], device: torch.device
    ) -> None:
        """Answer questions, a batch after the other; each batch is kept before the next one.

        Raises:
            TowerError: the model can't be had, or is no chat model.
        """
        self._load(device)
        # those of like length together: a batch is as long as its longest question
        order = sorted(questions, key=lambda each: -each.characters)
        for start in range(0, len(order), self.batch):
            asked = order[start : start + self.batch]
            for question, reply in zip(asked, self._answers([each.messages for each in asked]), strict=True):
                keep(question, reply)
            self.requests += len(asked)

    def stop(self) -> None:
        """Nothing waits."""

    def _load(self, device: torch.device) -> None:
        if self._model is None:
            import transformers

            kind = transformers.AutoModelForImageTextToText if self.sees else transformers.AutoModelForCausalLM
            if self.sees:
                with explained(self.source, "its processor"):
                    self._reader: Any = transformers.AutoProcessor.from_pretrained(
                        self.source.place, **source_options(self.source)
                    )
            else:
                self._reader = read_tokenizer(self.source)
            self._tokenizer: Any = getattr(self._reader, "tokenizer", self._reader)
            if getattr(self._reader, "chat_template", None) is None:
                raise TowerError(f"--model.llm {self.source.spec}: it has no chat template, so it is no chat model")
            with explained(self.source, "weights"):
                self._model = kind.from_pretrained(self.source.place, dtype="auto", **source_options(self.source))
            self._model.eval()
            self._tokenizer.padding_side = "left"  # replies begin where the questions end
            if self._tokenizer.pad_token is None:
                self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model.to(device)

    @torch.inference_mode()
    def _answers(self, conversations: list[list[Message]]) -> list[Reply]:
        inputs = self._inputs(conversations).to(self._model.device)
        length = inputs["input_ids"].shape[1]
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if limit is not None and length + self.max_new_tokens > limit:
            raise TowerError(
                f"--model.llm {self.source.spec} reads {counted(limit, 'token')}, and a question of {length} with a "
                f"reply of {self.max_new_tokens} has more; give a lower --model.max_new_tokens, or fewer --model.shots"
            )
        written = self._model.generate(
            **inputs,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=self._tokenizer.pad_token_id,
        )[:, length:]
        texts = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        read = inputs["attention_mask"].sum(1).tolist()
        count = (written != self._tokenizer.pad_token_id).sum(1).tolist()
        return [Reply(text, *counts) for text, *counts in zip(texts, read, count, strict=True)]

    def _inputs(self, conversations: list[list[Message]]) -> Any:
        texts = [self._text(conversation) for conversation in conversations]
        options = {"return_tensors": "pt", "padding": True, "add_special_tokens": False}
        if not self.sees:
            return self._tokenizer(texts, **options)
        pictures = [
            [picture_of(part) for part in conversation[-1]["content"] if part["type"] == "image_url"]
            for conversation in conversations
            if not isinstance(conversation[-1]["content"], str)
        ]
        return self._reader(text=texts, images=pictures or None, **options)

    def _text(self, conversation: list[Message]) -> str:
        """A conversation as the model's template has it; templates without a system's role get it with the question."""
        plain = [{**each, "content": _with_places(each["content"])} for each in conversation] if self.sees else None
        messages = plain or conversation
        try:
            return str(self._reader.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        except Exception as problem:  # a template raises what it likes
            system, first, *rest = conversation
            if system["role"] != "system" or not isinstance(first["content"], str) or self.sees:
                raise TowerError(f"--model.llm {self.source.spec}: its template fails: {first_line(problem)}") from None
            merged = [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]
            try:
                return str(self._reader.apply_chat_template(merged, tokenize=False, add_generation_prompt=True))
            except Exception as other:
                raise TowerError(f"--model.llm {self.source.spec}: its template fails: {first_line(other)}") from None


def _with_places(content: Any) -> list[dict[str, Any]]:
    """Parts of a message with places for pictures, as processors of transformers have them."""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [{"type": "image"} if part["type"] == "image_url" else part for part in parts]
