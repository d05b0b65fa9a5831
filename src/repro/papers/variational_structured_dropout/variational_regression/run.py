"""Trains every method on every table, the splits side by side, and predicts the test rows."""

import math
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from repro.data.tables.load import READ, Table, load
from repro.papers.variational_structured_dropout.networks import arms, choose, each, split, told, trained
from repro.papers.variational_structured_dropout.variational_regression import Config
from repro.pipeline.store import Result
from repro.pipeline.system.progress import Progress
from repro.training.sweep.noise import seeded_generator
from repro.training.variational.arms import Arm
from repro.training.variational.loop import Loss


def run(config: Config, progress: Progress) -> Result:
    work = [
        partial(_measured, config, arm, name, name if name in READ else "own", table)
        for name, table in load(config.data).items()
        for arm in arms(config.options)
    ]
    cells = pd.concat(each(config, progress, "variational regression", work), ignore_index=True)
    cells = choose(cells, "validation_likelihood").rename_axis("cell").reset_index()
    return Result(cells, headline=_headline(cells, config))


def _measured(config: Config, arm: Arm, name: str, stream: str, table: Table) -> pd.DataFrame:
    X, y = (torch.from_numpy(part) for part in table)
    options, samples = config.options, config.training.samples
    rows = []
    for seed in config.seed:
        generator = seeded_generator(f"split {stream} {seed}")
        rest, test = split(len(y), config.data.held_out, generator)
        train, validation = (rest[part] for part in split(len(rest), options.validation, generator))
        rows.append((train, validation, test))
    train, validation, test = (torch.stack(part) for part in zip(*rows, strict=True))
    center, scale = X[train].mean(1, keepdim=True), X[train].std(1, keepdim=True).clamp_min(1e-9)
    shift, unit = y[train].mean(1), y[train].std(1)

    def standard(part: Tensor) -> Tensor:
        return ((X[part] - center) / scale).float()

    targets = ((y[train] - shift[:, None]) / unit[:, None]).float()
    found = trained(config, options, arm, standard(train), targets, 1, _losses, f"{stream} {config.seed}")
    deviation = found.extra[0].detach().cpu().exp().view(len(train), -1)  # of each member's noise, standardised

    def scores(part: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood and squared error of each row, in units of the target."""
        draws = found.draws(standard(part), samples, stream)[..., 0].double()
        sigma = deviation.T if found.members > 1 else deviation[:, 0].expand(len(draws), -1)
        sigma = (sigma.double() * unit)[..., None]
        means = draws * unit[:, None] + shift[:, None]
        logs = -((y[part] - means) ** 2) / (2 * sigma**2) - sigma.log() - math.log(2 * math.pi) / 2
        mixture = torch.logsumexp(logs, 0) - math.log(len(draws))
        return mixture.mean(1), (y[part] - means.mean(0)).square().mean(1)

    likelihood, square = scores(test)
    columns = {
        "log_likelihood": likelihood.numpy(),
        "rmse": square.sqrt().numpy(),
        "validation_likelihood": scores(validation)[0].numpy(),
        "elbo": found.elbo(standard(train), targets, samples, stream),
        "noise": deviation.mean(1).numpy(),
    }
    return told(pd.DataFrame(columns), found).assign(problem=name, arm=arm.name, seed=config.seed)


def _losses(copies: int, device: str) -> tuple[Loss, tuple[Tensor, ...]]:
    """−log N(y; f, σ²) with a σ of each copy, which is learned."""
    log_deviation = torch.full((copies,), math.log(0.5), device=device, requires_grad=True)

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        scaled = (targets - outputs[..., 0]) / log_deviation.exp()[:, None]
        return scaled.square() / 2 + log_deviation[:, None] + math.log(2 * math.pi) / 2

    return loss, (log_deviation,)


def _headline(cells: pd.DataFrame, config: Config) -> dict[str, float]:
    kept = cells[cells.chosen]
    means = kept.groupby(["arm"]).log_likelihood.mean()
    return {
        **{f"test log-likelihood, {arm}": float(means[arm]) for arm in means.index},
        "diverged": float(cells.diverged.sum()),
    }
