"""The deep objective on the whole training set, from d×d moments of the features: no N-sized product twice.

With features G = g(X) (d×N) and the last layer U (a×d) a deep network is a linear one, U I G: its data are the moments
GGᵀ, YGᵀ and ‖Y‖² (`Problem`), and what `repro.training.sweep.noise` says of linear networks holds with V = I.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from repro.data.images import Images, ImageSet
from repro.dropout.layers import FeatureDropout
from repro.models.settings import DeepNetwork
from repro.pipeline.settings import ours
from repro.pipeline.system.errors import UserError
from repro.theory import effective_rank, k_support_norm
from repro.training.sweep.noise import Problem

BATCH = 500
"""Images at a time in evaluation: enough to fill a GPU with small images, little memory."""

WHOLE = 2000
"""Images at a time whose common statistics normalise a batch, where a training set is larger."""


@runtime_checkable
class Network(Protocol):
    """The module that is trained and measured: `head`, linear, on the `features` of images."""

    head: nn.Linear
    training: bool

    def features(self, images: Float[Tensor, "N c h w"]) -> Float[Tensor, "N width"]:
        """g(x), the last hidden layer, before its dropout."""
        ...

    def train(self, mode: bool = True) -> "Network": ...
    def eval(self) -> "Network": ...


@torch.no_grad()
def check(build: Callable[[], Network], settings: DeepNetwork, images: Images) -> None:
    """A `UserError` where a network of the user's own has not the parts of a `Network`."""
    if settings.kind in ours("model"):
        return
    with torch.random.fork_rng(devices=[]):
        network, named = build(), f"model.kind={settings.kind}: its network"
        if not (isinstance(network, nn.Module) and isinstance(getattr(network, "head", None), nn.Linear)):
            raise UserError(f"{named} must be a Module with the last layer `head`, a Linear")
        if (network.head.bias is not None) != settings.head_bias:
            raise UserError(f"{named} must have a bias in `head` where model.head_bias is true, and there alone")
        if not isinstance(network, Network):
            raise UserError(f"{named} must have the method `features`, from images to the last hidden layer")
        got = network.features(images.normalized(images.train.images[:2]))
    for name, shape, wanted in (
        ("features of shape (images, model.width)", got.shape, (2, settings.width)),
        ("a head of shape (classes, model.width)", network.head.weight.shape, (images.classes, settings.width)),
    ):
        if tuple(shape) != wanted:
            raise UserError(f"{named} must have {name}, {wanted} here; got {tuple(shape)}")


class Seen(NamedTuple):
    """What a network in evaluation mode sees of a set of images, float64.

    Attributes:
        problem: GGᵀ (d, d), YGᵀ (a, d) and ‖Y‖²_F, of Y without the head's bias where it has one.
        head: the last layer U, (a, d).
        accuracy: fraction of the images whose largest output is that of their class.
    """

    problem: Problem
    head: Float[Tensor, "a d"]
    accuracy: float


@torch.no_grad()
def look(network: Network, images: Images, chosen: ImageSet) -> Seen:
    """Accumulate the moments of the features of `chosen`, in float64, in evaluation mode.

    Args:
        network: left in the mode in which it came.
        images: targets and normalisation; on the network's device, like `chosen`.
        chosen: the training or the test set.
    """
    was_training = network.training
    network.eval()
    head = network.head.weight.double()
    gram = head.new_zeros(head.shape[1], head.shape[1])
    cross = torch.zeros_like(head)
    correct = head.new_zeros(())
    energy = head.new_zeros(())
    for start in range(0, len(chosen), BATCH):
        batch = ImageSet(chosen.images[start : start + BATCH], chosen.labels[start : start + BATCH])
        features = network.features(_inputs(images, batch)).double()
        outputs, targets = features @ head.mT, images.targets[batch.labels].double()
        if network.head.bias is not None:
            outputs, targets = outputs + network.head.bias, targets - network.head.bias
        gram += features.mT @ features
        cross += targets.mT @ features
        energy += targets.square().sum()
        correct += (outputs.argmax(1) == batch.labels).sum()
    network.train(was_training)
    return Seen(Problem(gram, cross, float(energy)), head, float(correct) / len(chosen))


@contextmanager
def exact_statistics(network: Network, images: Images, chosen: ImageSet) -> Iterator[None]:
    """While it lasts, BatchNorm in evaluation mode normalises by the mean and variance of `chosen`, not of training.

    The loss is descended under each batch's own statistics; the running ones average over weights that are no more,
    and give features that nothing was optimised for. Those of all images at once have neither fault and no
    randomness. Sets larger than `WHOLE` are interleaved into equal parts, whose statistics are averaged. Afterwards
    the running ones are what they were, to the bit: training goes on as if nothing had been measured.
    """
    assert isinstance(network, nn.Module)
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    kept = [[held.clone() for held in _running(layer)] for layer in layers]
    sums = [[torch.zeros_like(held) for held in _running(layer)] for layer in layers]
    parts = -(-len(chosen) // WHOLE) if layers else 0

    def use_own(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        _assign(layer, torch.var_mean(inputs[0], (0, 2, 3), correction=0)[::-1])

    hooks = [layer.register_forward_pre_hook(use_own) for layer in layers]
    was_training = network.training
    network.eval()
    with torch.no_grad():
        for part in range(parts):
            network.features(_inputs(images, chosen[torch.arange(part, len(chosen), parts)]))
            for layer, total in zip(layers, sums, strict=True):
                for held, added in zip(_running(layer), total, strict=True):
                    added += held / parts
    for hook in hooks:
        hook.remove()
    network.train(was_training)
    try:
        for layer, total in zip(layers, sums, strict=True):
            _assign(layer, total)
        yield
    finally:
        for layer, before in zip(layers, kept, strict=True):
            _assign(layer, before)


def _running(layer: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, _BatchNorm)
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


def _assign(layer: nn.Module, statistics: Sequence[Tensor]) -> None:
    for held, new in zip(_running(layer), statistics, strict=True):
        held.copy_(new)


def _inputs(images: Images, batch: ImageSet) -> Float[Tensor, "N c h w"]:
    return images.normalized(batch.images).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def losses_through_masks(
    network: Network, images: Images, chosen: ImageSet, dropout: FeatureDropout, count: int
) -> Float[Tensor, "1 count"]:
    """‖Y − U(z̃ ∘ g(X))‖² under `count` draws of `dropout`, the layer of textbooks, on the features of each image.

    No moments of masks or features enter: the mean over draws is what the objective's formula is checked against.
    """
    network.eval()
    rows = [torch.arange(start, min(start + BATCH, len(chosen))) for start in range(0, len(chosen), BATCH)]
    features = torch.cat([network.features(_inputs(images, chosen[batch])) for batch in rows]).double()
    targets, bias = images.targets[chosen.labels].double(), network.head.bias
    head = partial(
        nn.functional.linear, weight=network.head.weight.double(), bias=None if bias is None else bias.double()
    )
    dropout.train()
    return torch.stack([(targets - head(dropout(features))).square().sum() for _ in range(count)])[None]


def singular_values(seen: Seen) -> Float[Tensor, " a"]:
    """The singular values of the predictions U G, decreasing, (min(a, N),) padded with zeros to a.

    Roots of the eigenvalues of U GGᵀ Uᵀ: exact to about 1e-8 of the largest.
    """
    values = torch.linalg.eigvalsh(seen.head @ seen.problem.gram @ seen.head.mT)
    return values.clamp_min(0).sqrt().flip(-1)


def data_fit(seen: Seen) -> float:
    """‖Y − U G‖²_F."""
    fit = (seen.head * seen.problem.cross).sum()
    return seen.problem.energy - 2 * float(fit) + float((unit_products(seen)).sum())


def unit_products(seen: Seen) -> Float[Tensor, "d d"]:
    """UᵀU ∘ GGᵀ: entry ij is ⟨u_i g_i, u_j g_j⟩; blocks of it sum to the blocks' ⟨U_i g_i, U_j g_j⟩."""
    return (seen.head.mT @ seen.head) * seen.problem.gram


def block_norms(seen: Seen, block_size: int) -> Float[Tensor, " blocks"]:
    """‖U_i g_i(X)‖_F of each block of `block_size` units.

    Raises:
        ValueError: a width that is no multiple of the block size.
    """
    products = unit_products(seen)
    width = len(products)
    if width % block_size:
        raise ValueError(f"block_size must divide the width {width}, got {block_size}")
    blocks = products.view(width // block_size, block_size, -1, block_size).sum((1, 3))
    return blocks.diagonal().clamp_min(0).sqrt()


def balance(seen: Seen, block_size: int) -> dict[str, float]:
    """How near the blocks are to what the theory assumes of them.

    Returns:
        `imbalance`: the coefficient of variation of the block norms, 0 at a global minimum;
        `tightness`: (r/d) ‖U G‖²_(r) / Σ_i ‖U_i g_i‖² in (0, 1], 1 where the penalty attains its lower bound;
        `effective_rank` of the predictions.
    """
    norms, values = block_norms(seen, block_size), singular_values(seen)
    lower = block_size / seen.head.shape[1] * k_support_norm(values, min(block_size, len(values))).square()
    total = norms.square().sum()
    return {
        "imbalance": float(norms.std(correction=0) / norms.mean()),
        "tightness": float(lower / total),
        "effective_rank": float(effective_rank(values)),
    }
