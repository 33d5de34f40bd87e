"""The named difficulties of the probe corpus."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from mnerkit.plain_yaml import packaged_yaml

TYPES = ("PER", "LOC", "ORG", "MISC")


@dataclass(frozen=True)
class Preset:
    """How posts are drawn. Chances are in percent; a tuple of chances is indexed by the number that it is a chance of.

    Attributes:
        about: one line for `mnerkit data`.
        families: groups of entity types; all entities and pictograms of a post come from one group.
        entities: chances of 0, 1, 2 and 3 entities.
        ambiguous: chance that an entity is ambiguous.
        most_ambiguous: at most this many ambiguous entities in a post.
        link_ambiguous: chance that an ambiguous entity has its colour word beside it.
        link_clear: the same for a clear entity.
        draw_clear: chance that a clear entity is drawn.
        irrelevant: chance that no picture of the post shows any of its entities.
        ambiguous_undrawn: whether posts with irrelevant pictures have ambiguous entities.
        hint: chance that the word that hints at an ambiguous entity's type is right; 0 for no such words.
        distractors: chances of 0, 1, 2 ... distractor pictograms.
        images: chances of 0, 1, 2, 3 and 4 pictures; at most one of them is relevant.
        colours: the first this many of the colours are used.
        drawings: different pictograms of a type.
        turns: pictograms are rotated by up to this many steps of 3 degrees either way.
        clutter: fewest and most shapes strewn behind the pictograms.
        noise: standard deviation of the pixel noise, of 255.
        lower: chance that a name is written without capitals.
    """

    about: str
    families: tuple[tuple[str, ...], ...] = (TYPES,)
    entities: tuple[int, ...] = (6, 44, 40, 10)
    ambiguous: int = 60
    most_ambiguous: int = 2
    link_ambiguous: int = 100
    link_clear: int = 50
    draw_clear: int = 70
    irrelevant: int = 20
    ambiguous_undrawn: bool = False
    hint: int = 0
    distractors: tuple[int, ...] = (70, 30)
    images: tuple[int, ...] = (0, 100)
    colours: int = 6
    drawings: int = 1
    turns: int = 2
    clutter: tuple[int, int] = (0, 2)
    noise: int = 6
    lower: int = 8


PRESETS = TypeAdapter(dict[str, Preset]).validate_python(packaged_yaml("mnerkit.data.probe", "presets.yaml"))
