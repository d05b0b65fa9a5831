"""What regressions under adaptive dropout will cost, from two short runs."""

from repro.pipeline.execution.estimate import Estimate, changed, peak, seconds
from repro.pipeline.settings import Config
from repro.training.reweighting import Settings

SHORT, LONG = 50, 150  # steps under masks


def estimate(config: Config) -> Estimate:
    """T = the rest + steps·step: reweighting and what is no training are run as they are."""
    training = config.training
    assert isinstance(training, Settings)
    few, more = (min(training.steps, steps) for steps in (SHORT, LONG))
    times = [seconds(changed(config, training={"steps": steps}), None)[0] for steps in (few, more)]
    step = max(0.0, times[1] - times[0]) / max(1, more - few)
    parts = {"training under masks": training.steps * step, "the rest": max(0.0, times[0] - few * step)}
    return Estimate(f"{training.steps:,} steps under masks", sum(parts.values()), peak(), parts)
