"""Repeated timings that other load on the machine disturbs as little as can be, and where they are kept.

What is compared runs in turn, round after round, and a ratio is formed within a round before its median is taken:
a slow minute then slows both sides of it.
"""

import json
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repro.pipeline.store.environment import environment

RESULTS = Path(__file__).parents[2] / "results" / "bench"


@dataclass(frozen=True)
class Timings:
    """One piece of work in every round.

    Attributes:
        wall: seconds on the clock.
        cpu: seconds of the processor, over all threads.
        others: cores that other programs kept busy meanwhile.
    """

    wall: list[float]
    cpu: list[float]
    others: list[float]


def _busy() -> float:
    """Seconds of processor that all programs of the machine have used; NaN where the system does not tell."""
    try:
        user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    except (OSError, ValueError):
        return math.nan
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def interleaved(
    work: Mapping[str, Callable[[], object]], *, seconds: float, at_least: int = 7, at_most: int = 31
) -> dict[str, Timings]:
    """Time each piece of work once a round, after a first round that does not count.

    Args:
        work: what to run; each round begins with another piece.
        seconds: no round begins later than this, but for the first `at_least`.
        at_least: rounds that are run however long they take.
        at_most: rounds after which it ends.
    """
    names = list(work)
    timings = {name: Timings([], [], []) for name in names}
    begun = time.perf_counter()
    for turn in range(at_most + 1):
        if turn > at_least and time.perf_counter() - begun > seconds:
            break
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            busy, wall, cpu = _busy(), time.perf_counter(), time.process_time()
            work[name]()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            busy = _busy() - busy
            if turn:
                timings[name].wall.append(wall)
                timings[name].cpu.append(cpu)
                timings[name].others.append(max(0.0, busy - cpu) / wall)
    return timings


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "quartile_1": low, "quartile_3": high, "rounds": len(values)}


def ratio(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """The summary of above/below, formed round by round."""
    return summary([a / b for a, b in zip(above, below, strict=True)])


def shown(numbers: Mapping[str, float], digits: int = 1) -> str:
    """`median [quartile, quartile]`."""
    return "{median:.{d}f} [{quartile_1:.{d}f}, {quartile_3:.{d}f}]".format(**numbers, d=digits)


def repeated(call: Callable[[], object], at_least: float = 0.02) -> tuple[Callable[[], None], int]:
    """`call` often enough to fill `at_least` seconds, and how often that is."""
    call()
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < at_least:
        call()
        done += 1

    def run() -> None:
        for _ in range(done):
            call()

    return run, done


def seconds_per_call(work: Mapping[str, Callable[[], object]], *, seconds: float) -> dict[str, list[float]]:
    """Seconds of one call of each piece of work, a number a round; short ones are repeated within a round."""
    calls = {name: repeated(call) for name, call in work.items()}
    timings = interleaved({name: run for name, (run, _) in calls.items()}, seconds=seconds)
    return {name: [t / calls[name][1] for t in timings[name].wall] for name in work}


def save(name: str, results: Mapping[str, Any], ratios: Mapping[str, Mapping[str, float]]) -> None:
    """Write results/bench/`name`.json, with where and under what load it was measured.

    Args:
        name: of the file and the script.
        results: all that was measured.
        ratios: what the plot shows: peer / ours by name, summaries; `target` in one is what it should reach.
    """
    RESULTS.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    found = {
        "command": f"python benchmarks/{name}.py",
        "ratios": ratios,
        "results": results,
        "environment": environment(),
        "load_average": load,
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"results/bench/{name}.json")
