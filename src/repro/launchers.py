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
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from repro.config import Count, Section, one_line
from repro.errors import Misfortune, UserError

Item = TypeVar("Item")
Work = Callable[[Item], None]
Finished = Iterator[tuple[int, str | None]]
"""The position of each item as it is finished, and what went wrong."""

POLL = 0.2  # seconds between two looks at submitted jobs
THREAD_SETTINGS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Joblib(Section):
    engine: Literal["joblib"]
    workers: Count | None
    cells: Annotated[int, Field(ge=8, multiple_of=8)]

    @property
    def elsewhere(self) -> bool:
        """Whether workers may be on other machines than this one."""
        return False


class Submitit(Section):
    engine: Literal["submitit"]
    cluster: Literal["slurm", "local"] | None
    workers: Count | None
    cells: Annotated[int, Field(ge=8, multiple_of=8)]
    timeout_min: Count
    nodes: Count
    tasks_per_node: Count
    cpus_per_task: Count | None
    gpus_per_node: Count | None
    mem_gb: Count | None
    partition: str | None
    account: str | None
    additional: dict[str, Any]

    @property
    def chosen_cluster(self) -> str:
        return self.cluster or ("slurm" if shutil.which("sbatch") else "local")

    @property
    def elsewhere(self) -> bool:
        return self.chosen_cluster == "slurm"


class Ray(Section):
    engine: Literal["ray"]
    address: str | None
    workers: Count | None
    cells: Annotated[int, Field(ge=8, multiple_of=8)]
    gpus: Annotated[float, Field(ge=0, allow_inf_nan=False)]

    @property
    def elsewhere(self) -> bool:
        return self.address is not None


Launcher = Joblib | Submitit | Ray


def validated(raw: Any) -> Launcher:
    """Checks a composed launcher.

    Raises:
        UserError: for the first mistake found, in one line.
    """
    try:
        return TypeAdapter(Annotated[Launcher, Field(discriminator="engine")]).validate_python(raw)
    except ValidationError as error:
        raise UserError(one_line(error, {"hydra": {"launcher": raw}}, ("hydra", "launcher"))) from None


@contextlib.contextmanager
def started(launcher: Launcher, threads: int) -> Iterator[None]:
    """The engine, ready for `run` on workers of `threads` threads, and stopped afterwards.

    Raises:
        UserError: the engine is not installed, or cannot start.
    """
    name = launcher.engine
    try:
        importlib.import_module(name)
    except ImportError:
        install = "make setup-ray" if name == "ray" else "make setup"
        raise UserError(f"hydra/launcher={name}: the package {name} is not installed; {install} does it") from None
    with _environment(dict.fromkeys(THREAD_SETTINGS, str(threads))):
        if isinstance(launcher, Ray):
            _start_ray(launcher, threads)
        elif isinstance(launcher, Submitit) and launcher.chosen_cluster == "slurm" and not shutil.which("sbatch"):
            raise UserError("hydra/launcher=submitit_slurm: there is no sbatch here; submitit_local needs none")
        try:
            yield
        finally:
            if isinstance(launcher, Ray):
                importlib.import_module("ray").shutdown()
            elif isinstance(launcher, Joblib):  # which keeps its processes for later calls, with this one's settings
                executor = importlib.import_module("joblib.externals.loky").get_reusable_executor(reuse=True)
                executor.shutdown(kill_workers=True)  # all work is done, or no longer wanted


def run(launcher: Launcher, work: Work[Item], items: Sequence[Item], threads: int, folder: Path) -> Finished:
    """work(item) for every item on an engine that has `started`; `folder` takes its logs.

    An item whose work raises is reported with its traceback, one whose worker died with a line. The others go on, but
    for joblib's, whose pool of processes ends with one of them.
    """
    if isinstance(launcher, Joblib):
        return _joblib(launcher, work, items, threads)
    if isinstance(launcher, Submitit):
        return _submitit(launcher, work, items, threads, folder)
    return _ray(launcher, work, items, threads)


def _joblib(launcher: Joblib, work: Work[Item], items: Sequence[Item], threads: int) -> Finished:
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    workers = launcher.workers or _workers_here(threads)
    parallel = Parallel(workers, backend="loky", return_as="generator_unordered", batch_size=1, pre_dispatch="all")
    waiting = set(range(len(items)))
    try:
        for number, wrong in parallel(delayed(_attempt)(n, work, item) for n, item in enumerate(items)):
            waiting.remove(number)
            yield number, wrong
    except BrokenProcessPool as error:
        yield from ((number, f"a worker died: {_first_line(error)}") for number in sorted(waiting))


def _submitit(launcher: Submitit, work: Work[Item], items: Sequence[Item], threads: int, folder: Path) -> Finished:
    import submitit

    cluster = launcher.chosen_cluster
    executor = submitit.AutoExecutor(folder / "%j", cluster=cluster)
    executor.update_parameters(**_slurm_options(launcher, threads))
    workers = (launcher.workers or _workers_here(threads)) if cluster == "local" else len(items)
    waiting = list(enumerate(items))
    running: dict[int, Any] = {}
    try:
        while waiting or running:
            free = workers - len(running)
            if free and waiting:
                with executor.batch():  # on SLURM one job array
                    running |= {n: executor.submit(_attempt, n, work, item) for n, item in waiting[:free]}
                waiting = waiting[free:]
            time.sleep(POLL)
            for number, job in [pair for pair in running.items() if pair[1].done()]:
                del running[number]
                yield number, _result(job)
    finally:
        for job in running.values():
            job.cancel(check=False)


def _slurm_options(launcher: Submitit, threads: int) -> dict[str, Any]:
    options = {
        "name": "repro",
        "timeout_min": launcher.timeout_min,
        "nodes": launcher.nodes,
        "tasks_per_node": launcher.tasks_per_node,
        "cpus_per_task": launcher.cpus_per_task or threads,
        "gpus_per_node": launcher.gpus_per_node,
        "mem_gb": launcher.mem_gb,
        "slurm_partition": launcher.partition,
        "slurm_account": launcher.account,
        "slurm_array_parallelism": launcher.workers,
        "slurm_additional_parameters": launcher.additional or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _result(job: Any) -> str | None:
    try:
        return next((wrong for _, wrong in job.results() if wrong), None)
    except Exception as error:  # no result: the job was killed, ran out of time or memory
        return f"job {job.job_id} died: {_first_line(error)}; its log: {job.paths.stderr}"


def _start_ray(launcher: Ray, threads: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    workers = launcher.workers or _workers_here(threads)
    here = {} if launcher.address else {"num_cpus": workers * threads, "include_dashboard": False}
    path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    variables = dict.fromkeys(THREAD_SETTINGS, str(threads)) | path
    try:
        ray.init(launcher.address, runtime_env={"env_vars": variables}, logging_level="warning", **here)
    except (ConnectionError, ValueError) as error:
        raise UserError(f"hydra.launcher.address={launcher.address}: {_first_line(error)}") from None


def _ray(launcher: Ray, work: Work[Item], items: Sequence[Item], threads: int) -> Finished:
    import ray

    attempt = ray.remote(num_cpus=threads, num_gpus=launcher.gpus, max_retries=0)(_attempt)
    running = {attempt.remote(number, work, item): number for number, item in enumerate(items)}
    while running:
        (done,), _ = ray.wait(list(running), num_returns=1)
        number = running.pop(done)
        try:
            yield ray.get(done)
        except ray.exceptions.RayError as error:
            yield number, f"a worker died: {_first_line(error)}"


def _attempt(number: int, work: Work[Item], item: Item) -> tuple[int, str | None]:
    """What a worker does: only text comes back, the work itself leaves files."""
    try:
        work(item)
    except (UserError, Misfortune) as mistake:
        return number, f"error: {mistake}"
    except Exception:
        return number, traceback.format_exc()
    return number, None


def _workers_here(threads: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // threads)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that processes started inside inherit."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
