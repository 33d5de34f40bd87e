"""MOUSING's encoder: the paper's equations as properties of its outputs, gradients and sizes."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mnerkit.data.batches.batch import Batch, TextBatch
from mnerkit.data.corpus.post import Post
from mnerkit.data.corpus.tags import TagSet
from mnerkit.data.pictures.decoding import PictureFormat
from mnerkit.errors import UsageError
from mnerkit.nn.chain_tree import forced
from mnerkit.nn.graph import pair_mask
from mnerkit.towers.frozen.memory import freeze
from mnerkit.towers.interface import ImageStates, TextStates, TextTower, VisionTower
from mnerkit.towers.text.piece_tower import ClipTextTower
from mnerkit.towers.vision.pretrained import ClipVisionTower
from mnerkit_plugins.mousing.intervention import environments
from mnerkit_plugins.mousing.model import MousingEncoder, separation
from mnerkit_plugins.mousing.options import MousingOptions

WIDTH, WORDS, CELLS = 12, 6, 9
SINGLE = {"num_env": 1, "kl_mode": "none"}
ABLATIONS = {
    "no_image": {"use_image": False},
    "no_intervention": SINGLE,
    "no_multiview": {"multiview": False},
    "no_mcis": {**SINGLE, "multiview": False},
    "random_intervention": {"intervention": "random", "kl_mode": "none"},
    "gaussian_intervention": {"intervention": "gaussian", "kl_mode": "none"},
}


class Words(TextTower):
    """One fixed vector a word number, mapped to the joint space by `joint`."""

    def __init__(self, width: int = WIDTH, joint: int = WIDTH) -> None:
        super().__init__()
        self.width, self.frozen = width, True
        self.table = nn.Embedding(100, width)
        self.project = nn.Linear(width, joint)
        self.requires_grad_(False)

    @property
    def joint_width(self) -> int:
        return self.project.out_features

    def joint(self, states: Tensor) -> Tensor:
        return self.project(states)

    def forward(self, text: TextBatch) -> TextStates:
        assert text.word_ids is not None
        words = self.table(text.word_ids)
        return TextStates(words, words.mean(1))


class Cells(VisionTower):
    """A picture's 4 x 4 patches, one linear map away from its pixels."""

    def __init__(self, width: int = 10, joint: int = WIDTH) -> None:
        super().__init__()
        self.width, self.pooled_width, self.frozen = width, joint, True
        self.patch = nn.Conv2d(3, width, 2, 2)
        self.project = nn.Linear(width, joint)
        self.requires_grad_(False)

    @property
    def joint_width(self) -> int:
        return self.pooled_width

    def joint(self, regions: Tensor) -> Tensor:
        return self.project(regions)

    def forward(self, pixels: Tensor) -> ImageStates:
        regions = self.patch(pixels).flatten(2).transpose(1, 2)
        return ImageStates(self.project(regions.mean(1)), regions, (4, 4))


def encoder(seed: int = 0, **options: Any) -> MousingEncoder:
    torch.manual_seed(seed)
    options = {"hidden": 16, "kl_width": 8, "dropout": 0.0, **options}
    return MousingEncoder(Words(), Cells(), MousingOptions(**options))


def episode(seed: int = 1) -> Batch:
    """Three support posts and a query; the last two are shorter, and the last picture is missing."""
    torch.manual_seed(seed)
    mask = torch.ones(4, WORDS, dtype=torch.bool)
    mask[2, 4:] = mask[3, 5:] = False
    tags = torch.tensor([[0, 1, 2, 0, 3, 4], [3, 4, 0, 1, 2, 0], [0, 1, 0, 3, 0, 0], [0, 3, 4, 1, 2, 0]])
    crop_mask = torch.ones(4, CELLS, dtype=torch.bool)
    crop_mask[3] = False
    words = [tuple(f"w{n}" for n in range(int(row.sum()))) for row in mask]
    return Batch(
        posts=[Post(id=str(n), words=row) for n, row in enumerate(words)],
        text=TextBatch(words=words, word_mask=mask, word_ids=torch.randint(2, 100, (4, WORDS)) * mask),
        tagset=TagSet(("a", "b")),
        query=torch.tensor([False, False, False, True]),
        tags=tags * mask,
        images=torch.randn(4, 1, 3, 8, 8),
        image_mask=torch.tensor([[True], [True], [True], [False]]),
        crops=torch.randn(4, CELLS, 3, 8, 8),
        crop_view="grid",
        crop_mask=crop_mask,
        captions=TextBatch(
            words=[("a", "b", "c")] * 4,
            word_mask=torch.tensor([[True, True, True], [True, True, False]] * 2),
            word_ids=torch.randint(2, 100, (4, 3)),
        ),
        caption_mask=torch.tensor([[True], [True], [True], [False]]),
        episode=7,
    )


def episode_loss(states: Tensor, batch: Batch) -> Tensor:
    """Eq. 10-12 without the CRF: prototypes of the support's tags, squared distance of the query's words."""
    assert batch.tags is not None
    support = batch.text.word_mask & ~batch.query[:, None]
    asked = batch.text.word_mask & batch.query[:, None]
    total = states.new_zeros(())
    for r in states:
        prototypes = torch.stack([r[support & (batch.tags == tag)].mean(0) for tag in range(5)])
        logits = -(torch.cdist(r[asked], prototypes) ** 2) / r.shape[-1] ** 0.5
        total = total + nn.functional.cross_entropy(logits, batch.tags[asked])
    return total


def with_padding(batch: Batch, words: int = 3, cells: int = 2) -> Batch:
    """The same episode, with words and crops that are padding and hold rubbish."""
    wide = copy.deepcopy(batch)
    assert wide.text.word_ids is not None and wide.tags is not None
    assert wide.crops is not None and wide.crop_mask is not None
    rows = len(batch)
    wide.text.word_ids = torch.cat((wide.text.word_ids, torch.randint(2, 100, (rows, words))), 1)
    wide.text.word_mask = torch.cat((wide.text.word_mask, torch.zeros(rows, words, dtype=torch.bool)), 1)
    wide.tags = torch.cat((wide.tags, torch.zeros(rows, words, dtype=torch.long)), 1)
    wide.crops = torch.cat((wide.crops, torch.randn(rows, cells, 3, 8, 8)), 1)
    wide.crop_mask = torch.cat((wide.crop_mask, torch.zeros(rows, cells, dtype=torch.bool)), 1)
    return wide


def test_word_states_come_in_two_environments_and_padding_is_zero() -> None:
    model, batch = encoder(), episode()
    encoded = model(batch)
    assert encoded.states.shape == (2, 4, WORDS, model.width)
    assert not encoded.states[:, ~batch.text.word_mask].any()
    assert not torch.allclose(encoded.states[0], encoded.states[1])
    assert set(encoded.losses) == {"kl"}
    assert encoded.trace == {}


def test_one_environment_equals_the_equations_node_by_node() -> None:
    model, batch = encoder(num_views=2).eval(), episode()
    trace = model(batch, trace=True)
    x, mask, is_image = model.nodes(batch)
    assert is_image.tolist() == [False] * WORDS + [True] * CELLS
    row, own = 2, model.output
    adjacency = trace.trace["adjacency"][row, 0]
    real = [p for p in range(WORDS + CELLS) if mask[row, p]]

    def weighted(weights: Tensor, values: dict[int, Tensor], p: int) -> Tensor:
        weights = weights.clamp_min(0)
        return sum(weights[p, q] * values[q] for q in real) / sum(weights[p, q] for q in real)  # type: ignore[return-value]

    for e in range(2):
        eq4, eq8 = model.generate[e], model.update[e][0]  # type: ignore[index]
        g = {p: eq4.linear(weighted(adjacency, {q: x[row, q] for q in real}, p)).relu() for p in real}  # Eq. 4
        after = torch.zeros_like(adjacency)
        for p in real:
            for q in real:
                cosines = [torch.cosine_similarity(g[p] * w, g[q] * w, dim=0) for w in model.views[0].weight]  # Eq. 5
                similarity = sum(cosines) / 2 if p != q else 1.0  # Eq. 6
                after[p, q] = 0.8 * adjacency[p, q] + 0.2 * similarity  # Eq. 7
        torch.testing.assert_close(trace.trace["updated_adjacency"][row, e], after)
        for p in real:
            if p >= WORDS:
                continue
            message = weighted(after, {q: eq8.message(g[q]) for q in real}, p)
            state = eq8.update(torch.cat((g[p], message))).relu()  # Eq. 8
            torch.testing.assert_close(trace.states[e, row, p], own(state), rtol=1e-4, atol=1e-5)  # Eq. 9


def test_gamma_one_keeps_the_graph_and_gamma_zero_is_the_similarity() -> None:
    batch = episode()
    kept = encoder(gamma=1.0)
    encoded = kept(batch, trace=True)
    torch.testing.assert_close(encoded.trace["updated_adjacency"], encoded.trace["adjacency"])
    episode_loss(encoded.states, batch).backward()
    assert not kept.views[0].weight.grad.any()
    learnt = encoder(gamma=0.0)
    x, mask, _ = learnt.nodes(batch)
    encoded = learnt(batch, trace=True)
    generated, updated, _ = learnt.environment(1, x, encoded.trace["adjacency"][:, 1], mask)
    torch.testing.assert_close(updated, learnt.views[0](generated, mask))
    without = encoder(multiview=False)(batch, trace=True).trace
    assert torch.equal(without["updated_adjacency"], without["adjacency"])


def test_equal_networks_are_equal_environments_with_zero_divergence() -> None:
    model, batch = encoder(), episode()
    model.generate[1].load_state_dict(model.generate[0].state_dict())
    model.update[1].load_state_dict(model.update[0].state_dict())
    encoded = model(batch)
    assert torch.equal(encoded.states[0], encoded.states[1])
    assert encoded.losses["kl"] == 0
    both = episode_loss(encoded.states, batch)
    torch.testing.assert_close(both, 2 * episode_loss(encoded.states[:1], batch))


@pytest.mark.parametrize("mode", ["neg_kl", "neg_js"])
def test_divergence_equals_its_definition_over_real_nodes(mode: str) -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 4, 5), torch.rand(3, 4) > 0.4
    p, q = (side[mask].softmax(-1) for side in logits)

    def kl(a: Tensor, b: Tensor) -> Tensor:
        return nn.functional.kl_div(b.log(), a, reduction="batchmean")

    wanted = kl(p, q) if mode == "neg_kl" else (kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2
    torch.testing.assert_close(separation(logits, mask, mode), -wanted)  # type: ignore[arg-type]


def test_divergence_is_never_negative_and_stops_at_its_cap() -> None:
    mask = torch.ones(1, 4, dtype=torch.bool)
    for seed in range(20):
        logits = 40 * torch.randn(2, 1, 4, 5, generator=torch.Generator().manual_seed(seed))
        assert separation(logits, mask) <= 0
        assert -2 <= separation(logits, mask, cap=2.0) <= 0
        assert separation(logits, mask, "neg_js") >= -0.6932
    logits.requires_grad_()
    separation(logits, mask, cap=1e-3).backward()
    assert not logits.grad.any()  # nothing to gain beyond the cap


def test_order_of_patches_moves_patches_and_nothing_else() -> None:
    model, batch = encoder().eval(), episode()
    order = torch.randperm(CELLS)
    moved = copy.deepcopy(batch)
    moved.crops, moved.crop_mask = batch.crops[:, order], batch.crop_mask[:, order]  # type: ignore[index]
    before, after = model(batch, trace=True), model(moved, trace=True)
    torch.testing.assert_close(after.states, before.states)
    for number in range(2):
        r = [
            model.final(model.environment(number, x, encoded.trace["adjacency"][:, number], mask)[2])[:, WORDS:]
            * mask[:, WORDS:, None]
            for encoded, (x, mask, _) in ((before, model.nodes(batch)), (after, model.nodes(moved)))
        ]
        torch.testing.assert_close(r[1], r[0][:, order])


def test_residual_networks_start_from_the_towers_own_states() -> None:
    plain, residual = (encoder(residual=given, dropout=0.0).eval() for given in (False, True))
    batch = episode()
    x, mask, _ = residual.nodes(batch)
    own, read = x[:, :WORDS], mask[:, :WORDS]
    for states in residual(batch).states:
        assert nn.functional.cosine_similarity(states, own, dim=-1)[read].min() > 0.9
    assert nn.functional.cosine_similarity(plain(batch).states[0], own, dim=-1)[read].mean() < 0.5
    # F_M adds nothing before it has learnt, and what Eq. 4 and 8 add is the plain form's output
    state = torch.randn(2, 3, x.shape[-1])
    assert torch.equal(residual.final(state), state)
    convolution = residual.generate[0]
    weights = torch.softmax(torch.randn(2, 3, 3), -1)
    added = torch.relu(weights @ state @ convolution.linear.weight.T + convolution.linear.bias)
    torch.testing.assert_close(convolution(state, weights), state + added)
    with pytest.raises(UsageError, match="residual needs width"):
        encoder(residual=True, width=x.shape[-1] + 1)


def test_order_of_words_moves_word_states_along() -> None:
    model, batch = encoder().eval(), episode()
    order = torch.tensor([3, 1, 0, 2, 4, 5])  # real words of every row
    moved = copy.deepcopy(batch)
    moved.text.word_ids = batch.text.word_ids[:, order]  # type: ignore[index]
    torch.testing.assert_close(model(moved).states, model(batch).states[:, :, order])


@pytest.mark.parametrize("options", [{}, *ABLATIONS.values()], ids=["full", *ABLATIONS])
def test_padding_changes_nothing(options: dict[str, Any]) -> None:
    model, batch = encoder(**options).eval(), episode()
    plain, padded = model(batch, trace=True), model(with_padding(batch), trace=True)
    torch.testing.assert_close(padded.states[:, :, :WORDS], plain.states)
    torch.testing.assert_close(padded.losses, plain.losses)
    count = WORDS + 3
    kept = [*range(WORDS), *range(count, count + CELLS)] if "attention" in plain.trace else list(range(WORDS))
    after = padded.trace["updated_adjacency"][:, :, kept][..., kept]
    torch.testing.assert_close(after, plain.trace["updated_adjacency"])


@pytest.mark.parametrize(
    "options", [{}, {"view_weight": "linear", "view_rank": 4}, {"num_layers": 2}, *ABLATIONS.values()]
)
def test_towers_stay_fixed_and_every_other_tensor_learns(options: dict[str, Any]) -> None:
    # with few hidden units of F_M none may change sides between two words, and then no distance sees its bias
    model, batch = encoder(**{"hidden": 64, **options}).double(), episode()
    batch.crops = batch.crops.double()  # type: ignore[union-attr]
    encoded = model(batch)
    loss = 0.7 * episode_loss(encoded.states, batch) + 0.3 * sum(encoded.losses.values())
    loss.backward()
    towers = {id(p) for tower in (model.words, model.image) if tower is not None for p in tower.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) in towers:
            assert not parameter.requires_grad
            assert parameter.grad is None
        elif name == "output.2.bias":  # moves words and prototypes alike: a Euclidean distance does not see it
            assert parameter.grad.abs().max() < 1e-12
        else:
            assert parameter.grad.abs().max() > 1e-8, name


def test_the_divergence_alone_reaches_neither_views_nor_update_nor_output() -> None:
    model, batch = encoder(), episode()
    model(batch).losses["kl"].backward()
    reached = {name.split(".")[0] for name, each in model.named_parameters() if each.grad is not None}
    assert reached == {"generate", "divergence"}
    model.zero_grad()
    episode_loss(model(batch).states, batch).backward()
    assert all(parameter.grad is None for parameter in model.divergence.parameters())


def test_pixels_matter_only_with_images() -> None:
    batch, other = episode(), episode()
    other.crops = torch.randn_like(other.crops)  # type: ignore[arg-type]
    blind, seeing = encoder(use_image=False).eval(), encoder().eval()
    assert torch.equal(blind(batch).states, blind(other).states)
    change = (seeing(batch).states - seeing(other).states).abs().amax((0, 2, 3))
    assert (change[:3] > 1e-4).all()
    assert change[3] == 0  # its picture is missing
    assert blind.image is None


@pytest.mark.parametrize("source", ["grid_crop", "pooled_tokens", "all_tokens", "captions"])
def test_image_nodes_of_every_source_share_the_space_of_the_words(source: str) -> None:
    model, batch = encoder(image_nodes=source), episode()
    x, mask, is_image = model.nodes(batch)
    patches, real = x[:, is_image], mask[:, is_image]
    assert patches.shape == (4, {"grid_crop": 9, "pooled_tokens": 9, "all_tokens": 16, "captions": 3}[source], WIDTH)
    assert not patches[~real].any()
    assert not real[3].any()
    tower = model.image.vision
    if source == "captions":
        assert tower is None
        wanted = model.words.tower.joint(model.words.tower.table(batch.captions.word_ids[0]))
    elif source == "grid_crop":
        wanted = tower(batch.crops[0]).pooled
    else:
        wanted = tower.joint(tower(batch.images[0]).regions)[0]
        if source == "pooled_tokens":  # rows of a 3 x 3 grid over 4 x 4 patches: 0-1, 1-2, 2-3
            regions = tower(batch.images[0]).regions[0].reshape(4, 4, -1)
            cells = [regions[r : r + 2, c : c + 2].mean((0, 1)) for r in range(3) for c in range(3)]
            wanted = tower.joint(torch.stack(cells))
    torch.testing.assert_close(patches[0], wanted)


def test_function_words_of_a_caption_are_no_nodes_and_a_phrase_is_the_mean_of_its_words() -> None:
    batch = episode()
    caption = ("A", "man", "'s", "red", "skateboard", ",", "the", "Golden", "Gate")
    batch.captions = TextBatch(
        words=[caption, ("the", "man"), ("of", "the"), ("man", "walks")],
        word_mask=torch.tensor([[place < count for place in range(9)] for count in (9, 2, 2, 2)]),
        word_ids=torch.randint(2, 100, (4, 9)),
    )
    batch.caption_mask = torch.ones(4, 1, dtype=torch.bool)
    nodes = {}
    for kind in ("words", "content", "phrases"):
        model = encoder(image_nodes="captions", caption_nodes=kind).eval()
        x, mask, is_image = model.nodes(batch)
        nodes[kind] = x[:, is_image], mask[:, is_image]
        assert torch.isfinite(model(batch).states).all()  # also of a post whose caption has function words alone
    words, every = nodes["words"]
    assert every.sum(1).tolist() == [9, 2, 2, 2]
    content, real = nodes["content"]
    assert [[place for place in range(9) if row[place]] for row in real] == [[1, 3, 4, 7, 8], [1], [], [0, 1]]
    torch.testing.assert_close(content, words * real.unsqueeze(-1))
    means, first = nodes["phrases"]
    assert [[place for place in range(9) if row[place]] for row in first] == [[1, 3, 7], [1], [], [0]]
    torch.testing.assert_close(means[0, 3], words[0, 3:5].mean(0))
    torch.testing.assert_close(means[3, 0], words[3, :2].mean(0))
    assert not means[~first].any()


def test_several_pictures_are_one_set_of_nodes() -> None:
    batch = episode()
    batch.images, batch.image_mask = torch.randn(4, 2, 3, 8, 8), torch.tensor([[True, False]] * 4)
    _, mask, is_image = encoder(image_nodes="all_tokens").nodes(batch)
    assert mask[0, is_image].tolist() == [True] * 16 + [False] * 16


def test_a_word_that_was_cut_off_is_no_node() -> None:
    model, batch = encoder().eval(), episode()
    batch.text.first_piece = torch.arange(WORDS).expand(4, -1).clone()
    batch.text.first_piece[:, 3] = -1
    encoded = model(batch, trace=True)
    assert not encoded.states[:, :, 3].any()
    assert not encoded.trace["updated_adjacency"][..., 3].any()


@pytest.mark.parametrize("kind", ["random", "gaussian"])
def test_disturbed_environments_repeat_at_test_and_vary_in_training(kind: str) -> None:
    model, batch = encoder(intervention=kind, kl_mode="none"), episode()
    assert len(model.generate) == len(model.update) == 1
    assert not torch.equal(model(batch).states[1], model(batch).states[1])
    model.eval()
    torch.manual_seed(0)
    first = model(batch).states
    torch.manual_seed(1)
    assert torch.equal(model(batch).states, first)
    batch.episode = 8
    other = model(batch).states
    assert torch.equal(other[0], first[0])
    assert not torch.equal(other[1], first[1])


@pytest.mark.parametrize("kind", ["random", "gaussian"])
def test_a_disturbance_at_test_is_the_posts_own(kind: str) -> None:
    model, batch = encoder(intervention=kind, kl_mode="none").eval(), episode()
    first = model(batch).states
    order = [2, 0, 3, 1]
    mixed = with_padding(batch)
    mixed.posts = [batch.posts[row] for row in order]
    assert mixed.text.word_ids is not None and mixed.crops is not None and mixed.crop_mask is not None
    mixed.text.word_ids, mixed.text.word_mask = mixed.text.word_ids[order], mixed.text.word_mask[order]
    mixed.crops, mixed.crop_mask = mixed.crops[order], mixed.crop_mask[order]
    torch.testing.assert_close(model(mixed).states[:, :, :WORDS], first[:, order])
    twin = copy.deepcopy(batch)  # one graph under four names: four disturbances
    twin.text.word_ids, twin.crops = batch.text.word_ids[:1].expand(4, -1), batch.crops[:1].expand(4, -1, -1, -1, -1)  # type: ignore[index]
    twin.text.word_mask, twin.crop_mask = batch.text.word_mask[:1].expand(4, -1), batch.crop_mask[:1].expand(4, -1)  # type: ignore[index]
    states = model(twin).states
    torch.testing.assert_close(states[0, 0], states[0, 1])
    assert not torch.allclose(states[1, 0], states[1, 1])


def test_flips_hit_a_share_of_the_real_pairs_and_noise_the_real_nodes() -> None:
    mask = torch.ones(20, 30, dtype=torch.bool)
    mask[:, 20:] = False
    x, edges = torch.zeros(20, 30, 8), torch.randint(0, 2, (20, 30, 30)).float()
    edges = torch.maximum(edges.triu(1), edges.triu(1).mT) * pair_mask(mask) + torch.diag_embed(mask).float()
    random, gaussian = (MousingOptions(**ABLATIONS[f"{kind}_intervention"]) for kind in ("random", "gaussian"))
    _, (_, flipped) = environments(random, x, edges, mask, range(20))
    changed = flipped != edges
    assert torch.equal(flipped, flipped.mT)
    assert not changed.diagonal(dim1=-2, dim2=-1).any()
    assert not changed[~pair_mask(mask)].any()
    assert changed[pair_mask(mask)].float().mean() == pytest.approx(0.1 * 19 / 20, abs=0.01)
    assert set(flipped.unique().tolist()) == {0.0, 1.0}
    _, (noisy, _) = environments(gaussian, x, edges, mask, range(20))
    assert noisy[mask].std() == pytest.approx(0.1, abs=0.01)
    assert not noisy[~mask].any()


def test_options_of_the_test_phase_act_at_test_only() -> None:
    batch = episode()
    full = encoder()
    one = encoder(env_inference="g2")
    assert torch.equal(one(batch).states, full(batch).states)
    assert torch.equal(one.eval()(batch).states, full.eval()(batch).states[1:])
    skip = encoder(test_intervention="skip")
    assert torch.equal(skip(batch).states, full.train()(batch).states)
    skip.eval()
    trace = skip(batch, trace=True).trace
    x, mask, _ = skip.nodes(batch)
    torch.testing.assert_close(
        trace["updated_adjacency"][:, 0], 0.8 * trace["adjacency"][:, 0] + 0.2 * skip.views[0](x, mask)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"edge_sim": "raw"},
        {"edge_sim": "zscore_block"},
        {"adj_norm": "sym"},
        {"adj_norm": "none"},
        {"neighbourhood": "original"},
        {"neighbourhood": "topk", "topk": 4},
        # with vector views the cosines of ReLU outputs are not negative
        {"sim_relu": False, "view_weight": "linear", "num_views": 1, "view_rank": 2, "gamma": 0.0},
        {"text_space": "hidden"},
        {"recompute_adj_each_layer": True, "num_layers": 2},
        {"kl_nodes": "text"},
        {"kl_mode": "neg_js"},
    ],
    ids=str,
)
def test_every_reading_changes_the_result(options: dict[str, Any]) -> None:
    batch = episode()
    first = next(iter(options))  # the option under test; the others set the stage
    base = {key: value for key, value in options.items() if key != first}
    one, other = encoder(**options).eval()(batch), encoder(**base).eval()(batch)
    changed, as_before = (each.losses["kl"] if "kl" in first else each.states for each in (one, other))
    assert not torch.allclose(changed, as_before, rtol=1e-3)


def test_the_strongest_neighbours_speak_alone() -> None:
    model, batch = encoder(neighbourhood="topk", topk=3).eval(), episode()
    _, mask, _ = model.nodes(batch)
    updated = torch.rand(4, WORDS + CELLS, WORDS + CELLS)
    weights, _ = model.weights(updated, torch.ones_like(updated), mask)
    for row in range(4):
        real = mask[row].nonzero().flatten().tolist()
        for p in real:
            strongest = sorted(real, key=lambda q: -float(updated[row, p, q]))[:3]
            total = sum(float(updated[row, p, q]) for q in strongest)
            for q in range(WORDS + CELLS):
                wanted = float(updated[row, p, q]) / total if q in strongest else 0.0
                assert float(weights[row, p, q]) == pytest.approx(wanted, abs=1e-6)


def test_straight_through_edges_teach_what_lies_before_the_graph() -> None:
    batch = episode()
    hard, soft = (encoder(image_projection=True, ste=ste) for ste in (False, True))
    assert torch.equal(hard(batch).states, soft(batch).states)
    gradients = []
    for model in (hard, soft):
        episode_loss(model(batch).states, batch).backward()
        assert model.image is not None and model.image.projection is not None
        gradients.append(model.image.projection.weight.grad)
    assert not torch.allclose(gradients[0], gradients[1], rtol=1e-3)


DGL_OPTIONS = [
    {},
    ABLATIONS["no_image"],
    ABLATIONS["no_multiview"],
    ABLATIONS["random_intervention"],
    {"neighbourhood": "original", "delta": 0.9},
    {"neighbourhood": "topk", "topk": 3, "adj_norm": "sym"},
    {"sim_relu": False, "adj_norm": "none", "view_weight": "linear", "view_rank": 2, "gamma": 0.0},
    {"ste": True, "image_projection": True, "neighbourhood": "original"},
    {"num_layers": 2, "recompute_adj_each_layer": True},
]


@pytest.mark.parametrize("options", DGL_OPTIONS, ids=str)
def test_both_graph_backends_agree_forward_and_backward(options: dict[str, Any]) -> None:
    pytest.importorskip("dgl", exc_type=ImportError)
    batch, models = episode(), [encoder(graph=graph, **options) for graph in ("dense", "dgl")]
    encoded = []
    for model in models:
        torch.manual_seed(5)  # of the random intervention in training
        encoded.append(model(batch, trace=True))
        (episode_loss(encoded[-1].states, batch) + sum(encoded[-1].losses.values())).backward()
    dense, sparse = encoded
    torch.testing.assert_close(sparse.states, dense.states, rtol=0, atol=1e-5)
    torch.testing.assert_close(sparse.losses, dense.losses, rtol=0, atol=1e-5)
    torch.testing.assert_close(sparse.trace["updated_adjacency"], dense.trace["updated_adjacency"], rtol=0, atol=1e-5)
    learnt = 0
    for (name, one), (_, other) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        if one.grad is not None:
            learnt += 1
            assert other.grad is not None, name
            torch.testing.assert_close(other.grad, one.grad, rtol=1e-5, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert learnt >= 8
    states = []
    for model in models:
        with torch.inference_mode():
            states.append(model.eval()(batch).states)
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=1e-5)


def test_sharing_networks_and_views_shows_in_their_number() -> None:
    assert [len(part) for part in (encoder().generate, encoder().update, encoder().views)] == [2, 2, 1]
    assert len(encoder(share_update_gnn_across_env=True).update) == 1
    assert len(encoder(view_shared_across_env=False).views) == 2


def test_trace_has_a_row_a_post_and_the_ties_of_words_to_patches() -> None:
    trace = encoder()(episode(), trace=True).trace
    assert trace["attention"].shape == (4, WORDS, CELLS)
    assert not trace["attention"][3].any()
    assert {len(values) for values in trace.values()} == {4}
    assert "attention" not in encoder(image_nodes="captions")(episode(), trace=True).trace


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_layers": 2},
        {"num_layers": 2, "recompute_adj_each_layer": True},
        {"adj_norm": "sym"},
        {"neighbourhood": "topk", "topk": 2},
        {"multiview": False, "neighbourhood": "original"},
    ],
    ids=str,
)
def test_states_and_gradients_are_the_same_where_only_words_are_updated(options: dict[str, Any]) -> None:
    model, batch = encoder(dropout=0.3, **options), with_padding(episode())
    found = []
    # with a trace all nodes are updated; as on a GPU padding is, too
    for trace, path in ((False, nullcontext()), (True, nullcontext()), (True, forced())):
        torch.manual_seed(0)
        model.zero_grad()
        with path:
            encoded = model(batch, trace=trace)
        (episode_loss(encoded.states, batch) + encoded.losses["kl"]).backward()
        gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
        found.append((encoded.states.detach(), {name: each.clone() for name, each in gradients.items()}))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-5)


def test_density_of_the_blocks_is_logged_without_gradient() -> None:
    encoded = encoder()(episode(), trace=True)
    blocks = {"density_text_text", "density_text_image", "density_image_image"}
    cosines = {"word_cosine_before", "word_cosine_after"}
    assert set(encoded.logged) == blocks | cosines
    edges, mask = encoded.trace["adjacency"][:, 0], encoded.trace["node_mask"]
    joined = pairs = 0
    for row in range(4):
        words = [p for p in range(WORDS) if mask[row, p]]
        joined += sum(int(edges[row, p, q]) for p in words for q in words if p != q)
        pairs += len(words) * (len(words) - 1)
    assert float(encoded.logged["density_text_text"]) == pytest.approx(joined / pairs)
    assert not any(value.requires_grad for value in encoded.logged.values())
    assert set(encoder(use_image=False)(episode()).logged) == {"density_text_text"} | cosines


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"num_env": 3}, r"--model\.num_env 3: give at least 1 and at most 2"),
        ({"num_env": 1}, "set kl_mode to none"),
        ({"intervention": "random"}, "set kl_mode to none"),
        ({**SINGLE, "env_inference": "g2"}, "second environment"),
        ({"test_intervention": "skip", "width": 5}, "5 is not 12"),
        ({"num_layers": 0}, r"--model\.num_layers 0: give at least 1"),
        ({"topk": 0}, r"--model\.topk 0: give at least 1"),
        ({"balance": "gradients", "trade_off": 0.0}, "give a trade_off above 0"),
        ({"ste": True}, "image_projection to true"),
        ({"ste": True, "image_projection": True, "ste_temperature": 0.0}, r"--model\.ste_temperature 0\.0: give"),
    ],
)
def test_contradictions_are_refused_in_one_line(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        encoder(**options)
    assert "\n" not in str(refused.value)


def test_towers_without_a_shared_space_need_a_trained_map() -> None:
    with pytest.raises(UsageError, match=r"12 wide and image nodes 7.*image_projection"):
        MousingEncoder(Words(), Cells(joint=7), MousingOptions())
    with pytest.raises(UsageError, match="needs a vision tower"):
        MousingEncoder(Words(), None, MousingOptions())
    model, batch = MousingEncoder(Words(), Cells(joint=7), MousingOptions(image_projection=True)), episode()
    episode_loss(model(batch).states, batch).backward()
    assert model.image.projection.weight.grad.any()


def test_paper_sized_model_has_the_papers_parameter_count() -> None:
    """6.4 M trainable, 434.02 M in all (the paper, 5.2): CLIP ViT-L/14 and the layout of the plugin's README."""
    from transformers import (
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    text_config = CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12, projection_dim=768
    )
    vision_config = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_attention_heads=16,
        num_hidden_layers=24,
        patch_size=14,
        projection_dim=768,
    )
    reader, picture = SimpleNamespace(max_tokens=128), PictureFormat(224, (0.5,) * 3, (0.5,) * 3)
    with torch.device("meta"):
        text = freeze(ClipTextTower("clip", CLIPTextModelWithProjection(text_config), reader))
        vision = freeze(ClipVisionTower("clip", CLIPVisionModelWithProjection(vision_config), picture))
        model = MousingEncoder(text, vision, MousingOptions())
    crf = 5 * 5 + 5 + 5  # transitions, start and end of 2-way BIO
    trainable = crf + sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert trainable == 6_400_931
    temperature = 1  # CLIP's own, which no tower holds
    total = crf + temperature + sum(each.numel() for each in model.parameters())
    assert total == 427_616_513 + 6_400_931
    assert reader.max_tokens == 77
    assert round(total / 1e6, 3) == 434.017
