"""incremental_schedule: its claims hold, and fail where the theory is broken; its README runs."""

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

import repro.papers.incremental_regularization as paper
from repro import theory
from repro.papers.incremental_regularization.incremental_schedule import run as schedule
from repro.pipeline import settings
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import Experiment
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings.config import module_of
from repro.pipeline.store import Run
from repro.pipeline.system.progress import Progress
from repro.pruning import schedule as increments
from repro.pruning.methods import incremental

README = Path(paper.__file__).with_name("README.md").read_text(encoding="utf-8")
TYPED = ["experiment=incremental_schedule", "scale=smoke", "device=cpu", "tracking.mode=disabled", "threads=1"]
SMALL = [
    "options.groups=20",
    "options.ratios=[0.5,0.9]",
    "options.step=5e-4",
    "options.changed=2",
    "options.updates=600",
]


def decisions(folder):
    config = settings.load([*TYPED, *SMALL, f"results={folder}"])
    record = Run(config, "the command").write(compute(config, Progress("", quiet=True)), {})
    claims = Experiment(module_of("incremental_schedule")).claims
    return {claim.id: verdicts.judge(claim, record, experiment=record.experiment, command="").decision
            for claim in claims}  # fmt: skip


def test_all_claims_hold(tmp_path):
    found = decisions(tmp_path)
    assert set(found.values()) == {"holds"}, found


def exponential_alone(patch):
    """No turn: A e^(−αj) everywhere, never negative."""

    def wrong(ranks, threshold, step, u=0.25):
        j = torch.as_tensor(ranks, dtype=torch.float64)
        return step * torch.exp(-j * torch.log(torch.tensor(2 / u, dtype=torch.float64)) / threshold)

    for module in (schedule, incremental):
        patch.setattr(module, "increment", wrong)


def a_threshold_that_stays(patch):
    """An oracle that forgets who is gone, and so takes all gains for those of the first update."""
    right = increments.removal_times

    def wrong(groups, ratio, step, ceiling, u=0.25):
        gains = increments.increment(torch.arange(increments.target(groups, ratio)), ratio * groups, step, u)
        return (right(groups, ratio, step, ceiling, u) * 0 + torch.ceil(ceiling / gains)).long() + 1

    patch.setattr(schedule, "removal_times", wrong)


def a_higher_ceiling(patch):
    patch.setattr(incremental, "reaches", lambda penalties, ceiling: penalties >= 1.05 * ceiling)


def ranks_of_the_moment(patch):
    right = schedule.IncReg

    def wrong(*given, mean_ranks=True, **more):
        return right(*given, mean_ranks=False, **more)

    patch.setattr(schedule, "IncReg", wrong)


def mean_ranks_everywhere(patch):
    right = schedule.IncReg

    def wrong(*given, mean_ranks=True, **more):
        return right(*given, mean_ranks=True, **more)

    patch.setattr(schedule, "IncReg", wrong)


def recovery_everywhere(patch):
    right = schedule.IncReg

    def wrong(*given, recovery=True, **more):
        return right(*given, recovery=True, **more)

    patch.setattr(schedule, "IncReg", wrong)


def one_more_than_the_target(patch):
    right = schedule.IncReg.update

    def wrong(self, scores, norms=None):
        found = right(self, scores, norms)
        if self.done:
            self.alive[self.alive.nonzero()[0]] = False
        return found

    patch.setattr(schedule.IncReg, "update", wrong)


def no_curvature(patch):
    patch.setattr(theory, "shrinkage", lambda h, penalty: torch.full_like(h, 1 / (1 + penalty)))


def the_law_everywhere(patch):
    """(H + δλI)⁻¹Hw* with H's diagonal alone."""
    right = theory.penalized_minimizer
    patch.setattr(theory, "penalized_minimizer", lambda H, w, penalty: right(H.diagonal().diag(), w, penalty))


def nothing_rotated(patch):
    right = torch.linalg.qr

    class Unrotated:
        def __init__(self, matrix):
            self.Q = torch.eye(len(right(matrix).Q), dtype=matrix.dtype)

    patch.setattr(torch.linalg, "qr", Unrotated)


def curvatures_swapped(patch):
    """What differs is taken for what is equal."""
    right = schedule._dispersion
    patch.setattr(
        schedule,
        "_dispersion",
        lambda h, w, penalties: right(
            torch.ones_like(h) if bool((h != 1).any()) else torch.logspace(-1, 1, len(h)).double()[:, None],
            w,
            penalties,
        ),
    )


def without_momentum(patch):
    right = theory.gentleness
    patch.setattr(theory, "gentleness", lambda rate, momentum, ceiling, step: right(rate, 0.0, ceiling, step))


CONTROLS = [
    (exponential_alone, {"increment_values", "increment_symmetric", "groups_recover"}),
    (a_threshold_that_stays, {"removal_times"}),
    (a_higher_ceiling, {"removal_times", "first_removal"}),
    (one_more_than_the_target, {"groups_removed"}),
    (ranks_of_the_moment, {"mean_ranks"}),
    (mean_ranks_everywhere, {"ranks_of_the_moment"}),
    (recovery_everywhere, {"none_recovers_clipped"}),
    (no_curvature, {"shrinkage_law"}),
    (the_law_everywhere, {"general_minimum"}),
    (nothing_rotated, {"law_needs_diagonal"}),
    (curvatures_swapped, {"dispersion_rises", "equal_curvature"}),
    (without_momentum, {"gentleness"}),
]


@pytest.mark.parametrize(("wrong", "expected"), CONTROLS, ids=[wrong.__name__ for wrong, _ in CONTROLS])
def test_a_wrong_theory_fails(wrong, expected, tmp_path, monkeypatch):
    wrong(monkeypatch)
    found = decisions(tmp_path)
    assert {claim for claim, decision in found.items() if decision == "fails"} >= expected, found


def test_every_claim_has_a_control():
    stated = {claim.id for claim in Experiment(module_of("incremental_schedule")).claims}
    assert stated == set().union(*(expected for _, expected in CONTROLS))


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("options.ratio=0.99", "options.ratio=0.99: removes all options.groups=20; one at least must be left"),
        ("options.ratios=[0.5,0.96]", "options.ratios=0.96: removes all options.groups=20"),
        ("options.changed=11", "options.changed=11: must be at most 10, the groups to be kept"),
        ("options.weights=1", "options.weights=1: must be at least 2"),
        ("options.step=0", "options.step=0: must be greater than 0"),
        ("data.samples=7", "data.samples=7: has no effect here, scores and quadratics are drawn"),
        ("model.width=7", "model.width=7: has no effect here, scores and quadratics are drawn"),
        ("dropout.retain=0.5", "dropout.retain=0.5: has no effect here, penalties prune"),
    ],
)
def test_mistakes_are_told_before_anything_runs(typed, message, told):
    assert told(*TYPED, typed).startswith(message)


def test_the_example_of_the_readme():
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    with redirect_stdout(io.StringIO()) as said:
        exec(code, {})
    assert 10.31 <= float(said.getvalue()) < 12


def test_every_file_that_the_readme_names_is_there():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        if not link.startswith(("http", "../../../../results")):
            assert (Path(paper.__file__).parent / link).exists(), link
