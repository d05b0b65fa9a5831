"""LeNet-300-100 under sparse variational dropout: ours, a batch of networks, beside the same network in a plain loop.

    python benchmarks/adaptive_training.py

The three forms of `training/adaptive/variational.py` on mnist5k, three seeds, batches of 128, float32, one thread. The
plain loop is what one writes first: a module a layer with its divergence by autograd, torch's Adam with its default
loop over parameters, images from a DataLoader, one seed after another, no measurements. Both must end with errors that
are alike.
"""

import math
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, softplus
from torch.utils.data import DataLoader, TensorDataset

from repro.data.images import load
from repro.pipeline.settings import load as load_settings
from repro.theory.penalties.implicit import MOLCHANOV
from repro.training.adaptive import loop
from repro.training.adaptive.kinds import METHODS
from repro.training.adaptive.network import initial
from support.timing import interleaved, ratio, save, shown, summary

CONFIG = load_settings(["experiment=adaptive_sparsification", "scale=cpu", "device=cpu"])
TRAINING, SEEDS, SIZES, EPOCHS, SECONDS = CONFIG.training, (0, 1, 2), (784, 300, 100, 10), 2, 60.0
ALIKE = 0.05  # of the test error after EPOCHS, mean over seeds


class Linear(nn.Linear):
    """A layer of variational dropout, of any of the three forms."""

    def __init__(self, inputs: int, outputs: int, form: str) -> None:
        super().__init__(inputs, outputs)
        self.form = form
        self.log = nn.Parameter(torch.full((outputs, inputs), -5.0))
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def log_ratio(self) -> Tensor:
        return 2 * (self.log - (self.weight.abs() + 1e-8).log()) if self.form == "var_drop_lr_ar" else self.log

    def divergence(self) -> Tensor:
        k1, k2, k3 = MOLCHANOV
        log_a = self.log_ratio()
        return -(k1 * torch.sigmoid(k2 + k3 * log_a) - softplus(-log_a) / 2).sum()

    def forward(self, x: Tensor) -> Tensor:
        if self.form == "var_drop":
            return linear(x, self.weight * (1 + (self.log / 2).exp() * torch.randn_like(self.weight)), self.bias)
        variance = (2 * self.log).exp() if self.form == "var_drop_lr_ar" else self.weight**2 * self.log.exp()
        mean = super().forward(x)
        return mean + (linear(x**2, variance) + 1e-8).sqrt() * torch.randn_like(mean)

    def plain(self, x: Tensor) -> Tensor:
        return super().forward(x)


def plain_loop(data: loop.Digits, form: str, seed: int) -> float:
    torch.manual_seed(seed)
    layers = [Linear(784, 300, form), Linear(300, 100, form), Linear(100, 10, form)]
    network = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    rates, log_rates = getattr(TRAINING.rates, form), getattr(TRAINING.log_rates, form)
    logs = [layer.log for layer in layers]
    body = [p for layer in layers for p in (layer.weight, layer.bias)]
    adam = torch.optim.Adam([{"params": body, "lr": rates}, {"params": logs, "lr": log_rates}])
    loader = DataLoader(TensorDataset(data.train, data.train_labels), TRAINING.batch_size, shuffle=True, drop_last=True)
    total = EPOCHS * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / total)
    for _ in range(EPOCHS):
        for x, labels in loader:
            kl = sum(layer.divergence() for layer in layers) / TRAINING.divergence_images
            adam.zero_grad()
            (cross_entropy(network(x), labels) + kl).backward()
            adam.step()
            schedule.step()
    with torch.no_grad():
        x = layers[2].plain(layers[1].plain(layers[0].plain(data.test).relu()).relu())
    return float((x.argmax(1) != data.test_labels).double().mean())


def ours(data: loop.Digits, form: str) -> list[float]:
    kind = METHODS[form]
    method = kind(initial(SIZES, SEEDS, "cpu", kind.start), torch.full((3,), TRAINING.weight), TRAINING)
    rates = getattr(TRAINING.rates, form), getattr(TRAINING.log_rates, form)
    rows = loop.train(method, SEEDS, data, TRAINING, key=form, epochs=EPOCHS, rate=rates[0], log_rate=rates[1])
    return rows[-1]["error"].tolist()


def main() -> None:
    torch.set_num_threads(1)
    data = loop.Digits.of(load(CONFIG.data), "cpu")
    steps = EPOCHS * (len(data.train) // TRAINING.batch_size) * len(SEEDS)
    found, ratios = {}, {}
    print(f"{'ms a step of one network':<27}{'ours':>24}{'plain loop':>24}{'plain / ours':>24}")
    for form in ("var_drop", "var_drop_lr", "var_drop_lr_ar"):
        begun = time.perf_counter()
        errors = ours(data, form), [plain_loop(data, form, seed) for seed in SEEDS]
        difference = abs(sum(errors[0]) - sum(errors[1])) / len(SEEDS)
        if not difference <= ALIKE:
            raise SystemExit(f"{form}: test errors of {errors[0]} and {errors[1]}")
        rounds = max(3, math.ceil(SECONDS / (time.perf_counter() - begun) / 3))
        work = {
            "ours": lambda form=form: ours(data, form),
            "plain loop": lambda form=form: [plain_loop(data, form, seed) for seed in SEEDS],
        }
        times = interleaved(work, seconds=SECONDS / 3, at_least=3, at_most=rounds)
        each = {name: [1e3 * t / steps for t in timing.wall] for name, timing in times.items()}
        found[form] = {name: summary(values) for name, values in each.items()}
        ratios[form] = ratio(each["plain loop"], each["ours"])
        row = [shown(found[form][name], 2) for name in ("ours", "plain loop")]
        print(f"{form:<27}{row[0]:>24}{row[1]:>24}{shown(ratios[form], 2):>24}", flush=True)
    save("adaptive_training", found, ratios)


if __name__ == "__main__":
    main()
