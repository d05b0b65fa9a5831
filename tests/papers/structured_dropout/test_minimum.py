"""The experiments on the closed form with other noise than DropBlock: it is there where theory has one."""

import numpy as np
import pytest

from repro.papers.structured_dropout import global_minimum, rank_collapse
from repro.pipeline.presentation.verdicts import judge
from repro.pipeline.store import parts

QUICK = ["training.steps=40", "training.log_points=4", "dropout.p=[0.6,0.9]"]
SMALL_WIDTHS = [
    "options.width_needed.features=6", "options.width_needed.rank=2", "options.width_needed.samples=20",
    "options.width_needed.block_sizes=[1]", "options.width_needed.widths=[1,2]", "options.width_needed.starts=1",
]  # fmt: skip
CLOSED_FORM = ["p", "closed_form", "closed_form_rank", "closed_form_effective_rank"]

NOISE = {
    "dropout": (["dropout=bernoulli"], {1: True}),
    "gaussian": (["dropout=gaussian", "dropout.correlation=0"], {1: True}),
    "correlated": (["dropout=gaussian", "dropout.correlation=0.5"], {1: False}),
    "on U": (["dropout=dropconnect", "dropout.scheme=dropconnect_U"], {1: True}),
    "on V": (["dropout=dropconnect", "dropout.scheme=dropconnect_V"], {1: False}),
    "on V, whitened": (["dropout=dropconnect", "dropout.scheme=dropconnect_V", "data.whiten=true"], {1: True}),
    "overlapping": (
        ["dropout=overlapping_dropblock", "dropout.block_size=[1,3,8]"],
        {1: True, 3: False, 8: True},
    ),
}


def block_sizes(name: str) -> list[str]:
    """Overlapping blocks of sizes that do not divide the width go with θ alone."""
    return ["dropout.p=null", "dropout.retain=[0.3,0.7]"] if name == "overlapping" else []


def notes(axes: dict[str, list]) -> dict[str, str]:
    return {name: panels[0].figure.get_suptitle() for name, panels in axes.items()}


def measured(module, record) -> dict[str, str]:
    at_scale = record.config | {"scale": "cpu"}
    record.__dict__["config"] = at_scale  # the scale at which all claims are decided
    found = [judge(claim, record, experiment="", command="") for claim in module.CLAIMS]
    return {verdict.claim.id: verdict.decision for verdict in found if verdict and verdict.decision != "not measured"}


@pytest.mark.parametrize("name", NOISE)
def test_rank_collapse_with_any_noise(name, run_linear, drawn):
    overrides, known = NOISE[name]
    run = run_linear("experiment=rank_collapse", *QUICK, *overrides, *block_sizes(name))
    cells = run.record.cells
    assert {size: bool(rows.notna().all()) for size, rows in cells.groupby("block_size").closed_form} == known
    assert (cells.closed_form.isna() == cells.relative_gap.isna()).all()
    assert (cells.closed_form.isna() == cells.minimizer_distance.isna()).all()
    assert cells[["objective", "imbalance", "effective_rank"]].notna().all(axis=None)
    assert (cells.relative_gap.dropna() > -1e-6).all()
    if name != "overlapping":
        assert list(cells.p) == [0.6, 0.9]  # as given, to the bit
    axes = drawn(run)
    assert axes["collapse"][0].get_lines()
    for note in notes(axes).values():
        assert note.startswith("no closed form for ") != all(known.values())
    decided = measured(rank_collapse, run.record)
    assert bool(decided) == any(known.values())


def test_dropout_is_dropblock_of_single_units(run_linear):
    blocks, units, on_U = (
        run_linear("experiment=rank_collapse", *QUICK, *noise).record
        for noise in (["dropout.block_size=1"], NOISE["dropout"][0], NOISE["on U"][0])
    )
    for other in (units, on_U):
        assert other.cells[CLOSED_FORM].equals(blocks.cells[CLOSED_FORM])
        for name in blocks.arrays:
            if name.startswith(("closed_form", "curve_")):
                np.testing.assert_array_equal(other.arrays[name], blocks.arrays[name])
    assert not units.cells.objective.equals(blocks.cells.objective)  # control: masks of their own


@pytest.mark.parametrize("name", NOISE)
def test_global_minimum_with_any_noise(name, run_linear, drawn):
    overrides, known = NOISE[name]
    run = run_linear("experiment=global_minimum", *QUICK, *SMALL_WIDTHS, *overrides, *block_sizes(name))
    cells = run.record.cells
    there = cells.closed_form.notna()
    assert (cells.solver_gap.notna() == there).all()
    assert cells.solver_gap[there].abs().max() < 1e-10 or not there.any()
    assert cells.induced_error[there].abs().max() < 1e-5 or not there.any()
    assert ("solver_objective" in cells) == (not there.all())
    if not there.all() and name != "on V":  # L-BFGS is the reference where theory has none
        assert (cells.solver_objective < cells.objective * (1 + 1e-6)).all()
        assert np.allclose(cells.solver_objective[there], cells.closed_form[there])
    assert name != "on V" or cells.solver_objective.isna().all()
    found = notes(drawn(run))
    for figure in ("gap", "singular_values", "balance"):
        assert found[figure].startswith("no closed form for ") != all(known.values())
    decided = measured(global_minimum, run.record)
    assert ("closed_form_is_the_minimum" in decided) == bool(there.any())
    assert decided.get("closed_form_is_the_minimum", "holds") == "holds"


def test_several_schemes_are_told_apart(run_linear, drawn):
    run = run_linear(
        "experiment=rank_collapse", *QUICK, "dropout.scheme=[bernoulli,dropblock]", "dropout.block_size=[1,4]"
    )
    figure = drawn(run)["collapse"][0].figure
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "Dropout", "disjoint, $r = 1$", "disjoint, $r = 4$", "closed form", "SGD",
    ]  # fmt: skip
    assert run.record.arrays["curve_p"].shape == (3 * 120,)


def test_p_follows_from_theta(run_linear, drawn):
    given = run_linear("experiment=rank_collapse", *QUICK, "dropout.block_size=4")
    retain = ",".join(map(str, given.record.cells.retain))
    run = run_linear(
        "experiment=rank_collapse", *QUICK, "dropout.block_size=4", "dropout.p=null", f"dropout.retain=[{retain}]"
    )
    np.testing.assert_allclose(run.record.cells[CLOSED_FORM], given.record.cells[CLOSED_FORM], rtol=1e-12)
    assert [axis.get_title() for axis in drawn(run)["collapse"][1:]] == [
        rf"$\theta = {theta:g}$" for theta in given.record.cells.retain
    ]


def test_a_grid_of_several_targets_may_be_cut_anywhere(run_linear, monkeypatch):
    noise = [*QUICK, "dropout.scheme=[bernoulli,dropconnect_U,dropblock]", "dropout.block_size=4"]
    whole = run_linear("experiment=global_minimum", *SMALL_WIDTHS, *noise)

    def each(self, work, count):
        return parts._together([work(0, 1), work(1, 5), work(5, count)])

    monkeypatch.setattr(parts.Parts, "each", each)
    cut = run_linear("experiment=global_minimum", *SMALL_WIDTHS, *noise, "threads=2")
    for table in ("cells", "curves"):
        mine, other = (getattr(run.record, table).select_dtypes("number") for run in (cut, whole))
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-7)
    for name, array in whole.record.arrays.items():
        np.testing.assert_allclose(cut.record.arrays[name], array, rtol=1e-4, atol=1e-6)


def test_what_diverged_still_fails(run_linear):
    run = run_linear("experiment=rank_collapse", *QUICK, *NOISE["dropout"][0], "training.learning_rate=100")
    assert run.record.cells.diverged.all()
    assert measured(rank_collapse, run.record)["sgd_reaches_minimum"] == "fails"


PAIRS = '''
from typing import Literal
import torch
from repro.dropout import MaskDistribution
from repro.dropout.settings import Noise


class Settings(Noise):
    scheme: Literal["noise_of_pairs"]
    strength: float = 2.0


class Pairs(MaskDistribution):
    """Two neighbours share one Gaussian."""

    def __init__(self, width, retain, strength):
        self.width, self.retain, self.variance = width, retain, strength * (1 - retain) / retain

    def __repr__(self):
        return f"Pairs({self.width}, {self.retain}, {self.variance})"

    @property
    def mean(self):
        return torch.ones(self.width, dtype=torch.float64)

    @property
    def covariance(self):
        return self.variance * torch.eye(self.width // 2, dtype=torch.float64).kron(torch.ones(2, 2).double())

    def sample(self, count, generator, dtype=torch.float32):
        noise = torch.randn(count, self.width // 2, generator=generator, device=generator.device, dtype=dtype)
        return 1 + self.variance**0.5 * noise.repeat_interleave(2, 1)


def masks(settings, width, block_size, retain, outputs, inputs):
    return Pairs(width, retain, settings.strength)
'''


def test_a_users_noise_finds_its_own_closed_form(run_linear, drawn, tmp_path, monkeypatch):
    """Blocks of two and a strength that no scheme of ours has at that rate: r = 2, and p from λ."""
    (tmp_path / "noise_of_pairs.py").write_text(PAIRS)
    monkeypatch.syspath_prepend(tmp_path)
    overrides = ["dropout.scheme=noise_of_pairs", "+dropout.strength=3.0", *QUICK[:2], "dropout.p=[0.7,0.9]"]
    run = run_linear("experiment=global_minimum", *overrides, *SMALL_WIDTHS)
    cells = run.record.cells
    weight = 3.0 * (1 - cells.retain) / cells.retain
    np.testing.assert_allclose(cells.p, 1 / (1 + weight * 2 / 8), rtol=1e-12)
    assert cells.solver_gap.abs().max() < 1e-10
    assert cells.induced_error.abs().max() < 1e-5
    assert np.isfinite(run.record.arrays["block_norms"]).sum(1).tolist() == [4, 4]
    assert drawn(run)["gap"]
    collapse = run_linear("experiment=rank_collapse", *overrides)
    assert drawn(collapse)["collapse"]
