"""The penalties' proxes beside skglm's (compiled, one number at a time) and pyproximal's, on vectors of 10³ to 10⁶.

    python benchmarks/penalty_prox.py

Normal float64 numbers of standard deviation 2, one thread. skglm's `prox_1d` is called in a compiled loop, as its
solvers do. All must give the same numbers before they are timed; skglm's MCP does for steps below γ alone. Ours looks
at its arguments, and is exact up to 1e300: on short vectors that is most of its time.
"""

import os
from collections.abc import Callable
from functools import partial

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pyproximal
import torch
from numba import njit
from skglm.penalties import L1 as SkglmL1
from skglm.penalties import SCAD as SkglmSCAD
from skglm.penalties import LogSumPenalty, MCPenalty
from skglm.utils.jit_compilation import compiled_clone

from repro.theory.penalties import L1, MCP, SCAD, LogSum
from support.timing import ratio, save, seconds_per_call, shown, summary

SIZES, STEP, SECONDS = (1_000, 30_000, 1_000_000), 0.7, 3.0
TOLERANCE = 1e-9


def compiled(penalty: object) -> Callable[[np.ndarray], np.ndarray]:
    fast = compiled_clone(penalty)

    @njit
    def loop(z: np.ndarray, fast: object) -> np.ndarray:
        out = np.empty_like(z)
        for i in range(len(z)):
            out[i] = fast.prox_1d(z[i], STEP, 0)
        return out

    return lambda z: loop(z, fast)


def main() -> None:
    torch.set_num_threads(1)
    pairs = {
        "L1": (L1(), compiled(SkglmL1(1.0)), lambda z: pyproximal.L1(1.0).prox(z, STEP)),
        "LogSum": (LogSum(0.5), compiled(LogSumPenalty(1.0, 0.5)),
                   lambda z: pyproximal.Log(np.log(3.0), 2.0).prox(z, STEP)),
        "MCP": (MCP(3.0, 1.0), compiled(MCPenalty(1.0, 3.0)), None),
        "SCAD": (SCAD(3.7, 1.0), compiled(SkglmSCAD(1.0, 3.7)), None),
    }  # fmt: skip
    found, ratios = {}, {}
    print(f"{'median [quartiles]':<30}{'ours, ms':>26}{'peer, ms':>26}{'peer / ours':>24}")
    for size in SIZES:
        values = 2 * np.random.default_rng(size).standard_normal(size)
        tensor = torch.from_numpy(values)
        for name, (penalty, *peers) in pairs.items():
            calls: dict[str, Callable[[], object]] = {"ours": partial(penalty.prox, tensor, STEP)}
            for peer, call in zip(("skglm", "pyproximal"), peers, strict=True):
                if call is None:
                    continue
                wrong = np.abs(call(values.copy()) - penalty.prox(tensor, STEP).numpy()).max()
                if not wrong < TOLERANCE:
                    raise SystemExit(f"{name}, {peer}: {wrong:.1e} apart")
                calls[peer] = partial(call, values)
            times = {key: [1e3 * t for t in row] for key, row in seconds_per_call(calls, seconds=SECONDS).items()}
            for peer in [*calls][1:]:
                key = f"{name} {size:,}, {peer}"
                found[key] = {"ours": summary(times["ours"]), "peer": summary(times[peer])}
                ratios[key] = ratio(times[peer], times["ours"])
                row = shown(found[key]["ours"], 3), shown(found[key]["peer"], 3), shown(ratios[key], 2)
                print(f"{key:<30}{row[0]:>26}{row[1]:>26}{row[2]:>24}", flush=True)
    save("penalty_prox", found, ratios)


if __name__ == "__main__":
    main()
