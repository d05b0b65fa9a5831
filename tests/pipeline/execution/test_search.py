"""Searches: every trial a record, the best one found, the same proposals whether or not somebody killed the search."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from repro.pipeline.execution import commands, runner
from repro.pipeline.store import Run
from repro.pipeline.system.errors import UserError

OBJECTIVE = "largest gap to the closed form"
FIXED = [
    "experiment=rank_collapse",
    *("scale=smoke", "device=cpu", "figures=false", "tracking.mode=disabled"),
    *("dropout.block_size=4", "dropout.p=0.5", "seed=0"),
]
SEARCH = ["hydra/sweeper=optuna", f"hydra.sweeper.objective={OBJECTIVE}"]
RATE = "training.learning_rate=tag(log,interval(0.001,0.1))"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def search(*typed: str) -> int:
    return commands.run([*FIXED, *SEARCH, *typed], None, multirun=True)


def study(storage: str = "results/optuna.log") -> optuna.Study:
    backend = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(storage))
    (name,) = optuna.get_all_study_names(backend)
    return optuna.load_study(study_name=name, storage=backend)


def judged_by(judge: Callable[[Run], float | None]) -> Callable[..., object]:
    """In place of `runner.execute`: a record whose headline is `judge` of the run."""

    def execute(run: Run, **how: object) -> object:
        return SimpleNamespace(record=SimpleNamespace(summary={"headline": {OBJECTIVE: judge(run)}}))

    return execute


def rate(run: Run) -> float:
    return float(run.config.training.learning_rate)  # type: ignore[attr-defined]


def test_every_trial_is_a_record_and_the_best_one_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert search(RATE, "hydra.sweeper.n_trials=3") == 0
    found = {}
    for path in Path("results/runs/rank_collapse").glob("*/summary.json"):
        summary = json.loads(path.read_text())
        found[summary["headline"][OBJECTIVE]] = summary["command"]
    assert len(found) == 3
    assert sorted(trial.value for trial in study().trials) == sorted(found)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"best of 3: {OBJECTIVE} {min(found):.6g}, {found[min(found)]}"


def test_it_finds_what_is_best(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.02 of [0.001, 0.1] on a logarithmic scale; a search for the largest value ends elsewhere."""
    monkeypatch.setattr(runner, "execute", judged_by(lambda run: abs(rate(run) - 0.02)))
    search(RATE, "hydra.sweeper.n_trials=16")
    assert study().best_params["training.learning_rate"] == pytest.approx(0.02, rel=0.1)
    search(RATE, "hydra.sweeper.n_trials=4", "hydra.sweeper.direction=maximize", "hydra.sweeper.storage=other.log")
    assert study("other.log").best_value == max(trial.value for trial in study("other.log").trials)


def test_a_killed_search_goes_on_as_if_nothing_had_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    space = [RATE, "training.masks_per_step=choice(1,2,4)", "training.steps=range(100,1000,100)"]
    judge = judged_by(lambda run: abs(rate(run) - 0.02))
    monkeypatch.setattr(runner, "execute", judge)
    search(*space, "hydra.sweeper.n_trials=6", "hydra.sweeper.storage=whole.log")
    calls = []

    def killed(run: Run, **how: object) -> object:
        calls.append(run)
        if len(calls) in (2, 5):
            raise KeyboardInterrupt
        return judge(run)

    monkeypatch.setattr(runner, "execute", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            search(*space, "hydra.sweeper.n_trials=6")
    search(*space, "hydra.sweeper.n_trials=6")
    tried = [trial.params for trial in study().trials if trial.state == optuna.trial.TrialState.COMPLETE]
    assert tried == [trial.params for trial in study("whole.log").trials]
    assert len(calls) == 8
    search(*space, "hydra.sweeper.n_trials=6")  # all are there
    assert len(calls) == 8
    assert {type(value) for trial in tried for value in trial.values()} == {float, str, int}


def test_a_trial_without_a_number_is_worse_than_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for nothing in (None, float("nan")):
        judge = judged_by(lambda run, found=nothing: found if rate(run) > 0.01 else 1.0)  # type: ignore[misc]
        monkeypatch.setattr(runner, "execute", judge)
        search(RATE, "hydra.sweeper.n_trials=4", f"hydra.sweeper.storage={nothing}.log")
        assert study(f"{nothing}.log").best_value == 1.0
        assert f"no result: {OBJECTIVE} is not a number" in capsys.readouterr().out
    monkeypatch.setattr(runner, "execute", judged_by(lambda run: None))
    assert search(RATE, "hydra.sweeper.n_trials=2", "hydra.sweeper.storage=c.log") == 1


def test_values_that_do_not_go_together_cost_a_trial_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "execute", judged_by(lambda run: 1.0))
    typed = [text for text in FIXED if not text.startswith("dropout.block_size")]
    space = ["model.width=choice(48,45)", "dropout.block_size=choice(4,5)"]
    assert commands.run([*typed, *SEARCH, *space, "hydra.sweeper.n_trials=6"], None, multirun=True) == 0
    assert "no result: dropout.block_size=" in capsys.readouterr().out
    assert {tuple(trial.params.values()) for trial in study().trials if trial.value} == {("48", "4"), ("45", "5")}


def test_trials_side_by_side() -> None:
    assert search(RATE, "hydra.sweeper.n_trials=2", "hydra.sweeper.n_jobs=2", "hydra/launcher=joblib") == 0
    assert len(list(Path("results/runs/rank_collapse").glob("*/summary.json"))) == 2
    assert [trial.value is not None for trial in study().trials] == [True] * 2


MISTAKES = {
    ("training.learning_rate=0.1",): "nothing to search; give a key as interval",
    ("training.learning_rate=interval(-1,0.1)",): "training.learning_rate=-1.0: must be greater than 0",
    ("training.learning_rate=interval(1,0.1)",): "training.learning_rate=interval(1,0.1): ",
    ("training.learning_rate=tag(log,interval(0,0.1))",): "training.learning_rate=tag(log,interval(0,0.1)): ",
    ("model.width=choice(48,x)",): "model.width=x: must be an integer",
    ("training.bogus=interval(0,1)",): "unknown key training.bogus",
    (RATE, "hydra.sweeper.n_jobs=2"): "hydra.sweeper.n_jobs=2: needs a launcher",
    (RATE, "hydra.sweeper.n_trials=0"): "hydra.sweeper.n_trials=0: must be at least 1",
    (RATE, "hydra.sweeper.direction=up"): "hydra.sweeper.direction=up: must be one of minimize, maximize",
    (RATE, "hydra.sweeper.sampler=cmaes"): "hydra.sweeper.sampler=cmaes: must be one of tpe, random",
    (RATE, "hydra.sweeper.trials=3"): "unknown key hydra.sweeper.trials; did you mean hydra.sweeper.n_trials?",
    (RATE, "hydra.sweeper.storage=file/optuna.log"): "hydra.sweeper.storage=file/optuna.log: ",
    (RATE, "hydra.sweeper.storage=nosql://x"): "hydra.sweeper.storage=nosql://x: ",
    (RATE, "hydra.job.name=x"): "hydra.job.name=x: Hydra's own settings cannot be changed here",
}


@pytest.mark.parametrize("typed", MISTAKES)
def test_mistakes_are_one_line_before_anything_trains(typed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "execute", lambda run, **how: pytest.fail("it trains"))
    Path("file").touch()
    with pytest.raises(UserError) as mistake:
        commands.run([*FIXED, *SEARCH, *typed], None, multirun=True)
    assert MISTAKES[typed] in str(mistake.value)
    assert "\n" not in str(mistake.value)


def test_a_search_needs_m_and_an_objective() -> None:
    with pytest.raises(UserError, match="hydra/sweeper=optuna: several runs need -m"):
        commands.run([*FIXED, *SEARCH, RATE], None, multirun=False)
    with pytest.raises(UserError, match="must name a headline number of rank_collapse, one of median gap"):
        commands.run([*FIXED, "hydra/sweeper=optuna", RATE], None, multirun=True)
    with pytest.raises(UserError, match="objective=gap: must be one of median gap to the closed form, "):
        commands.run([*FIXED, "hydra/sweeper=optuna", "hydra.sweeper.objective=gap", RATE], None, multirun=True)


def test_an_objective_that_no_record_has_shown_yet_is_one_line_after_the_first_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("repro.pipeline.execution.search.REFERENCE", Path("nowhere"))
    monkeypatch.setattr(runner, "execute", judged_by(lambda run: 1.0))
    with pytest.raises(UserError, match=f"objective=gap: must be one of {OBJECTIVE}"):
        commands.run([*FIXED, "hydra/sweeper=optuna", "hydra.sweeper.objective=gap", RATE], None, multirun=True)
