"""What networks will cost, from one on a few images."""

from math import ceil

from repro.data.images import load
from repro.data.settings import ImageSettings
from repro.pipeline.execution.estimate import TRIAL, TRIES, Estimate, changed, peak, seconds
from repro.pipeline.settings import Config
from repro.training.network import Settings
from repro.training.network.shares import shares


def estimate(config: Config) -> Estimate:
    """T = fixed + epochs·epoch for one network; an epoch, measurement included, is linear in the images."""
    training, data = config.training, config.data
    assert isinstance(training, Settings)
    assert isinstance(data, ImageSettings)
    networks = config.networks
    count = len(load(data.model_copy(update={"download": False})).train)
    at_once = shares(config, training, networks)[0] if config.device == "cpu" else 1

    def trial(batch: int, images: int, epochs: int) -> tuple[float, float]:
        one = {"batch_size": batch, "epochs": epochs, "devices": 1, "nodes": 1, "processes": 1}
        few = {"subset": images, "imbalance": 1.0, "download": False}
        return seconds(changed(config, training=one, data=few), 1)

    small = min(16, training.batch_size)
    trial(small, 2 * small, 1)  # warms up
    image = trial(small, 2 * small, 1)[1] / (2 * small)  # at most
    batch = min(training.batch_size, count // 6) if 24 * training.batch_size * image < 8 * TRIAL else small
    few, more = 2 * batch, 6 * batch
    lengths = [(n, epochs) for n in (few, more) for epochs in (1, 3)]
    tries = [[trial(batch, *length) for length in lengths] for _ in range(TRIES)]
    times = {length: min(t[i][1] for t in tries) for i, length in enumerate(lengths)}
    whole, once = tries[0][0]
    epoch = {n: max(0.0, (times[n, 3] - times[n, 1]) / 2) for n in (few, more)}
    one_epoch = epoch[more] + (count - more) * max(0.0, epoch[more] - epoch[few]) / (more - few)
    rounds, side_by_side = ceil(networks / at_once), training.world_size
    parts = {
        "training and measuring": rounds * training.epochs * one_epoch / side_by_side,
        "the rest": whole - once + rounds * max(0.0, times[few, 1] - epoch[few]),
    }
    steps = training.epochs * (count // training.batch_size)
    sizes = (
        f"{networks:,} networks × {steps:,} steps ({training.epochs} epochs of {count:,} images), {at_once} at a time"
    )
    note = f"{side_by_side} processes are taken to be as many times as fast as one" if side_by_side > 1 else ""
    return Estimate(sizes, sum(parts.values()), at_once * peak(), parts, note)
