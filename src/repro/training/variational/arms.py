"""The methods that are compared, as layers: what each draws, and what its divergence is."""

from dataclasses import dataclass
from typing import Literal, cast

from torch import Generator

from repro.models.variational.build import Make
from repro.models.variational.layers import DropoutLinear, Layer, MeanFieldLinear, Prior, VariationalLinear
from repro.training.variational import Settings


@dataclass(frozen=True)
class Arm:
    """A method.

    Attributes:
        name: in tables.
        family: of its layers.
        reflections: T, of structured noise.
        prior: of structured noise; None is that of the settings.
        rate: drop probability of MC dropout.
        learned, tied: see `VariationalLinear`.
    """

    name: str
    family: Literal["map", "dropout", "mean_field", "structured"] = "structured"
    reflections: int = 0
    prior: Prior | None = None
    rate: float = 0.0
    learned: bool = True
    tied: bool = False

    @property
    def draws(self) -> bool:
        """Whether its predictions are means over draws."""
        return self.family != "map"

    def make(
        self,
        settings: Settings,
        generator: Generator,
        copies: tuple[int, ...],
        noise_mean: Literal["centred", "rotated"],
        start: float,
    ) -> Make:
        """Layers of this method; `start` is the first α of structured noise. No more reflections than inputs."""

        def make(inputs: int, outputs: int) -> Layer:
            if self.family == "map":
                return Layer(inputs, outputs, generator, copies)
            if self.family == "dropout":
                return DropoutLinear(inputs, outputs, generator, copies, rate=self.rate)
            if self.family == "mean_field":
                variance = settings.prior_variance
                return MeanFieldLinear(inputs, outputs, generator, copies, prior_variance=variance)
            improper = self.prior == "log_uniform"
            return VariationalLinear(
                inputs,
                outputs,
                generator,
                copies,
                reflections=min(self.reflections, inputs),
                noise_mean=noise_mean,
                columns="independent" if improper else settings.columns,
                prior=cast(Prior, self.prior or settings.prior),
                prior_variance=settings.prior_variance,
                rate=start,
                learned=self.learned,
                tied=self.tied,
                sampling=settings.sampling,
            )

        return make


def compared(reflections: tuple[int, ...], drop_rates: tuple[float, ...]) -> list[Arm]:
    """Every method; MC dropout at each rate, of which the validation set chooses one, and the two controls at the most
    reflections."""
    most = max(reflections)
    return [
        Arm("MAP", "map"),
        *(Arm(f"dropout {rate:g}", "dropout", rate=rate) for rate in drop_rates),
        Arm("mean field", "mean_field"),
        Arm("VD", prior="log_uniform"),
        Arm("VD-EB"),
        *(Arm(f"VSD {t}", reflections=t) for t in reflections),
        Arm(f"VSD {most} frozen", reflections=most, learned=False),
        Arm(f"VSD {most} tied", reflections=most, tied=True),
    ]
