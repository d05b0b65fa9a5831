"""What an experiment without training costs: it is tried whole, since it takes seconds."""

from repro.pipeline.execution.estimate import Estimate, peak, seconds
from repro.pipeline.settings import Config


def estimate(config: Config) -> Estimate:
    whole, _ = seconds(config, None)
    return Estimate(f"{config.networks:,} cells, nothing is trained", whole, peak(), {"computing": whole})
