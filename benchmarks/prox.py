"""`prox_squared_k_support` beside ModOpt's `KSupportNorm`: single vectors up to n = 10⁶, and 1000 vectors of 1000.

    python benchmarks/prox.py

Standard normal float64 vectors, k = n/10, weight 1, one thread each. Both must give the same minimisers before they
are timed.
"""

import os
import time
import warnings
from collections.abc import Callable

# NumPy's BLAS threads and torch's wait for one another's cores: with two each, on a busy machine, ModOpt took 280 ms at
# n = 20,000 where alone on one it needs 6. That would compare schedulers. It has to be set before NumPy is imported.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from modopt.opt.proximity import KSupportNorm

from repro.theory import prox_squared_k_support
from support.timing import interleaved, ratio, save, shown, summary

SIZES, BATCH, WEIGHT = (10, 1_000, 20_000, 1_000_000), (1_000, 1_000), 1.0
AT_LEAST = 0.02  # seconds of one timing: short calls are repeated to fill it
SECONDS = 4.0  # for the rounds of one size
TOLERANCE = 1e-9  # relative; ModOpt adds 1e-16 to every magnitude


def repeated(call: Callable[[], object]) -> tuple[Callable[[], None], int]:
    """`call` often enough to fill `AT_LEAST` seconds, and how often that is."""
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < AT_LEAST:
        call()
        done += 1

    def run() -> None:
        for _ in range(done):
            call()

    return run, done


def main() -> None:
    torch.set_num_threads(1)
    found = {}
    print(f"median [quartiles]   {'ours, ms':>26}{'ModOpt, ms':>28}{'ModOpt / ours':>24}{'difference':>12}")
    for shape in [*((n,) for n in SIZES), BATCH]:
        values = np.random.default_rng(sum(shape)).standard_normal(shape)
        tensor, k = torch.from_numpy(values), shape[-1] // 10
        rows, theirs = np.atleast_2d(values), KSupportNorm(WEIGHT, k)

        def our_call(tensor=tensor, k=k) -> np.ndarray:
            return prox_squared_k_support(tensor, k, WEIGHT).numpy()

        def their_call(rows=rows, theirs=theirs) -> np.ndarray:
            # ModOpt knows one vector at a time.
            return np.stack([theirs.op(row) for row in rows])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            expected = their_call().reshape(shape)
            difference = float(np.linalg.norm(our_call() - expected) / np.linalg.norm(expected))
            assert difference < TOLERANCE, f"n = {shape}: the minimisers differ by {difference:.1e}"
            # The same comparison rejects the neighbouring k.
            wrong = prox_squared_k_support(tensor, k + 1, WEIGHT).numpy()
            assert np.linalg.norm(wrong - expected) > TOLERANCE * np.linalg.norm(expected)
            calls = {"ours": repeated(our_call), "ModOpt": repeated(their_call)}
            timings = interleaved({name: run for name, (run, _) in calls.items()}, seconds=SECONDS)
        per_call = {name: [t / calls[name][1] for t in timings[name].wall] for name in calls}
        name = " × ".join(f"{n:,}" for n in shape)
        found[name] = {
            "ours_seconds": summary(per_call["ours"]),
            "modopt_seconds": summary(per_call["ModOpt"]),
            "modopt_over_ours": ratio(per_call["ModOpt"], per_call["ours"]),
            "relative_difference": difference,
        }
        milliseconds = [shown(summary([1e3 * t for t in per_call[who]]), 3) for who in ("ours", "ModOpt")]
        quotient = shown(found[name]["modopt_over_ours"])
        print(f"n = {name:<17}{milliseconds[0]:>26}{milliseconds[1]:>28}{quotient:>24}{difference:>12.0e}")
    save("prox", found)


if __name__ == "__main__":
    main()
