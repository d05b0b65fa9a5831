"""The engines that run independent pieces of work on several processes or machines: joblib, submitit (SLURM), Ray.

Chosen as in Hydra, `hydra/launcher=NAME hydra.launcher.key=value` (conf/hydra/launcher/), and driven directly: Hydra's
own launcher plugins make output folders for every job, know whole runs alone, not parts of a grid, and lose a sweep at
its first failure; the one for Ray needs versions of other packages that are years old.
"""

import contextlib
import importlib
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError

from repro.pipeline.composition.wording import first_line, shown
from repro.pipeline.settings import Count, Section, unknown
from repro.pipeline.settings.config import one_line
from repro.pipeline.system.errors import Misfortune, UserError

Item = TypeVar("Item")
Work = Callable[[Item], None]
Finished = Iterator[tuple[int, str | None]]
"""The position of each item as it is finished, and what went wrong."""

POLL = 0.2  # seconds between two looks at submitted jobs
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Launcher(Section):
    """What may be set of an engine, and how it is driven."""

    engine: str
    workers: Count | None
    cells: Annotated[int, Field(ge=8, multiple_of=8)]

    @property
    def elsewhere(self) -> bool:
        """Whether workers may be on other machines than this one."""
        return False

    def package(self) -> ModuleType:
        """The engine, which need not be installed."""
        name, install = self.engine, "make setup-ray" if self.engine == "ray" else "make setup"
        try:
            return importlib.import_module(name)
        except ImportError:
            raise UserError(f"hydra/launcher={name}: the package {name} is not installed; {install} does it") from None

    @contextlib.contextmanager
    def started(self, threads: int) -> Iterator[None]:
        """The engine, ready for `run` on workers of `threads` threads, and stopped afterwards; a `UserError` where it
        is not installed, or cannot start."""
        self.package()
        variables = dict.fromkeys(THREAD_SETTINGS, str(threads))
        with contextlib.ExitStack() as afterwards:
            for name, value in variables.items():  # processes that are started inherit them
                afterwards.callback(os.environ.update, {name: os.environ[name]} if name in os.environ else {})
                afterwards.callback(os.environ.pop, name)
                os.environ[name] = value
            self._start(threads, variables)
            afterwards.callback(self._stop)
            yield

    def run(self, work: Work[Item], items: Sequence[Item], threads: int, folder: Path) -> Finished:
        """work(item) for every item on an engine that has `started`; `folder` takes its logs.

        An item whose work raises is reported with its traceback, one whose worker died with a line. The others go on,
        but for joblib's, whose pool of processes ends with one of them.
        """
        raise NotImplementedError

    def _start(self, threads: int, variables: Mapping[str, str]) -> None:
        """Most need nothing before they are given work."""

    def _stop(self) -> None:
        """Nor after it."""

    def _workers_here(self, threads: int) -> int:
        return self.workers or max(1, len(os.sched_getaffinity(0)) // threads)


class Joblib(Launcher):
    engine: Literal["joblib"]

    def run(self, work: Work[Item], items: Sequence[Item], threads: int, folder: Path) -> Finished:
        joblib = self.package()
        options = {"return_as": "generator_unordered", "batch_size": 1, "pre_dispatch": "all"}
        parallel = joblib.Parallel(self._workers_here(threads), backend="loky", **options)
        waiting = set(range(len(items)))
        try:
            for number, wrong in parallel(joblib.delayed(attempt)(n, work, item) for n, item in enumerate(items)):
                waiting.remove(number)
                yield number, wrong
        except joblib.externals.loky.process_executor.BrokenProcessPool as error:
            yield from ((number, f"a worker died: {first_line(error)}") for number in sorted(waiting))

    def _stop(self) -> None:
        """It keeps its processes for later calls, with this one's settings: all work is done, or no longer wanted."""
        self.package().externals.loky.get_reusable_executor(reuse=True).shutdown(kill_workers=True)


class Submitit(Launcher):
    engine: Literal["submitit"]
    cluster: Literal["slurm", "local"] | None
    timeout_min: Count
    nodes: Count
    tasks_per_node: Count
    cpus_per_task: Count | None
    gpus_per_node: Count | None
    mem_gb: Count | None
    partition: str | None
    account: str | None
    additional: dict[str, object]

    @property
    def chosen_cluster(self) -> str:
        return self.cluster or ("slurm" if shutil.which("sbatch") else "local")

    @property
    def elsewhere(self) -> bool:
        return self.chosen_cluster == "slurm"

    def _start(self, threads: int, variables: Mapping[str, str]) -> None:
        if self.chosen_cluster == "slurm" and not shutil.which("sbatch"):
            raise UserError("hydra/launcher=submitit_slurm: there is no sbatch here; submitit_local needs none")

    def run(self, work: Work[Item], items: Sequence[Item], threads: int, folder: Path) -> Finished:
        import submitit  # noqa: PLC0415  need not be installed

        cluster = self.chosen_cluster
        executor = submitit.AutoExecutor(folder / "%j", cluster=cluster)
        executor.update_parameters(**self._parameters(threads))
        workers = self._workers_here(threads) if cluster == "local" else len(items)
        waiting = list(enumerate(items))
        running: dict[int, submitit.Job[tuple[int, str | None]]] = {}
        try:
            while waiting or running:
                free = workers - len(running)
                if free and waiting:
                    with executor.batch():  # on SLURM one job array
                        running |= {n: executor.submit(attempt, n, work, item) for n, item in waiting[:free]}
                    waiting = waiting[free:]
                time.sleep(POLL)
                for number, job in [pair for pair in running.items() if pair[1].done()]:
                    del running[number]
                    try:
                        wrong = next((wrong for _, wrong in job.results() if wrong), None)
                    except Exception as error:  # no result: the job was killed, ran out of time or memory
                        wrong = f"job {job.job_id} died: {first_line(error)}; its log: {job.paths.stderr}"
                    yield number, wrong
        finally:
            for job in running.values():
                job.cancel(check=False)

    def _parameters(self, threads: int) -> dict[str, object]:
        same = ("timeout_min", "nodes", "tasks_per_node", "gpus_per_node", "mem_gb")
        options = {name: getattr(self, name) for name in same} | {
            "name": "repro",
            "cpus_per_task": self.cpus_per_task or threads,
            "slurm_partition": self.partition,
            "slurm_account": self.account,
            "slurm_array_parallelism": self.workers,
            "slurm_additional_parameters": self.additional or None,
        }
        return {name: value for name, value in options.items() if value is not None}


class Ray(Launcher):
    engine: Literal["ray"]
    address: str | None
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @property
    def elsewhere(self) -> bool:
        return self.address is not None

    def _start(self, threads: int, variables: Mapping[str, str]) -> None:
        """Connects to a cluster, or starts one on this machine."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        cores = self._workers_here(threads) * threads
        here = {} if self.address else {"num_cpus": cores, "include_dashboard": False}
        path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        environment = {"env_vars": {**variables, **path}}
        try:
            self.package().init(self.address, runtime_env=environment, logging_level="warning", **here)
        except (ConnectionError, ValueError) as error:
            raise UserError(f"hydra.launcher.address={self.address}: {first_line(error)}") from None

    def _stop(self) -> None:
        self.package().shutdown()

    def run(self, work: Work[Item], items: Sequence[Item], threads: int, folder: Path) -> Finished:
        ray = self.package()
        remote = ray.remote(num_cpus=threads, num_gpus=self.gpus, max_retries=0)(attempt)
        running = {remote.remote(number, work, item): number for number, item in enumerate(items)}
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.RayError as error:
                yield number, f"a worker died: {first_line(error)}"


ENGINES: dict[str, type[Launcher]] = {"joblib": Joblib, "submitit": Submitit, "ray": Ray}


def validated(raw: Mapping[str, object]) -> Launcher:
    """A composed launcher by the settings of its engine; a `UserError` for the first mistake."""
    engine = str(raw.get("engine"))
    if engine not in ENGINES:
        raise UserError(f"hydra.launcher.engine={shown(engine)}: {unknown(engine, list(ENGINES))}")
    try:
        return ENGINES[engine].model_validate(raw)
    except ValidationError as error:
        raise UserError(one_line(error, {"hydra": {"launcher": raw}}, ("hydra", "launcher"))) from None


def attempt(number: int, work: Work[Item], item: Item) -> tuple[int, str | None]:
    """What a worker does: only text comes back, the work itself leaves files."""
    try:
        work(item)
    except (UserError, Misfortune) as mistake:
        return number, f"error: {mistake}"
    except Exception:
        return number, traceback.format_exc()
    return number, None
