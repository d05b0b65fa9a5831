"""E6: is dropout of the last hidden layer of a deep network the regulariser that the linear theory predicts?

E‖Y − (1/θ)U diag(z) g(X)‖² = ‖Y − U g(X)‖² + (1−θ)/θ Σ_i ‖U_i g_i(X)‖², on the features of every epoch; and, where the
features are rich enough, predictions with the singular values of the closed form for Y.
"""

from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, PositiveInt

from repro.claims import Claim
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


def grid_size(cfg: Config) -> int:
    return linear.grid_size(cfg) + (len(cfg.seed) if cfg.options.without else 0)


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
        gap=final.deterministic - theory["objective"] / energy,
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
    found["largest gap to the closed form at theta >= 0.5, of ||Y||^2"] = float(light.gap.max())
    found["smallest tightness"] = float(table.tightness[table.scheme != "none"].min())
    bare = table[table.scheme == "none"]
    if len(bare):
        found["test accuracy without dropout"] = float(bare.test_accuracy.mean())
    return found | {"diverged networks": diverged}


# ---------------------------------------------------------------------- claims

LIGHT = 0.5
"""From this θ on the theory is asked to predict a network; the figures show where it stops to."""

COLLAPSED = 0.05
"""A singular value below this fraction of the largest of Y counts as collapsed."""


def _balanced_classes(record: Record) -> bool:
    return record.config["data"]["imbalance"] == 1


def _dropped(record: Record, lightest: float = 0.0) -> pd.DataFrame:
    cells = record.cells
    return cells[(cells.scheme != "none") & (cells.retain >= lightest)]


def _spectrum_error(record: Record) -> pd.Series:
    light = _dropped(record, LIGHT)
    return light.singular_value_error.groupby(light.seed).max() if _balanced_classes(record) else pd.Series(dtype=float)


def _tightness(record: Record) -> pd.Series:
    cells = _dropped(record)
    return cells.tightness.groupby(cells.seed).min()


def _balance(record: Record) -> pd.Series:
    cells = _dropped(record)
    return cells.imbalance.groupby(cells.seed).max()


def _bare_accuracy(record: Record) -> pd.Series:
    bare = record.cells[record.cells.scheme == "none"]
    if record.config["data"]["kind"] != "mnist5k" or not _balanced_classes(record):
        return pd.Series(dtype=float)
    return bare.test_accuracy.groupby(bare.seed).min()


def _ordering(record: Record) -> pd.Series:
    """Fraction of pairs with one r, or one θ, whose Σσ stand in the closed form's order."""
    arrays, found = record.arrays, {}
    for seed, cells in _dropped(record).groupby("seed"):
        first, second = np.triu_indices(len(cells), 1)
        size, retain, rows = (cells[c].to_numpy() for c in ("block_size", "retain", "cell"))
        theory, measured = arrays["closed_form"][rows].sum(1), arrays["singular_values"][rows].sum(1)
        compared = (size[first] == size[second]) | (retain[first] == retain[second])
        compared &= np.abs(theory[first] - theory[second]) > DISTINCT * np.maximum(theory[first], theory[second])
        right = np.sign(measured[first] - measured[second]) == np.sign(theory[first] - theory[second])
        if compared.any():
            found[seed] = float(right[compared].mean())
    return pd.Series(found, dtype=float)


def _collapse_order(record: Record) -> pd.Series:
    """Largest difference between the numbers of singular values that are left, measured and predicted."""
    if _balanced_classes(record):
        return pd.Series(dtype=float)
    arrays, cells = record.arrays, _dropped(record)
    floor = COLLAPSED * arrays["target"][0]
    left = [(arrays[name][cells.cell.to_numpy()] > floor).sum(1) for name in ("singular_values", "closed_form")]
    return pd.Series(np.abs(left[0] - left[1]), index=cells.index).groupby(cells.seed).max().astype(float)


DISTINCT = 0.05
"""Sums of singular values that theory puts closer than this fraction are not asked to stand in order."""

CLAIMS = (
    linear.stochastic_claim(
        "stochastic_is_deterministic",
        "On the last hidden layer's features of every epoch, the expected loss is the data fit plus "
        "(1−θ)/θ Σ‖U_i g_i(X)‖².",
        "theorem on the last layer of deep networks, E6; paper section 4",
        resolution=0.02,
        what="epoch",
    ),
    Claim(
        id="predictions_follow_closed_form",
        statement="The singular values of a deep network's predictions are those of the closed form applied to Y.",
        source="E6; paper section 4",
        quantity=f"largest ‖σ(Ug(X)) − a‖ / ‖a‖ of the networks with θ ≥ {LIGHT:g}, balanced classes",
        low=-inf,
        high=0.03,
        because="rich features are an assumption, and training stops short of the limit: see where it breaks below",
        measure=_spectrum_error,
        scales=("cpu", "gpu"),
        figure="spectra",
        caveat="What is left of the data fit when training ends comes off the singular values; more epochs bring them "
        "closer.",
    ),
    Claim(
        id="assumption_is_tight",
        statement="The features are rich enough for the penalty to attain its lower bound (r/d)‖Ug(X)‖²_(r).",
        source="assumption on the feature class, E6; paper section 4",
        quantity="smallest (r/d)‖Ug(X)‖²_(r) / Σ‖U_i g_i(X)‖² at the end of training",
        low=0.95,
        high=1.0 + 1e-6,
        because="1 is the bound; without dropout the same ratio is about 0.75",
        measure=_tightness,
        scales=("cpu", "gpu"),
        figure="assumptions",
    ),
    Claim(
        id="balanced_blocks",
        statement="At the end of training all blocks of the last layer contribute equally.",
        source="proposition on balancedness, E6; paper sections 1 and 4",
        quantity="largest coefficient of variation of the block norms ‖U_i g_i(X)‖",
        low=-inf,
        high=0.1,
        because="without dropout it is about 0.4",
        measure=_balance,
        scales=("cpu", "gpu"),
        figure="assumptions",
    ),
    Claim(
        id="shrinkage_order",
        statement="Predictions shrink as p falls and as blocks get smaller, in the order that theory says.",
        source="E6; paper section 4",
        quantity="fraction of pairs of networks whose Σσ stand in the closed form's order",
        low=1.0,
        high=1.0,
        because=f"every pair, but those that theory puts within {100 * DISTINCT:g} % of each other",
        measure=_ordering,
        scales=("cpu", "gpu"),
        figure="shrinkage",
    ),
    Claim(
        id="one_after_another",
        statement="With classes of unequal size the singular values collapse one after another, small classes first.",
        source="E6; paper section 4",
        quantity=f"largest difference in the number of singular values above {100 * COLLAPSED:g} % of σ₁(Y), measured "
        "against predicted",
        low=-inf,
        high=1.0,
        because="a value at the threshold may fall on either side of it",
        measure=_collapse_order,
        scales=("cpu", "gpu"),
        figure="spectra",
        caveat="The directions of the smallest classes leave the origin slowest, and may still be there when training "
        "ends, at rates at which the minimum would have them.",
    ),
    Claim(
        id="network_learns",
        statement="The network without dropout is one worth measuring.",
        source="ours",
        quantity="test accuracy without dropout on the 5,000 digits",
        low=0.95,
        high=1.0,
        because="below it, the digits are not learned and the other rows say little",
        measure=_bare_accuracy,
        scales=("cpu", "gpu"),
    ),
)


# ---------------------------------------------------------------------- figures


CAPTIONS = {
    "objective": "Along training, the loss under dropout (markers, Monte Carlo) lies on the deterministic objective "
    "(lines) of the same features; dotted, the closed-form minimum.",
    "spectra": "Singular values of the final predictions (markers) and of the closed form (lines). On top of each "
    "other for moderate rates; where markers leave the lines, at the smallest θ, directions have not left "
    "the origin when training ends.",
    "shrinkage": "The sum of the singular values against p, closed form as lines: how much dropout shrinks what the "
    "network says.",
    "assumptions": "Above, how far the features are from attaining the penalty's lower bound; below, how unequal the "
    "blocks are. Both are zero where the theory's assumptions hold exactly.",
}
"""What to look for in each figure."""


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
