"""Cutting for real: the network without its removed groups, smaller, and equal to the masked one."""

import warnings
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from repro.pruning.dependencies import Dependencies, Layer
from repro.pruning.gathered import gathered
from repro.pruning.groups import Groups

Masks = Mapping[str, Tensor]
"""Of layers, by name: (groups,) booleans, True for each that is alive."""
TOLERANCE = 1e-4
"""Of the largest output: what rounding may put between the cut network and the masked one."""


def silenced(
    network: nn.Module, example: Tensor, *, filters: Masks | None = None, columns: Masks | None = None
) -> nn.Module:
    """A copy of the same size whose removed groups are 0: of a column its weights, of a filter also its bias and what
    the normalisation after it adds, so that the filter's map is 0.

    Args:
        network: convolutions and linear layers; between a filter and the layer after it nothing but normalisation,
            pooling, and activations that keep 0.
        example: inputs, one or more.
        filters, columns: what is alive.

    Raises:
        ValueError: one line that names the layer: no layer, a mask of another length, a whole layer, the classifier,
            filters that cannot go alone.
    """
    copy = deepcopy(network)
    dependencies = Dependencies(copy, example)
    _check(copy, dependencies, filters or {}, columns or {})
    with torch.no_grad():
        for name, alive in (columns or {}).items():
            Groups(copy.get_submodule(name), "column").mask_(alive)
        for name, alive in (filters or {}).items():
            if alive.all():
                continue
            for parameter, places in dependencies.silencers(_layer(copy, name), _places(~alive)):
                parameter[places] = 0
    return copy


def cut(
    network: nn.Module, example: Tensor, *, filters: Masks | None = None, columns: Masks | None = None
) -> nn.Module:
    """A smaller copy that computes what `silenced` does, on the same terms.

    Filters go with what the next layers have of them; columns by gather. Where all columns of an input channel are
    gone, so is the filter that makes the channel, if nothing else needs it.

    Raises:
        ValueError: as `silenced`; or the outputs for `example` differ, as behind activations that do not keep 0.
    """
    masked = silenced(network, example, filters=filters, columns=columns)
    copy = deepcopy(masked)
    dependencies = Dependencies(copy, example)
    masked_out = {_layer(copy, name): set(_places(~alive)) for name, alive in (filters or {}).items()}
    gone = dict(masked_out)
    for name in columns or {}:
        for maker, places in _needless(dependencies, _layer(copy, name)):
            gone[maker] = gone.get(maker, set()) | places
    for layer, places in gone.items():
        if len(places) == len(layer.weight):  # no layer may be empty: one of the needless stays
            places = places - {min(places - masked_out.get(layer, set()))}
        if places:
            dependencies.of_filters(layer, sorted(places)).prune()
    for name in columns or {}:
        layer = _layer(copy, name)
        alive = layer.weight.detach().flatten(1).ne(0).any(0)
        if not alive.all():
            copy.set_submodule(name, gathered(layer, alive))
    _check_same(masked, copy, example)
    return copy


def save(network: nn.Module, path: Path | str, example: Tensor) -> None:
    """Writes what calling the network computes, in evaluation mode, weights and all, for any number of inputs.

    The file is an exported program: `torch.export.load(path).module()` reads it where neither this package nor the
    network's class is known; a pickled module would need both.

    Args:
        network: cut or not.
        path: ends in .pt2.
        example: inputs, of the shape and on the device of those to come.

    Raises:
        ValueError: another ending.
    """
    if Path(path).suffix != ".pt2":
        raise ValueError(f"path must end in .pt2, got {path}")
    inputs = example[:1].expand(2, *example.shape[1:]).clone()  # a batch of one would be taken for the only size
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(deepcopy(network).eval(), (inputs,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)


def load(path: Path | str) -> nn.Module:
    """What `save` wrote, in evaluation mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of buffers that PyTorch reads and does not write
        return torch.export.load(path).module()


def _needless(dependencies: Dependencies, layer: Layer) -> list[tuple[Layer, set[int]]]:
    """The filters before `layer` of which it has no column left, nor any other layer."""
    used = layer.weight.detach().flatten(2).abs().amax((0, 2)) if layer.weight.ndim > 2 else layer.weight.abs().amax(0)
    found: dict[Layer, set[int]] = {}
    for channel in _places(used == 0):
        group = dependencies.of_channels(layer, [channel])
        makers = [(module, places) for module, places in dependencies.makers(group) if isinstance(module, Layer)]
        users = dependencies.users(group)
        if len(makers) == 1 and all(bool((module.weight[:, places] == 0).all()) for module, places in users):
            found.setdefault(makers[0][0], set()).update(makers[0][1])
    return [*found.items()]


def _check(network: nn.Module, dependencies: Dependencies, filters: Masks, columns: Masks) -> None:
    modules = dict(network.named_modules())
    for kind, masks in (("filter", filters), ("column", columns)):
        for name, alive in masks.items():
            if not isinstance(module := modules.get(name), Layer):
                raise ValueError(f"{name}: is no convolution or linear layer of the network")
            groups = Groups(module, kind)
            if alive.dtype != torch.bool or alive.shape != (len(groups),):
                needed = f"must be {len(groups)} booleans, one a {kind}"
                raise ValueError(f"{name}: the mask {needed}, got {tuple(alive.shape)} of {alive.dtype}")
            if not alive.any():
                raise ValueError(f"{name}: all {len(groups)} {kind}s are to go; at least one must be left")
            if module is dependencies.classifier:
                raise ValueError(f"{name}: is the classifier, which is never pruned")
            if kind == "filter" and (reason := dependencies.alone(module)):
                raise ValueError(f"{name}: {reason}; its filters cannot be cut")


@torch.no_grad()
def _check_same(masked: nn.Module, smaller: nn.Module, example: Tensor) -> None:
    expected, found = (deepcopy(network).eval()(example) for network in (masked, smaller))
    largest = float(expected.abs().max())
    if found.shape != expected.shape or float((found - expected).abs().max()) > TOLERANCE * max(largest, 1e-30):
        raise ValueError("the cut network differs from the masked one: an activation may not keep 0")


def _layer(network: nn.Module, name: str) -> Layer:
    module = network.get_submodule(name)
    assert isinstance(module, Layer)
    return module


def _places(chosen: Tensor) -> list[int]:
    return chosen.nonzero()[:, 0].tolist()
