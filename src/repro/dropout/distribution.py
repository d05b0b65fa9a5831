"""Mask distributions: every dropout scheme as a random z with an exact mean and covariance.

The deterministic objective of a linear network needs nothing else of a scheme than these two moments
(``repro.theory.expected_objective``), so Dropout, DropBlock, DropConnect and Gaussian noise are instances of
one interface and never branches in the code that trains or measures.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property
from typing import Literal, TypedDict, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from repro.dropout.settings import Noise
from repro.pipeline.settings import bound, implementation, ours
from repro.pipeline.system.errors import UserError
from repro.theory.checks import check_blocks, check_probability

Source = Generator | torch.device
"""What draws: a generator, or a device, for PyTorch's global one there: a compiled graph can use no other."""


class Drawing(TypedDict, total=False):
    generator: Generator
    device: torch.device


def drawing(source: Source) -> Drawing:
    """The arguments by which PyTorch draws from `source`, as in `torch.rand(3, **drawing(source))`."""
    if isinstance(source, torch.device):
        return {"device": source}  # generator=None too would ask for a kernel that takes no sizes of a compiled graph
    return {"generator": source, "device": source.device}


class MaskDistribution(ABC):
    """A distribution of multiplicative masks z of shape `shape`, independent of the data.

    `target` says what z multiplies: the `hidden` units (z has shape (d,)), the entries of the factor `U` (a, d)
    or `V` (b, d) of a linear network U Vᵀ X, or the units of all hidden `layers` of a deep one. `retain` is θ: the
    mean probability that an entry is kept, or for continuous noise the θ of the Dropout of equal variance; outside
    (0, 1) a ValueError, like a `width` d below 1. Unless a subclass says otherwise, z has shape (d,) and mean θ.
    """

    width: int
    retain: float
    target: Literal["hidden", "U", "V", "layers"] = "hidden"

    def __post_init__(self) -> None:
        check_probability("retain", self.retain)
        check_blocks(self.width, 1)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.width,)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        """E[z], float64, of shape `shape`; every entry is positive."""
        return torch.full(self.shape, self.retain, dtype=torch.float64)

    @property
    @abstractmethod
    def covariance(self) -> Float[Tensor, "n n"]:
        """Cov[z] of the flattened mask, float64, n the number of its entries."""

    @abstractmethod
    def sample(self, count: int, generator: Source, dtype: torch.dtype = torch.float32) -> Tensor:
        """`count` independent masks, (count, *shape), drawn from `generator` on its device."""

    @cached_property
    def relative_covariance(self) -> Float[Tensor, "n n"]:
        """C̄_ij = C_ij / (μ_i μ_j), the covariance of z/μ."""
        mean = self.mean.flatten()
        return self.covariance / torch.outer(mean, mean)

    @property
    def relative_variance(self) -> Float[Tensor, "..."]:
        """Var[z/μ] of each entry, of shape `shape`."""
        return self.relative_covariance.diagonal().view(self.shape)

    def with_retain(self, retain: float) -> "MaskDistribution":
        """The same noise at another θ; a subclass that is no dataclass says how."""
        return replace(self, retain=retain)  # type: ignore[type-var]

    def sample_normalized(self, count: int, generator: Source, dtype: torch.dtype) -> Tensor:
        """Masks divided by their mean, z/μ, as the stochastic objective uses them: (count, *shape)."""
        masks = self.sample(count, generator, dtype)
        return masks / self._mean_beside(masks)

    def _mean_beside(self, masks: Tensor) -> Tensor:
        """The mean on the masks' device, where it is copied once."""
        if torch.compiler.is_compiling():
            return self.mean.to(masks)
        known = self.__dict__.setdefault("_means", {})
        place = masks.device, masks.dtype
        if place not in known:
            known[place] = self.mean.to(masks)
        return cast(Tensor, known[place])

    def sample_moments(
        self, count: int, size: int, generator: Generator, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "count d"], Float[Tensor, "count d d"]]:
        """Empirical first and second moments of z/μ over `count` independent groups of `size` masks.

        The gradient of the stochastic objective averaged over a group of masks is a function of these two
        alone, which is why a step may average over many masks at almost no cost. Only for masks on hidden
        units.
        """
        masks = self.sample_normalized(count * size, generator, dtype).view(count, size, -1)
        return masks.mean(1), masks.mT @ masks / size


def masks_of(
    noise: Noise, width: int, block_size: int, retain: float, *, outputs: int = 0, inputs: int = 0
) -> MaskDistribution:
    """The masks that `noise` asks for, of a network of `width` hidden units, `outputs` and `inputs`.

    Raises:
        UserError: a user's module has no function `masks`, or its masks are none.
    """
    make = bound(implementation(noise, "masks"), noise, width, block_size, retain, outputs, inputs)
    if noise.scheme in ours("dropout"):
        return cast(MaskDistribution, make())
    named = f"dropout.scheme={noise.scheme}: its masks"
    try:
        found = make()
    except TypeError as error:
        if "abstract" not in str(error):
            raise
        raise UserError(f"{named} lack a part ({error})") from None
    if not isinstance(found, MaskDistribution):
        raise UserError(f"{named} must be a MaskDistribution, got {type(found).__name__}")
    if type(found).__repr__ is object.__repr__:
        raise UserError(f"{named} must be a dataclass: what they print as seeds their draws, the same at every run")
    n, drawn = math.prod(found.shape), found.sample(2, torch.Generator().manual_seed(0))
    for name, got, wanted in (
        ("mean", found.mean.shape, found.shape),
        ("covariance", found.covariance.shape, (n, n)),
        ("sample(2, …)", drawn.shape, (2, *found.shape)),
    ):
        if tuple(got) != wanted:
            raise UserError(f"{named} must have a {name} of shape {wanted}, got {tuple(got)}")
    return found


class Independent(MaskDistribution):
    """z of i.i.d. Bernoulli(θ) entries."""

    @property
    def covariance(self) -> Float[Tensor, "n n"]:
        return self.retain * (1 - self.retain) * torch.eye(math.prod(self.shape), dtype=torch.float64)

    def sample(self, count: int, generator: Source, dtype: torch.dtype = torch.float32) -> Tensor:
        return bernoulli((count, *self.shape), self.retain, generator, dtype)


def bernoulli(shape: tuple[int, ...], retain: float, generator: Source, dtype: torch.dtype) -> Tensor:
    # Uniforms are compared in float32 whatever the dtype of the masks, so that the same generator gives the
    # same masks in float32 and float64.
    uniform = torch.rand(shape, **drawing(generator))
    return (uniform < retain).to(dtype)
