"""What a record says of a claim, and what the ledger says that its verdicts rest on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny import experiment as tiny

from repro.pipeline import settings
from repro.pipeline.claims import Claim, NotMeasured
from repro.pipeline.execution.making import compute
from repro.pipeline.presentation import compare, export, report, verdicts
from repro.pipeline.store import Run
from repro.pipeline.system.progress import Progress

CONF = Path(__file__).parents[2] / "fixtures" / "conf"


def claim(values, **changes):
    measured = pd.Series(values, index=range(len(values)), dtype=float)
    words = dict.fromkeys(("id", "statement", "source", "quantity", "because"), "")
    return Claim(**(words | {"measure": lambda record: measured, "low": -1.0, "high": 1.0} | changes))


def run_of(results, name="tiny"):
    run = Run(settings.load(["experiment=tiny", "scale=smoke", f"name={name}", f"results={results}"], extra=CONF))
    run.write(compute(run.config, Progress("", quiet=True)), {"run": 1.0})
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("results"))


@pytest.fixture
def judge(run):
    return lambda claim: verdicts.judge(claim, run.record(), experiment="e", command="")


@pytest.mark.parametrize(
    ("values", "rule", "decision"),
    [
        ([0.5], "every", "holds"),
        ([1.0, -1.0], "every", "holds"),
        ([0.5, 1.01], "every", "fails"),
        ([0.5, np.nan], "every", "fails"),
        ([0.1, 0.2, 0.15], "interval", "holds"),
        ([-3.0, 0.0, 3.0], "interval", "fails"),  # the mean is inside, its interval is not
        ([0.1, np.nan], "interval", "fails"),
        ([np.nan, np.nan], "interval", "fails"),
        ([0.1], "interval", "not measured"),
        ([0.1, 0.1, 0.1], "interval", "not measured"),  # one number, copied: no interval of width 0
        ([], "every", "not measured"),  # nothing vanishes
    ],
)
def test_decisions(values, rule, decision, judge):
    verdict = judge(claim(values, rule=rule))
    assert verdict.decision == decision
    assert bool(verdict.note) == (decision == "not measured")


def test_what_cannot_be_decided_says_why(run, judge):
    without = verdicts.judge(claim([0.0]), None, experiment="e", command="python x")
    assert (without.decision, without.command, without.note) == ("not measured", "python x", "no record")
    assert judge(claim([0.0], scales=("gpu",))).note == "not decided at scale smoke"

    def no_pairs(record):
        raise NotMeasured("no pair of equal θ")

    found = judge(claim([], measure=no_pairs))
    assert (found.decision, found.measured, found.basis) == ("not measured", "no pair of equal θ", "")
    assert verdicts.table([found]).iloc[0].reason == "no pair of equal θ"


def test_a_claim_about_another_configuration_is_not_in_the_ledger(run, judge, monkeypatch, tmp_path):
    other = claim([0.0], bears=lambda config: config["scale"] == "cpu")
    assert judge(other) is None
    monkeypatch.setattr(tiny, "CLAIMS", (other, claim([0.0], id="this")), raising=False)
    assert [v.claim.id for v in verdicts.ledger([run])] == ["this"]
    absent = Run(run.config.model_copy(update={"results": str(tmp_path)}))
    assert [v.claim.id for v in verdicts.ledger([absent])] == ["this"]


def test_the_farthest_value_is_the_decisive_one(judge):
    verdict = judge(claim([0.1, 2.0, 0.2], low=-np.inf))
    assert verdict.decisive == 2.0
    assert verdict.measured == "2"  # a limit on each of several maxima has no use for the interval of their mean
    assert verdict.interval is None
    assert verdict.basis == "worst of 3 seeds; 100 % beyond"


@pytest.mark.parametrize(
    ("values", "changes", "basis"),
    [
        ([0.25], {}, "one value; 75 % left"),
        ([0.25] * 3, {}, "one value, alike for 3 seeds; 75 % left"),
        ([0.25, 0.25, 0.0], {}, "worst of 3 seeds, 2 different values; 75 % left"),
        ([0.25, 0.2, 0.0], {}, "worst of 3 seeds; 75 % left"),
        ([0.1, 0.11, 0.12], {"rule": "interval"}, "mean of 3 seeds; 86.5 % left"),  # of the end
        ([1.0, 1.0], {"low": 1.0}, "one value, alike for 2 seeds"),  # nothing is tolerated
        ([np.nan, 0.0], {}, "worst of 2 seeds"),
    ],
)
def test_what_a_verdict_rests_on(values, changes, basis, judge):
    assert judge(claim(values, **changes)).basis == basis


INFINITY = {"low": -np.inf, "high": np.inf}


@pytest.mark.parametrize(
    ("limits", "value", "left"),
    [
        ({"high": 0.1}, 0.02, 0.8),
        ({"high": 0.1}, 0.12, -0.2),
        ({"high": 0.1}, -0.5, 1.0),  # better than the ideal
        ({"low": 10.0}, 12.0, 0.2),
        ({"low": 10.0}, 200.0, 1.0),
        ({"low": 0.95, "ideal": 1.0}, 0.96, 0.2),
        ({"low": 0.95, "high": 1 + 1e-6, "ideal": 1.0}, 0.96, 0.2),
        ({"low": 0.95, "high": 1 + 1e-6, "ideal": 1.0}, 1 + 2e-6, -1.0),
        ({"high": 1.05, "ideal": 1.0}, 1.01, 0.8),
        ({"low": -0.25, "high": 0.25}, -0.2, 0.2),
        ({"low": 1.0, "high": 1.0}, 1.0, np.nan),
        ({"high": 0.0}, -1.0, np.nan),
        ({"high": 0.1}, np.nan, np.nan),
        ({"high": 0.1}, np.inf, -np.inf),
    ],
)
def test_the_margin_is_counted_from_the_ideal_to_the_limit(limits, value, left):
    assert claim([], **(INFINITY | limits)).left(value) == pytest.approx(left, rel=1e-6, nan_ok=True)


def test_confidence_interval_is_students():
    low, high = verdicts.confidence_interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-6)


# ---------------------------------------------------------------------- networks that two experiments share


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ([0.25, 0.5], [0.25, 0.5], True),
        ([0.25, 0.5], [0.25, 0.75], True),  # some of the other's networks are the worst of one seed
        ([0.25, 0.5], [0.5, 0.25], False),  # another seed's
        ([0.25], [np.nextafter(0.25, 1)], False),
        ([1.0, 1.0], [1.0, 1.0], False),  # all pairs in order: alike by chance
        ([2e-16], [2e-16], False),  # rounding
        ([0.25], [np.nan], False),
    ],
)
def test_networks_are_shared_where_a_measurement_is_alike_to_the_bit(one, other, shared, judge):
    first, second = judge(claim(one)), replace(judge(claim(other)), experiment="f")
    assert verdicts.same_networks(first, second) == shared == verdicts.same_networks(second, first)
    assert not verdicts.same_networks(first, first)  # one experiment's own


def test_only_one_claim_can_share_its_networks(judge):
    first, second = judge(claim([0.5])), replace(judge(claim([0.5])), experiment="f")
    for change in ({"quantity": "another"}, {"high": 0.75}):
        assert not verdicts.same_networks(first, replace(second, claim=replace(second.claim, **change)))
    assert not verdicts.same_networks(first, replace(second, decision="fails"))


def test_claims_on_shared_networks_count_once(monkeypatch, tmp_path, capsys):
    mine = (claim([0.5], id="a"), claim([0.25, 2.0], id="b"), claim([0.0], id="c"))
    monkeypatch.setattr(tiny, "CLAIMS", mine, raising=False)
    runs = [run_of(tmp_path, name) for name in ("tiny", "again", "third")]
    ledger = verdicts.ledger(runs)
    assert [v.shared for v in ledger] == ["", "", "", "tiny", "tiny", "", "tiny", "tiny", ""]
    assert verdicts.tally(ledger) == {"holds": 4, "fails": 1, "not measured": 0}
    assert ledger[3].basis == "one value; 50 % left; same networks as tiny"
    report.print_ledger(ledger)
    assert "4 holds, 1 fails, 0 not measured; 4 more on the same networks as another" in capsys.readouterr().out
    html = " ".join(report.write(runs, ledger, tmp_path / "report.html").read_text(encoding="utf-8").split())
    assert "4 claims hold, 1 fails, 0 not measured; 4 more on the same networks as another" in html


# ---------------------------------------------------------------------- where it is shown


def test_terminal_page_tables_and_comparison_say_it(run, judge, monkeypatch, tmp_path, capsys):
    verdict = replace(judge(claim([0.25] * 3, id="c")), experiment="tiny")
    monkeypatch.setattr(tiny, "CLAIMS", (verdict.claim,), raising=False)
    report.print_ledger([verdict])
    assert verdict.basis in capsys.readouterr().out
    html = report.write([run], [verdict], tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count(verdict.basis) == 2  # in the ledger and with the claim
    table = verdicts.table([verdict])
    assert (table.margin[0], table.seeds[0], table.independent[0]) == (0.75, 3, 1)
    assert "| 0.75 |" in " ".join(export.render(table[["claim", "margin"]], "md").replace("|", " | ").split())
    mine = run_of(tmp_path)
    other = run_of(tmp_path / "reference" / "smoke")
    assert mine.place.fingerprint == other.place.fingerprint
    compare.print_comparison([mine], tmp_path / "reference")
    assert "= c 0.25 (75 % left) : 0.25 (75 % left)" in " ".join(capsys.readouterr().out.split())
