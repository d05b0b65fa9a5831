"""A training step of `VariationalLinear` with T reflections beside one of Variational Dropout: time and memory.

    python benchmarks/variational_layer.py

Layers of K inputs and as many outputs on 256 rows in float32, one thread: forward, divergence, backward. Variational
Dropout is the layer at T = 0, locally reparametrised as Kingma et al. (2015) do; a step with T reflections should cost
at most 1 + 0.1 T of it. `pairs` is the layer as it comes, one draw of W and its mirror image a step; `shared` draws z
for each row (beside `shared` at T = 0); `local` draws every row from its exact distribution, at 2T further products
with Θ: that is reported, without an aim. bayesian-torch's `LinearFlipout` is a mean-field layer, of two products as
well; it is measured where it is installed: pip install --no-deps bayesian-torch==0.5.0 (else it asks for TensorBoard).
"""

import importlib.util
import os
import warnings
from collections.abc import Callable

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from torch import Generator

from repro.models.variational.layers import VariationalLinear
from repro.theory.checks import without_looking
from support.timing import ratio, save, seconds_per_call, shown, summary

WIDTHS, ROWS, REFLECTIONS = (200, 1_000), 256, (1, 2, 4, 8)
KINDS = {
    "pairs": {},
    "shared": {"columns": "shared", "prior": "hierarchical"},
    "local": {"sampling": "local"},
}
SECONDS = 10.0
PEER = "LinearFlipout"
FLOAT = 4  # bytes

Step = Callable[[], None]


def stepper(width: int, reflections: int, kind: str, device: str = "cpu") -> Step:
    """A step, ready to be called."""
    layer = VariationalLinear(width, width, Generator().manual_seed(0), reflections=reflections, **KINDS[kind])
    layer.to(device).generator = torch.Generator(device).manual_seed(1)
    values = torch.randn(ROWS, width, device=device)

    def step() -> None:
        layer.zero_grad()
        with without_looking():
            divergence = layer.kl()
        (layer(values).square().mean() + divergence / 1e6).backward()

    return step


def peer(width: int) -> Step:
    """A step of bayesian-torch's layer."""
    from bayesian_torch.layers import LinearFlipout  # noqa: PLC0415  not in the lock

    layer, values = LinearFlipout(width, width), torch.randn(ROWS, width)

    def step() -> None:
        layer.zero_grad()
        found, divergence = layer(values)
        (found.square().mean() + divergence / 1e6).backward()

    return step


def peak(step: Step) -> float:
    """Bytes that tensors take at most during a step, beyond what stays."""
    step()
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        step()
    level = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            most = max(most, level)
    return most


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found, ratios = {}, {}
    for width in WIDTHS:
        steps = {(kind, t): stepper(width, t, kind) for kind in KINDS for t in (0, *REFLECTIONS)}
        steps["local", 0] = vd = stepper(width, 0, "local")
        del steps["pairs", 0]
        if importlib.util.find_spec("bayesian_torch"):
            steps[PEER, 0] = peer(width)
        times = seconds_per_call({f"{kind} {t}": step for (kind, t), step in steps.items()}, seconds=SECONDS)
        least = peak(vd)
        print(f"K = {width:,}\n{'median [quartiles]':<24}{'ms a step':>22}{'of VD':>22}{'aim':>6}{'peak, MiB':>11}")
        for (kind, t), step in steps.items():
            own, base = times[f"{kind} {t}"], times["shared 0" if kind == "shared" else "local 0"]
            quotient, memory = ratio(own, base), peak(step)
            # What is beyond Variational Dropout's, in units of the T vectors of K entries.
            extra = (memory - least) / (FLOAT * t * width) if t else None
            name = f"{kind}, T = {t}" if kind != PEER else f"bayesian-torch's {PEER}"
            found[f"{name}, K = {width}"] = {
                "seconds": summary(own), "over_none": quotient, "peak_mib": memory / 2**20, "extra_per_TK": extra,
            }  # fmt: skip
            aim = 1 + 0.1 * t if t and kind != "local" else None
            if t:
                ratios[f"{name}, K = {width}: VD"] = ratio(base, own) | ({"target": 1 / aim} if aim else {})
            ms = shown(summary([1e3 * s for s in own]), 2)
            print(f"{name:<24}{ms:>22}{shown(quotient, 2):>22}{f'{aim:.1f}' if aim else '':>6}{memory / 2**20:>11.1f}")
    save("variational_layer", found, ratios)


if __name__ == "__main__":
    main()
