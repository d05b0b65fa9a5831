"""What networks with posteriors cost, from a run of few steps."""

from typing import cast

from repro.pipeline.execution.estimate import Estimate, changed, peak, seconds
from repro.pipeline.settings import Config
from repro.training.variational import Settings

FEW, SOME = 2, 12  # steps of the trials


def estimate(config: Config) -> Estimate:
    """T = fixed + steps · step, from two trials."""
    training = cast(Settings, config.training)
    short, long = (seconds(changed(config, training={"steps": n, "log_points": 2}), None)[0] for n in (FEW, SOME))
    step = max(0.0, (long - short) / (SOME - FEW))
    shares = {"training": training.steps * step, "the rest": short}
    sizes = f"{config.networks:,} networks × {training.steps:,} steps"
    return Estimate(sizes, sum(shares.values()), peak(), shares)
