"""What regressions under adaptive dropout will cost, from one of the first seed and short ones of all."""

from repro.pipeline.execution.estimate import TRIES, Estimate, changed, peak, seconds
from repro.pipeline.settings import Config
from repro.training.reweighting import Settings

SHORT, LONG = 20, 220  # steps under masks


def estimate(config: Config) -> Estimate:
    """T = seeds·the rest + steps·step: reweighting, and what is no training, are run as they are, for one seed."""
    training, seeds = config.training, len(config.seed)
    assert isinstance(training, Settings)
    first = config.model_copy(update={"seed": config.seed[:1]})
    if "training" in config.ignored():
        parts = {"measuring": seeds * seconds(first, None)[0]}
        return Estimate(f"{seeds} seeds, nothing is trained", sum(parts.values()), peak(), parts)
    few, more = (min(training.steps, steps) for steps in (SHORT, LONG))
    rest = seconds(changed(first, training={"steps": few}), None)[0]

    def trial(steps: int) -> float:
        short = {"steps": steps, "iterations": 1}
        return min(seconds(changed(config, training=short), None)[0] for _ in range(TRIES))

    parts = {
        "training under masks": training.steps * max(0.0, trial(more) - trial(few)) / max(1, more - few),
        "the rest": seeds * rest,
    }
    sizes = f"{config.networks:,} regressions, {training.steps:,} steps under masks"
    return Estimate(sizes, sum(parts.values()), peak(), parts)
