"""Steps of training on a GPU: the sweep engine beside a plain loop and vmap, structured noise, growing penalties.

    python benchmarks/gpu.py

The engine: 10,000 cells like the 48 of sweep_engine.py, float32, 32 masks a step, beside the plain loop, one cell at a
time, and `torch.func.vmap` of its step over 480 of them; a step is one update of one cell. Noise: a layer of 1,000
inputs and outputs on 256 rows with T reflections beside T = 0. Pruning: ResNet-56 on batches of 128 images with
penalties on all columns beside none; methods reckon on the CPU, for which each step waits once.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

import sweep_engine as sweep
from repro.data.images import Images, ImageSet
from repro.data.linear import LinearData
from repro.models.resnet import Settings as ResNetSettings
from repro.models.resnet.build import ResNet
from repro.pipeline.settings import load
from repro.pruning import IncReg
from repro.training.pruning.loop import Stage, begin, fit
from repro.training.pruning.networks import Classifier, Data, Layer, pruned_layers
from repro.training.sweep.engine import initial_factors, train
from repro.training.sweep.noise import Cell, Problem
from support.timing import ratio, save, seconds_per_call, shown, summary
from variational_layer import stepper

CELLS, PEERS_CELLS, STEPS = 10_000, 480, 28
WIDTH, REFLECTIONS = 1_000, (1, 8)
DEPTH, BATCH, UPDATES = "resnet56", 128, 10
SECONDS = 30.0

Work = dict[str, tuple[Callable[[], object], int]]
"""What is timed, and how many steps it is."""


def engine(device: str) -> Work:
    few = sweep.grid()
    cells = [Cell(few[i % len(few)].masks, i) for i in range(CELLS)]
    full = sweep.data(sweep.N)
    problem = Problem.from_data(*full).to(device, torch.float32)
    start = initial_factors(problem, cells, sweep.INIT_SCALE)
    X, Y = data = LinearData(full.X.to(device, torch.float32), full.Y.to(device, torch.float32))
    first = [factor[:PEERS_CELLS].to(device, torch.float32) for factor in start]

    def loss(U: Tensor, V: Tensor, z: Tensor) -> Tensor:
        return (Y - (U * z) @ (V.mT @ X)).square().sum()

    def plain() -> None:
        with torch.device(device):
            begin_ = first[0][0], first[1][0]
            sweep.plain(data, cells[0], begin_, sweep.schedule(STEPS), sweep.own_masks(cells[0], torch.float32))

    def vmap() -> None:
        with torch.device(device):
            sweep.vmapped(loss, cells[:PEERS_CELLS], (first[0], first[1]), sweep.VMAP_STEPS)

    plan = sweep.schedule(STEPS, sweep.DEFAULT_MASKS)
    return {
        "engine": (lambda: train(problem, cells, start, plan), STEPS * len(cells)),
        "plain loop": (plain, STEPS),
        "vmap": (vmap, sweep.VMAP_STEPS * len(cells[:PEERS_CELLS])),
    }


def noise(device: str) -> Work:
    return {
        f"layer, {kind}, T = {t}": (stepper(WIDTH, t, kind, device), 1)
        for kind, t in (("local", 0), *((kind, t) for kind in ("pairs", "local") for t in REFLECTIONS))
    }


def pruning(device: str) -> Work:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2048, 3, 32, 32), generator=generator).to(torch.uint8)
    train_set = ImageSet(pixels, torch.arange(len(pixels)) % 10).to(device)
    images = Images(train_set, train_set, torch.eye(10), torch.full((3,), 128.0), torch.full((3,), 70.0)).to(device)
    data = Data(images, train_set, train_set, 4, True, True)
    settings = load(["experiment=incremental_pruning", f"training.batch_size={BATCH}"], elsewhere=True).training
    model = ResNetSettings(kind=DEPTH, width=64, embedding=False, channels=16, width_factor=1.0, stem_stride=1)

    def trained(penalties: bool) -> Callable[[], object]:
        network = Classifier(ResNet(model, 3, 10, 0)).to(device).to(memory_format=torch.channels_last)
        names = pruned_layers(network, "column", data.inputs(pixels[:2].to(device))) if penalties else {}
        layers = {name: Layer(network, name, "column", ()) for name in names}
        methods = {name: IncReg(len(layer), 0.9, 1e-9, 1.0) for name, layer in layers.items()}
        state = begin(network, settings, layers, methods)

        def run() -> None:
            state.update, state.rows = 0, []
            fit(state, data, Stage("benchmark", 0, UPDATES, 1e-6, log=UPDATES), settings)

        return run

    return {"pruning, no penalties": (trained(False), UPDATES), "pruning, growing": (trained(True), UPDATES)}


def measured(device: str) -> dict[str, list[float]]:
    """Seconds of a step of everything, a number a round."""
    found: dict[str, list[float]] = {}
    for make in (engine, noise, pruning):
        work = make(device)

        def waited(call: Callable[[], object]) -> Callable[[], object]:
            def run() -> None:
                call()
                if device == "cuda":
                    torch.cuda.synchronize()

            return run

        times = seconds_per_call({name: waited(call) for name, (call, _) in work.items()}, seconds=SECONDS)
        found |= {name: [t / work[name][1] for t in some] for name, some in times.items()}
    return found


def main() -> None:
    if not torch.cuda.is_available():
        print("no CUDA GPU here: nothing is measured")
        return
    times = measured("cuda")
    for name, some in times.items():
        print(f"{name:<28}{shown(summary([1e6 * t for t in some]), 2):>32} µs a step")
    pairs = {
        "sweep engine, cuda: plain loop": ("plain loop", "engine"),
        "sweep engine, cuda: vmap": ("vmap", "engine"),
        "pruning step, cuda: without penalties": ("pruning, no penalties", "pruning, growing"),
    } | {f"{name}, cuda: T = 0": ("layer, local, T = 0", name) for name in times if name.startswith("layer")}
    ratios = {name: ratio(times[peer], times[ours]) for name, (peer, ours) in pairs.items() if peer != ours}
    for name, found in ratios.items():
        print(f"{name:<48}{shown(found, 2):>24}")
    assert all(math.isfinite(found["median"]) for found in ratios.values())
    save("gpu", {name: summary(some) for name, some in times.items()}, ratios)


if __name__ == "__main__":
    main()
