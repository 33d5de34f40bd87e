"""Noun phrases of a post by rule, as prompts of a detector: no tagger, no dependency."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MOST_WORDS = 4  # of a phrase; of a longer run of words the last ones, where English puts the noun
MOST_PHRASES = 12
# of a post without a noun phrase: what the usual entity types look like
TYPE_PROMPTS = ("person", "place", "logo", "object")

# closed classes, and the verbs and adverbs that are most frequent in tweets: what no phrase holds
_STOP = frozenset(
    """a an the this that these those some any no every each all both either neither another such what which who whom
    whose where when why how i me my mine myself you your yours yourself he him his himself she her hers herself it its
    itself we us our ours ourselves they them their theirs themselves and or but nor so yet if then than because while
    although though unless until since as at by for from in into of off on onto out over to up down with without within
    about above across after against along among around before behind below beneath beside between beyond during
    except inside like near outside past through toward towards under upon via is am are was were be been being do does
    did done doing have has had having will would shall should can could may might must not don't doesn't didn't can't
    won't isn't aren't i'm it's that's there's he's she's let's we're you're they're i've we've there here now just
    only also too very really still again ever never always often already even more most much many few less least get
    gets got go goes going gone went come comes came make makes made take takes took see sees saw seen look looks
    looking say says said tell told know knows knew think thinks thought want wants need needs love loves loved feel
    feels let put thank thanks please yes ok okay lol rt amp today tonight tomorrow yesterday""".split()  # noqa: SIM905 - one word a line would hide them
)
_SKIPPED = re.compile(r"@|https?:|www\.|\[|<|&")
_INNER = re.compile(r"[^\W_](?:[\w'\u2019.-]*[^\W_])?")


def noun_phrases(words: Sequence[str]) -> list[str]:
    """Runs of words of open classes, in lower case and in order, each once.

    Mentions, links and numbers belong to no phrase; a hashtag is a word. Punctuation ends a phrase.
    """
    phrases: list[str] = []
    run: list[str] = []
    for word in [*words, "."]:
        inner = None if _SKIPPED.match(word) else _INNER.search(word)
        text = inner.group().lower().replace("\u2019", "'") if inner else ""
        belongs = bool(text) and text not in _STOP and any(each.isalpha() for each in text)
        if belongs:
            run.append(text)
        if run and (not belongs or (inner is not None and word[inner.end() :].strip("'\u2019\""))):
            phrases.append(" ".join(run[-MOST_WORDS:]))
            run = []
    return list(dict.fromkeys(phrases))[:MOST_PHRASES]


def phrases_of(texts: Iterable[Sequence[str]]) -> list[str]:
    """The phrases of several posts, each once."""
    return list(dict.fromkeys(phrase for words in texts for phrase in noun_phrases(words)))[:MOST_PHRASES]
