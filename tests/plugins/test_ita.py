"""ITA: what stands for a picture, what the two views lose, and how the text alone is drawn to what stands for it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch

from mnerkit.data.batches.batch import Batch
from mnerkit.data.batches.collate import Collator
from mnerkit.data.corpus.corpus import Corpus
from mnerkit.data.corpus.post import CorpusFacts, ImageRef, PictureObject, Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures import coverage
from mnerkit.data.pictures.written_words import WrittenWords
from mnerkit.errors import DataError, UsageError
from mnerkit.methods.heads import load_head_class
from mnerkit.methods.two_views import second_segment
from mnerkit.nn.linear_chain import Scores, crf_log_marginals, tempered_divergence
from mnerkit_plugins.ita.options import ItaOptions
from mnerkit_plugins.ita.tagger import ItaTagger

TAGS = TagSet(("PER", "LOC"))
OBJECTS = tuple(PictureObject((0.0, 0.0, 1.0, 1.0), label=label) for label in ("house", "house", "sea gull"))
SEEN = ImageRef("a.jpg", caption="a house by the sea", objects=OBJECTS, text="open now")
WITH = Post("a", ("look", "at", "Ann"), ("O", "O", "B-PER"), (SEEN,))
BARE = Post("b", ("Ann", "in", "Rome", "and", "Bonn"), ("B-PER", "O", "B-LOC", "O", "B-LOC"))
WORDS = ("look", "at", "ann", "in", "rome", "and", "bonn", "a", "house", "by", "the", "sea", "gull", "open", "now")


def tagger(head: str = "crf", text: str = "tiny", **options: Any) -> ItaTagger:
    """A tagger without dropout."""
    torch.manual_seed(0)
    made = ItaTagger(head=load_head_class(head)(), text=text, **{"dropout": 0.0, **options})
    made.build(CorpusFacts(TAGS.types, WORDS))
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if text == "tiny":
        made.encoder.tower.forget = 0.0
    return made


def batch_of(made: ItaTagger, *posts: Post) -> Batch:
    return Collator(made.needs(), None, TAGS)(list(posts))


# ---------------------------------------------------------------------- context


@pytest.mark.parametrize(
    ("context", "words"),
    [
        (["caption"], "a house by the sea"),
        (["objects"], "house sea gull"),
        (["ocr", "objects", "caption"], "open now house sea gull a house by the sea"),
    ],
)
def test_the_context_has_the_parts_in_their_order_and_a_label_once(context: list[str], words: str) -> None:
    assert tagger(context=context).needs().second_segment(WITH) == words.split()


def test_what_is_not_known_of_a_picture_is_left_out() -> None:
    needs = tagger().needs()
    assert needs.second_segment(replace(WITH, images=(replace(SEEN, caption=None, text=None),))) == [
        "house",
        "sea",
        "gull",
    ]
    assert needs.second_segment(BARE) == []
    assert tagger(max_labels=1).needs().labels(WITH) == [["house"]]


@pytest.mark.parametrize("text", ["tiny", "tiny-bert"])
def test_words_of_the_context_get_no_state_and_no_tag(text: str) -> None:
    made = tagger(text=text).eval()
    batch = batch_of(made, WITH)
    assert made.encoder(batch).states.shape[2] == 3 and second_segment(batch.text).any()
    assert [len(each) for each in made.head.decode(made.encoder(batch), batch)] == [3]


def test_parts_that_no_picture_has_are_told_with_the_way_out() -> None:
    needs = tagger().needs()
    coverage.check_captions("train", [WITH], needs)
    bare = replace(WITH, images=(ImageRef("a.jpg"),))
    with pytest.raises(DataError, match=r"reads caption, objects, ocr, and nothing of it.*\n.*--data\.ocr FILE"):
        coverage.check_captions("train", [bare], needs)
    with pytest.raises(UsageError, match=r"--model\.context \[\]: give at least one"):
        ItaOptions(context=[])


def written(tmp_path: Path, text: str, *images: str) -> WrittenWords:
    path = tmp_path / "ocr.txt"
    path.write_text(text)
    posts = [Post("a", ("x",), ("O",), tuple(map(ImageRef, images)))]
    return WrittenWords(str(path), Corpus("mine", "default", "", None, (), {"train": posts}))


def test_written_words_are_read_from_lines_of_a_picture_and_its_words(tmp_path: Path) -> None:
    words = written(tmp_path, "a.jpg: open: now\nb.jpg:\n", "a.jpg", "c.jpg")
    images = (ImageRef("a.jpg"), ImageRef("b.jpg"), ImageRef("c.jpg"))
    (post,) = words.annotated([Post("a", ("x",), ("O",), images)])
    assert [each.text for each in post.images] == [" open: now", "", None]
    with pytest.raises(DataError, match=r"names none of the 1 pictures of mine, such as 'c\.jpg'"):
        written(tmp_path, "a.jpg: open\n", "c.jpg")
    with pytest.raises(DataError, match=r"ocr\.txt:1: expected '<picture>:<words>', found 'open now'"):
        written(tmp_path, "open now\n", "a.jpg")


# ---------------------------------------------------------------------- losses


@pytest.mark.parametrize("head", ["crf", "softmax"])
def test_each_view_is_trained_as_a_batch_of_its_own_and_a_post_without_context_once(head: str) -> None:
    made = tagger(head)
    losses = made.losses(batch_of(made, WITH, BARE))
    plain = made.encoder.eval()

    def alone(*posts: Post, read: str) -> torch.Tensor:
        plain.options = replace(made.options, read=read)
        batch = batch_of(made, *posts)
        return made.head.loss(plain(batch), batch)

    torch.testing.assert_close(losses["head"], alone(WITH, BARE, read="text"))
    torch.testing.assert_close(losses["context"], alone(WITH, read="caption"), rtol=1e-4, atol=1e-4)
    assert made.loss_weights() == {"head": 1.0, "context": 0.5, "agreement": 0.5}
    assert losses["agreement"] > 0


@pytest.mark.parametrize("head", ["crf", "softmax"])
def test_with_an_empty_context_both_views_are_one_and_agree(head: str) -> None:
    made = tagger(head)
    batch = batch_of(made, replace(WITH, images=()), BARE)
    first, second = made.encoder(batch).states
    torch.testing.assert_close(first, second)
    assert made.losses(batch)["agreement"] == 0 and made.losses(batch)["context"] == 0


@pytest.mark.parametrize("head", ["crf", "softmax"])
def test_the_teacher_gets_no_gradient_of_the_agreement(head: str) -> None:
    made = tagger(head)
    batch = batch_of(made, WITH, BARE)
    encoded = made.encoder(batch)
    encoded.states.retain_grad()
    made.losses_of(encoded, batch)["agreement"].backward()
    assert encoded.states.grad is not None
    assert not encoded.states.grad[0].any() and encoded.states.grad[1, 0].any()
    assert not encoded.states.grad[:, 1].any()  # it has no context


def test_without_text_loss_and_agreement_the_text_alone_is_not_read() -> None:
    made = tagger(text_weight=0.0, agreement=0.0)
    assert len(made.encoder(batch_of(made, WITH)).states) == 1
    assert [*made.losses(batch_of(made, WITH))] == ["context"]
    with pytest.raises(UsageError, match="no view would be trained"):
        ItaOptions(text_weight=0.0, context_weight=0.0)


def test_a_head_without_a_distribution_over_tags_trains_both_views_alone() -> None:
    made = tagger("nearest")
    assert made.agreement == 0 and [*made.losses(batch_of(made, WITH))] == ["head", "context"]


@pytest.mark.parametrize("posts", [(WITH, BARE), (BARE,)])
def test_reading_the_text_ignores_pictures_exactly(posts: tuple[Post, ...]) -> None:
    made = tagger(read="text").eval()
    other = [replace(post, images=(ImageRef("c.jpg", caption="the sea"),)) for post in posts]
    assert torch.equal(made.encoder(batch_of(made, *posts)).states, made.encoder(batch_of(made, *other)).states)
    seeing = tagger().eval()
    assert not torch.equal(
        seeing.encoder(batch_of(seeing, *posts)).states, seeing.encoder(batch_of(seeing, *other)).states
    )


# ---------------------------------------------------------------------- token posteriors


def chain(seed: int = 0, k: int = 3) -> tuple[torch.Tensor, torch.Tensor, Scores]:
    torch.manual_seed(seed)
    mask = torch.tensor([[True] * 4, [True] * 2 + [False] * 2, [True] + [False] * 3])
    return torch.randn(3, 4, k), mask, Scores(torch.randn(k), torch.randn(k, k), torch.randn(k))


def test_log_marginals_are_those_of_all_sequences() -> None:
    emissions, mask, scores = chain()
    found = crf_log_marginals(emissions.masked_fill(~mask.unsqueeze(-1), float("nan")), mask, scores).exp()
    for row in range(3):
        n = int(mask[row].sum())
        weights = torch.zeros(n, 3)
        for tags in product(range(3), repeat=n):
            total = scores.start[tags[0]] + scores.end[tags[-1]]
            total = total + sum(emissions[row, word, tag] for word, tag in enumerate(tags))
            total = total + sum(scores.transitions[a, b] for a, b in pairwise(tags))
            for word, tag in enumerate(tags):
                weights[word, tag] += total.exp()
        torch.testing.assert_close(found[row, :n], weights / weights.sum(1, keepdim=True))


def test_the_agreement_is_the_tempered_divergence_summed_over_words() -> None:
    made = tagger(agreement_temperature=2.0)
    batch = batch_of(made, WITH, BARE)
    encoded = made.encoder(batch)
    head: Any = made.head
    scores = head.crf.scores(2)
    total = torch.zeros(())
    p, q = (
        crf_log_marginals(head.linear(each[:1, :3]), batch.text.word_mask[:1, :3], scores) for each in encoded.states
    )
    for word in range(3):
        first, second = (each[0, word].div(2).softmax(-1) for each in (p, q))
        total = total + 4 * (first * (first / second).log()).sum()
    torch.testing.assert_close(made.losses_of(encoded, batch)["agreement"], total)


def test_the_divergence_is_never_negative_and_its_gradient_keeps_its_scale_as_the_temperature_grows() -> None:
    torch.manual_seed(0)
    teacher, student = torch.randn(20, 5), torch.randn(20, 5, requires_grad=True)
    sizes = []
    for temperature in (1.0, 10.0, 100.0):
        losses = tempered_divergence(teacher, student, temperature)
        assert (losses >= 0).all()
        (gradient,) = torch.autograd.grad(losses.sum(), student)
        sizes.append(float(gradient.norm()))
    assert 0.2 < sizes[1] / sizes[0] < 5 and abs(sizes[2] / sizes[1] - 1) < 0.1


def test_at_temperature_one_no_word_diverges_more_than_its_sequence() -> None:
    made = tagger(agreement_temperature=1.0)
    batch = batch_of(made, WITH)
    encoded = made.encoder(batch)
    rows = torch.tensor([True])
    head: Any = made.head
    words = [
        tempered_divergence(
            *(
                crf_log_marginals(head.linear(each), batch.text.word_mask, head.crf.scores(2))
                for each in encoded.states
            ),
            1.0,
        )
    ]
    assert float(words[0].max().detach()) <= float(made.head.divergence(encoded, batch, rows).detach()) + 1e-7
