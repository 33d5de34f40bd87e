"""Asking a model about posts: the prompt, the replies that are known, and the requests for the others."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from torch import nn

from mnerkit_plugins.prompted.endpoint import Endpoint
from mnerkit_plugins.prompted.prompt import Prompt, Question
from mnerkit_plugins.prompted.replies import Reply, ReplyCache


class PromptedModel(nn.Module):
    """A prompt and a language model, which has no weights here.

    Args:
        prompt: makes questions of posts.
        cache: replies that are known.
        endpoint: who is asked for the others.
        parallel: how many requests are made at once.

    Attributes:
        requests: `made` by this process.
    """

    def __init__(self, prompt: Prompt, cache: ReplyCache, endpoint: Endpoint, parallel: int) -> None:
        super().__init__()
        self.prompt, self.cache, self.endpoint, self.parallel = prompt, cache, endpoint, parallel
        self.requests = {"made": 0}

    def replies(self, questions: Sequence[Question]) -> list[Reply]:
        """The reply to each question; each new one is on disk as soon as it is there."""
        missing = [each for each in questions if self.cache.get(each.id, each.digest) is None]
        if missing:
            pool = ThreadPoolExecutor(min(self.parallel, len(missing)))
            try:
                for future in as_completed([pool.submit(self._ask, each) for each in missing]):
                    future.result()
            except BaseException:
                self.endpoint.stop()
                raise
            finally:
                self.requests["made"] = self.endpoint.requests
                pool.shutdown(cancel_futures=True)  # replies that are on their way still arrive, and are kept
        found = [self.cache.get(each.id, each.digest) for each in questions]
        return [reply for reply in found if reply is not None]

    def _ask(self, question: Question) -> None:
        self.cache.add(question.id, question.digest, self.endpoint.ask(question.messages))
