"""The exact experiments at a size of seconds: their claims hold, and fail where the theory is broken."""

import numpy as np
import pytest
import torch

from repro import theory
from repro.papers.variational_structured_dropout.structured_noise import expansion, pathologies
from repro.papers.variational_structured_dropout.structured_noise import run as noise_run
from repro.papers.variational_structured_dropout.structured_posterior import run as posterior_run
from repro.papers.variational_structured_dropout.structured_posterior.lbfgs import minimise
from repro.pipeline import plotting, settings
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import Experiment
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings.config import module_of
from repro.pipeline.store import Run
from repro.pipeline.system.errors import UserError
from repro.pipeline.system.progress import Progress
from repro.theory import variational

MASKS = "options.monte_carlo_masks=262144"
SMALL = {
    "structured_noise": [
        "model.width=6",
        "options.reflections=[0,2,5]",
        "options.rotations=300",
        "dropout.retain=0.6",
        MASKS,
    ],
    "structured_posterior": ["options.restarts=3", "options.full=4"],
}


def record_of(experiment, folder):
    typed = [f"experiment={experiment}", "scale=smoke", "device=cpu", "tracking.mode=disabled", f"results={folder}"]
    config = settings.load([*typed, *SMALL[experiment]])
    return Run(config, "the command").write(compute(config, Progress("", quiet=True)), {})


def decisions(record):
    claims = Experiment(module_of(record.config["module"])).claims
    return {
        claim.id: verdicts.judge(claim, record, experiment=record.experiment, command="").decision for claim in claims
    }


@pytest.fixture(scope="module", params=list(SMALL))
def honest(request, tmp_path_factory):
    return record_of(request.param, tmp_path_factory.mktemp(request.param))


def test_all_claims_hold(honest):
    found = decisions(honest)
    assert set(found.values()) == {"holds"}, found


def one_percent_more(patch):
    right = theory.noise_gram
    patch.setattr(theory, "noise_gram", lambda *given: 1.01 * right(*given))


def no_rotation(patch):
    right = theory.noise_gram
    patch.setattr(theory, "noise_gram", lambda *given: right(*given).diagonal().diag())


def the_rates_for_the_diagonal(patch):
    for name in ("kl_normal", "kl_empirical_bayes"):
        right = getattr(theory, name)
        at = {"kl_normal": 2, "kl_empirical_bayes": 1}[name]

        def wrong(*given, right=right, at=at):
            rates = given[at + 1]
            return right(*given[:at], rates, *given[at + 1 :])

        patch.setattr(theory, name, wrong)


def half_the_total_correlation(patch):
    right = theory.total_correlation
    patch.setattr(theory, "total_correlation", lambda C: right(C) / 2)


def priors_exchanged(patch):
    right = pathologies._masses

    def wrong(seed):
        found = right(seed)
        return found | {"mass_normal": found["mass_log_uniform"], "mass_log_uniform": found["mass_normal"]}

    patch.setattr(pathologies, "_masses", wrong)


def columns_exchanged(patch):
    right = pathologies._singular

    def wrong(*given):
        found = right(*given)
        return found | {"kl_shared": found["kl_independent"], "kl_independent": found["kl_shared"]}

    patch.setattr(pathologies, "_singular", wrong)


def largest_on_largest(patch):
    right = theory.best_rotation

    def wrong(gram, rates):
        order = rates.argsort()
        return right(gram, -rates.sort().values.flip(0) + 2 * rates.max())[0], (
            rates[order] * torch.linalg.eigvalsh(gram)
        ).sum(-1)

    patch.setattr(theory, "best_rotation", wrong)


def unequal_rates(patch):
    patch.setattr(noise_run, "equal_rates", lambda rates: rates)


def without_the_network_s_curvature(patch):
    right = expansion._errors
    patch.setattr(expansion, "_errors", lambda seed: (right(seed)[1], right(seed)[1]))


def another_sigmoid(patch):
    patch.setattr(variational, "_SIGMOID", (0.63576, 1.87320, 1.3))


def reflections_that_do_nothing(patch):
    patch.setattr(posterior_run, "reflected", lambda values, vectors: values)
    patch.setattr(posterior_run, "covariance_diagonal", lambda rates, vectors: rates)


def half_the_gap(patch):
    right = posterior_run.Regression.mean_field_gap.fget
    patch.setattr(posterior_run.Regression, "mean_field_gap", property(lambda self: right(self) / 2 + 1))


def worse_with_more_reflections(patch):
    right = posterior_run.fitted

    def wrong(config, regression, rotated, reflections, before, generator):
        found = right(config, regression, rotated, reflections, before, generator)
        worse = found[0]._replace(log_rates=found[0].log_rates + reflections)
        return worse, found[1]

    patch.setattr(posterior_run, "fitted", wrong)


def the_mean_of_the_centred(patch):
    patch.setattr(posterior_run.Posterior, "mean", property(lambda self: torch.ones_like(self.weights)))


CONTROLS = [
    ("structured_noise", one_percent_more, {"pooled_slope"}),
    ("structured_noise", no_rotation, {"structured_objective"}),
    ("structured_noise", the_rates_for_the_diagonal, {"divergences", "divergence_sampled", "total_correlation"}),
    ("structured_noise", half_the_total_correlation, {"total_correlation"}),
    ("structured_noise", priors_exchanged, {"improper_prior", "proper_prior"}),
    ("structured_noise", columns_exchanged, {"singular_posterior", "regular_posterior"}),
    ("structured_noise", largest_on_largest, {"best_rotation", "equal_units"}),
    ("structured_noise", unequal_rates, {"null_case"}),
    ("structured_noise", without_the_network_s_curvature, {"second_order"}),
    ("structured_noise", another_sigmoid, {"sigmoid_fit"}),
    ("structured_posterior", reflections_that_do_nothing, {"exact_when_full", "first_reflection"}),
    ("structured_posterior", half_the_gap, {"mean_field"}),
    ("structured_posterior", worse_with_more_reflections, {"never_rises", "orthogonal", "exact_when_full"}),
    ("structured_posterior", the_mean_of_the_centred, {"rotated_falls_short"}),
    ("structured_posterior", the_rates_for_the_diagonal, {"elbo_is_evidence_less_gap"}),
]


@pytest.mark.parametrize(
    ("experiment", "wrong", "expected"), CONTROLS, ids=[wrong.__name__ for _, wrong, _ in CONTROLS]
)
def test_a_wrong_theory_fails(experiment, wrong, expected, tmp_path, monkeypatch):
    wrong(monkeypatch)
    found = decisions(record_of(experiment, tmp_path))
    assert {claim for claim, decision in found.items() if decision == "fails"} >= expected, found


def test_every_claim_has_a_control():
    for experiment in SMALL:
        stated = {claim.id for claim in Experiment(module_of(experiment)).claims}
        assert stated == set().union(*(expected for name, _, expected in CONTROLS if name == experiment))


def test_figures(honest):
    shows = Experiment(module_of(honest.config["module"]))
    figures = shows.figures(honest)
    assert set(figures) == set(shows.captions)
    with plotting.style():
        for draw in figures.values():
            draw().draw_without_rendering()


def test_descent_of_many_problems_at_once_finds_each_minimum():
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(7, 5, 5, generator=generator, dtype=torch.float64)
    H, center = root @ root.mT + 0.01 * torch.eye(5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)

    def value(points):
        off = points - center
        return (off[:, None] @ H @ off[..., None])[:, 0, 0] + (off**4).sum(-1)

    found = minimise(value, torch.zeros(7, 5, dtype=torch.float64), 300, tolerance=1e-16)
    assert float(value(found).max()) < 1e-10
    assert np.all((value(minimise(value, center + 1, 3)) < value(center + 1)).numpy())


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("experiment=structured_noise dropout=bernoulli", "dropout.scheme=bernoulli: structured_noise takes dropout="),
        ("experiment=structured_noise options.reflections=[9]", "options.reflections=9: must be at most model.width=8"),
        ("experiment=structured_noise dropout.reflections=3", "dropout.reflections=3: has no effect here, options"),
        ("experiment=structured_noise training=sgd", "training.kind=sweep: structured_noise takes training=none"),
        ("experiment=structured_posterior options.noise=0.0", "options.noise=0.0: must be greater than 0"),
        ("experiment=structured_posterior options.inputs=[50]", "options.inputs=50: must be at most data.samples="),
        (
            "experiment=structured_posterior data.in_features=60",
            "data.in_features=60: has no effect here, options.inputs",
        ),
    ],
)
def test_mistakes_are_one_line(typed, message):
    with pytest.raises(UserError, match=f"^{message}"):
        settings.load([*typed.split(), "scale=smoke"])
