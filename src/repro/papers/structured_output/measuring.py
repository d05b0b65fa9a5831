"""A run: trains what there is to train, and measures networks and baselines on the test set."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from repro.data.pairs import Choice, Pairs, load
from repro.papers.structured_output import arms
from repro.papers.structured_output.baselines import Errors, Subspace, predicted
from repro.papers.structured_output.settings import SHOWN, Config, compared, sizes
from repro.pipeline.store import Result
from repro.pipeline.system import threads
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.pipeline.system.threads import torch_threads
from repro.theory import error_auc, error_share
from repro.training.structured_output.loop import Trained, predictions
from repro.training.sweep.noise import seeded_generator

LIMITS = torch.linspace(0, 0.5, 51, dtype=torch.float64)
"""Errors at which their cumulative distribution is kept."""


@dataclass(frozen=True)
class Tables:
    """A row a network or baseline; a row a check, whose `cell` is the row's number; CDFs; predictions that are needed
    beyond their errors, by row."""

    cells: pd.DataFrame
    curves: pd.DataFrame
    cdf: Float[Tensor, "rows limits"]
    kept: dict[int, Tensor] = field(default_factory=dict)


def run(config: Config, progress: Progress, errors: Errors) -> Result:
    """Every arm, control and baseline. `errors` is how far instances are predicted from their truth."""
    data = load(config.data).to(config.device)
    there = len(data.train.inputs)
    numbers = sizes(config.options.pairs, there)
    if numbers[-1] > there:
        raise UserError(f"options.pairs={numbers[-1]}: must be at most {there}, the pairs there are to train on")
    choices = {(n, seed): data.choose(n, seeded_generator(f"pairs {seed}")) for n in numbers for seed in config.seed}
    work = arms.jobs(numbers, there, config.options.controls)
    measure = _Measure(data, errors, numbers, config.seed)
    steps = sum(config.training.length(job.pairs) for job in work)

    def networks(job: arms.Job) -> Tables:
        return measure.networks(job, arms.trained(job, config, data, choices, bar.advance))

    def baselines(one: tuple[tuple[int, int], Choice]) -> Tables:
        (n, seed), known = one
        done = measure.baselines(n, seed, predicted(data, known, errors))
        bar.advance()
        return done

    count = threads.available(config.threads) if config.device == "cpu" else 1
    with torch_threads(1), ThreadPoolExecutor(count, initializer=_one_thread) as pool:
        with progress.phase("networks", steps) as bar:
            found = list(pool.map(networks, work))
        with progress.phase("baselines", len(choices)) as bar:
            found += pool.map(baselines, choices.items())
    return _result(found, data, measure)


def _one_thread() -> None:
    torch.set_num_threads(1)
    # Gradients of units that saturate fall below 1e-38, and processors take many times as long.
    torch.set_flush_denormal(True)


class _Measure:
    def __init__(self, data: Pairs, errors: Errors, numbers: Sequence[int], seeds: Sequence[int]) -> None:
        self.data, self.errors, self.numbers, self.seeds = data, errors, numbers, seeds
        self.subspace = Subspace(data.train.outputs)
        self._true = data.test.outputs.double()

    def networks(self, job: arms.Job, trained: Trained) -> Tables:
        rows = job.rows(self.seeds)
        validation = trained.validation.double()
        diverged = ~validation.isfinite().all(0)
        best = validation.nan_to_num(nan=torch.inf).min(0)
        cells = pd.DataFrame(rows, columns=["arm", "extra", "seed"]).assign(
            pairs=job.pairs,
            validation=best.values.numpy(),
            best_step=np.array(trained.checked)[best.indices.numpy()],
            diverged=diverged.numpy(),
        )
        checks, count = validation.shape
        names = ("lambda_sup", "lambda_in", "lambda_out")
        curves = pd.DataFrame(trained.importance.flatten(0, 1).double().numpy(), columns=names).assign(
            cell=np.tile(np.arange(count), checks),
            step=np.repeat(trained.checked, count),
            validation=validation.flatten().numpy(),
        )
        found = predictions(trained.networks, self.data.test.inputs)
        kept = {
            i: found[i].cpu()
            for i, (arm, extra, seed) in enumerate(rows)
            if (job.pairs == self.numbers[0] and arm in ("plain", "untied", "zero"))
            or (
                job.pairs == compared(self.numbers, len(self.data.train.inputs)) and arm in SHOWN and seed == rows[0][2]
            )
        }
        return self._measured(cells, curves, found, kept, diverged)

    def baselines(self, pairs: int, seed: int, found: dict[str, Tensor]) -> Tables:
        cells = pd.DataFrame({"arm": [*found], "extra": False, "seed": seed, "pairs": pairs, "diverged": False})
        every = torch.stack([*found.values()])
        return self._measured(cells, pd.DataFrame(), every, {}, torch.zeros(len(cells), dtype=torch.bool))

    def _measured(
        self, cells: pd.DataFrame, curves: pd.DataFrame, found: Tensor, kept: dict[int, Tensor], diverged: Tensor
    ) -> Tables:
        columns: dict[str, list[float]] = {"error": [], "share": [], "auc": [], "subspace": []}
        cdf = []
        for one, bad in zip(found.double(), diverged.tolist(), strict=True):
            bad = bad or not bool(one.isfinite().all())
            errors = self.errors(self._true if bad else one, self._true)
            values = (errors.mean(), error_share(errors), error_auc(errors), self.subspace.distance(one))
            for name, value in zip(columns, values, strict=True):
                columns[name].append(torch.nan if bad else float(value))
            below = (errors.cpu() <= LIMITS[:, None]).double().mean(1)
            cdf.append(below * (torch.nan if bad else 1))
        return Tables(cells.assign(**columns), curves, torch.stack(cdf), kept)


def _result(found: Sequence[Tables], data: Pairs, measure: _Measure) -> Result:
    starts = np.cumsum([0, *(len(one.cells) for one in found[:-1])]).tolist()
    cells = pd.concat([one.cells for one in found], ignore_index=True).rename_axis("cell").reset_index()
    curves = [one.curves.assign(cell=one.curves.cell + start) for one, start in zip(found, starts, strict=True)
              if len(one.curves)]  # fmt: skip
    kept = {start + i: values for one, start in zip(found, starts, strict=True) for i, values in one.kept.items()}
    cells["from_plain"] = _from_plain(cells, kept)
    arrays = {
        "limits": LIMITS.numpy(),
        "cdf": torch.cat([one.cdf for one in found]).float().numpy(),
        "subspace_truth": np.array(float(measure.subspace.distance(data.test.outputs))),
        "subspace_axes": np.array(len(measure.subspace.axes)),
        "instances": np.array([len(part.inputs) for part in (data.train, data.validation, data.test)]),
        **_shown(cells, kept, data, measure),
    }
    return Result(cells, pd.concat(curves, ignore_index=True), arrays, _headline(cells, measure), data.report)


def _from_plain(cells: pd.DataFrame, kept: dict[int, Tensor]) -> list[float]:
    """Of the controls that must be the plain network: the largest difference of a prediction from its."""
    few = cells.pairs.min()
    plain = {cells.seed[i]: kept[i] for i in kept if cells.arm[i] == "plain" and cells.pairs[i] == few}
    return [
        float((kept[i] - plain[cells.seed[i]]).abs().max()) if cells.arm[i] in ("untied", "zero") else np.nan
        for i in cells.cell
    ]


def _shown(cells: pd.DataFrame, kept: dict[int, Tensor], data: Pairs, measure: _Measure) -> dict[str, np.ndarray]:
    """Pictures that are predicted best, as the median, and worst by +in+out of the first seed."""
    pairs = compared(measure.numbers, len(data.train.inputs))
    mine = cells[(cells.pairs == pairs) & (cells.seed == measure.seeds[0])]
    of = {arm: mine[mine.arm == arm].sort_values("extra").cell.iloc[-1] for arm in SHOWN}
    errors = measure.errors(kept[of["in+out"]].double(), data.test.outputs.double().cpu())
    order = errors.argsort()
    count = min(3, len(order) // 3) or 1
    middle = (len(order) - count) // 2
    rows = torch.cat([order[:count], order[middle : middle + count], order[-count:]])
    return {
        "shown_inputs": data.test.inputs.cpu()[rows].unflatten(1, data.shape).half().numpy(),
        "shown_true": data.test.outputs.cpu()[rows].half().numpy(),
        "shown_errors": errors[rows].float().numpy(),
        **{f"shown_{arm}": kept[cell][rows].half().numpy() for arm, cell in of.items()},
    }


def _headline(cells: pd.DataFrame, measure: _Measure) -> dict[str, float]:
    pairs = compared(measure.numbers, int(cells.pairs.max()))
    mine = cells[(cells.pairs == pairs)].groupby(["arm", "extra"], sort=False).error.mean()
    return {
        f"test error of {arm}{' with more data' * extra}, {pairs} pairs": float(v) for (arm, extra), v in mine.items()
    }
