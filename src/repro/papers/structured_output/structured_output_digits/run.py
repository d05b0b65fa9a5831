"""Errors of predicted pixels: the root of their mean square, where white is 1."""

from jaxtyping import Float
from torch import Tensor

from repro.papers.structured_output import measuring
from repro.papers.structured_output.structured_output_digits import Config
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress


def run(config: Config, progress: Progress) -> Result:
    return measuring.run(config, progress, pixel_errors)


def pixel_errors(predicted: Float[Tensor, "*batch m"], true: Float[Tensor, "*batch m"]) -> Float[Tensor, "*batch"]:
    return (predicted - true).square().mean(-1).sqrt()
