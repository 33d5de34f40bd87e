"""Heads: what they see, what they return, and what must not change the result."""

import dataclasses
from itertools import pairwise

import pytest
import torch

from mnerkit.data.batches.batch import Batch, TextBatch
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.errors import DataError, UsageError
from mnerkit.methods.heads import HEADS, load_head_class
from mnerkit.methods.heads.head import ABSENT, pad_to_words
from mnerkit.towers.interface import WordStates

TYPES = TagSet(("PER", "LOC"))
WIDTH = 6
SUPPORT = [["O", "B-PER", "I-PER", "O"], ["B-LOC", "O"], ["O", "B-LOC", "I-LOC", "O", "B-PER"]]
QUERY = [["O", "B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "I-LOC", "O"]]
PLAIN = ["softmax", "crf"]


def batch_of(rows, query, tagset=TYPES, read=None, width=None, episode=None):
    """A batch of posts with tags `rows`; `read` words of each are seen by the tower (default: all)."""
    lengths = [len(row) for row in rows]
    width = width or max(lengths)
    words = torch.arange(width)
    mask = words < torch.tensor(lengths).unsqueeze(1)
    first_piece = torch.where(words < torch.tensor(read or lengths).unsqueeze(1), words + 1, -1)
    tags = torch.tensor([tagset.encode(row) + [0] * (width - len(row)) for row in rows])
    posts = [Post(str(number), tuple("w" * len(row)), tuple(row)) for number, row in enumerate(rows)]
    text = TextBatch([post.words for post in posts], mask, first_piece=first_piece)
    return Batch(posts, text, tagset, torch.tensor(query), tags, episode=episode)


def states_of(batch, worlds=1, seed=0, spread=2.0):
    """States near a centre of their tag, so that heads have something to find; noise in the padding."""
    draw = torch.Generator().manual_seed(seed)
    centres = spread * torch.randn(len(batch.tagset), WIDTH, generator=draw)
    noise = torch.randn(worlds, *batch.tags.shape, WIDTH, generator=draw)
    return WordStates(centres[batch.tags] + noise)


def built(name, tagset=TYPES, seed=0, **options):
    torch.manual_seed(seed)
    head = load_head_class(name)(**options)
    head.build(WIDTH, tagset)
    return head.eval()


def example(name, worlds=1, **options):
    """A batch or episode of the kind that the head trains on, and its states."""
    episodic = load_head_class(name).train_mode == "episodic"
    rows, query = (SUPPORT + QUERY, [False] * 3 + [True] * 2) if episodic else (QUERY + SUPPORT, [True] * 5)
    batch = batch_of(rows, query, **options)
    return batch, states_of(batch, worlds)


DISTANCES = [
    {},
    {"proto_classes": "io"},
    {"o_proto": "learned_bias"},
    {"distance": "cosine", "missing_I": "absent"},
]
PROTOTYPE = [
    {},
    {"transitions": "full"},
    {"proto_classes": "io"},
    {"o_proto": "nearest"},
    {"o_proto": "learned_bias"},
    {"distance": "euclid"},
    {"distance": "cosine"},
    {"emission": "p", "missing_I": "absent", "constrain_bio": False},
]
EVERY = [
    ("softmax", {}),
    ("crf", {}),
    ("crf", {"transitions": "tied", "constrain_bio": True}),
    *(("prototype", options) for options in DISTANCES),
    *(("prototype_crf", options) for options in PROTOTYPE),
]
every_head = pytest.mark.parametrize(("name", "options"), EVERY, ids=lambda value: str(value))


def test_names_and_classes_agree_and_a_misspelt_name_gets_the_nearest():
    assert all(load_head_class(name).name == name for name in HEADS)
    with pytest.raises(UsageError, match="'prototype_crf'"):
        load_head_class("prototypecrf")


@every_head
def test_every_weight_trains_and_tags_are_as_long_as_the_posts(name, options):
    batch, encoded = example(name, worlds=2)
    encoded.states.requires_grad_()
    head = built(name, **options)
    loss = head.loss(encoded, batch)
    assert loss.shape == () and loss.dtype == torch.float32 and loss > 0
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())
    assert encoded.states.grad.abs().sum() > 0
    decoded = head.decode(encoded, batch)
    assert [len(row) for row in decoded] == [
        len(post.words) for post, scored in zip(batch.posts, batch.query, strict=True) if scored
    ]
    assert all(0 <= tag < len(batch.tagset) for row in decoded for tag in row)


@every_head
def test_padding_has_no_influence(name, options):
    head = built(name, **options)
    batch, encoded = example(name)
    wider, more = example(name, width=9)
    more.states[:, :, :5] = encoded.states
    more.states[:, ~wider.text.word_mask] = 1e3
    torch.testing.assert_close(head.loss(more, wider), head.loss(encoded, batch))
    assert head.decode(more, wider) == head.decode(encoded, batch)


@every_head
def test_a_query_does_not_depend_on_its_batch_mates(name, options):
    head = built(name, **options)
    batch, encoded = example(name)
    together = head.decode(encoded, batch)
    for number, row in enumerate(torch.nonzero(batch.query).flatten().tolist()):
        kept = sorted({row} | set(torch.nonzero(~batch.query).flatten().tolist()))
        alone = batch_of([list(batch.posts[each].tags) for each in kept], batch.query[kept].tolist(), width=5)
        assert head.decode(WordStates(encoded.states[:, kept]), alone) == [together[number]]


@every_head
def test_words_that_the_tower_did_not_see_are_o_and_do_not_count(name, options):
    head = built(name, **options)
    episodic = head.train_mode == "episodic"
    rows, query = (SUPPORT + QUERY, [False] * 3 + [True] * 2) if episodic else (QUERY, [True, True])
    full = [len(row) for row in rows]
    batch = batch_of(rows, query, read=[*full[:-2], 2, 2])
    encoded = states_of(batch)
    loss, decoded = head.loss(encoded, batch), head.decode(encoded, batch)
    assert [len(row) for row in decoded] == full[-2:]
    assert not any(decoded[0][2:]) and not any(decoded[1][2:])
    encoded.states[:, ~batch.text.read_mask] = 99.0
    torch.testing.assert_close(head.loss(encoded, batch), loss)
    assert head.decode(encoded, batch) == decoded


@every_head
def test_losses_of_environments_are_summed(name, options):
    head = built(name, **options)
    batch, encoded = example(name, worlds=2)
    apart = [head.loss(WordStates(encoded.states[world : world + 1]), batch) for world in (0, 1)]
    torch.testing.assert_close(head.loss(encoded, batch), apart[0] + apart[1])
    twice = WordStates(encoded.states[:1].repeat(2, 1, 1, 1))
    torch.testing.assert_close(head.loss(twice, batch), 2 * apart[0])
    assert head.decode(twice, batch) == head.decode(WordStates(encoded.states[:1]), batch)


@every_head
def test_the_loss_is_single_precision_under_autocast(name, options):
    head = built(name, **options)
    batch, encoded = example(name)
    rounded = WordStates(encoded.states.bfloat16())
    expected = head.loss(WordStates(rounded.states.float()), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(head.loss(rounded, batch), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", PLAIN)
def test_boundary_emissions_are_added_by_role(name):
    head = built(name)
    batch, encoded = example(name)
    encoded.boundary = torch.zeros(*batch.tags.shape, 3)
    assert head.decode(encoded, batch) == head.decode(WordStates(encoded.states), batch)
    for role, numbers in ((0, {1, 3}), (1, {2, 4}), (2, {0})):
        encoded.boundary = torch.zeros(*batch.tags.shape, 3)
        encoded.boundary[..., role] = 1e4
        assert {tag for row in head.decode(encoded, batch) for tag in row} <= numbers


@pytest.mark.parametrize("worlds", [1, 2])
def test_gradients_of_a_softmax_in_closed_form_are_those_of_its_loss(worlds):
    batch, encoded = example("softmax", worlds, read=[5, 1, 4, 2, 3])
    batch.play_mask = batch.text.word_mask.clone()
    batch.play_mask[0, 1] = False
    head = built("softmax", dropout=0.5)
    wanted = torch.autograd.grad(head.loss(encoded, batch), list(head.parameters()))
    torch.testing.assert_close(head.gradients_of(encoded, batch)(), list(wanted))
    assert head.train().gradients_of(encoded, batch) is None  # each step drops other features
    boundary = torch.zeros(*batch.tags.shape, 3)
    assert head.eval().gradients_of(dataclasses.replace(encoded, boundary=boundary), batch) is None


def test_a_batch_without_a_word_that_was_read_has_loss_zero_and_a_gradient():
    batch = batch_of(QUERY, [True, True], read=[0, 0])
    encoded = states_of(batch)
    encoded.states.requires_grad_()
    for name in PLAIN:
        loss = built(name).loss(encoded, batch)
        loss.backward()
        assert loss == 0
        assert built(name).decode(encoded, batch) == [[0] * 5, [0] * 3]


def test_posts_without_tags_are_refused_in_one_line():
    batch, encoded = example("crf")
    batch.tags = None
    with pytest.raises(DataError, match="no tags"):
        built("crf").loss(encoded, batch)


@pytest.mark.parametrize("name", ["crf", "prototype_crf"])
def test_a_crfs_loss_is_of_a_post_or_of_a_word_or_the_sum_of_all(name):
    batch, encoded = example(name, worlds=2)
    batch.play_mask = batch.text.word_mask.clone()
    batch.play_mask[-1, 0] = False
    post, word, total = (
        built(name, reduction=reduction).loss(encoded, batch).item() for reduction in ("post", "word", "sum")
    )
    queries = batch.places.queries
    assert total == pytest.approx(post * len(queries), rel=1e-5)
    assert total == pytest.approx(word * int(batch.play_mask[batch.query].sum()), rel=1e-5)


@pytest.mark.parametrize("name", ["crf", "prototype_crf"])
def test_illegal_sequences_are_never_decoded_under_the_constraint(name):
    for seed in range(20):
        batch, _ = example(name)
        encoded = states_of(batch, seed=seed, spread=0.0)
        encoded.states *= 100
        for row in built(name, seed=seed, constrain_bio=True).decode(encoded, batch):
            for before, after in pairwise(["O", *batch.tagset.decode(row)]):
                assert not after.startswith("I-") or before[2:] == after[2:]


# ---------------------------------------------------------------------- prototypes


def renamed(batch):
    """The same episode with the names of the two types swapped."""
    swap = torch.tensor([0, 3, 4, 1, 2])
    return dataclasses.replace(batch, tags=swap[batch.tags]), swap


@pytest.mark.parametrize("options", [*PROTOTYPE[:1], *PROTOTYPE[2:]], ids=str)
def test_swapping_the_names_of_two_types_swaps_the_prediction(options):
    head = built("prototype_crf", **options)
    batch, encoded = example("prototype_crf", worlds=2)
    other, swap = renamed(batch)
    torch.testing.assert_close(head.loss(encoded, other), head.loss(encoded, batch))
    expected = [[int(swap[tag]) for tag in row] for row in head.decode(encoded, batch)]
    assert head.decode(encoded, other) == expected


def test_full_transitions_know_the_slots_and_shuffling_deals_them_anew():
    batch, encoded = example("prototype_crf")
    other, _ = renamed(batch)
    fixed = built("prototype_crf", transitions="full", slot_shuffle=False)
    assert not torch.isclose(fixed.loss(encoded, other), fixed.loss(encoded, batch))
    shuffled = built("prototype_crf", transitions="full")
    shuffled.load_state_dict(fixed.state_dict())
    losses = {
        round(shuffled.loss(encoded, dataclasses.replace(batch, episode=number)).item(), 4) for number in range(20)
    }
    dealt = {round(fixed.loss(encoded, each).item(), 4) for each in (batch, other)}
    assert losses == dealt
    again = dataclasses.replace(batch, episode=7)
    assert shuffled.loss(encoded, again) == shuffled.loss(encoded, again)


def test_tied_transitions_serve_any_number_of_types_and_full_ones_say_that_they_do_not():
    many = TagSet(("A", "B", "C"))
    batch = batch_of([["B-A", "I-A", "B-B", "O", "B-C"], ["B-A", "O"]], [False, True], tagset=many)
    assert len(built("prototype_crf").decode(states_of(batch), batch)) == 1
    with pytest.raises(UsageError, match="2 types, and an episode has 3"):
        built("prototype_crf", transitions="full").decode(states_of(batch), batch)


def test_the_order_of_the_support_is_irrelevant_and_a_lone_word_is_its_prototype():
    head = built("prototype_crf", distance="euclid")
    batch, encoded = example("prototype_crf")
    emissions, _ = head.emissions(encoded, batch)
    order = [2, 0, 1, 3, 4]
    moved = batch_of([list(batch.posts[row].tags) for row in order], batch.query.tolist())
    torch.testing.assert_close(head.emissions(WordStates(encoded.states[:, order]), moved)[0], emissions)
    # I-PER is seen once: a query word with that very state is at distance 0
    encoded.states[:, 3, 0] = encoded.states[:, 0, 2]
    logits, _ = head._logits(
        encoded.states[:, :3][:, batch.text.word_mask[:3]],
        batch.tags[:3][batch.text.word_mask[:3]],
        encoded.states[:, 3, :1],
        5,
    )
    assert logits[0, 0, 2] == 0


def test_log_probabilities_and_raw_distances_are_the_same_crf():
    from mnerkit.nn.linear_chain import crf_nll

    head = built("prototype_crf")
    batch, encoded = example("prototype_crf")
    mask, query = batch.text.word_mask, batch.query
    logits, _ = head._logits(
        encoded.states[:, ~query][:, mask[~query]],
        batch.tags[~query][mask[~query]],
        encoded.states[:, query].flatten(1, 2),
        5,
    )
    raw = crf_nll(logits.view(2, 5, 5), batch.tags[query], mask[query], head.crf.scores(2))
    torch.testing.assert_close(head.loss(encoded, batch), raw.mean())


def test_an_absent_type_is_out_of_reach_and_its_gold_words_train_as_o():
    rows = [["O", "B-PER", "I-PER"], ["O", "B-LOC", "I-LOC"]]
    batch = batch_of(rows, [False, True])
    encoded = states_of(batch)
    for options in PROTOTYPE:
        head = built("prototype_crf", **options)
        emissions, known = head.emissions(encoded, batch)
        assert known.tolist() == [True, True, True, False, False]
        assert (emissions[..., 3:] == ABSENT).all()
        assert not {3, 4} & set(head.decode(encoded, batch)[0])
        assert head.loss(encoded, batch) < 100


@pytest.mark.parametrize("present", ["B-LOC", "I-LOC"])
def test_a_missing_half_of_a_type_borrows_the_other(present):
    batch = batch_of([["O", "B-PER", "I-PER", present], ["O", "O"]], [False, True])
    encoded = states_of(batch)
    emissions, known = built("prototype_crf").emissions(encoded, batch)
    assert known.all()
    torch.testing.assert_close(emissions[..., 3], emissions[..., 4])
    _, known = built("prototype_crf", missing_I="absent").emissions(encoded, batch)
    assert known.tolist() == [True, True, True, True, present == "I-LOC"]


@pytest.mark.parametrize("o_proto", ["mean", "nearest", "learned_bias"])
@pytest.mark.parametrize("support", [["B-PER", "B-LOC"], ["O", "O"]])
def test_a_support_without_o_words_or_without_entities_gives_finite_losses(o_proto, support):
    batch = batch_of([support, ["O", "O", "O"]], [False, True])
    head = built("prototype_crf", o_proto=o_proto)
    encoded = states_of(batch)
    encoded.states.requires_grad_()
    loss = head.loss(encoded, batch)
    loss.backward()
    assert loss.isfinite() and encoded.states.grad.isfinite().all()
    if support == ["O", "O"]:
        assert head.decode(encoded, batch) == [[0, 0, 0]]


def test_a_batch_without_support_is_refused_in_one_line():
    batch = batch_of(QUERY, [True, True])
    with pytest.raises(DataError, match="support"):
        built("prototype_crf").decode(states_of(batch), batch)


def test_well_separated_types_are_tagged_right():
    batch, _ = example("prototype_crf")
    encoded = states_of(batch, spread=20.0)
    for options in PROTOTYPE:
        if options.get("proto_classes") == "io" or options.get("distance") == "cosine":
            continue
        decoded = built("prototype_crf", **options).decode(encoded, batch)
        assert [batch.tagset.decode(row) for row in decoded] == QUERY, options


def test_padding_rows_to_the_length_of_the_posts():
    batch = batch_of(QUERY, [True, True])
    assert pad_to_words([[1], []], batch) == [[1, 0, 0, 0, 0], [0, 0, 0]]
