"""The algorithm's second mode: as much is removed as a floor of the accuracy allows."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

from repro.pruning import IncReg
from repro.training.pruning import Settings
from repro.training.pruning.kinds import method_of
from repro.training.pruning.loop import Pruning, Stage, begin, fit
from repro.training.pruning.networks import Classifier, Data, Layer, Names, accuracy


class Round(NamedTuple):
    """A ratio that was tried: what it came to on the validation images, and whether it was kept."""

    ratio: float
    validation: float
    kept: bool


def next_ratio(ratio: float, above: float) -> float:
    """One step of clip(10·above, 0.01, 0.2) further, `above` being the accuracy less its floor."""
    return ratio + min(0.2, max(0.01, 10 * above))


def to_floor(
    network: Classifier,
    names: Names,
    data: Data,
    training: Settings,
    seed: int,
    *,
    floor: float,
    updates: int,
    rounds: int,
    folder: Path | None = None,
    code: str = "",
    advance: Callable[[int], object] = lambda updates: None,
) -> tuple[Pruning, list[Round]]:
    """Incremental regularization from one ratio to the next, each from the last network that was kept.

    A round's network is kept if its accuracy on the validation images is not below `floor`; the first that is not is
    rolled back and ends it, as do `rounds`, and a ratio that would leave a layer without groups. A round that has ended
    is loaded from its checkpoint in `folder`.

    Returns:
        The last network that was kept, and the rounds, number 0 being `network` itself.
    """
    hold = max(1, updates // 2)
    first = max(1, training.first_removal * hold // training.pruning)
    short = training.model_copy(update={"updates": updates, "pruning": hold, "first_removal": first})
    kept = begin(network, short, _layers(network, names, training), {})
    found = [Round(0.0, accuracy(network, data, data.validation), True)]
    alive: Mapping[str, IncReg] = {}
    largest = min(1 - 1 / len(layer) for layer in kept.layers.values())
    for number in range(rounds):
        ratio = min(next_ratio(found[-1].ratio, found[-1].validation - floor), largest)
        if ratio <= found[-1].ratio:
            break
        copy = deepcopy(kept.network)
        layers = _layers(copy, names, training)
        methods = {}
        for name, layer in layers.items():
            method = method_of("inc_reg", len(layer), ratio, short, training.gentleness, name)
            assert isinstance(method, IncReg)
            if name in alive:
                method.alive &= alive[name].alive
            methods[name] = method
        tried = begin(copy, short, layers, methods)
        stage = Stage(f"floor {number}", seed, updates, training.rate, hold)
        path = folder and folder / f"floor-{seed}-{number}.pt"
        fit(tried, data, stage, short, path=path, code=code, advance=advance)
        reached = accuracy(copy, data, data.validation)
        found.append(Round(ratio, reached, reached >= floor))
        if reached < floor:
            break
        kept, alive = tried, methods
    return kept, found


def _layers(network: Classifier, names: Names, training: Settings) -> dict[str, Layer]:
    return {name: Layer(network, name, training.groups, others) for name, others in names.items()}
