"""What `reproduce_all` is about to do and how far it is: the plan, and the time that is left.

A run's seconds are those that the reference's took; how this machine compares with that one is learned on the way.
"""

import time
from collections.abc import Sequence
from itertools import groupby

from repro.pipeline.presentation.compare import find_reference
from repro.pipeline.presentation.report import REFERENCE
from repro.pipeline.store import Run
from repro.pipeline.system.progress import clock

ENOUGH = 10.0  # seconds of the reference's after which this machine's pace is known


class Outlook:
    """The plan, run by run."""

    def __init__(self, plan: Sequence[Run]) -> None:
        self._started = time.monotonic()
        self._plan = list(plan)
        self._left = {n: _seconds(run) for n, run in enumerate(plan) if run.wanted() is None}
        self._total = len(self._left)
        self._begun: float | None = None
        self._past = self._spent = 0.0  # seconds of the reference's and of ours, of the same runs

    def say(self) -> None:
        """The plan as lines: every paper's experiments, what is recorded, what the others take."""
        for paper, runs in groupby(enumerate(self._plan), key=lambda item: item[1].config.paper):
            print(f"{paper}:")
            for n, run in runs:
                print(f"  {run.config.name:<40} {self._word(n)}")
        count = len(self._plan)
        recorded = f"{count - self._total} of {count} recorded" if self._total < count else f"{count} to run"
        print(f"{recorded}{self._remaining(', about {} to go, as the reference records took')}", flush=True)

    def next(self, run: Run) -> None:
        """A line before a run that is not recorded: its number among those, and the time."""
        if self._plan.index(run) not in self._left:
            return
        number, gone = self._total - len(self._left) + 1, clock(time.monotonic() - self._started)
        print(f"[{number}/{self._total}] {gone} gone{self._remaining(', about {} to go')}", flush=True)
        self._begun = time.monotonic()

    def done(self, run: Run) -> None:
        expected = self._left.pop(self._plan.index(run), None)
        if expected is not None and self._begun is not None:
            self._past += expected
            self._spent += time.monotonic() - self._begun

    def _word(self, n: int) -> str:
        if n not in self._left:
            return "recorded"
        expected = self._left[n]
        return "to run" if expected is None else f"about {clock(expected)}"

    def _remaining(self, words: str) -> str:
        """What the runs that are left take, in `words`; nothing where that is not known of every one."""
        known = [seconds for seconds in self._left.values() if seconds is not None]
        if not known or len(known) < len(self._left):
            return ""
        pace = self._spent / self._past if self._past > ENOUGH else 1.0
        return words.format(clock(pace * sum(known)))


def _seconds(run: Run) -> float | None:
    """What the reference record of this configuration took; None where there is none."""
    reference = find_reference(run, REFERENCE)
    return None if reference is None else float(reference.summary["durations"]["run"])
