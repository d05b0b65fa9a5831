"""What pruned networks will cost, from a few updates of one baseline network and one pruned network of every method."""

from repro.data.images import load
from repro.data.settings import ImageSettings
from repro.pipeline.execution.estimate import Estimate, changed, peak, seconds
from repro.pipeline.settings import Config
from repro.pipeline.system import threads
from repro.training.pruning import Settings

SHORT, LONG = 2, 10  # updates of the trials


def estimate(config: Config) -> Estimate:
    """T = the rest + updates·update + networks·measurement, of which as many run at a time as there are threads.

    A trial has the networks of one seed; on as few images as an epoch needs, whose measurement is scaled by the images.
    """
    training, data = config.training, config.data
    assert isinstance(training, Settings)
    assert isinstance(data, ImageSettings)
    images = load(data.model_copy(update={"download": False}))
    count = len(images.train) - round(training.validation * len(images.train))
    few = min(len(images.train), 2 * training.batch_size + 10 * images.classes)
    one = config.model_copy(update={"seed": config.seed[:1]})
    options = {"floor": None} if getattr(config.options, "floor", None) is not None else {}

    def trial(updates: int) -> float:
        lengths = {"epochs": 1, "updates": updates, "pruning": updates // 2, "first_removal": 1}
        sizes = {"subset": few, "imbalance": 1.0, "download": False}
        return seconds(changed(one, training=lengths, data=sizes, options=options), None)[0]

    trial(SHORT)  # warms up
    short, long = trial(SHORT), trial(LONG)
    tried = changed(one, options=options).networks - 1
    update = max(0.0, long - short) / ((LONG - SHORT) * tried)
    baselines = len(config.seed) * training.epochs * (count // training.batch_size)
    total = baselines + (config.networks - len(config.seed)) * training.updates
    at_once = threads.available(config.threads) if config.device == "cpu" else 1
    each = max(0.0, short - SHORT * tried * update) / tried
    parts = {
        "training": total * update,
        "cutting and measuring": config.networks * each,
    }
    sizes = f"{config.networks:,} networks, {total:,} updates, {at_once} at a time"
    note = "networks pruned to a floor are taken to need as many updates as the others" if options else ""
    return Estimate(sizes, sum(parts.values()), peak(), parts, note)
