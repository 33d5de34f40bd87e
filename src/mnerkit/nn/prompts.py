"""Prompts: keys and values for each layer of a text tower, computed from image vectors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mnerkit.nn.visual_prefix import init_small

LayerTensors = tuple[Tensor, ...]
# W_k and W_v of a text tower's layer
Maps = Sequence[tuple[nn.Module, nn.Module]]


class LayerPrompts(nn.Module):
    """P^l = U W_p^l, K_P^l = P^l W_k^l, V_P^l = P^l W_v^l in each layer l (GIFR, Eq. 5-6); no biases.

    Args:
        image_width: d_v.
        width: d of the text tower.
        layers: number of layers of the text tower.
        own_maps: whether W_k^l and W_v^l are new; else they are the text tower's and passed to `forward`.
    """

    def __init__(self, image_width: int, width: int, layers: int, own_maps: bool = True) -> None:
        super().__init__()

        def maps(inputs: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Linear(inputs, width, bias=False) for _ in range(layers))

        self.prompts = maps(image_width)
        self.keys: nn.ModuleList | None = maps(width) if own_maps else None
        self.values: nn.ModuleList | None = maps(width) if own_maps else None

    def forward(self, u: Tensor, shared: Maps | None = None) -> tuple[LayerTensors, LayerTensors]:
        """Image vectors U (B, m, d_v) to the keys and the values of each layer, (B, m, d).

        Args:
            u: (B, m, d_v).
            shared: W_k and W_v of each layer, if the module has no maps of its own.
        """
        prompts = [prompt(u) for prompt in self.prompts]  # Eq. 5
        if self.keys is not None and self.values is not None:
            shared = list(zip(self.keys, self.values, strict=True))
        assert shared is not None
        pairs = [(key(p), value(p)) for p, (key, value) in zip(prompts, shared, strict=True)]  # Eq. 6
        return tuple(key for key, _ in pairs), tuple(value for _, value in pairs)


class MlpPrompts(nn.Module):
    """[K^1; V^1; ... K^L; V^L] = W_2 tanh(W_1 U): one network for all layers (TPM-MI).

    Args:
        image_width: d_v.
        width: d of the text tower.
        layers: number of layers of the text tower.
        hidden: width between the two maps.
        small: whether the second map starts with small weights; else with PyTorch's.
    """

    def __init__(self, image_width: int, width: int, layers: int, hidden: int = 1024, small: bool = True) -> None:
        super().__init__()
        self.layers = layers
        self.mlp = nn.Sequential(nn.Linear(image_width, hidden), nn.Tanh(), nn.Linear(hidden, layers * 2 * width))
        if small:
            init_small(self.mlp[-1])

    def forward(self, u: Tensor) -> tuple[LayerTensors, LayerTensors]:
        """Image vectors U (B, m, d_v) to the keys and the values of each layer, (B, m, d)."""
        pairs = self.mlp(u).unflatten(-1, (self.layers, 2, -1))  # (B, m, L, 2, d)
        return tuple(pairs[..., 0, :].unbind(2)), tuple(pairs[..., 1, :].unbind(2))
