"""Integrates strategies, compares them with closed forms and conjugates, and dropout with the Tikhonov term."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from repro.data.sparse_regression.load import SparseRegression, load
from repro.papers.adaptive_dropout.adaptive_penalties import Config
from repro.papers.adaptive_dropout.strategies import catalogue, of_figure, others
from repro.papers.expectation import agreement
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress
from repro.theory.penalties import L1, HardConcrete, HardThreshold, effective_penalty
from repro.theory.penalties.base import Penalty
from repro.training.monte_carlo import monte_carlo
from repro.training.reweighting.masks import Noise, draw
from repro.training.sweep.noise import seeded_generator

LEFT, RIGHT = 0.01, 5.0  # of the paper's scalar panel
LONGEST = 32  # and of its panel of vectors
THRESHOLD = 16
NOISE = 1e-11  # of what Ω rises: second differences below it have no sign
VECTORS = 4  # of weights, for each noise, strategy and seed
CHUNK = 2**14


def run(config: Config, progress: Progress) -> Result:
    options = config.options
    w = torch.logspace(-3, np.log10(RIGHT), options.points, dtype=torch.float64)
    closed, free = catalogue(options.weight), others(options.weight)
    rows, integrals, forms = [], [], []
    with progress.phase("integrals", total=len(closed) + len(free)) as bar:
        for name, penalty in closed.items():
            found, row = _integrated(partial(penalty.retain, weight=options.weight), w, options.weight)
            exact = penalty.value(w) - penalty.value(torch.zeros(1, dtype=torch.float64))
            row["integral_error"] = float(((found - exact).abs() / (exact + 1e-6)).max())
            row["conjugate_error"] = _conjugate_error(penalty)
            rows.append({"strategy": name} | row)
            integrals.append(found)
            forms.append(exact)
            bar.advance(1)
        for name, strategy in free.items():
            found, row = _integrated(strategy, w, options.weight)
            rows.append({"strategy": name} | row)
            integrals.append(found)
            bar.advance(1)
    strategies = pd.DataFrame(rows).assign(seed=config.seed[0])
    sampled, curves = _tikhonov(config, len(strategies), progress)
    table = pd.concat([strategies, sampled], ignore_index=True).rename_axis("cell").reset_index()
    arrays = {
        "w": w.numpy(),
        "integrals": torch.stack(integrals).numpy(),
        "closed_forms": torch.stack(forms).numpy(),
        **_figure(options.points),
    }
    return Result(table, curves, arrays, _headline(strategies, curves))


def _integrated(strategy: Callable[[Tensor], Tensor], w: Tensor, weight: float) -> tuple[Tensor, dict[str, float]]:
    """Ω at w by the integral, and where the signs of its curvature in u = w² and of α's change disagree."""
    u = torch.linspace(0, float(w[-1]) ** 2, len(w) + 1, dtype=torch.float64)
    values = effective_penalty(strategy, u.sqrt(), weight)
    second = (values[2:] - 2 * values[1:-1] + values[:-2]) / values[-1]
    alpha = strategy(u.sqrt().clamp_min(1e-9))
    odds = (1 - alpha) / alpha  # Ω(√u)' = odds/(2λ): falls where α rises
    change = (odds[2:] - odds[:-2]) / odds[1:-1].clamp_min(1e-30)
    told = (second.abs() > NOISE) & (change.abs() > 1e-9) & ((odds[2:] - odds[1:-1]) * (odds[1:-1] - odds[:-2]) >= 0)
    wrong = int((told & (second.sign() != change.sign())).sum())
    found = {"curvature": float(second.max()), "wrong_curvature": float(wrong), "points_told": float(told.sum())}
    return effective_penalty(strategy, w, weight), found


def _conjugate_error(penalty: Penalty) -> float:
    """The largest relative distance of f from its definition, over η for which the best w lies on the grid."""
    w = torch.cat([torch.zeros(1, dtype=torch.float64), torch.logspace(-6, 4, 40001, dtype=torch.float64)])
    eta = torch.logspace(-2, 1, 25, dtype=torch.float64)
    if isinstance(penalty, HardConcrete):
        eta = eta[eta < penalty.eta(torch.tensor([penalty.flat * (1 - 1e-9)], dtype=torch.float64))]
    values = 2 * penalty.value(w)
    brute = torch.stack([(values - w**2 / one).max() for one in eta])
    return float(((brute - penalty.dual(eta)).abs() / (1e-2 + brute.abs())).max())


def _figure(points: int) -> dict[str, np.ndarray]:
    """Both panels of the paper's figure."""
    w = torch.logspace(np.log10(LEFT), np.log10(RIGHT), points, dtype=torch.float64)
    k = torch.arange(1, LONGEST + 1, dtype=torch.float64)
    entry, zero = 1 / (k + 1e-3).sqrt(), torch.zeros(1, dtype=torch.float64)
    shown = of_figure()
    vectors = (entry[:, None] * (torch.arange(LONGEST) < k[:, None])).double()
    return {
        "shown": np.array([*shown, "hard threshold"]),
        "scalar_w": w.numpy(),
        "scalar": np.stack([(factor * one.value(w)).numpy() for factor, one in shown.values()]
                           + [np.full(points, np.nan)]),
        "vector_k": k.numpy(),
        "vector": np.stack([(factor * k * (one.value(entry) - one.value(zero))).numpy()
                            for factor, one in shown.values()] + [HardThreshold(THRESHOLD).value(vectors).numpy()]),
    }  # fmt: skip


def _tikhonov(config: Config, first: int, progress: Progress) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean losses under masks beside the deterministic ones: a cell for each noise, kind of α and seed."""
    cells: list[dict[str, object]] = []
    curves: list[pd.DataFrame] = []
    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "0.5": lambda w: torch.full_like(w, 0.5),
        "0.2": lambda w: torch.full_like(w, 0.2),
        "adaptive": lambda w: L1().retain(w, 0.5),
    }
    noises: tuple[Noise, ...] = ("bernoulli", "gaussian")
    with progress.phase("masks", total=len(noises) * len(kinds) * len(config.seed)) as bar:
        for seed in config.seed:
            problem = load(config.data, seed)
            for name, alpha in kinds.items():
                for noise in noises:
                    generator = seeded_generator(f"tikhonov {noise} {name} {seed}")
                    cell = first + len(cells)
                    rows = _compared(problem, alpha, noise, config.options.masks, generator)
                    cells.append({"noise": noise, "alpha": name, "seed": seed})
                    curves.append(rows.assign(cell=cell))
                    bar.advance(1)
    return pd.DataFrame(cells), pd.concat(curves, ignore_index=True)


def _compared(
    problem: SparseRegression, alpha: Callable[[Tensor], Tensor], noise: Noise, masks: int, generator: torch.Generator
) -> pd.DataFrame:
    X, y, truth = problem
    w = torch.randn(VECTORS, len(truth), generator=seeded_generator("weights"), dtype=torch.float64) + truth
    retain = alpha(w)
    fit = (X @ w.mT - y[:, None]).square().sum(0) / 2
    odds = (1 - retain) / retain

    def losses(count: int) -> Tensor:
        found = []
        for begin in range(0, count, CHUNK):
            drawn = draw(retain, noise, (min(CHUNK, count - begin), *w.shape), generator)
            found.append(((drawn * w) @ X.mT - y).square().sum(-1) / 2)
        return torch.cat(found).mT

    exact = fit + (odds * w**2).sum(1) / 2
    mean, error, again = monte_carlo(losses, exact, masks)
    columns = {
        "deterministic": exact,
        "fit": fit,
        "wrong": fit + ((1 - retain) * w**2).sum(1) / 2,
        "monte_carlo": mean,
        "standard_error": error,
        "remeasured": again,
    }
    rows = pd.DataFrame({name: column.numpy() for name, column in columns.items()})
    return rows.assign(step=range(VECTORS))


def _headline(strategies: pd.DataFrame, curves: pd.DataFrame) -> dict[str, float]:
    return {
        "largest relative distance of an integral from its closed form": float(strategies.integral_error.max()),
        "largest relative distance of f from its definition": float(strategies.conjugate_error.max()),
        "VarDrop and 2 LogSum(2) cross at w": _crossing("VarDrop", "LogSum"),
        "hard concrete gates and their MCP meet at w": _crossing("HardConcrete", "MCP"),
        **agreement(curves),
    }


def _crossing(one: str, other: str) -> float:
    """The least w from LEFT on at which two penalties of the figure, less their values at 0, meet; NaN up to 1e4."""
    w, zero = torch.logspace(np.log10(LEFT), 4, 20001, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    curves = {name: factor * (at.value(w) - at.value(zero)) for name, (factor, at) in of_figure().items()}
    change = ((curves[one] - curves[other]).sign().diff() != 0).nonzero()
    return float(w[change[0, 0] + 1]) if len(change) else float("nan")
