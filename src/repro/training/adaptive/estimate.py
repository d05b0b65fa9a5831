"""What sparse networks will cost, from one and three epochs of all methods."""

from repro.pipeline.execution.estimate import Estimate, changed, peak, seconds
from repro.pipeline.settings import Config
from repro.training.adaptive import Settings


def estimate(config: Config) -> Estimate:
    """T = the rest + epochs·epoch; fine-tuned networks are a part of an epoch that is left out."""
    training = config.training
    assert isinstance(training, Settings)
    lengths = {"epochs": 1, "fine_tuning": 0}
    one = seconds(changed(config, training=lengths), None)[0]
    three = seconds(changed(config, training=lengths | {"epochs": 3}), None)[0]
    epoch = max(0.0, three - one) / 2
    parts = {"training and measuring": training.epochs * epoch, "the rest": max(0.0, one - epoch)}
    return Estimate(f"{config.networks:,} networks × {training.epochs} epochs", sum(parts.values()), peak(), parts)
