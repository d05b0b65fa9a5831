"""Layers of which columns were cut: the inputs that are left are gathered, then one matrix product."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import linear, unfold


class GatheredConv2d(nn.Module):
    """A convolution with some of its columns: unfold, index_select, matmul. `weight` is (filters, columns left).

    Args:
        layer: the whole one.
        alive: of its channels·k·k columns.

    Raises:
        ValueError: padding that unfold does not know.
    """

    def __init__(self, layer: nn.Conv2d, alive: Bool[Tensor, " columns"]) -> None:
        super().__init__()
        if isinstance(layer.padding, str) or layer.padding_mode != "zeros":
            raise ValueError(f"padding must be numbers, of zeros, got {layer.padding} {layer.padding_mode}")
        self.kernel_size, self.stride, self.dilation = layer.kernel_size, layer.stride, layer.dilation
        self.padding: tuple[int, ...] = layer.padding
        self.weight, self.bias = nn.Parameter(layer.weight.detach().flatten(1)[:, alive]), layer.bias
        self.columns: Tensor
        self.register_buffer("columns", alive.nonzero()[:, 0])

    def forward(self, maps: Float[Tensor, "N c h w"]) -> Float[Tensor, "N filters height width"]:
        patches = unfold(maps, self.kernel_size, self.dilation, self.padding, self.stride)
        found = self.weight @ patches.index_select(1, self.columns)
        if self.bias is not None:
            found = found + self.bias[:, None]
        return found.unflatten(2, [self._size(maps, axis) for axis in (0, 1)])

    def _size(self, maps: Tensor, axis: int) -> int:
        reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        return (maps.shape[2 + axis] + 2 * self.padding[axis] - reach) // self.stride[axis] + 1


class GatheredLinear(nn.Module):
    """A linear layer with some of its inputs. `weight` is (units, inputs left)."""

    def __init__(self, layer: nn.Linear, alive: Bool[Tensor, " inputs"]) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(layer.weight.detach()[:, alive]), layer.bias
        self.columns: Tensor
        self.register_buffer("columns", alive.nonzero()[:, 0])

    def forward(self, values: Float[Tensor, "*N inputs"]) -> Float[Tensor, "*N units"]:
        return linear(values.index_select(-1, self.columns), self.weight, self.bias)


def gathered(layer: nn.Conv2d | nn.Linear, alive: Bool[Tensor, " columns"]) -> nn.Module:
    """The layer with these columns alone, on its device."""
    made = GatheredConv2d(layer, alive) if isinstance(layer, nn.Conv2d) else GatheredLinear(layer, alive)
    return made.train(layer.training)
