"""`global_minimizer` beside CVXPY and proximal gradient on the same problem: min_A ‖Y − A‖² + λ‖A‖²_(r), A = W X.

    python benchmarks/minimizer.py

a = b outputs and inputs, N = 2a samples, p = 0.7, float64, one thread each. CVXPY minimises over W with ‖A‖²_(r) as the
semidefinite program min tr(AᵀT⁻¹A), 0 ⪯ T ⪯ 1, tr T ≤ r, on data compressed to at most a + b samples, compiled once.
Proximal gradient descends over A in the row space of X by half the largest stable step, as code that does not know it
would, until its relative gap is 1e-10; with the largest it would need one step, which is the closed form.
"""

import os
import warnings
from collections.abc import Callable

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import cvxpy
import numpy as np
import torch
from torch import Tensor

from repro.theory import global_minimizer, prox_squared_k_support, spectral_k_support_norm
from support.timing import ratio, save, seconds_per_call, shown, summary

SIDES, CVXPY_UP_TO, BLOCK, P = (8, 16, 80, 300), 16, 4, 0.7
WEIGHT = (1 - P) / P
GAP = 1e-10
SECONDS = 6.0
TOLERANCE = {"CVXPY": 1e-3, "proximal gradient": 1e-8}  # of the objective


def objective(A: Tensor, Y: Tensor) -> float:
    return float((Y - A).square().sum() + WEIGHT * spectral_k_support_norm(A, BLOCK).square())


def by_cvxpy(Y: Tensor, X: Tensor) -> Callable[[], Tensor]:
    # Any rotation of the samples is the same problem; with at most a + b of them it is a small one.
    basis = torch.linalg.qr(torch.cat([X, Y]).mT)[0]
    x, y = (X @ basis).numpy(), (Y @ basis).numpy()
    W, T = cvxpy.Variable((len(y), len(x))), cvxpy.Variable((len(y), len(y)), PSD=True)
    A = W @ x
    loss = cvxpy.sum_squares(y - A) + WEIGHT * cvxpy.matrix_frac(A, T)
    problem = cvxpy.Problem(cvxpy.Minimize(loss), [np.eye(len(y)) - T >> 0, cvxpy.trace(T) <= BLOCK])

    def call() -> Tensor:
        problem.solve(solver=cvxpy.SCS, warm_start=False)
        return torch.from_numpy(W.value) @ X

    return call


def proximal_gradient(Y: Tensor, X: Tensor) -> Callable[[], Tensor]:
    best = float(global_minimizer(Y, X, BLOCK, P).objective)

    def call() -> Tensor:
        rows = torch.linalg.svd(X, full_matrices=False)[2]
        target = Y @ rows.mT  # X has full row rank
        B, step = torch.zeros_like(target), 0.25  # ∇‖Y − B‖² has Lipschitz constant 2, steps up to 1/2 are stable
        while objective(B @ rows, Y) > best * (1 + GAP):
            U, s, Vh = torch.linalg.svd(B - step * 2 * (B - target), full_matrices=False)
            B = (U * prox_squared_k_support(s, BLOCK, 2 * step * WEIGHT)) @ Vh
        return B @ rows

    return call


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    found, ratios = {}, {}
    print(f"{'median [quartiles]':<31}{'ours, ms':>24}{'peer, ms':>28}{'peer / ours':>26}{'gap':>10}")
    for side in SIDES:
        generator = torch.Generator().manual_seed(side)
        X, Y = (torch.randn(side, 2 * side, generator=generator, dtype=torch.float64) for _ in range(2))
        minimum = global_minimizer(Y, X, BLOCK, P)
        peers = {"proximal gradient": proximal_gradient(Y, X)}
        if side <= CVXPY_UP_TO:
            peers["CVXPY"] = by_cvxpy(Y, X)
        entry = found[f"a = b = {side}"] = {}
        for peer, call in peers.items():
            gap = objective(call(), Y) / float(minimum.objective) - 1
            assert -1e-9 < gap < TOLERANCE[peer], f"a = {side}: {peer} ends {gap:.1e} from the closed form"
            entry[peer] = {"relative_gap": gap}
        # what is no minimum is told apart: the targets' projection itself
        rows = torch.linalg.svd(X, full_matrices=False)[2]
        assert objective(Y @ rows.mT @ rows, Y) > float(minimum.objective) * 1.01
        times = seconds_per_call({"ours": lambda Y=Y, X=X: global_minimizer(Y, X, BLOCK, P), **peers}, seconds=SECONDS)
        for peer in peers:
            quotient = ratio(times[peer], times["ours"])
            seconds = {"ours": summary(times["ours"]), "theirs": summary(times[peer])}
            entry[peer] |= {"seconds": seconds, "theirs_over_ours": quotient}
            ratios[f"global minimum, a = b = {side}: {peer}"] = quotient | {"target": 1.0}
            ours_ms, theirs_ms = (shown(summary([1e3 * t for t in times[who]]), 2) for who in ("ours", peer))
            gap = entry[peer]["relative_gap"]
            print(f"a = b = {side:<4} {peer:<18}{ours_ms:>24}{theirs_ms:>28}{shown(quotient):>26}{gap:>10.0e}")
    save("minimizer", found, ratios)


if __name__ == "__main__":
    main()
