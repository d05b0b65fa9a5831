"""Networks with their two auto-encoders: ours, fifteen as one batch, beside the same network in a plain loop.

    python benchmarks/structured_output.py

The network of experiment=structured_output_landmarks at scale cpu on 300 contours, batches of 32, float32, one thread.
The plain loop is what one writes first: torch.nn's layers, the decoders by the transposed weights, torch's Adam with
its default loop over parameters, one seed after another. Both must end with validation errors that are alike.
"""

import math
import time
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, mse_loss

from repro.data.pairs import Pairs, load
from repro.models.structured_output.build import Networks
from repro.papers.structured_output.arms import weights_of
from repro.pipeline.settings import load as load_settings
from repro.training.structured_output.loop import Task, Terms, train
from repro.training.sweep.noise import seeded_generator
from support.timing import interleaved, ratio, save, shown, summary

CONFIG = load_settings(
    ["experiment=structured_output_landmarks", "scale=cpu", "device=cpu", "training.steps=100", "training.checks=1"]
)
TRAINING, MODEL, SEEDS, PAIRS, SECONDS = CONFIG.training, CONFIG.model, tuple(range(15)), 300, 60.0
ARMS = {"plain": Terms(False, False), "out": Terms(False, True), "in+out": Terms(True, True)}
ALIKE = 0.1  # relative difference of the mean validation errors
WEIGHTS = {arm: weights_of(arm, TRAINING.steps, CONFIG) for arm in ARMS}


def ours(data: Pairs, arm: str) -> float:
    rows = torch.arange(PAIRS)
    tasks = [Task(f"{seed}", rows, rows, rows, WEIGHTS[arm]) for seed in SEEDS]
    shape = data.train.inputs.shape[1], data.train.outputs.shape[1]
    networks = Networks(MODEL, *shape, SEEDS, lambda seed, what: seeded_generator(f"{seed} {what}"), "cpu")
    found = train(networks, tasks, data.train, data.validation, TRAINING, ARMS[arm])
    return float(found.validation[-1].mean())


class Network(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        first, second, third = MODEL.hidden
        sizes = (inputs, first, second, third, outputs)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        for layer in self.layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.back_inputs, self.back_outputs = nn.Parameter(torch.zeros(inputs)), nn.Parameter(torch.zeros(third))

    def forward(self, x: Tensor) -> Tensor:
        first, second, third, last = self.layers
        return torch.tanh(last(torch.tanh(third(torch.sigmoid(second(torch.sigmoid(first(x))))))))

    def reconstruct_inputs(self, x: Tensor) -> Tensor:
        code = torch.sigmoid(self.layers[0](x * (torch.rand_like(x) >= MODEL.corruption)))
        return torch.sigmoid(linear(code, self.layers[0].weight.mT, self.back_inputs))

    def reconstruct_outputs(self, y: Tensor) -> Tensor:
        return torch.tanh(self.layers[-1](torch.tanh(linear(y, self.layers[-1].weight.mT, self.back_outputs))))


def plain_loop(data: Pairs, arm: str, seed: int) -> float:
    torch.manual_seed(seed)
    inputs, outputs = data.train.inputs[:PAIRS], data.train.outputs[:PAIRS]
    network = Network(inputs.shape[1], outputs.shape[1])
    adam = torch.optim.Adam(network.parameters(), lr=TRAINING.learning_rate)
    done = torch.arange(TRAINING.steps) / TRAINING.steps
    rates = torch.where(done <= TRAINING.full_rate, 1.0, (1 - done) / (1 - TRAINING.full_rate))
    orders = [torch.cat([torch.randperm(PAIRS) for _ in range(-(-TRAINING.steps * TRAINING.batch_size // PAIRS))])
              for _ in range(3)]  # fmt: skip
    for step, (_, of_inputs, of_outputs) in enumerate(WEIGHTS[arm].tolist()):
        pairs, alone_in, alone_out = (order[step * TRAINING.batch_size :][: TRAINING.batch_size] for order in orders)
        for group in adam.param_groups:
            group["lr"] = TRAINING.learning_rate * float(rates[step])
        loss = mse_loss(network(inputs[pairs]), outputs[pairs])
        if ARMS[arm].inputs:
            loss = loss + of_inputs * mse_loss(network.reconstruct_inputs(inputs[alone_in]), inputs[alone_in])
        if ARMS[arm].outputs:
            loss = loss + of_outputs * mse_loss(network.reconstruct_outputs(outputs[alone_out]), outputs[alone_out])
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        return float(mse_loss(network(data.validation.inputs), data.validation.outputs))


def main() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    data = load(CONFIG.data)
    steps = TRAINING.steps * len(SEEDS)
    found, ratios = {}, {}
    print(f"{'ms a step of one network':<27}{'ours':>24}{'plain loop':>24}{'plain / ours':>24}")
    for arm in ARMS:
        begun = time.perf_counter()
        errors = ours(data, arm), sum(plain_loop(data, arm, seed) for seed in SEEDS) / len(SEEDS)
        if not abs(errors[0] / errors[1] - 1) <= ALIKE:
            raise SystemExit(f"{arm}: validation errors of {errors[0]} and {errors[1]}")
        rounds = max(3, math.ceil(SECONDS / (time.perf_counter() - begun) / len(ARMS)))
        work = {
            "ours": lambda arm=arm: ours(data, arm),
            "plain loop": lambda arm=arm: [plain_loop(data, arm, seed) for seed in SEEDS],
        }
        times = interleaved(work, seconds=SECONDS / len(ARMS), at_least=3, at_most=rounds)
        each = {name: [1e3 * t / steps for t in timing.wall] for name, timing in times.items()}
        found[arm] = {name: summary(values) for name, values in each.items()}
        ratios[arm] = ratio(each["plain loop"], each["ours"])
        row = [shown(found[arm][name], 2) for name in ("ours", "plain loop")]
        print(f"{arm:<27}{row[0]:>24}{row[1]:>24}{shown(ratios[arm], 2):>24}", flush=True)
    save("structured_output", found, ratios)


if __name__ == "__main__":
    main()
