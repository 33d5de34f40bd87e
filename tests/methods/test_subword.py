"""Every piece tagged as if it were a word (`subword`): which tags pieces have, and what words get of theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.batches.needs import Needs
from mnerkit.data.batches.piece_words import PieceTags, as_pieces, first_pieces, of_words
from mnerkit.data.corpus.post import CorpusFacts, ImageRef, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.errors import UsageError
from mnerkit.methods.evaluation import reads_windows
from mnerkit.methods.heads import load_head_class
from mnerkit.methods.released import ReleasedWeights, joined, same, scaled, split, tag_order, transposed
from mnerkit.towers.text.pieces import PieceReader
from mnerkit.towers.text.tiny import tiny_tokenizer
from mnerkit_plugins.hvpnet.tagger import HvpnetTagger

TYPES = ("PER", "LOC")
TAGSET = TagSet(TYPES)
# a capitalised word is two pieces: its shape, then the word
POSTS = [
    Post("1", ("Ann", "is", "in", "New", "York"), ("B-PER", "O", "O", "B-LOC", "I-LOC")),
    Post("2", ("hi",), ("O",)),
    Post("3", (), ()),
]


def batch(max_tokens: int = 128, views: tuple[str, ...] = (), posts: list[Post] = POSTS, **options: Any) -> Batch:
    reader = PieceReader(tiny_tokenizer(["ann", "is", "in", "new", "york", "hi"]), "[UNK]", max_tokens)
    return Collator(Needs(reader, frozenset(views)), None, TAGSET, **options)(posts)


def names(tags: Tensor | None, tagset: TagSet, mask: Tensor) -> list[list[str]]:
    assert tags is not None
    return [[tagset.tags[number] for number in row[real].tolist()] for row, real in zip(tags, mask, strict=True)]


def test_pieces_have_their_words_tag_x_and_those_of_special_pieces() -> None:
    pieces = as_pieces(batch(), PieceTags(unused=("PAD",)))
    first = ["[CLS]", "B-PER", "X", "O", "O", "B-LOC", "X", "I-LOC", "X", "[SEP]"]
    assert names(pieces.tags, pieces.tagset, pieces.text.word_mask) == [
        first,
        ["[CLS]", "O", "[SEP]"],
        ["[CLS]", "[SEP]"],
    ]
    assert pieces.tagset.tags == (*TAGSET.tags, "X", "[CLS]", "[SEP]", "PAD")
    assert torch.equal(pieces.text.read_mask, pieces.text.attn_mask)  # type: ignore[arg-type]
    copied = as_pieces(batch(), PieceTags(later=None))
    copies = ["[CLS]", "B-PER", "B-PER", "O", "O", "B-LOC", "B-LOC", "I-LOC", "I-LOC", "[SEP]"]
    assert names(copied.tags, copied.tagset, copied.text.word_mask)[0] == copies
    alike = as_pieces(batch(), PieceTags("X", "X", "X"))
    assert alike.tagset.others == ("X",) and names(alike.tags, alike.tagset, alike.text.word_mask)[1] == ["X", "O", "X"]


def test_words_get_the_tag_of_their_first_piece() -> None:
    whole = batch()
    pieces = as_pieces(whole, PieceTags())
    assert pieces.tags is not None
    decoded = [row[mask].tolist() for row, mask in zip(pieces.tags, pieces.text.word_mask, strict=True)]
    assert of_words(decoded, whole) == [TAGSET.encode(post.tags or ()) for post in POSTS]
    decoded[1][1] = pieces.tagset.tags.index("[CLS]")
    assert of_words(decoded, whole)[1] == [0], "a word with the tag of a special piece is no entity"
    places = torch.arange(pieces.tags.shape[1]).expand_as(pieces.tags)
    assert first_pieces(places, whole)[0].tolist() == [1, 3, 4, 5, 7]


def test_words_that_were_cut_off_are_no_pieces_and_tagged_o() -> None:
    whole = batch(max_tokens=8)
    pieces = as_pieces(whole, PieceTags())
    assert names(pieces.tags, pieces.tagset, pieces.text.word_mask)[0] == [
        "[CLS]",
        "B-PER",
        "X",
        "O",
        "O",
        "B-LOC",
        "X",
        "[SEP]",
    ]
    assert len(of_words([[1] * 8, [0] * 3, [0] * 2], whole)[0]) == 5
    assert of_words([[1] * 8, [0] * 3, [0] * 2], whole)[0][-1] == 0


def test_a_second_segment_is_read_and_not_tagged() -> None:
    post = replace(POSTS[0], images=(ImageRef("a.jpg", caption="hi hi"),))
    pieces = as_pieces(batch(views=("second",), posts=[post, POSTS[1]]), PieceTags())
    assert pieces.text.attn_mask is not None
    assert pieces.text.attn_mask[0].sum() == 13 and pieces.text.word_mask[0].sum() == 10
    assert names(pieces.tags, pieces.tagset, pieces.text.word_mask)[0][-1] == "[SEP]"


def test_pieces_of_words_that_do_not_count_do_not_count() -> None:
    unknown = replace(POSTS[0], tags=("B-PER", "O", "O", "B-ORG", "I-ORG"))
    pieces = as_pieces(batch(posts=[unknown], out_of_play="ignore"), PieceTags())
    assert pieces.play_mask is not None
    assert pieces.play_mask[0].tolist() == [True] * 5 + [False] * 4 + [True]


def test_a_batch_without_pieces_is_refused() -> None:
    text = replace(batch().text, piece_word=None)
    with pytest.raises(ValueError, match="contains no pieces"):
        as_pieces(replace(batch(), text=text), PieceTags())


def tagger(head: str = "crf", options: dict[str, Any] | None = None, **given: Any) -> HvpnetTagger:
    made = HvpnetTagger(text="tiny-bert", hidden=8, head=load_head_class(head)(**(options or {})), **given)
    made.build(CorpusFacts.of(TYPES, POSTS))
    return made


def test_heads_that_tag_words_refuse_pieces() -> None:
    for head, options in (("prototype", {}), ("crf", {"transitions": "tied"}), ("crf", {"constrain_bio": True})):
        with pytest.raises(UsageError, match=r"--model\.subword X: .*give --model\.subword first"):
            tagger(head, options, subword="X")
        tagger(head, options)
    with pytest.raises(UsageError, match="windows are of words"):
        tagger(subword="X", long_posts="windows")
    assert not reads_windows(tagger(subword="X"), predicting=True) and reads_windows(tagger(), predicting=True)


@pytest.mark.parametrize("subword, tags", [("first", 5), ("X", 9), ("copy", 9)])
def test_a_head_has_a_tag_for_each_kind_of_piece(subword: str, tags: int) -> None:
    assert tagger(subword=subword).head.linear.out_features == tags


# ---------------------------------------------------------------------- tables of released names


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.q, self.k, self.g = (torch.nn.Linear(2, 2, bias=False) for _ in range(4))
        self.wide = torch.nn.Linear(2, 4, bias=False)


TABLE = ReleasedWeights(
    [
        transposed("a.w", "a.weight"),
        split("qk", "q.weight", "k.weight"),
        scaled("g", "g.weight", 3.0),
        joined("part.{n}.weight", "wide.weight"),
        same("*.layer.{n}.x", "{n}.*"),
    ],
    ignored={"old.*": "nothing reads it"},
)


def test_a_table_reads_released_weights_and_gives_their_gradients() -> None:
    released = {name: torch.randn(2, 2) for name in ("a.w", "g")}
    released |= {"qk": torch.randn(4, 2), "old.b": torch.zeros(1)}
    released |= {f"part.{n}.weight": torch.full((1, 2), float(n)) for n in (10, 2, 0, 1)}
    model, order = Model(), torch.arange(1)
    TABLE.load(model, released, order)
    assert model.wide.weight[:, 0].tolist() == [0, 1, 2, 10]  # by number, not by name
    x = torch.randn(3, 2)
    sum((each(x) ** 2).sum() for each in (model.a, model.q, model.k, model.g, model.wide)).backward()
    leaves = {name: value.clone().requires_grad_() for name, value in released.items() if name != "old.b"}
    q, k = leaves["qk"].chunk(2)
    maps = [leaves["a.w"].t(), q, k, 3 * leaves["g"], torch.cat([leaves[f"part.{n}.weight"] for n in (0, 1, 2, 10)])]
    sum(((x @ each.t()) ** 2).sum() for each in maps).backward()
    found = TABLE.gradients(model, released, order)
    assert found.keys() == leaves.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, leaves[name].grad)


def test_what_the_last_layer_has_for_nothing_is_left_out_and_so_is_what_options_do_not_make() -> None:
    table = ReleasedWeights(
        [same("layer.{n}.*", "{n}.*"), same("map.*", "5.*")],
        ignored_last={"layer.{n}.bias": "nothing reads it"},
        optional={"5.*": "only one router reads it"},
    )
    model = torch.nn.Sequential(*(torch.nn.Linear(1, 1, bias=number < 10) for number in range(11)))
    del model[5]
    model.insert(5, torch.nn.Identity())
    released = {f"layer.{n}.{part}": torch.full((1, 1)[: 2 - (part == "bias")], float(n)) for n in range(11) if n != 5
                for part in ("weight", "bias")}  # fmt: skip
    table.load(model, {**released, "map.weight": torch.zeros(1, 1)}, torch.arange(1))
    assert model[9].bias.item() == 9 and model[10].weight.item() == 10  # type: ignore[union-attr]


def test_a_table_names_what_does_not_fit() -> None:
    assert TABLE.unknown(["a.w", "old.b", "new", "x.layer.3.x"]) == ["new"]
    assert list(TABLE.ours({"u.layer.3.x": torch.zeros(1)}, torch.arange(1))) == ["3.u"]
    for weights, message in (
        ({"new": torch.zeros(1)}, "unknown are new"),
        ({"a.w": torch.zeros(2, 2)}, "nothing is there for g.weight, k.weight, q.weight, wide.weight"),
    ):
        with pytest.raises(Exception, match=message):
            TABLE.load(Model(), weights, torch.arange(1))
    with pytest.raises(Exception, match="are not ours"):
        tag_order(["O", "B-PER"], ["O", "B-LOC"])
    assert tag_order(["O", "B-PER"], ["B-PER", "O"]).tolist() == [1, 0]
