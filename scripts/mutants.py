"""python scripts/mutants.py [MODULE ...] [--jobs 2] [--out mutants.csv]

Breaks repro/theory in one place at a time (a sign, an index, a factor) and looks who notices: the claims, judged on
small runs of experiments, and of what they let pass the unit tests of the theory. Prints a table of counts and writes
a row for each mutant. Needs the extra `mutation`: pip install -e .[mutation]. Takes some two hours.

The mutants are cosmic-ray's, one replacement for each arithmetic operator and the nearest for each comparison; `|`
stands in annotations alone. Each lives in a fork of a process that has imported torch but not the theory, and is judged
by those experiments, and then tests, that execute its line. Lines that no experiment executes, and checks of arguments,
which none gives wrong, go to the unit tests at once.
"""

import argparse
import ast
import contextlib
import difflib
import io
import itertools
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import cvxpy  # noqa: F401  warm for the forks, as the next ones
import hypothesis  # noqa: F401
import modopt.opt.proximity  # noqa: F401
import mpmath  # noqa: F401
import pandas as pd
import pytest
import scipy.optimize  # noqa: F401
import torch
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

import repro
from repro.pipeline.execution.making import compute
from repro.pipeline.experiment import experiment as experiment_of
from repro.pipeline.presentation import verdicts
from repro.pipeline.settings import Config, load
from repro.pipeline.store import Run
from repro.pipeline.system.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
THEORY = Path(repro.__file__).parent / "theory"
MODULES = sorted(path.relative_to(THEORY).with_suffix("").as_posix() for path in THEORY.rglob("[!_]*.py"))
LIMIT = 120  # seconds for all experiments, or all tests: a mutant may loop forever
MEMORY = 6 << 30  # bytes, for the same reason

OPERATORS = [
    *(f"ReplaceBinaryOperator_{swap}" for swap in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul")),
    *(f"ReplaceBinaryOperator_{swap}" for swap in ("Mod_FloorDiv", "Pow_Mul", "BitAnd_BitOr")),
    *(f"ReplaceComparisonOperator_{swap}" for swap in ("Lt_LtE", "Lt_Gt", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_Lt")),
    *(f"ReplaceComparisonOperator_{swap}" for swap in ("GtE_Gt", "GtE_Lt", "Eq_NotEq", "NotEq_Eq")),
    *(f"ReplaceUnaryOperator_{swap}" for swap in ("USub_UAdd", "Delete_Invert", "Delete_Not")),
    *("ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "AddNot"),
    *("NumberReplacer", "RemoveDecorator", "ZeroIterationForLoop", "ExceptionReplacer"),
]

# Small problems, trained long enough that no claim fails; the quickest to notice first. Each is named after its
# experiment and, in brackets, what is particular.
EACH = ("device=cpu", "threads=1", "tracking.mode=disabled")
SMALL = ("scale=cpu", "seed=0", "data.in_features=12", "data.out_features=10", "data.samples=80", "data.rank=6")
LINEAR = {
    "rank_collapse": ["model.width=16", "dropout.block_size=[1,2,4]", "dropout.p=[0.5,0.7,0.9]", "training.steps=2000"],
    "rank_collapse (few inputs)": [
        *("data.in_features=8", "data.out_features=12", "model.width=8"),
        *("dropout.block_size=2", "dropout.p=[0.5,0.8]", "training.steps=2000"),
    ],
    "dropblock_objective": [
        *("model.width=8", "dropout.block_size=[1,4]", "dropout.retain=[0.7,0.9]"),
        *("training.steps=600", "options.monte_carlo_masks=65536"),
    ],
    "any_dropout": ["model.width=8", "dropout.retain=0.8", "training.steps=600", "options.monte_carlo_masks=65536"],
    "global_minimum": [
        *("model.width=16", "dropout.block_size=[1,2,4]", "dropout.p=[0.7,0.9]", "training.steps=2000"),
        *("options.width_needed.widths=[4,4]", "options.width_needed.starts=1"),  # too slow for a claim each time
    ],
    "dropconnect": ["model.width=8", "dropout.retain=0.6", "training.steps=600", "options.monte_carlo_masks=16384"],
    "deep_linear_regularizer": [
        *("model.depth=[2,3]", "model.width=[4,6]", "dropout.retain=[0.6,0.8]"),
        *("training.steps=300", "training.log_points=4", "options.random_networks=400"),
    ],
    "deep_linear_collapse": [
        *("model.depth=[2,3]", "model.width=4", "dropout.retain=[0.2,0.4,0.8]"),
        *("training.steps=1500", "options.starts=1"),
    ],
}
OTHERS = {
    "adaptive_regression": [],
    "adaptive_penalties": [],
    "incremental_schedule": ["seed=0"],
    "structured_noise": ["options.monte_carlo_masks=131072", "options.rotations=500"],
    "structured_output_landmarks": ["seed=0", "options.pairs=20"],
}
RUNS = {name: [*EACH, *SMALL, *overrides] for name, overrides in LINEAR.items()}
RUNS |= {name: [*EACH, "scale=smoke", *overrides] for name, overrides in OTHERS.items()}


@dataclass(frozen=True)
class Mutant:
    """One broken place.

    `source` is the module with it, `change` the lines that differ, `experiments` and `tests` those that execute them,
    `killed_by` who noticed.
    """

    module: str
    operator: str
    line: int
    change: str
    source: str
    experiments: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    killed_by: str = ""


class TooSlow(BaseException):
    """Not an Exception, so that nothing on the way takes it for one."""


def source(module: str) -> str:
    return (THEORY / f"{module}.py").read_text(encoding="utf-8")


def mutants(module: str) -> Iterator[Mutant]:
    """Every mutant of a module."""
    original = source(module)
    for name in OPERATORS:
        for occurrence in itertools.count():
            mutated = mutate_code(original, get_operator(f"core/{name}")(), occurrence)
            if mutated is None:
                break
            line, change = _change(original, mutated)
            yield Mutant(module, name, line, change, mutated)


def _change(original: str, mutated: str) -> tuple[int, str]:
    before, after = original.splitlines(), mutated.splitlines()
    for _, first, last, start, end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if before[first:last] != after[start:end]:
            texts = [" ".join(map(str.strip, lines)) for lines in (before[first:last], after[start:end])]
            return first + 1, " → ".join(texts)
    return 0, ""


@contextlib.contextmanager
def _in_place(mutant: Mutant) -> Iterator[Path]:
    """`repro.theory` is the mutant, from here to the end of this process."""
    assert "repro.theory" not in sys.modules
    sys.dont_write_bytecode = True

    def too_slow(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGALRM, too_slow)
    signal.alarm(LIMIT)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(THEORY, Path(folder) / "theory", ignore=shutil.ignore_patterns("__pycache__"))
        (Path(folder) / "theory" / f"{mutant.module}.py").write_text(mutant.source, encoding="utf-8")
        repro.__path__.insert(0, folder)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield Path(folder)


def judged_by_claims(mutant: Mutant) -> Mutant:
    """The mutant with the claim that fails, or the error that an experiment ends in."""
    torch.set_num_threads(1)
    with _in_place(mutant) as folder:
        for experiment in mutant.experiments:
            run = Run(CONFIGS[experiment].model_copy(update={"results": str(folder)}))
            try:
                record = run.write(compute(run.config, Progress("", quiet=True)), {})
                for claim in experiment_of(run.config).claims:
                    verdict = verdicts.judge(claim, record, experiment=experiment, command="")
                    if verdict is not None and verdict.decision == "fails":
                        return replace(mutant, killed_by=f"claim {experiment}.{claim.id}")
            except Exception as error:
                return replace(mutant, killed_by=f"{type(error).__name__} in {experiment}")
            except TooSlow:
                return replace(mutant, killed_by=f"time in {experiment}")
    return mutant


class Lines:
    """The lines of each module that are executed while it is entered."""

    def __init__(self) -> None:
        self.executed: dict[str, set[int]] = {}

    def __enter__(self) -> dict[str, set[int]]:
        self.executed = {module: set() for module in MODULES}
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        return self.executed

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]

    def _trace(self, frame: FrameType, event: str, _: object) -> Callable[..., object] | None:
        module = frame.f_code.co_filename.rpartition("/theory/")[2].removesuffix(".py")
        if module not in self.executed:
            return None
        self.executed[module].add(frame.f_lineno)
        return self._trace


def reached(experiment: str) -> dict[str, set[int]]:
    """The lines of each module that are for the claims of an experiment to judge: of statements that it executes, but
    for checks of arguments. No claim of the experiment fails on the theory as it is."""
    with Lines() as executed:
        healthy = judged_by_claims(Mutant(MODULES[0], "none", 0, "", source(MODULES[0]), (experiment,)))
    assert not healthy.killed_by, f"{healthy.killed_by} without a mutant"
    return {module: statements(module, lines, checks=False) for module, lines in executed.items()}


def statements(module: str, executed: set[int], *, checks: bool) -> set[int]:
    """All lines of the statements of which one is executed, with or without checks of arguments."""
    lines, left_out = set(executed), set[int]()
    for node in ast.walk(ast.parse(source(module))):
        if isinstance(node, ast.stmt):
            inner = getattr(node, "body", None)
            whole = range(node.lineno, inner[0].lineno if inner else (node.end_lineno or node.lineno) + 1)
            if lines & set(whole):
                (left_out if _is_check(node) and not checks else lines).update(whole)
    return lines - left_out


def _is_check(node: ast.stmt) -> bool:
    if isinstance(node, ast.If):
        return isinstance(node.body[0], ast.Raise) or _is_check(node.body[0])
    return isinstance(node, ast.Expr) and ast.unparse(node).lstrip("_").startswith("check_")


class Tests:
    """The tests to run, all if none are named; and which lines each executes, if asked."""

    def __init__(self, names: tuple[str, ...] = (), *, traced: bool = False) -> None:
        self.names, self.traced = names, traced
        self.lines: dict[str, dict[str, set[int]]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self.names or not self.names]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        with Lines() if self.traced else contextlib.nullcontext({}) as executed:
            yield
        self.lines[item.nodeid] = executed


def _passed(tests: Tests, files: Iterable[str]) -> bool:
    shapes = ["--jaxtyping-packages=repro.theory,beartype.beartype", "--import-mode=importlib"]
    where = ["-c", str(ROOT / "pyproject.toml"), *(str(ROOT / file) for file in files)]
    quick = ["-x", "--tb=no", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    return pytest.main([*quick, *shapes, *where], plugins=[tests]) == 0


def executed_by_tests() -> dict[str, dict[str, set[int]]]:
    """The lines of each module that each test of the theory executes. None fails on the theory as it is."""
    with _in_place(Mutant(MODULES[0], "none", 0, "", source(MODULES[0]))):
        signal.alarm(0)
        tests = Tests(traced=True)
        assert _passed(tests, ["tests/theory"]), "a unit test fails without a mutant"
    return {
        name: {module: statements(module, lines, checks=True) for module, lines in executed.items() if lines}
        for name, executed in tests.lines.items()
    }


def tests_of(module: str, line: int, executed: dict[str, dict[str, set[int]]]) -> tuple[str, ...]:
    """The tests that execute a line; of one that none does, as what is done on import, those that execute the module.
    Those in the file that is named after the module, or its package, come first."""
    users = {name: lines[module] for name, lines in executed.items() if module in lines}
    nearest = f"test_{module.split('/')[0]}.py"
    return tuple(sorted([name for name in users if line in users[name]] or users, key=lambda name: nearest not in name))


def judged_by_tests(mutant: Mutant) -> Mutant:
    """The mutant with whether a unit test fails, of those that execute its line."""
    if not mutant.tests:
        return mutant
    with _in_place(mutant):
        try:
            passed = _passed(Tests(mutant.tests), dict.fromkeys(name.partition("::")[0] for name in mutant.tests))
        except TooSlow:
            passed = False
    return replace(mutant, killed_by="" if passed else "unit tests")


CONFIGS: dict[str, Config] = {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(MODULES)}; default: all")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="judge one mutant of N")
    parser.add_argument("--claims-only", action="store_true", help="leave the unit tests out")
    parser.add_argument("--known", type=Path, help="an earlier --out: what its unit tests killed, later ones would too")
    parser.add_argument("--out", type=Path, default=Path("mutants.csv"))
    arguments = parser.parse_args()
    chosen = arguments.modules or MODULES
    if unknown := set(chosen) - set(MODULES):
        parser.error(f"no module {', '.join(unknown)} in theory; there are: {', '.join(MODULES)}")

    logging.disable(logging.INFO)
    for name, overrides in RUNS.items():
        CONFIGS[name] = load([f"experiment={name.split()[0]}", *overrides])  # imports the experiment
    assert "repro.theory" not in sys.modules

    results: list[Mutant] = []
    with multiprocessing.get_context("fork").Pool(arguments.jobs, maxtasksperchild=1) as pool:
        executed = dict(zip(RUNS, pool.map(reached, RUNS, chunksize=1), strict=True))
        tested = {} if arguments.claims_only else pool.apply(executed_by_tests)
        for module in chosen:
            found = [
                replace(
                    mutant,
                    experiments=tuple(name for name in RUNS if mutant.line in executed[name][module]),
                    tests=tests_of(module, mutant.line, tested),
                )
                for mutant in itertools.islice(mutants(module), 0, None, arguments.every)
            ]
            judged = []
            for number, mutant in enumerate(pool.imap(judged_by_claims, found, chunksize=1), start=1):
                print(f"[{number}/{len(found)}] {module}:{mutant.line} {mutant.killed_by or 'alive'}", flush=True)
                judged.append(mutant)
            alive = [mutant for mutant in judged if not mutant.killed_by]
            if not arguments.claims_only:
                known, rest = _known(alive, arguments.known)
                alive = known + pool.map(judged_by_tests, rest, chunksize=1)
            results += [mutant for mutant in judged if mutant.killed_by] + alive
            write(results, arguments.out)
    return 0


def _known(alive: list[Mutant], path: Path | None) -> tuple[list[Mutant], list[Mutant]]:
    """The mutants that the unit tests killed according to the table at `path`, and the others."""
    killed: dict[tuple[str, ...], bool] = {}
    for row in pd.read_csv(path, keep_default_na=False).itertuples() if path else ():
        key = (row.module, row.operator, row.change)
        killed[key] = killed.get(key, True) and row.killed_by == "unit tests"
    known = [m for m in alive if killed.get((m.module, m.operator, m.change))]
    return [replace(m, killed_by="unit tests") for m in known], [m for m in alive if m not in known]


def write(results: list[Mutant], path: Path) -> None:
    columns = ("module", "line", "operator", "change", "killed_by")
    rows = [{name: getattr(m, name) for name in columns} | {"judged": bool(m.experiments)} for m in results]
    table = pd.DataFrame(rows).sort_values(["module", "line", "operator"], kind="stable")
    table.to_csv(path, index=False)
    who = table.killed_by.map(lambda text: text.split()[0] if text.startswith("claim") else text or "nobody")
    who = who.where(who.isin(["claim", "unit tests", "nobody"]), "error")
    print(pd.crosstab(table.module, who, margins=True).to_markdown())
    print(table[table.killed_by == ""].to_string(index=False))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
