"""The graph of the second environment: the same graph (learned networks), or a perturbed one (rows of Table 3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mnerkit.data.batches.batch import Batch
from mnerkit.data.random_draws import stream
from mnerkit.nn.graph import pair_mask
from mnerkit_plugins.mousing.options import MousingOptions

Graph = tuple[Tensor, Tensor]


def environments(
    o: MousingOptions, x: Tensor, adjacency: Tensor, mask: Tensor, seeds: Sequence[int] | None
) -> list[Graph]:
    """Features and adjacency of each of the `num_env` environments.

    With `learned` all have the same graph; `random` flips edges of the second one, `gaussian` adds noise to its node
    features. Random numbers are drawn only for real nodes and pairs, in order, so the result does not depend on
    padding.

    Args:
        o: the options; `intervention`, `num_env`, `flip` and `noise` are used.
        x: (B, L, d) features.
        adjacency: (B, L, L) of 0 and 1.
        mask: (B, L) bool.
        seeds: B numbers, one for each graph, so that its draws do not depend on batch mates. None uses the global
            random state (training).
    """
    original = (x, adjacency)
    if o.intervention == "learned":
        return [original] * o.num_env
    if o.intervention == "gaussian":
        noise = torch.zeros_like(x)
        noise[mask] = o.noise * _draw(mask, x.shape[-1:], torch.randn, seeds).to(x)
        return [original, (x + noise, adjacency)]
    pairs = pair_mask(mask).triu(1)
    flips = torch.zeros_like(adjacency)
    flips[pairs] = (_draw(pairs, (), torch.rand, seeds) < o.flip).to(flips)
    flips = flips + flips.transpose(-1, -2)
    return [original, (x, adjacency + flips - 2 * adjacency * flips)]


def _draw(places: Tensor, shape: Sequence[int], draw: Callable[..., Tensor], seeds: Sequence[int] | None) -> Tensor:
    """One draw of `shape` for each true place of (B, ...), in order; with seeds, graph by graph."""
    if seeds is None:
        return draw((int(places.sum()), *shape))
    counts = places.flatten(1).sum(1).tolist()
    parts = [
        draw((count, *shape), generator=torch.Generator().manual_seed(seed))
        for count, seed in zip(counts, seeds, strict=True)
    ]
    return torch.cat(parts)


def seeds_of(batch: Batch) -> list[int]:
    """A seed for each post, which depends only on the episode's number and the post's id."""
    return [stream("intervention", batch.episode or 0, post.id).getrandbits(62) for post in batch.posts]
