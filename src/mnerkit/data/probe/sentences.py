"""The words of a generated post: phrases, chatter, hashtags, mentions, links and spelling noise."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from mnerkit.data.corpus.post import Entity
from mnerkit.data.probe.painting import COLOURS
from mnerkit.data.random_draws import Dice
from mnerkit.plain_yaml import packaged_yaml

SYLLABLES = packaged_yaml("mnerkit.data.probe", "phrases.yaml")["syllables"]
SYLLABLES_PERCENT = (0, 0, 60, 40)
WORDS_PERCENT = (0, 50, 40, 10)
# residue of a word's checksum modulo 4 -> the only split whose names may hold the word
POOLS = ("train", "train", "dev", "test")


def syllable(dice: Dice) -> str:
    """One invented syllable."""
    return "".join(dice.pick(SYLLABLES[part]) for part in ("onsets", "nuclei", "codas"))


def pool(word: str) -> str:
    """The split whose names may hold `word`, in whatever case."""
    return POOLS[zlib.crc32(word.lower().encode()) % len(POOLS)]


def name(dice: Dice, split: str, lower_percent: int) -> tuple[str, ...]:
    """A name of one to three words from the pool of `split`, capitalised in all but `lower_percent` of cases."""
    words: list[str] = []
    count = dice.weighted(WORDS_PERCENT)
    while len(words) < count:
        word = "".join(syllable(dice) for _ in range(dice.weighted(SYLLABLES_PERCENT)))
        if pool(word) == split:
            words.append(word)
    lower = dice.chance(lower_percent)
    return tuple(word if lower else word.capitalize() for word in words)


FEWEST_WORDS, MOST_WORDS = 6, 25
PHRASES = packaged_yaml("mnerkit.data.probe", "phrases.yaml")
_URL_CHARACTERS = "abcdefghijkmnopqrstuvwxyz23456789"


@dataclass(frozen=True)
class Mention:
    """An entity that is to be written down.

    Attributes:
        type: its type.
        name: its words.
        ambiguous: whether its phrase must not tell the type.
        colour: the colour of its pictogram, if it has one.
        linked: whether the colour word stands beside the name.
        hint: the type that a hint word speaks for, or None for no such word.
    """

    type: str
    name: tuple[str, ...]
    ambiguous: bool
    colour: str
    linked: bool
    hint: str | None = None


def write(dice: Dice, mentions: list[Mention]) -> tuple[tuple[str, ...], list[Entity]]:
    """Words of a post with `mentions` in this order, `FEWEST_WORDS` to `MOST_WORDS` of them, and their spans."""
    while True:
        words, spans = _draft(dice, mentions)
        if len(words) <= MOST_WORDS:
            return tuple(_misspelt(dice, words, spans)), spans


def _draft(dice: Dice, mentions: list[Mention]) -> tuple[list[str], list[Entity]]:
    words: list[str] = []
    spans: list[Entity] = []
    if dice.chance(15):
        words += ["RT", _handle(dice), ":"]
    if dice.chance(60):
        words += dice.pick(PHRASES["openers"]).split()
    if dice.chance(30) or not mentions:
        words += dice.pick(PHRASES["fillers"]).split()
    for position, mention in enumerate(mentions):
        if position:
            words.append(dice.pick(PHRASES["joints"]))
        for word in _phrase(dice, mention).split():
            if word == "{}":
                spans.append(Entity(len(words), len(words) + len(mention.name), mention.type))
                words += mention.name
            else:
                words.append(word)
    if dice.chance(50):
        words += dice.pick(PHRASES["fillers"]).split()
    if dice.chance(20):
        words.append(_handle(dice))
    words += [dice.pick(PHRASES["hashtags"]) for _ in range(dice.below(3))]
    while len(words) < FEWEST_WORDS:
        words += dice.pick(PHRASES["fillers"]).split()
    if dice.chance(50):
        words.append("http://t.co/" + "".join(dice.pick(_URL_CHARACTERS) for _ in range(8)))
    return words, spans


def _phrase(dice: Dice, mention: Mention) -> str:
    """A phrase with `{}` in place of the name, with colour and hint word where the mention has them."""
    phrase = dice.pick(PHRASES["ambiguous"] if mention.ambiguous else PHRASES["clear"][mention.type])
    if mention.linked:
        phrase = phrase.replace("{}", dice.pick(PHRASES["links"]).replace("{colour}", mention.colour))
    if mention.hint is not None:
        hint = dice.pick(PHRASES["hints"][mention.hint])
        phrase = phrase.replace("{}", f"{hint} {{}}") if dice.chance(50) else f"{phrase} {hint}"
    return phrase


def _handle(dice: Dice) -> str:
    return "@" + syllable(dice) + syllable(dice)


def _misspelt(dice: Dice, words: list[str], spans: list[Entity]) -> list[str]:
    """Capitals and stretched letters outside names; colours stay readable."""
    names = {position for span in spans for position in range(span.start, span.end)}
    noisy = list(words)
    for position, word in enumerate(words):
        if position in names or not word.isalpha():
            continue
        draw = dice.below(100)
        if draw < 8:
            noisy[position] = word.capitalize()
        elif draw < 10:
            noisy[position] = word.upper()
        elif draw < 12 and len(word) > 2 and word not in COLOURS:
            noisy[position] = word + word[-1] * dice.between(1, 2)
    return noisy
