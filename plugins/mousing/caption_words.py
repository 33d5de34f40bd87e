"""Which words of a caption say something: a closed list of English function words, and runs of the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# determiners and quantifiers, pronouns, prepositions, conjunctions, auxiliaries, and adverbs of place and degree
_LISTED = """
a an the this that these those some any no each every all both another other such
i you he she it we they me him her us them his hers its our their your my who whom whose which what there
one's self himself herself itself themselves
of in on at to from by for with without into onto over under above below between behind beside near next through
across along around against about after before during off out up down inside outside toward towards upon via as
and or but nor so than if while when where because
is are was were be been being am has have had having do does did doing can could will would shall should may might
must not
very too also just only then here
's 're 've 'll 'd 'm n't
"""
FUNCTION_WORDS = frozenset(_LISTED.split())


def is_content(word: str) -> bool:
    """Whether a word is in no list of function words and has a letter or a digit."""
    return word.lower() not in FUNCTION_WORDS and any(character.isalnum() for character in word)


def content_mask(rows: Sequence[Sequence[str]], mask: Tensor) -> Tensor:
    """(B, W) bool: words of `rows` that are content words, among those of `mask`."""
    content = torch.zeros_like(mask)
    for number, words in enumerate(rows):
        content[number, : len(words)] = torch.tensor([is_content(word) for word in words], dtype=torch.bool)
    return content & mask


def phrases(states: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
    """One node for each run of content words, the mean of their states, at the place of the run's first word.

    Args:
        states: (B, W, d).
        content: (B, W) bool.

    Returns:
        (B, W, d) nodes and their (B, W) mask, true at first words.
    """
    before = torch.nn.functional.pad(content, (1, 0))[:, :-1]
    first = content & ~before
    number = first.cumsum(1)  # of the run that a word is in, from 1
    same = (number.unsqueeze(2) == number.unsqueeze(1)) & content.unsqueeze(1)  # (B, W, W): words of the node's run
    weights = (same & first.unsqueeze(2)).to(states.dtype)
    return weights @ states / weights.sum(-1, keepdim=True).clamp_min(1), first
