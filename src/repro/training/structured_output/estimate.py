"""What networks with auto-encoders cost, from runs of few steps."""

from typing import cast

from repro.pipeline.execution.estimate import Estimate, changed, peak, seconds
from repro.pipeline.settings import Config
from repro.training.structured_output import Settings

FEW, SOME = 2, 32  # steps of the trials


def estimate(config: Config) -> Estimate:
    """T = fixed + steps · step, from two trials; the checks of the trials are as many as the run's."""
    training = cast(Settings, config.training)
    trial = {"epochs": None, "checks": 1}
    # the first trial also loads what the others find loaded
    _, short, long = (seconds(changed(config, training={**trial, "steps": n}), None)[0] for n in (FEW, FEW, SOME))
    step = max(0.0, (long - short) / (SOME - FEW))
    if training.steps is None:
        words = f"{training.epochs:,} epochs"
        return Estimate(
            f"{config.networks:,} networks × {words}", None, peak(), {},
            f"a step of all networks takes {step:.2g} s; how many there are depends on the pairs",
        )  # fmt: skip
    shares = {"training": training.steps * step, "the rest": short}
    return Estimate(f"{config.networks:,} networks × {training.steps:,} steps", sum(shares.values()), peak(), shares)
