"""What is in a picture, in words: labels of its objects, or else nouns of its caption."""

from __future__ import annotations

from mnerkit.data.corpus.post import ImageRef
from mnerkit.data.pictures.noun_phrases import noun_phrases


def object_words(ref: ImageRef, most: int) -> list[str]:
    """Words of the labels of a picture's objects, the surest `most` of them; a label counts once."""
    labels = dict.fromkeys(each.label for each in ref.objects if each.label)
    return [word for label in [*labels][:most] for word in label.split()]


def label_words(ref: ImageRef, most: int) -> list[str]:
    """`object_words`; of a picture without labels as many nouns of its caption, the first ones.

    A noun is the last word of a noun phrase (`noun_phrases`).
    """
    nouns = dict.fromkeys(phrase.split()[-1] for phrase in noun_phrases((ref.caption or "").split()))
    return object_words(ref, most) or [*nouns][:most]
