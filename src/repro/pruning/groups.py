"""The weights of a layer as groups: columns of its matrix, filters × (channels·k·k), or filters, its rows."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

KINDS = ("column", "filter")
"""A column is one weight of every filter, or what an input is worth to every unit; a filter is a row, or a unit."""


def group_scores(weight: Float[Tensor, "filters *inputs"], kind: str) -> Float[Tensor, " groups"]:
    """Σ|w| of each group."""
    return _rows(weight, kind).abs().sum(1)


def group_norms(weight: Float[Tensor, "filters *inputs"], kind: str) -> Float[Tensor, " groups"]:
    """‖w‖₂ of each group."""
    return torch.linalg.vector_norm(_rows(weight, kind), dim=1)


def expand(
    values: Float[Tensor, " groups"] | Bool[Tensor, " groups"], weight: Float[Tensor, "filters *inputs"], kind: str
) -> Float[Tensor, "..."] | Bool[Tensor, "..."]:
    """A value a group in a shape that multiplies `weight`."""
    _check(kind)
    if kind == "filter":
        return values.view(-1, *[1] * (weight.ndim - 1))
    return values.view(1, *weight.shape[1:])


class Groups:
    """A Conv2d's or Linear's weight as groups.

    Raises:
        ValueError: another layer, a convolution in several parts (`groups`), or another kind.
    """

    def __init__(self, layer: nn.Module, kind: str) -> None:
        _check(kind)
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            raise ValueError(f"layer must be a Conv2d or a Linear, got {type(layer).__name__}")
        if isinstance(layer, nn.Conv2d) and layer.groups != 1:
            raise ValueError(f"layer must be a convolution of all channels, got groups={layer.groups}")
        self.layer, self.kind = layer, kind

    def __len__(self) -> int:
        weight = self.layer.weight
        return len(weight) if self.kind == "filter" else weight[0].numel()

    @torch.no_grad()
    def scores(self) -> Float[Tensor, " groups"]:
        return group_scores(self.layer.weight, self.kind)

    @torch.no_grad()
    def norms(self) -> Float[Tensor, " groups"]:
        return group_norms(self.layer.weight, self.kind)

    @torch.no_grad()
    def penalize_(self, penalties: Float[Tensor, " groups"]) -> None:
        """Adds λ_g w to the weight's gradient."""
        weight = self.layer.weight
        assert weight.grad is not None
        weight.grad.addcmul_(expand(penalties.to(weight), weight, self.kind), weight)

    @torch.no_grad()
    def mask_(self, alive: Bool[Tensor, " groups"], *others: Float[Tensor, "filters *inputs"]) -> None:
        """Zeroes the weights of groups that are not alive, and what belongs to them in `others`: tensors of the
        weight's shape (momentum), or of filters (biases) where filters are masked."""
        alive = alive.to(self.layer.weight.device)
        for tensor in (self.layer.weight, *others):
            tensor.mul_(expand(alive, tensor, self.kind))


def _rows(weight: Tensor, kind: str) -> Tensor:
    _check(kind)
    matrix = weight.flatten(1)
    return matrix if kind == "filter" else matrix.T


def _check(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be {' or '.join(KINDS)}, got {kind}")
