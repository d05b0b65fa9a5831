"""Drives IncReg with scores that are drawn, and descends on quadratics under penalties."""

import math

import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from repro import theory
from repro.papers.incremental_regularization.incremental_schedule import (
    CHANGING,
    CLIPPED,
    KEPT,
    MEAN,
    MOMENT,
    RECOVERED,
    REMOVED,
    SCENARIOS,
    STATIC,
    Config,
    Options,
)
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress
from repro.pruning import IncReg, increment, removal_times
from repro.training.sweep.noise import seeded_generator

LOGGED = 100  # points of a path
CHANGE = 0.2  # of T/A updates: when scores change, before any group is gone
DESCENT = 2000  # steps, at a condition number of 100
GENTLE = (0.5, 0.9, 2.0)  # learning rate, momentum, E: of the descent to a removal


def run(config: Config, progress: Progress) -> Result:
    options = config.options
    runs = [(STATIC, ratio) for ratio in options.ratios] + [(name, options.ratio) for name in SCENARIOS[1:]]
    table: list[dict[str, object]] = []
    paths, fates, times, dispersions = [], [], [], []
    with progress.phase("schedules", total=len(runs) * len(config.seed)) as bar:
        for seed in config.seed:
            for scenario, ratio in runs:
                row, path, fate, gone = _driven(scenario, ratio, seed, options)
                table.append({"cell": len(table), "seed": seed, "scenario": scenario, "ratio": ratio} | row)
                if seed == config.seed[0]:
                    paths.append(path)
                    fates.append(fate)
                    times += [(ratio, *pair) for pair in gone]
                bar.advance(1)
            errors, drawn, dispersion = _quadratics(seed, options)
            table[-1] |= errors
            dispersions.append(dispersion)
            if seed == config.seed[0]:
                shown = drawn
    arrays = {
        "path_updates": np.stack([path[0] for path in paths]),
        "paths": np.stack([path[1] for path in paths]).astype(np.float32),
        "fates": np.stack(fates),
        "path_scenario": np.array([name for name, _ in runs]),
        "path_ratio": np.array([ratio for _, ratio in runs]),
        "times": np.array(times, dtype=np.float64),
        **_increments(options),
        **shown,
        "dispersion": np.stack([rows[0] for rows in dispersions]),
        "dispersion_equal": np.stack([rows[1] for rows in dispersions]),
    }
    cells = pd.DataFrame(table)
    return Result(cells, arrays=arrays, headline=_headline(cells))


def _driven(
    scenario: str, ratio: float, seed: int, options: Options
) -> tuple[dict[str, object], tuple[np.ndarray, np.ndarray], np.ndarray, list[tuple[int, int]]]:
    """What came of one layer: its row, λ over the updates, the groups' fates, and removals beside the oracle's."""
    n = options.groups
    generator = seeded_generator(f"scores {seed} {scenario} {ratio}")
    truth = (1 + torch.randperm(n, generator=generator)).double() / n
    mean_ranks, recovery = scenario != MOMENT, scenario != CLIPPED
    method = IncReg(n, ratio, options.step, options.ceiling, options.u, mean_ranks=mean_ranks, recovery=recovery)
    oracle = removal_times(n, ratio, options.step, options.ceiling, options.u).tolist()
    change = math.ceil(CHANGE * options.ceiling / options.step)
    rising = truth.argsort()[: options.changed]
    later = truth.clone()
    later[rising] += 1
    last = oracle[-1] if scenario == STATIC else options.updates
    path, gone = [], []
    while not method.done and method.updates < last:
        scores = truth
        if scenario in (MEAN, MOMENT):
            scores = truth + options.noise * torch.randn(n, generator=generator, dtype=torch.float64)
        elif scenario in (CHANGING, CLIPPED) and method.updates >= change:
            scores = later
        before = method.alive.clone()
        found = method.update(scores)
        path.append(found.clone() if not method.done else path[-1].where(method.alive, 0.0))  # not those reset
        gone += [method.updates] * int((before & ~method.alive).sum())
    penalties = torch.stack(path)
    peak, final = penalties.amax(0), penalties[-1]
    recovered = method.alive & (peak >= options.ceiling / 10) & (final < peak / 2)
    fate = torch.where(~method.alive, REMOVED, torch.where(recovered, RECOVERED, KEPT))
    lowest = torch.zeros(n, dtype=torch.bool)
    final_order = (later if scenario in (CHANGING, CLIPPED) else truth).argsort()
    lowest[final_order[: method.target]] = True
    row: dict[str, object] = {
        "target": method.target,
        "removed": method.removed,
        "reached": method.done,
        "updates": method.updates,
        "missed_share": float((method.alive & lowest).sum()) / method.target,
        "removed_others": int((~method.alive & ~lowest).sum()),
        "recovered": int(recovered.sum()),
        "recovered_share": float(recovered[rising].double().mean()),
        **_increment_errors(method.target, options),
    }
    pairs: list[tuple[int, int]] = []
    if scenario == STATIC:
        pairs = [*zip(gone, oracle, strict=True)] if len(gone) == len(oracle) else []
        row["time_error"] = max((abs(a - b) for a, b in pairs), default=math.inf)
        row["first_error"] = abs(gone[0] - math.ceil(round(options.ceiling / options.step, 6))) if gone else math.inf
    kept = np.unique(np.linspace(0, len(path) - 1, LOGGED).round().astype(int))
    kept = np.pad(kept, (0, LOGGED - len(kept)), mode="edge")
    return row, (kept + 1, penalties[kept].numpy()), fate.numpy(), pairs


def _turn(threshold: int, u: float) -> float:
    return threshold * math.log(1 / u) / math.log(2 / u)


def _increment_errors(threshold: int, options: Options) -> dict[str, float]:
    step, u = options.step, options.u
    turn = _turn(threshold, u)
    three = increment([0, turn, threshold], threshold, step, u) / step
    x = np.linspace(0, turn, 50)
    both = (increment(turn - x, threshold, step, u) + increment(turn + x, threshold, step, u)) / step
    return {
        "increment_error": float((three - torch.tensor([1, u, 0], dtype=torch.float64)).abs().max()),
        "symmetry_error": float((both - 2 * u).abs().max()),
    }


def _increments(options: Options) -> dict[str, np.ndarray]:
    """One update of a layer whose λ are all the same, by rank; and the increment in between."""
    method = IncReg(options.groups, options.ratio, options.step, 1e6 * options.step, options.u)
    start = 1e3 * options.step * method.target  # high enough for a loss
    method.penalties.fill_(start)
    gains = method.update(torch.arange(1.0, options.groups + 1)) - start
    fine = np.linspace(0, options.groups - 1, 200)
    line = increment(fine, method.target, options.step, options.u)
    seen = gains > -start
    return {
        "increment_rank": seen.nonzero()[:, 0].numpy(),
        "increment_gain": (gains[seen] / options.step).numpy(),
        "increment_line_rank": fine,
        "increment_line": (line / options.step).numpy(),
        "increment_threshold": np.array(method.target),
    }


def _quadratics(seed: int, options: Options) -> tuple[dict[str, float], dict[str, np.ndarray], np.ndarray]:
    """Descent on quadratics with Hessians between 0.1 and 10: errors of the laws, what is shown, std/mean of groups."""
    generator = seeded_generator(f"quadratics {seed}")
    n, penalties = options.weights, torch.tensor(sorted(options.penalties), dtype=torch.float64)
    h = torch.logspace(-1, 1, n, dtype=torch.float64)
    w = _weights(generator, n)
    Q = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q
    H = Q @ h.diag() @ Q.mT
    left = _descended(h.diag(), w, penalties) / w
    law = torch.stack([theory.shrinkage(h, float(penalty)) for penalty in penalties])
    rotated = _descended(H, w, penalties)
    minimum = torch.stack([theory.penalized_minimizer(H, w, float(penalty)) for penalty in penalties])
    apart = rotated / w - torch.stack([theory.shrinkage(H.diagonal(), float(penalty)) for penalty in penalties])
    errors = {
        "law_error": float((left - law).abs().max()),
        "minimum_error": float((rotated - minimum).abs().max() / w.abs().max()),
        "rotated_error": float(apart.abs().max()),
        "gentleness_ratio": _gentleness(options),
    }
    grid = torch.cat([torch.zeros(1, dtype=torch.float64), penalties])
    shown = {
        "shrinkage_penalty": penalties.numpy(),
        "curvature": h.numpy(),
        "left": left.numpy(),
        "law": law.numpy(),
        "rotated_curvature": H.diagonal().numpy(),
        "rotated_left": (rotated / w).numpy(),
        "dispersion_penalty": grid.numpy(),
    }
    groups = _weights(generator, options.groups, n)
    curvatures = 10 ** (2 * torch.rand(options.groups, 1, generator=generator, dtype=torch.float64) - 1)
    dispersion = [_dispersion(curvature, groups, grid) for curvature in (curvatures, torch.ones_like(curvatures))]
    return errors, shown, np.stack(dispersion)


def _weights(generator: Generator, *shape: int) -> Tensor:
    """Of magnitudes between 0.5 and 1.5, so that none is divided by that is near 0."""
    sign = torch.randint(0, 2, shape, generator=generator, dtype=torch.float64) * 2 - 1
    return sign * (0.5 + torch.rand(shape, generator=generator, dtype=torch.float64))


def _descended(H: Tensor, w: Tensor, penalties: Tensor) -> Tensor:
    """Where gradient descent from w* ends under each penalty, (penalties, n)."""
    rates = 1 / (torch.linalg.matrix_norm(H, 2) + penalties)[:, None]
    found = w.expand(len(penalties), -1).clone()
    for _ in range(DESCENT):
        found -= rates * ((found - w) @ H + penalties[:, None] * found)
    return found


def _dispersion(h: Tensor, w: Tensor, penalties: Tensor) -> np.ndarray:
    """std/mean over groups of Σ|w| where descent ends, of groups of one curvature each, (penalties,)."""
    at, added = w.expand(len(penalties), *w.shape).clone(), penalties[:, None, None]
    for _ in range(DESCENT):
        at -= (h * (at - w) + added * at) / (h.max() + added)
    scores = at.abs().sum(2)
    return (scores.std(1) / scores.mean(1)).numpy()


def _gentleness(options: Options) -> float:
    """−ln of what descent with momentum leaves of a weight whose penalty grows to the ceiling, over E."""
    momentum, aim = GENTLE[1:]
    updates = math.ceil(options.ceiling / options.step)
    rate = aim * (1 - momentum) * 2 * options.step / options.ceiling**2
    w, velocity = 1.0, 0.0
    for update in range(1, updates + 1):
        velocity = momentum * velocity + update * options.step * w
        w -= rate * velocity
    return -math.log(w) / float(theory.gentleness(rate, momentum, options.ceiling, options.step))


def _headline(cells: pd.DataFrame) -> dict[str, float]:
    by = cells.groupby("scenario")
    return {
        "largest distance of a removal from the oracle, updates": float(cells.time_error.max()),
        "lowest groups still there with mean ranks": float(by.missed_share.mean()[MEAN]),
        "with ranks of the moment": float(by.missed_share.mean()[MOMENT]),
        "groups that recover": float(by.recovered.mean()[CHANGING]),
        "the same with increments clipped": float(by.recovered.mean()[CLIPPED]),
        "shrinkage off its law": float(cells.law_error.max()),
    }
