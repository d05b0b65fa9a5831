"""The records that come with the code are whole, of the configurations as they are, and the claims fail that are known
to, and no others."""

from pathlib import Path

import pytest

from repro.pipeline.composition import conf
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings import load
from repro.pipeline.store import Run
from repro.pipeline.store.integrity import damage

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "cpu"


UNDECIDED = {
    # whole units cost more than a tenth of the weight makes
    "last_layer_dropout": {"weight_within_a_tenth"},
    "last_layer_single_units": {"weight_within_a_tenth"},
    # one rate alone
    "last_layer_small_retain": {"shrinkage_order"},
    "last_layer_textbook": {"shrinkage_order"},
}


def reference(name):
    return Run(load([f"experiment={name}", "scale=cpu", "device=cpu", f"results={REFERENCE}"]))


@pytest.mark.parametrize("name", list(conf.experiments()))
def test_every_experiment_has_its_reference_on_which_the_claims_are_what_they_say(name):
    run = reference(name)
    assert (record := run.record()) is not None, (
        f"make reproduce-all SCALE=cpu, and copy results/runs/{name} to {REFERENCE}"
    )
    assert damage(record.path) is None
    assert not record.curves.duplicated([name for name in ("cell", "step") if name in record.curves]).any()
    ledger = verdicts.ledger([run])
    assert ledger
    failing = {v.claim.id: v.measured for v in ledger if v.decision == "fails"}
    assert failing.keys() == {v.claim.id for v in ledger if name in v.claim.departs}, failing
    undecided = {v.claim.id for v in ledger if v.decision == "not measured"}
    assert undecided == UNDECIDED.get(name, set())
    figures = {path.stem for path in (REFERENCE / "figures" / name).glob("*.svg")}
    assert {v.claim.figure for v in ledger} <= figures | {""}


@pytest.mark.parametrize("name", ["global_minimum", "rank_collapse", "rank_collapse_digits"])
def test_most_networks_are_much_nearer_to_the_closed_form_than_the_claims_ask(name):
    cells = reference(name).record().cells
    medians = cells.groupby("seed")[["minimizer_distance", "singular_value_error", "imbalance"]].median()
    assert (medians.max() < [0.02, 0.02, 0.05]).all()


def test_nothing_else_lies_there():
    kept = {reference(name).place.path for name in conf.experiments()}
    assert {path for path in (REFERENCE / "runs").glob("*/[!.]*")} == kept
