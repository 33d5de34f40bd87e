"""Posts of the probe corpus: a pure function of preset, split, seed and the post's number."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable

from mnerkit.data.corpus.post import DrawnObject, EntityTruth, ImageRef, PictureObject, Post, Truth
from mnerkit.data.corpus.tags import tags_of
from mnerkit.data.probe.painting import COLOURS, NOUNS, SIZE, Item, Placed, caption, paint
from mnerkit.data.probe.presets import PRESETS, Preset
from mnerkit.data.probe.sentences import Mention, name, write
from mnerkit.data.random_draws import Dice
from mnerkit.errors import UsageError, did_you_mean

VERSION = 1
SIZES = {"train": 3000, "dev": 500, "test": 800}


def preset_named(preset: str) -> Preset:
    """The preset of that name.

    Raises:
        UsageError: there is none.
    """
    if preset not in PRESETS:
        raise UsageError(
            f"there is no probe preset {preset!r}; there are {', '.join(PRESETS)}.{did_you_mean(preset, PRESETS)}"
        )
    return PRESETS[preset]


def types_of(preset: str) -> tuple[str, ...]:
    """Entity types of a preset, in a fixed order."""
    return tuple(kind for family in preset_named(preset).families for kind in family)


def generate(preset: str, split: str, size: int | None = None, seed: int = 0) -> list[Post]:
    """Return `size` posts (by default 3,000 / 500 / 800 for train / dev / test) with pictures and ground truth.

    Post number k does not depend on `size`, so a smaller corpus is a prefix of a larger one. Words of names never
    occur in names of another split.

    Raises:
        UsageError: unknown preset or split, or a negative seed.
    """
    chosen = preset_named(preset)
    if split not in SIZES:
        raise UsageError(f"the probe corpus has no split {split!r}; it has {', '.join(SIZES)}")
    if seed < 0:
        raise UsageError(f"the seed of the probe corpus must not be negative, got {seed}")
    key = (VERSION, zlib.crc32(preset.encode()), list(SIZES).index(split), seed)
    numbers = range(SIZES[split] if size is None else size)
    return [_post(Dice((*key, number)), chosen, split, f"{preset}-{split}-{seed}-{number}") for number in numbers]


def digest(posts: Iterable[Post]) -> str:
    """SHA-256 over ids, words, tags, boxes, captions and pixels."""
    total = hashlib.sha256()
    for post in posts:
        objects = post.truth.objects if post.truth else ()
        total.update(repr((post.id, post.words, post.tags, [(each.image, each.box) for each in objects])).encode())
        for image in post.images:
            total.update(repr((image.name, image.caption)).encode())
            if image.pixels is not None:
                total.update(image.pixels.tobytes())
    return total.hexdigest()


def _post(dice: Dice, preset: Preset, split: str, post_id: str) -> Post:
    family = dice.pick(preset.families)
    irrelevant = dice.chance(preset.irrelevant)
    mentions = _mentions(dice, preset, family, split, irrelevant)
    words, spans = write(dice, mentions)
    shown = _shown(dice, preset, family, mentions, irrelevant)
    drawn: list[list[Placed]] = []
    images: list[ImageRef] = []
    for number, items in enumerate(shown):
        pixels, placed = paint(dice, preset, items)
        drawn.append(placed)
        images.append(
            ImageRef(f"{post_id}-{number}.png", pixels=pixels, caption=caption(placed), objects=_objects(placed))
        )
    places = {each.item.entity: (image, each) for image, placed in enumerate(drawn) for each in placed}
    entities = []
    for number, (span, mention) in enumerate(zip(spans, mentions, strict=True)):
        image, each = places.get(number, (None, None))
        where = (image, each.box, each.cell) if each is not None else (None, None, None)
        entities.append(EntityTruth(span, mention.ambiguous, *where))
    truth = Truth(
        entities=tuple(entities),
        objects=tuple(
            DrawnObject(image, each.box, each.item.noun, each.item.colour, each.item.entity)
            for image, placed in enumerate(drawn)
            for each in placed
        ),
        relevant=tuple(any(each.item.entity >= 0 for each in placed) for placed in drawn),
    )
    return Post(post_id, words, tuple(tags_of(spans, len(words))), tuple(images), truth=truth)


def _objects(placed: list[Placed]) -> tuple[PictureObject, ...]:
    """The true boxes of all pictograms, in reading order."""
    return tuple(
        PictureObject((x0 / SIZE, y0 / SIZE, x1 / SIZE, y1 / SIZE), label=each.item.noun)
        for each in placed
        for x0, y0, x1, y1 in (each.box,)
    )


def _mentions(dice: Dice, preset: Preset, family: tuple[str, ...], split: str, irrelevant: bool) -> list[Mention]:
    """The entities of a post. Ambiguous ones differ in type, and all differ in colour."""
    mentions: list[Mention] = []
    colours = dice.shuffled(list(COLOURS)[: preset.colours])
    for number in range(dice.weighted(preset.entities)):
        taken = [mention.type for mention in mentions if mention.ambiguous]
        ambiguous = dice.chance(preset.ambiguous) and len(taken) < preset.most_ambiguous
        ambiguous = ambiguous and (preset.ambiguous_undrawn or not irrelevant)
        kind = dice.pick([each for each in family if not (ambiguous and each in taken)])
        hint = None
        if ambiguous and preset.hint:
            hint = kind if dice.chance(preset.hint) else dice.pick([each for each in family if each != kind])
        linked = dice.chance(preset.link_ambiguous if ambiguous else preset.link_clear)
        mentions.append(Mention(kind, name(dice, split, preset.lower), ambiguous, colours[number], linked, hint))
    return mentions


def _shown(
    dice: Dice, preset: Preset, family: tuple[str, ...], mentions: list[Mention], irrelevant: bool
) -> list[list[Item]]:
    """What each picture of a post shows. Distractors have types and colours that the text does not mention."""
    count = dice.weighted(preset.images)
    relevant = -1 if irrelevant else dice.below(count)
    free_types = [kind for kind in family if all(kind != mention.type for mention in mentions)]
    used = {mention.colour for mention in mentions}
    free_colours = [colour for colour in list(COLOURS)[: preset.colours] if colour not in used]
    shown = []
    for number in range(count):
        items = []
        if number == relevant:
            for entity, mention in enumerate(mentions):
                if mention.ambiguous or dice.chance(preset.draw_clear):
                    items.append(Item(_noun(dice, preset, mention.type), mention.colour, entity))
        distractors = dice.weighted(preset.distractors)
        if not items and preset.irrelevant:
            # an irrelevant picture shows something too: an empty one would give itself away
            distractors = max(distractors, 1)
        kinds = dice.shuffled(free_types)[:distractors]
        for kind, colour in zip(kinds, dice.shuffled(free_colours), strict=False):
            items.append(Item(_noun(dice, preset, kind), colour, -1))
        shown.append(items)
    return shown


def _noun(dice: Dice, preset: Preset, kind: str) -> str:
    return NOUNS[kind][dice.below(preset.drawings)]
