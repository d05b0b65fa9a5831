"""A search for settings: Optuna proposes values, a headline number judges them, every trial is a run with its record.

Chosen as in Hydra, `-m hydra/sweeper=optuna hydra.sweeper.key=value` (conf/hydra/sweeper/), and driven directly:
Hydra's own plugin needs an Optuna of 2021. A study lies in its storage: the same command goes on with it, a trial that
was killed is tried again with its values, and the values proposed are those of a search that nobody has disturbed.
"""

import contextlib
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from numpy.random import SeedSequence
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from pydantic import Field, ValidationError

from repro.pipeline.composition.files import CONF
from repro.pipeline.composition.typed import parsed
from repro.pipeline.composition.wording import first_line, nearest
from repro.pipeline.execution import runner
from repro.pipeline.execution.launchers import Launcher
from repro.pipeline.settings import Count, Section
from repro.pipeline.settings.config import one_line
from repro.pipeline.settings.loading import announce
from repro.pipeline.store import Record, Run
from repro.pipeline.store.records import records
from repro.pipeline.system import locks
from repro.pipeline.system.errors import UserError

Make = Callable[[list[str]], Run]
Values = Mapping[str, object]  # as typed, by key
Space = Mapping[str, BaseDistribution]

REFERENCE = CONF.parent / "results" / "reference" / "cpu"


class Sweeper(Section):
    """What may be set of a search."""

    engine: Literal["optuna"]
    objective: str | None
    direction: Literal["minimize", "maximize"]
    n_trials: Count
    n_jobs: Count
    sampler: Literal["tpe", "random"]
    seed: Annotated[int, Field(ge=0)]
    study_name: str | None
    storage: str | None


def validated(raw: Mapping[str, object]) -> Sweeper:
    """A composed sweeper; a `UserError` for the first mistake."""
    try:
        return Sweeper.model_validate(raw)
    except ValidationError as error:
        raise UserError(one_line(error, {"hydra": {"sweeper": raw}}, ("hydra", "sweeper"))) from None


def search(sweeper: Sweeper, overrides: Sequence[str], make: Make, launcher: Launcher | None) -> int:
    """Trials until the study has `n_trials`; says the best one. `make` turns overrides into a run.

    Raises:
        UserError: no Optuna; nothing to search; a value that the experiment does not take with the ends of the others;
            an objective that is no headline number; `n_jobs` without a launcher; a storage that cannot be used.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    given = parsed(overrides)
    fixed = [str(one.input_line) for one in given if not one.is_sweep_override()]
    space = {str(one.get_key_element()): _distribution(one) for one in given if one.is_sweep_override()}
    if not space:
        raise UserError(
            "hydra/sweeper=optuna: nothing to search; give a key as interval(a,b), range(a,b) or choice(a,b)"
        )
    if sweeper.n_jobs > 1 and launcher is None:
        raise UserError(f"hydra.sweeper.n_jobs={sweeper.n_jobs}: needs a launcher, as hydra/launcher=joblib")

    def run_of(values: Values) -> Run:
        return make([*fixed, *(f"{key}={value}" for key, value in values.items())])

    run = _checked(space, run_of)
    announce([run.config], overrides)
    objective = _objective(sweeper, run)
    if run.config.estimate:
        print(f"one trial of {sweeper.n_trials}:", flush=True)
        return int(runner.heavy("estimate").say_all([run]))
    name = sweeper.study_name or _name(run, sweeper, overrides)
    lock = run.results / f".lock-study-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    with locks.hold(lock):  # two processes at one study would take each other's trials for killed ones
        study = _study(sweeper, name, run.results)
        for trial in study.get_trials(states=[TrialState.RUNNING]):
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
        if there := _judged(study):
            print(f"study {name}: {there} trials are there", flush=True)
        while (done := _judged(study)) < sweeper.n_trials:
            sampler = optuna.samplers.TPESampler if sweeper.sampler == "tpe" else optuna.samplers.RandomSampler
            study.sampler = sampler(seed=int(SeedSequence([sweeper.seed, done]).generate_state(1)[0]))
            trials = [study.ask(space) for _ in range(min(sweeper.n_jobs, sweeper.n_trials - done))]
            _try(study, trials, run_of, objective, launcher, sweeper.n_trials)
        return _say_best(study, run_of, objective)


def _try(
    study: optuna.Study,
    trials: Sequence[optuna.Trial],
    run_of: Callable[[Values], Run],
    objective: str,
    launcher: Launcher | None,
    total: int,
) -> None:
    """Runs proposed trials, and tells the study what they came to; one without a number counts as worse than all."""
    done = _judged(study)
    runs: dict[int, Run] = {}
    wrong: dict[int, str] = {}
    for number, trial in enumerate(trials):
        print(f"[{done + number + 1}/{total}] {' '.join(f'{k}={v}' for k, v in trial.params.items())}", flush=True)
        try:
            runs[number] = run_of(trial.params)
        except UserError as mistake:  # values that do not go together
            wrong[number] = str(mistake)
    found: dict[int, Record] = {}
    if launcher is None:
        found = {number: runner.execute(run).record for number, run in runs.items()}
    else:
        outcomes = runner.heavy("spread").execute_all(list(runs.values()), launcher)
        for number, outcome in zip(runs, outcomes, strict=True):
            if isinstance(outcome, str):
                wrong[number] = outcome
            else:
                found[number] = outcome.record
    for number, trial in enumerate(trials):
        value = None
        if number in found:
            numbers = found[number].summary["headline"]
            _named(objective, list(numbers))
            value = numbers[objective]
            wrong |= {} if value is not None and math.isfinite(value) else {number: f"{objective} is not a number"}
        if number in wrong:
            print(f"  no result: {wrong[number]}", flush=True)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)
            print(f"  {objective} {value:.4g}, best so far {study.best_value:.4g}", flush=True)


def _say_best(study: optuna.Study, run_of: Callable[[Values], Run], objective: str) -> int:
    try:
        best = study.best_trial
    except ValueError:
        print(f"study {study.study_name}: no trial came to a result", flush=True)
        return 1
    print(f"best of {len(study.trials)}: {objective} {best.value:.6g}, {run_of(best.params).command}", flush=True)
    return 0


def _distribution(override: Override) -> BaseDistribution:
    """The values between which Optuna may choose, as Hydra's grammar has them."""
    values = override.value()
    try:
        if isinstance(values, IntervalSweep):
            low, high, log = values.start, values.end, "log" in values.tags
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low or 0), float(high or 0), log=log)
        typed = list(override.sweep_string_iterator())
        if isinstance(values, RangeSweep) and all(map(_is_whole, typed)):
            return IntDistribution(int(typed[0]), int(typed[-1]), step=int(values.step))
        if isinstance(values, RangeSweep):
            return FloatDistribution(float(typed[0]), float(typed[-1]), step=float(values.step))
        return CategoricalDistribution(typed)
    except ValueError as error:
        raise UserError(f"{override.input_line}: {first_line(error)}") from None


def _is_whole(text: str) -> bool:
    return text.lstrip("-").isdigit()


def _checked(space: Space, run_of: Callable[[Values], Run]) -> Run:
    """A run of the space; a `UserError` for the first value that goes neither with the others' first values nor with
    their last ones."""
    ends = {key: _ends(one) for key, one in space.items()}
    first, last = ({key: values[at] for key, values in ends.items()} for at in (0, -1))
    run = None
    for key, values in ends.items():
        for value in values[run is not None :]:  # the others' first values are tried by then
            try:
                run = run_of({**first, key: value})
            except UserError as mistake:
                with contextlib.suppress(UserError):
                    run = run_of({**last, key: value})
                    continue
                raise mistake from None
    assert run is not None
    return run


def _ends(values: BaseDistribution) -> list[object]:
    if isinstance(values, CategoricalDistribution):
        return list(values.choices)
    assert isinstance(values, IntDistribution | FloatDistribution)
    return [values.low, values.high]


def _objective(sweeper: Sweeper, run: Run) -> str:
    """The name of the number that is judged; checked against the records of the experiment where there are some."""
    name = run.config.name
    found = next((kept for folder in (run.results, REFERENCE) for kept in records(name, folder)), None)
    known = list(found.summary["headline"]) if found else []
    if sweeper.objective is None:
        these = f"one of {', '.join(known)}" if known else "which a run prints at its end"
        raise UserError(f"hydra.sweeper.objective: must name a headline number of {name}, {these}")
    if known:
        _named(sweeper.objective, known)
    return sweeper.objective


def _named(objective: str, known: list[str]) -> None:
    if objective not in known:
        near = nearest(objective, known)
        raise UserError(f"hydra.sweeper.objective={objective}: must be one of {', '.join(known)}{near}")


def _name(run: Run, sweeper: Sweeper, overrides: Sequence[str]) -> str:
    typed = sorted(text for text in overrides if not text.startswith(("results=", "figures=", "tracking", "force=")))
    asked = repr((typed, sweeper.objective, sweeper.direction, sweeper.sampler, sweeper.seed, run.config.scale))
    return f"{run.config.name}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"


def _study(sweeper: Sweeper, name: str, results: Path) -> optuna.Study:
    where = sweeper.storage or str(results / "optuna.log")
    try:
        if "://" not in where:
            Path(where).parent.mkdir(parents=True, exist_ok=True)
        storage = where if "://" in where else JournalStorage(JournalFileBackend(where))
        return optuna.create_study(storage=storage, study_name=name, direction=sweeper.direction, load_if_exists=True)
    except Exception as error:  # of any database
        raise UserError(f"hydra.sweeper.storage={where}: {first_line(error)}") from error


def _judged(study: optuna.Study) -> int:
    """How many trials have come to their end; those that were killed have failed, and count anew."""
    states = [TrialState.COMPLETE, TrialState.PRUNED]
    return len(study.get_trials(deepcopy=False, states=states))
