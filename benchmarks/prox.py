"""`prox_squared_k_support` beside ModOpt's `KSupportNorm` and CVXPY, one vector of up to 10⁶ numbers, and 1000 vectors.

    python benchmarks/prox.py

Standard normal float64 vectors, k = n/10, weight 1, one thread each. All must give the same minimisers before they are
timed. CVXPY solves the dual, a quadratic program in y with the sum of the k largest y², compiled once; it is left out
above n = 1,000, where one solution takes longer than all the rest.
"""

import os
import warnings
from collections.abc import Callable

# NumPy's BLAS threads and torch's wait for one another's cores: with two each, on a busy machine, ModOpt took 280 ms at
# n = 20,000 where alone on one it needs 6. That would compare schedulers. It has to be set before NumPy is imported.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import cvxpy
import numpy as np
import torch
from modopt.opt.proximity import KSupportNorm

from repro.theory import prox_squared_k_support
from support.timing import ratio, save, seconds_per_call, shown, summary

SIZES, BATCH, WEIGHT = (10, 100, 1_000, 20_000, 1_000_000), (1_000, 1_000), 1.0
CVXPY_UP_TO = 1_000
BATCH_TARGET = 20.0
SECONDS = 4.0  # for the rounds of one size
# Relative; ModOpt adds 1e-16 to every magnitude, CVXPY's solver stops at its own tolerance.
TOLERANCE = {"ModOpt": 1e-9, "CVXPY": 1e-3}


def modopt(values: np.ndarray, k: int) -> Callable[[], np.ndarray]:
    """ModOpt knows one vector at a time."""
    prox, rows = KSupportNorm(WEIGHT, k), np.atleast_2d(values)
    return lambda: np.stack([prox.op(row) for row in rows]).reshape(values.shape)


def by_cvxpy(values: np.ndarray, k: int) -> Callable[[], np.ndarray]:
    """a = m − y/2 for the y that minimises ¼‖y‖² − mᵀy + Σ (k largest y²)/(4w)."""
    m, y = cvxpy.Parameter(len(values)), cvxpy.Variable(len(values))
    dual = cvxpy.sum_squares(y) / 4 - m @ y + cvxpy.sum_largest(cvxpy.square(y), k) / (4 * WEIGHT)
    problem = cvxpy.Problem(cvxpy.Minimize(dual))

    def call() -> np.ndarray:
        m.value = values
        problem.solve()
        return values - y.value / 2

    return call


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found, ratios = {}, {}
    print(f"{'median [quartiles]':<27}{'ours, ms':>26}{'peer, ms':>28}{'peer / ours':>24}{'difference':>12}")
    for shape in [*((n,) for n in SIZES), BATCH]:
        values = np.random.default_rng(sum(shape)).standard_normal(shape)
        tensor, k = torch.from_numpy(values), max(1, shape[-1] // 10)
        peers = {"ModOpt": modopt(values, k)}
        if values.size <= CVXPY_UP_TO:
            peers["CVXPY"] = by_cvxpy(values, k)
        ours = prox_squared_k_support(tensor, k, WEIGHT).numpy()
        wrong = prox_squared_k_support(tensor, k + 1, WEIGHT).numpy()  # the same comparison rejects the next k
        name = " × ".join(f"{n:,}" for n in shape)
        found[name] = {}
        for peer, call in peers.items():
            expected = call()
            length = np.linalg.norm(expected)
            difference = float(np.linalg.norm(ours - expected) / length)
            assert difference < TOLERANCE[peer], f"n = {name}: {peer}'s minimiser differs by {difference:.1e}"
            assert np.linalg.norm(wrong - expected) > TOLERANCE[peer] * length
            found[name][peer] = {"relative_difference": difference}
        times = seconds_per_call(
            {"ours": lambda tensor=tensor, k=k: prox_squared_k_support(tensor, k, WEIGHT), **peers}, seconds=SECONDS
        )
        for peer in peers:
            quotient = ratio(times[peer], times["ours"])
            seconds = {"ours": summary(times["ours"]), "theirs": summary(times[peer])}
            found[name][peer] |= {"seconds": seconds, "theirs_over_ours": quotient}
            target = {"target": BATCH_TARGET if shape == BATCH else 1.0}
            ratios[f"prox, n = {name}: {peer}"] = quotient | target
            ours_ms, theirs_ms = (shown(summary([1e3 * t for t in times[who]]), 3) for who in ("ours", peer))
            print(
                f"n = {name:<14} {peer:<8}{ours_ms:>26}{theirs_ms:>28}{shown(quotient):>24}"
                f"{found[name][peer]['relative_difference']:>12.0e}"
            )
    save("prox", found, ratios)


if __name__ == "__main__":
    main()
