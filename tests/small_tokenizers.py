"""Byte-level tokenizers learnt in a moment, for tests."""

from __future__ import annotations

import json


def byte_pieces(special: list[str], suffix: str = "") -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE learnt from a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=suffix) if suffix else models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=not suffix)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    options = {"end_of_word_suffix": suffix} if suffix else {}
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, special_tokens=special, **options)
    tokenizer.train_from_iterator(["the cat sat on the mat"], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    for letter in alphabet if suffix else []:
        model["vocab"].setdefault(letter + suffix, len(model["vocab"]))
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def bert_pieces() -> list[str]:
    """A vocabulary of BERT's."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *".?#@[]", "\u4e2d"]
    return [*pieces, *("##" + letter for letter in letters), "the", "cat", "dur", "##ant", "kevin"]


def word_end_pieces() -> tuple[str, str]:
    """Vocabulary and merges, with how often each was seen, of a BPE that marks pieces within a word with `@@`."""
    merges = ["t h", "th e</w>", "a t</w>", "th e"]
    pieces = ["the", "the@@", "at", "th@@", *"acehot", *(f"{letter}@@" for letter in "acehot")]
    return "".join(f"{piece} 1\n" for piece in pieces), "".join(f"{merge} 1\n" for merge in merges)
