"""Regressions beside skglm's coordinate descent, and proxes beside skglm's and pyproximal's."""

import warnings

import numpy as np
import pytest
import torch
from pyproximal import Log
from skglm.datafits import Quadratic
from skglm.penalties import L1 as SkglmL1
from skglm.penalties import SCAD as SkglmSCAD
from skglm.penalties import LogSumPenalty, MCPenalty
from skglm.solvers import AndersonCD

from repro.data.sparse_regression import Settings as SparseRegression
from repro.data.sparse_regression.load import load
from repro.theory.penalties import L1, MCP, SCAD, LogSum
from repro.training.reweighting.problem import Cells
from repro.training.reweighting.solve import reweighted

KNEE, EPSILON = 1.5, 0.5
STRENGTHS = (0.05, 0.2, 0.8)
SETTINGS = SparseRegression(kind="sparse_regression", samples=100, features=200, nonzeros=10, noise=0.02, seed=0)


def skglms(name, strength, samples):
    """Its penalty for ‖y − Xw‖²/(2 samples)."""
    alpha = strength / samples
    return {
        "L1": lambda: SkglmL1(alpha),
        "LogSum": lambda: LogSumPenalty(alpha * EPSILON, EPSILON),
        "MCP": lambda: MCPenalty(alpha, KNEE / alpha),
    }[name]()


def ours(name, strength):
    """Ours and λ."""
    return {
        "L1": (L1(), strength),
        "LogSum": (LogSum(EPSILON), strength * EPSILON),
        "MCP": (MCP(1.0, KNEE), strength),
    }[name]


@pytest.fixture(scope="module")
def both():
    """By penalty, strength and seed: the cells, reweighting's weights and those of coordinate descent."""
    found = {}
    for name in ("L1", "LogSum", "MCP"):
        for seed in range(3):
            X, y, _ = load(SETTINGS, seed)
            gram, moment = X.mT @ X, X.mT @ y
            start = torch.linalg.solve(gram + 0.1 * torch.eye(200, dtype=torch.float64), moment)
            for strength in STRENGTHS:
                penalty, weight = ours(name, strength)
                cells = Cells(gram[None], moment[None], y.square().sum()[None] / 2, torch.tensor([weight]).double(),
                              [penalty])  # fmt: skip
                mine = reweighted(cells, start[None], 10000, 1e-13).weights
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    solver = AndersonCD(max_iter=500, tol=1e-13, fit_intercept=False)
                    data = np.asfortranarray(X.numpy()), y.numpy(), Quadratic()
                    theirs = solver.solve(*data, skglms(name, strength, len(y)))[0]
                found[name, strength, seed] = cells, mine, torch.from_numpy(theirs)[None]
    return found


def test_where_it_is_convex_coordinate_descent_is_not_below(both):
    for (name, *_), (cells, mine, theirs) in both.items():
        if name == "L1":
            mine_at, theirs_at = cells.objective(mine), cells.objective(theirs)
            assert mine_at <= theirs_at * (1 + 1e-10)
            assert theirs_at <= mine_at * (1 + 1e-6)  # it is their minimum too
            assert ((mine != 0) == (theirs.abs() > 1e-9)).all()


def test_where_it_is_not_both_are_stationary(both):
    for (name, strength, _), (cells, mine, theirs) in both.items():
        assert cells.residual(mine) < 1e-8
        if name != "L1":
            assert cells.residual(theirs) < 1e-6
            if strength == 0.2:  # where the truth is found, there is one point to find
                torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


def test_a_wrong_penalty_is_seen(both):
    cells, mine, theirs = both["L1", 0.2, 0]
    wrong = reweighted(Cells(cells.gram, cells.moment, cells.energy, 1.01 * cells.weight, [L1()]), mine, 10000, 1e-13)
    assert cells.objective(wrong.weights) > cells.objective(theirs) * (1 + 1e-6)


Z = torch.cat([torch.linspace(-4, 4, 201, dtype=torch.float64), torch.tensor([1e-9, 0.37, 30.0], dtype=torch.float64)])
PROXES = [
    (L1(), SkglmL1(1.0), 0.37),
    (LogSum(0.5), LogSumPenalty(1.0, 0.5), 0.2),
    (LogSum(0.5), LogSumPenalty(1.0, 0.5), 1.3),
    (MCP(3.0, 1.0), MCPenalty(1.0, 3.0), 0.9),  # theirs is wrong for steps beyond γ
    (SCAD(3.7, 1.0), SkglmSCAD(1.0, 3.7), 0.8),
]


@pytest.mark.parametrize(("mine", "theirs", "step"), PROXES, ids=[repr(row[0]) + str(row[2]) for row in PROXES])
def test_proxes_of_skglm(mine, theirs, step):
    expected = [theirs.prox_1d(float(z), step, 0) for z in Z]
    torch.testing.assert_close(mine.prox(Z, step), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_proxes_of_pyproximal():
    for delta, step in ((0.5, 0.2), (2.0, 0.7)):  # its penalty is log(1 + δ|w|) / log(1 + δ)
        scale = 1 / np.log(1 + delta)
        mine = LogSum(1 / delta).prox(Z, step * scale)
        theirs = torch.from_numpy(Log(1.0, delta).prox(Z.numpy().copy(), step))
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
