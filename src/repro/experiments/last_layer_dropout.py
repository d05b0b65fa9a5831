"""E6: is dropout of the last hidden layer of a deep network the regulariser that the linear theory predicts?

E‖Y − (1/θ)U diag(z) g(X)‖² = ‖Y − U g(X)‖² + (1−θ)/θ Σ_i ‖U_i g_i(X)‖², on the features of every epoch; and, where the
features are rich enough, predictions with the singular values of the closed form for Y.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, PositiveInt

from repro.config import DeepConfig as Config
from repro.experiments import linear
from repro.progress import Progress
from repro.records import Record, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


TITLES = {"none": "no dropout", "bernoulli": "Dropout", "dropblock": "DropBlock"}

CURVE_POINTS = 80  # of a closed-form curve over p in a figure

# A predicted singular value below this fraction of the largest has collapsed, and no relative error.
NEGLIGIBLE = 1e-2


class Options(BaseModel, extra="forbid", frozen=True):
    """`without`: train without dropout too. `monte_carlo_masks`: masks that a measurement averages over."""

    without: bool = True
    monte_carlo_masks: PositiveInt = 4096


def run(cfg: Config, progress: Progress) -> Result:
    from repro.data.images import load
    from repro.experiments import deep
    from repro.theory import effective_rank

    images = load(cfg.data)
    cells, table = cells_of(cfg)
    jobs = [
        deep.Job(
            task=task(cfg, images, cell.seed, cell.masks),
            device=cfg.device,
            block_size=int(size),
            monte_carlo_masks=cfg.options.monte_carlo_masks,
        )
        for cell, size in zip(cells, table.block_size, strict=True)
    ]
    trained = deep.train_all(jobs, cfg, progress)
    curves = deep.curves(trained)
    target, theory = closed_forms(images, table)
    measured = np.stack([t.singular_values for t in trained])
    energy = float((target**2).sum())
    final = deep.final(curves)
    table = table.assign(
        **{column: final[column] for column in final},
        closed_form=theory["objective"] / energy,
        relative_gap=final.deterministic / (theory["objective"] / energy) - 1,
        closed_form_rank=(theory["singular_values"] > 0).sum(1),
        closed_form_effective_rank=[float(effective_rank(_tensor(values))) for values in theory["singular_values"]],
        singular_value_error=_errors(measured, theory["singular_values"]),
        worst_singular_value_error=_errors(measured, theory["singular_values"], worst=True),
    )
    arrays = {
        "target": target,
        "singular_values": measured,
        "closed_form": theory["singular_values"],
        "block_norms": _padded([t.block_norms for t in trained]),
        **_shrinkage_curves(target, table),
    }
    return Result(table, curves, arrays, _headline(table, curves))


def cells_of(cfg: Config) -> tuple[list[Any], pd.DataFrame]:
    """The grid of the linear experiments at the network's width, and a network without dropout for each seed.

    The table has θ (`retain`), λ = (r/d)(1−θ)/θ (`penalty_weight`) and p = 1/(1+λ) of each cell.
    """
    cells: list[Any]
    cells, table = linear.grid(cfg)
    if cfg.options.without:
        bare = pd.DataFrame(
            {"scheme": "none", "block_size": 1, "retain": 1.0, "width": cfg.model.width, "seed": cfg.seed}
        )
        cells = [*[_Bare(seed) for seed in cfg.seed], *cells]
        table = pd.concat([bare, table.drop(columns=["cell", "p"], errors="ignore")], ignore_index=True)
    else:
        table = table.drop(columns=["cell", "p"], errors="ignore")
    weight = table.block_size / table.width * (1 - table.retain) / table.retain
    table = table.assign(penalty_weight=weight, p=1 / (1 + weight))
    return cells, table.rename_axis("cell").reset_index()


class _Bare:
    """A cell without dropout."""

    masks = None

    def __init__(self, seed: int) -> None:
        self.seed = seed


def task(cfg: Config, images: Any, seed: int, masks: Any, map_dropout: Any = None) -> Any:
    """What a cell trains: the configuration's network from the cell's seed."""
    from functools import partial

    from repro.models.resnet import ResNet
    from repro.training.network import Task

    return Task(
        build=partial(ResNet, cfg.model, images.train.images.shape[1], images.classes, seed, map_dropout),
        images=images,
        training=cfg.training,
        seed=seed,
        masks=masks,
        crop_padding=cfg.data.crop_padding,
        flip=cfg.data.flip,
    )


def closed_forms(images: Any, table: pd.DataFrame) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The singular values of Y, and for each row of `table` the closed form's and its objective."""
    import torch

    from repro.theory import minimum_value, shrink_singular_values

    targets = images.targets.double()
    counts = torch.bincount(images.train.labels, minlength=images.classes).double()
    # Y Yᵀ = Tᵀ diag(n_c) T for the classes' targets T, one a row: no N-sized product.
    values = torch.linalg.eigvalsh(targets.mT @ (counts[:, None] * targets)).clamp_min(0).sqrt().flip(-1)
    spectra, objectives = [], []
    for size, weight in table[["block_size", "penalty_weight"]].itertuples(index=False):
        spectra.append(shrink_singular_values(values, int(size), float(weight)).numpy())
        objectives.append(float(minimum_value(values, int(size), float(weight))))
    return values.numpy(), {"singular_values": np.stack(spectra), "objective": np.array(objectives)}


def _shrinkage_curves(target: np.ndarray, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Σa(p) of the closed form over the range of the table: `curve_p`, and a `curve_r…` for each block size."""
    from repro.theory import shrink_singular_values

    odds = table.penalty_weight[table.penalty_weight > 0]
    if odds.empty:
        return {}
    weights = np.geomspace(odds.min() / 2, odds.max() * 2, CURVE_POINTS)
    curves = {"curve_p": 1 / (1 + weights)}
    for size in table.block_size[table.penalty_weight > 0].unique():
        shrunk = [float(shrink_singular_values(_tensor(target), int(size), float(w)).sum()) for w in weights]
        curves[f"curve_r{size}"] = np.array(shrunk)
    return curves


def _tensor(values: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(values)


def _errors(measured: np.ndarray, predicted: np.ndarray, *, worst: bool = False) -> np.ndarray:
    """‖σ − a‖/‖a‖ of each row; with `worst` the largest relative error of a value that has not collapsed."""
    if not worst:
        return np.linalg.norm(measured - predicted, axis=1) / np.linalg.norm(predicted, axis=1)
    kept = predicted > NEGLIGIBLE * predicted[:, :1]
    relative = np.abs(measured - predicted) / np.where(kept, predicted, 1)
    return np.where(kept, relative, 0).max(1)


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    longest = max(map(len, rows))
    return np.stack([np.pad(row, (0, longest - len(row)), constant_values=np.nan) for row in rows])


def _headline(table: pd.DataFrame, curves: pd.DataFrame) -> dict[str, float]:
    found = linear.agreement(curves.dropna(subset="monte_carlo")) if "monte_carlo" in curves else {}
    diverged, table = float(table.diverged.sum()), table[~table.diverged]
    light = table[(table.retain >= 0.5) & (table.scheme != "none")]
    for size, rows in light.groupby("block_size"):
        found[f"singular value error at theta >= 0.5, r = {size}"] = float(rows.singular_value_error.max())
        found[f"worst singular value at theta >= 0.5, r = {size}"] = float(rows.worst_singular_value_error.max())
    found["largest gap to the closed form at theta >= 0.5"] = float(light.relative_gap.max())
    found["smallest tightness"] = float(table.tightness[table.scheme != "none"].min())
    bare = table[table.scheme == "none"]
    if len(bare):
        found["test accuracy without dropout"] = float(bare.test_accuracy.mean())
    return found | {"diverged networks": diverged}


# ---------------------------------------------------------------------- figures


def figures(record: Record) -> dict[str, "Figure"]:
    from repro import plotting

    curves = plotting.surviving(record.table("curves"))
    dropped = curves[curves.scheme != "none"].copy()
    if dropped.empty:  # all diverged
        return {}
    panels = {f"$r = {r}$": rows for r, rows in dropped.groupby("block_size")}
    lines = {theta: rf"$\theta = {theta:g}$" for theta in sorted(dropped.retain.unique())}
    return {
        "objective": _objectives(panels, lines),
        "spectra": _spectra(record),
        "shrinkage": _shrinkage(record),
        "assumptions": _assumptions(dropped),
    }


def _objectives(panels: dict[str, pd.DataFrame], lines: dict[float, str]) -> "Figure":
    """The stochastic objective, markers, on the deterministic one, lines, along training; the closed form dotted."""
    from matplotlib.lines import Line2D

    from repro import plotting

    figure, axes = plotting.panels(len(panels), sharey=True)
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        for color, marker, theta in zip(plotting.COLORS, plotting.MARKERS, lines, strict=False):
            mine = rows[rows.retain == theta]
            if mine.empty:
                continue
            expected = plotting.over_seeds(mine, "step", "deterministic")
            sampled = plotting.over_seeds(mine, "step", "monte_carlo")
            axis.plot(expected.step, expected["mean"], color=color)
            axis.plot(
                sampled.step, sampled["mean"], linestyle="none", marker=marker, color=color, markerfacecolor="white"
            )
            axis.axhline(mine.closed_form.iloc[0], color=color, linestyle=":", linewidth=0.8)
        axis.set(title=title, yscale="log", xlabel="epoch")
    axes[0].set_ylabel(r"objective $/\ \|Y\|_F^2$")
    handles = [
        *(
            Line2D([], [], color=c, marker=m, linestyle="none")
            for c, m, _ in zip(plotting.COLORS, plotting.MARKERS, lines, strict=False)
        ),
        Line2D([], [], color="0.3", marker="o", linestyle="none", markerfacecolor="white"),
        Line2D([], [], color="0.3"),
        Line2D([], [], color="0.3", linestyle=":"),
    ]
    names = [*lines.values(), "stochastic (Monte Carlo)", "deterministic", "closed-form minimum"]
    plotting.legend_below(figure, handles, names, columns=4)
    return figure


def _spectra(record: Record) -> "Figure":
    """Singular values of the final predictions, markers, on the closed form, lines: one panel a scheme."""
    from matplotlib.lines import Line2D

    from repro import plotting

    cells, arrays = plotting.surviving(record.cells), record.arrays
    largest = arrays["target"][0]
    groups = list(cells.groupby(["scheme", "block_size"], sort=False))
    thetas = sorted(cells.retain[cells.scheme != "none"].unique())
    colors = dict(zip(thetas, plotting.COLORS, strict=False)) | {1.0: "0.4"}
    markers = dict(zip(thetas, plotting.MARKERS, strict=False)) | {1.0: "o"}
    figure, axes = plotting.panels(len(groups), sharey=True)
    for axis, ((scheme, size), rows) in zip(axes, groups, strict=True):
        for theta, mine in rows.groupby("retain"):
            values = arrays["singular_values"][mine.index] / largest
            index = np.arange(1, values.shape[1] + 1)
            axis.plot(index, arrays["closed_form"][mine.index[0]] / largest, color=colors[theta])
            axis.plot(
                index,
                values.mean(0),
                linestyle="none",
                marker=markers[theta],
                color=colors[theta],
                markerfacecolor="white",
            )
            plotting.band(axis, index, values.mean(0), values.std(0), colors[theta])
        axis.set(title=title_of(scheme, size), xlabel="index $i$", ylim=(0, 1.12))
    axes[0].set_ylabel(r"$\sigma_i(U g(X))\ /\ \sigma_1(Y)$")
    handles = [
        *(Line2D([], [], color=colors[t], marker=markers[t], linestyle="none") for t in thetas),
        Line2D([], [], color="0.3"),
        Line2D([], [], color="0.3", marker="o", linestyle="none", markerfacecolor="white"),
    ]
    plotting.legend_below(
        figure, handles, [*(rf"$\theta = {t:g}$" for t in thetas), "closed form", "network"], columns=7
    )
    return figure


def title_of(scheme: str, size: int) -> str:
    if scheme == "dropblock" and size == 1:
        scheme = "bernoulli"  # the same thing
    return TITLES.get(scheme, scheme) + (f", $r = {size}$" if scheme not in ("none", "bernoulli") else "")


def _shrinkage(record: Record) -> "Figure":
    """Ordering in p: Σσ(U g(X)) / Σσ(Y) against p, closed form as lines."""
    from repro import plotting

    cells, arrays = plotting.surviving(record.cells), record.arrays
    total = arrays["target"].sum()
    figure, (axis,) = plotting.panels(1)
    dropped = cells[cells.scheme != "none"]
    for color, marker, (size, rows) in zip(
        plotting.COLORS, plotting.MARKERS, dropped.groupby("block_size"), strict=False
    ):
        rows = rows.sort_values("p")
        measured = arrays["singular_values"][rows.index].sum(1) / total
        axis.plot(arrays["curve_p"], arrays[f"curve_r{size}"] / total, color=color)
        axis.plot(
            rows.p,
            measured,
            linestyle="none",
            marker=marker,
            color=color,
            markerfacecolor="white",
            label=f"$r = {size}$",
        )
    axis.set(xlabel=r"$p = 1/(1+\lambda)$", ylabel=r"$\sum_i \sigma_i(U g(X))\ /\ \sum_i \sigma_i(Y)$")
    axis.set_xscale("logit")
    axis.set_xticks([0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99], minor=False)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlim(arrays["curve_p"].min(), arrays["curve_p"].max())
    axis.legend()
    return figure


def _assumptions(curves: pd.DataFrame) -> "Figure":
    """Above, 1 − tightness; below, the imbalance of the blocks: both 0 where the theory's assumptions hold."""
    from repro import plotting

    sizes, thetas = sorted(curves.block_size.unique()), sorted(curves.retain.unique())
    figure, axes = plotting.panels(2 * len(sizes), columns=len(sizes), sharex=True, sharey="row", height=1.5)
    for row, (column, label) in enumerate((("slack", "1 − tightness"), ("imbalance", "std / mean of $\\|U_i g_i\\|$"))):
        for axis, size in zip(axes[row * len(sizes) :], sizes, strict=False):
            for color, theta in zip(plotting.COLORS, thetas, strict=False):
                mine = curves[(curves.block_size == size) & (curves.retain == theta)]
                mean = plotting.over_seeds(mine.assign(slack=1 - mine.tightness), "step", column)
                axis.plot(mean.step, mean["mean"], color=color, marker=".", linewidth=0.7)
                plotting.band(axis, mean.step, mean["mean"], mean["std"], color)
            axis.set(yscale="log", title=f"$r = {size}$" if row == 0 else "", xlabel="epoch" if row else "")
        axes[row * len(sizes)].set_ylabel(label)
    plotting.legend_below(figure, axes[0].get_lines(), [rf"$\theta = {t:g}$" for t in thetas])
    return figure
