"""Multiply-accumulates (MACs) of convolutions, and what pruning leaves of them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from repro.pruning.gathered import GatheredConv2d


def conv_macs(network: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, int]:
    """The MACs of each convolution for one image, by the layer's name: weights × output positions.

    Linear layers are not counted. A convolution that was cut is one with fewer weights.

    Args:
        network: any module, whose parameters and mode are left as they are.
        input_shape: (channels, height, width).
    """
    found: dict[str, int] = {}

    def count(name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            assert isinstance(module.weight, Tensor)
            found[name] = found.get(name, 0) + module.weight.numel() * output.shape[-2] * output.shape[-1]

        return hook

    hooks = [
        module.register_forward_hook(count(name)) for name, module in network.named_modules() if is_convolution(module)
    ]
    modes = {module: module.training for module in network.modules()}
    parameter = next(network.parameters())
    try:
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, *input_shape, dtype=parameter.dtype, device=parameter.device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return found


def is_convolution(module: nn.Module) -> bool:
    """A Conv2d, or one that was cut."""
    return isinstance(module, nn.Conv2d | GatheredConv2d)


def remaining_macs(
    macs: Mapping[str, int],
    filters: Mapping[str, float | int] | None = None,
    columns: Mapping[str, float | int] | None = None,
) -> dict[str, float]:
    """What is left of each layer's MACs: the share 1 − (p_r + p_c − p_r p_c).

    Args:
        macs: of the whole layers, by name.
        filters, columns: the fractions p_r and p_c removed of the layers' rows and columns, 0 where a layer is not
            named. What goes of the next layer with a filter must be named there as columns.

    Raises:
        ValueError: a fraction outside [0, 1), or of a layer without MACs.
    """
    shares = dict.fromkeys(macs, 1.0)
    for kind, fractions in (("filters", filters or {}), ("columns", columns or {})):
        for name, fraction in fractions.items():
            if name not in macs:
                raise ValueError(f"{kind} must be of {', '.join(macs)}, got {name}")
            if not 0 <= fraction < 1:
                raise ValueError(f"{kind} of {name} must be in [0, 1), got {fraction}")
            shares[name] *= 1 - fraction
    return {name: count * shares[name] for name, count in macs.items()}


def speed_up(before: Mapping[str, float | int], after: Mapping[str, float | int]) -> float:
    """Σ MACs before / Σ MACs after, over all convolutions."""
    return sum(before.values()) / sum(after.values())
