"""The records that come with the code are whole, of the configurations as they are, and every claim holds on them."""

from pathlib import Path

import pytest

from repro import claims, composition, records

REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "cpu"


def reference(name):
    config = composition.load([f"experiment={name}", "scale=cpu", "device=cpu"])
    return config, records.find(REFERENCE, name, records.fingerprint(config.plain()))


@pytest.mark.parametrize("name", list(composition.experiments()))
def test_every_experiment_has_its_reference_on_which_the_claims_hold(name):
    config, record = reference(name)
    assert record is not None, f"make reproduce-all SCALE=cpu, and copy results/runs/{name} to {REFERENCE}"
    assert records.damage(record.path) is None
    verdicts = claims.ledger([(config, record, "")])
    assert verdicts
    assert {v.claim.id: v.measured for v in verdicts if v.decision != "holds"} == {}
    figures = {path.stem for path in (REFERENCE / "figures" / name).glob("*.svg")}
    assert {v.claim.figure for v in verdicts} <= figures | {""}


@pytest.mark.parametrize("name", ["global_minimum", "rank_collapse", "rank_collapse_digits"])
def test_most_networks_are_much_nearer_to_the_closed_form_than_the_claims_ask(name):
    cells = reference(name)[1].cells
    medians = cells.groupby("seed")[["minimizer_distance", "singular_value_error", "imbalance"]].median()
    assert (medians.max() < [0.02, 0.02, 0.05]).all()


def test_nothing_else_lies_there():
    kept = {reference(name)[1].path for name in composition.experiments()}
    assert {path for path in (REFERENCE / "runs").glob("*/[!.]*")} == kept
