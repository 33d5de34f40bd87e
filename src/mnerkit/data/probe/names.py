"""Invented, pronounceable names; the words of train, dev and test names are disjoint."""

from __future__ import annotations

import zlib

from mnerkit.data.probe.pictogram_rng import Dice
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
