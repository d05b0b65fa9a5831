"""A training step of `VariationalLinear` with T reflections beside one without, Variational Dropout: time and memory.

    python benchmarks/variational_layer.py

K = Q = 1,000 and 256 rows in float32, one thread: forward, divergence, backward. `shared` columns draw z for each row,
`weights` one W a batch; both should cost at most 1 + 0.1 T of T = 0 of the same kind. `local` draws from the exact
distribution of the outputs, which takes 2T further products with Θ: that is reported, without a target.
"""

import os
import warnings

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Generator

from repro.models.variational.layers import VariationalLinear
from support.timing import ratio, save, seconds_per_call, shown, summary

K, ROWS, REFLECTIONS = 1_000, 256, (1, 2, 4)
KINDS = {
    "shared": {"columns": "shared", "prior": "hierarchical"},
    "weights": {"sampling": "weights"},
    "local": {"sampling": "local"},
}
SECONDS = 12.0


def stepper(reflections: int, kind: str):
    """A step, ready to be called."""
    layer = VariationalLinear(K, K, Generator().manual_seed(0), reflections=reflections, **KINDS[kind])
    layer.generator = Generator().manual_seed(1)
    values = torch.randn(ROWS, K)

    def step() -> None:
        layer.zero_grad()
        (layer(values).square().mean() + layer.kl() / 1e6).backward()

    return step


def peak(step) -> float:
    """MiB that tensors take at most during a step, beyond what stays."""
    step()
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        step()
    level = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            most = max(most, level)
    return most / 2**20


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found, ratios = {}, {}
    print(f"{'median [quartiles]':<22}{'ms a step':>24}{'of T = 0':>24}{'target':>8}{'peak, MiB':>12}")
    for kind in KINDS:
        steps = {t: stepper(t, kind) for t in (0, *REFLECTIONS)}
        times = seconds_per_call({str(t): step for t, step in steps.items()}, seconds=SECONDS)
        for t, step in steps.items():
            quotient = ratio(times[str(t)], times["0"])
            memory = peak(step)
            found[f"{kind}, T = {t}"] = {"seconds": summary(times[str(t)]), "over_none": quotient, "peak_mib": memory}
            if t:
                target = {} if kind == "local" else {"target": 1 / (1 + 0.1 * t)}
                ratios[f"{kind}, T = {t}: T = 0"] = ratio(times["0"], times[str(t)]) | target
            limit = "" if kind == "local" else f"{1 + 0.1 * t:.1f}"
            ms = shown(summary([1e3 * s for s in times[str(t)]]), 1)
            print(f"{kind:<14}T = {t:<4}{ms:>24}{shown(quotient, 2):>24}{limit:>8}{memory:>12.1f}")
    save("variational_layer", found, ratios)


if __name__ == "__main__":
    main()
