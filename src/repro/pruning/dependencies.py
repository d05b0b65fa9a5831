"""Which layers a filter concerns: torch-pruning's dependency graph, asked in a few words."""

import warnings
from collections.abc import Iterator, Sequence

import torch
import torch_pruning
from torch import Tensor, nn

from repro.pruning.groups import Groups

Layer = nn.Conv2d | nn.Linear
Normalization = nn.modules.batchnorm._BatchNorm


class Dependencies:
    """The graph of a network's layers, whose modules and modes are left as they are.

    Args:
        network: what is cut, in place, by `remove`.
        example: inputs, one or more.
    """

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        self.network = network
        modes = {module: module.training for module in network.modules()}
        frozen = [parameter for parameter in network.parameters() if not parameter.requires_grad]
        for parameter in frozen:
            parameter.requires_grad_(True)  # the graph is that of gradients
        try:
            with torch.enable_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of parameters that are in no layer, which stay
                self._graph = torch_pruning.DependencyGraph().build_dependency(network.eval(), example_inputs=example)
        finally:
            for parameter in frozen:
                parameter.requires_grad_(False)
            for module, mode in modes.items():
                module.training = mode
        self.names = {module: name for name, module in network.named_modules()}
        self.classifier = next((m for m in reversed([*network.modules()]) if isinstance(m, nn.Linear)), None)

    def of_filters(self, layer: Layer, filters: Sequence[int]) -> torch_pruning.Group:
        """What is concerned when these filters go."""
        prune = "prune_out_channels"
        return self._graph.get_pruning_group(layer, getattr(self._graph.get_pruner_of_module(layer), prune), [*filters])

    def of_channels(self, layer: Layer, channels: Sequence[int]) -> torch_pruning.Group:
        """What is concerned when these inputs go."""
        prune = "prune_in_channels"
        return self._graph.get_pruning_group(
            layer, getattr(self._graph.get_pruner_of_module(layer), prune), [*channels]
        )

    def makers(self, group: torch_pruning.Group) -> Iterator[tuple[Layer | Normalization, list[int]]]:
        """The layers and normalisations of the group whose outputs go, and which of them."""
        for dependency, places in group:
            module = dependency.target.module
            if self._graph.is_out_channel_pruning_fn(dependency.handler) and isinstance(module, Layer | Normalization):
                yield module, places

    def users(self, group: torch_pruning.Group) -> Iterator[tuple[Layer, list[int]]]:
        """The layers of the group whose inputs go, and which of them."""
        for dependency, places in group:
            module = dependency.target.module
            if self._graph.is_in_channel_pruning_fn(dependency.handler) and isinstance(module, Layer):
                yield module, places

    def silencers(self, layer: Layer, filters: Sequence[int]) -> Iterator[tuple[Tensor, list[int]]]:
        """What must be 0, and where, for these filters' maps to be: weights, biases, and the normalisation's, or its
        mean where it has none."""
        for module, places in self.makers(self.of_filters(layer, filters)):
            for tensor in (module.weight, module.bias):
                if tensor is not None:
                    yield tensor, places
            if module.weight is None and isinstance(module, Normalization) and module.running_mean is not None:
                yield module.running_mean, places

    def alone(self, layer: Layer) -> str | None:
        """Why filters of the layer cannot go without others; None where they can."""
        if layer is self.classifier:
            return "is the classifier, which is never pruned"
        if layer not in self._graph.module2node:
            return "takes no part in what the network computes when it is called"
        group = self.of_filters(layer, [0])
        if others := sorted({self.names[module] for module, _ in self.makers(group)
                             if isinstance(module, Layer) and module is not layer}):  # fmt: skip
            return f"has its outputs added to those of {', '.join(others)}"
        if not any(True for _ in self.users(group)):
            return "makes the network's outputs"
        return None


def prunable(network: nn.Module, example: Tensor, kind: str) -> list[str]:
    """The names of the layers of which groups of this kind can be cut.

    Columns of every convolution and linear layer but the classifier; filters where no other layer's outputs must go
    with them: in residual networks all but the last convolution of a block, the stem, and shortcuts.

    Args:
        network: left as it is.
        example: inputs, one or more.
        kind: column or filter.
    """
    dependencies = Dependencies(network, example)
    found = []
    for name, module in network.named_modules():
        if not isinstance(module, Layer) or module is dependencies.classifier:
            continue
        if isinstance(module, nn.Conv2d) and module.groups != 1:
            continue
        Groups(module, kind)
        if kind == "column" or dependencies.alone(module) is None:
            found.append(name)
    return found


def companions(network: nn.Module, example: Tensor, name: str) -> list[Tensor]:
    """Biases of a layer, and scales and shifts of the normalisation after it, (filters,) each: 0 wherever a filter is
    removed, with its weights, if the network is to be the one that is left when the filter is cut.

    Raises:
        ValueError: filters of the layer cannot be cut.
    """
    dependencies = Dependencies(network, example)
    layer = network.get_submodule(name)
    assert isinstance(layer, Layer)
    if reason := dependencies.alone(layer):
        raise ValueError(f"{name}: {reason}; its filters cannot be cut")
    found = [tensor for tensor, _ in dependencies.silencers(layer, range(len(layer.weight)))]
    return [tensor for tensor in found if tensor is not layer.weight]
